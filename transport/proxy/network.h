/* SPDX-License-Identifier: Apache-2.0 */
/* A network between ranks that do not store into each other's windows: it takes messages from the
 * rings of its rank (ring_lane.h), carries them, and hands what comes for its rank to the placer
 * (placer.h). A context asks here how each peer is reached. network_none.c is what there is today:
 * no network, so that every peer is LOCAL. The simulator has one (tests/sim/parts/sim_network.c).
 *
 * Promises of a network: it reads a slot only before it completes it (rule N5), keeps the order of
 * rule N3, and says of each message which generation its connection has proven (rule N2). It may be
 * late, deliver twice and in any other order, and lose what a process that ended had not sent. */
#ifndef EEPI_NETWORK_H
#define EEPI_NETWORK_H

#include "transport/proxy/placer.h"

typedef struct eepi_network eepi_network;

typedef struct eepi_network_config {
    const eepk_shape *shape; /* the owner's, as eepi_network_plan left it; copied */
    uint32_t generation;     /* of the owner */
    eepi_placer *placer;     /* of the owner's window; outlives the network */
    uint8_t *const *ring;    /* [shape->num_queues] all zero; the array is copied */
} eepi_network_config;

#define EEPI_NO_QUEUE UINT32_MAX

/* Set how many rings this rank needs, and the slots of each; 0 rings: there is no network, and
 * nothing else is called. Before the rings are made. */
void eepi_network_plan(eepk_shape *shape);
/* Carry from now on, in threads of its own. EEP_ERR_NO_MEMORY, EEP_ERR_SYSTEM, EEP_ERR_DEVICE. */
EEP_MUST_CHECK eep_status eepi_network_open(const eepi_network_config *config,
                                            eepi_network **network_out);
/* Nothing is taken or placed any more. Waits for its own threads, for no peer (rule N6). */
void eepi_network_close(eepi_network *network);
/* The ring to that process, which is PROXY then; EEPI_NO_QUEUE: its window is stored into. The same
 * at each call. */
uint32_t eepi_network_queue(const eepi_network *network, uint32_t seat, uint32_t generation);
/* This rank's host has put words into rings. Any thread. */
void eepi_network_kick(eepi_network *network);
#endif
