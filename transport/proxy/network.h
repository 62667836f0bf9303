/* SPDX-License-Identifier: Apache-2.0 */
/* A network between ranks that do not store into each other's windows: it takes messages from the
 * rings of its rank (ring_lane.h), carries them, and hands what comes for its rank to the placer
 * (placer.h). A context asks here how each peer is reached. transport/network has the one of real
 * processes, the simulator another one (tests/sim/parts/sim_network.c).
 *
 * Promises of a network: it reads a slot only before it completes it (rule N5), keeps the order of
 * rule N3, and says of each message which generation its connection has proven (rule N2). It may be
 * late, deliver twice and in any other order, and lose what a process that ended had not sent. */
#ifndef EEPI_NETWORK_H
#define EEPI_NETWORK_H

#include "transport/proxy/lane_address.h"
#include "transport/proxy/placer.h"

typedef struct eepi_network eepi_network;

/* What a network says of the processes that it reaches. Its own threads call, without any lock. */
typedef struct eepi_network_listener {
    /* EEP_FAULT_RESET: nobody answers at its address any more, or somebody else does.
     * EEP_FAULT_SILENT: it has acknowledged nothing for silent_us, or could not be reached. */
    void (*lost)(void *user, uint32_t seat, uint32_t generation, int kind);
    /* It speaks again. */
    void (*alive)(void *user, uint32_t seat, uint32_t generation);
    /* Something of it has come: a sign of life (rule N11). Often, and without a lock. */
    void (*heard)(void *user, uint32_t seat, uint32_t generation);
    void (*note)(void *user, const char *text); /* for the log */
    void *user;
} eepi_network_listener;

/* What the hosts of two ranks say to each other beside rows, such as small collectives (rule P13).
 * The network asks for it when there is room, so nobody waits for it. */
enum { EEPI_TALK_BYTES = 16 << 10 }; /* most that is said at once */
typedef struct eepi_network_talk {
    /* Write what is to be said next to that process into `bytes_out` [EEPI_TALK_BYTES], and return
     * how much it is; 0: nothing, until eepi_network_speak. It arrives once, and in order, unless
     * the connection breaks. `is_anew`: this is the first of a connection, and what was said before
     * may be lost. One thread at a time for each process. NULL: nothing is ever said. */
    size_t (*say)(void *user, uint32_t seat, uint32_t generation, bool is_anew, void *bytes_out);
    /* A process has said that; its connection has proven the generation (rule N2). False: no rank
     * says that. */
    bool (*hear)(void *user, uint32_t seat, uint32_t generation, const void *bytes, size_t num);
    void *user;
} eepi_network_talk;

typedef struct eepi_network_config {
    const eepk_shape *shape; /* the owner's, as eepi_network_plan left it; copied */
    uint32_t generation;     /* of the owner */
    uint64_t instance;       /* both ends of a connection must say the same */
    eepi_placer *placer;     /* of the owner's window; outlives the network */
    uint8_t *const *ring;    /* [shape->num_queues] all zero; the array is copied */
    bool kernels_ring;       /* they ring the doorbell of ring 0; else the rings are polled */
    uint64_t silent_us;
    eepi_network_listener listener;
    eepi_network_talk talk;
} eepi_network_config;

#define EEPI_NO_QUEUE UINT32_MAX

/* Set how many rings this rank needs, and the slots of each; 0 rings: there is no network, and
 * nothing else is called. Before the rings are made. `spans_hosts`: the instance's store can be
 * reached from other hosts. EEP_ERR_INVALID: what the environment asks for cannot be; `why` says
 * it. */
EEP_MUST_CHECK eep_status eepi_network_plan(bool spans_hosts, eepk_shape *shape, char *why,
                                            size_t why_bytes);
/* Listen, and carry from now on, in threads of its own. EEP_ERR_NO_MEMORY, EEP_ERR_SYSTEM,
 * EEP_ERR_DEVICE. */
EEP_MUST_CHECK eep_status eepi_network_open(const eepi_network_config *config, char *why,
                                            size_t why_bytes, eepi_network **network_out);
/* Nothing is taken or placed any more. Waits for its own threads, for no peer (rule N6). */
void eepi_network_close(eepi_network *network);
/* Where peers reach this rank, for its record. */
eepi_lane_address eepi_network_address(const eepi_network *network);
/* Have a way to that process, at that address. Returns the ring to it, and it is PROXY then;
 * EEPI_NO_QUEUE: its window is stored into, or nothing reaches it, since its network is of another
 * kind. `is_near`: its memory can be mapped; only then it may have no address. The same ring at
 * each call. Any thread. */
uint32_t eepi_network_reach(eepi_network *network, uint32_t seat, uint32_t generation,
                            const eepi_lane_address *address, bool is_near);
/* Of those that are reached, these are [max_ranks] the members; 0: none of that seat. The lane to
 * an older process is abandoned with what it holds (rules N5, N6). Any thread. */
void eepi_network_keep(eepi_network *network, const uint32_t *generation);
/* For how long the peer of that ring has taken nothing of what is put there for it, by its
 * acknowledgements; 0: there is nothing, or this rank itself cannot send. Any thread. */
uint64_t eepi_network_blocked_us(const eepi_network *network, uint32_t queue);
/* `alive` comes with the first sign of life of each process that is reached at another host, and
 * not only when a silence ends. */
bool eepi_network_tells_beats(void);
/* There is something to say to that process, if it is reached; `say` is called soon, on another
 * thread. Any thread, also with locks that `say` takes. */
void eepi_network_speak(eepi_network *network, uint32_t seat, uint32_t generation);
/* This rank's host has put words into rings. Any thread. */
void eepi_network_kick(eepi_network *network);
#endif
