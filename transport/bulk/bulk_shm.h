/* SPDX-License-Identifier: Apache-2.0 */
/* The carrier within a host. From below: bulk_shm_peer.c (peers, and what is sent to them),
 * bulk_shm_serve.c (the side that has the bytes), bulk_shm_holder.c (what the holder is asked),
 * bulk_shm.c (the carrier's table, and the side that asks) and bulk_shm_open.c.
 *
 * Each copier has a region of slots (shm_region.h), which the holder holds under "bulk/IDENTITY".
 * A copier that wants something of it looks the region up, has the holder make a pair of sockets to
 * it, and sends its requests there. A chunk is a slot of the region and one small message that
 * names it; the requester copies it out, once, and sends the slot back. */
#ifndef EEPI_BULK_SHM_H
#define EEPI_BULK_SHM_H

#include "graphs/base/past_caches.h"
#include "transport/holder/holder_client.h"
#include "transport/bulk/shm_region.h"

enum {
    SHM_ADDRESS_VERSION = 2,
    SHM_CHUNKS_IN_FLIGHT = 4 /* of a transfer: slots that are not read yet */
};
#define SHM_ADDRESS_MAGIC 0x4d485345u /* "ESHM", little-endian */
/* By what peers find a copier. */
typedef struct shm_address {
    uint32_t magic, version;
    uint8_t identity[EEPI_HOLDER_IDENTITY_BYTES];
    uint32_t num_slots, slot_bytes;
} shm_address;
static_assert(sizeof(shm_address) == 32, "an address has no padding");

/* A message between two copiers. */
typedef struct shm_wire {
    bulk_wire wire;
    uint64_t sequence; /* of a chunk's slot, and of its acknowledgement */
    uint32_t slot;
    uint32_t reserved;
} shm_wire;
static_assert(sizeof(shm_wire) == 96, "the message has no padding");

/* A copier that we ask (its identity is known, and its region once it is looked up), or one that
 * has had itself connected to us to ask. */
typedef struct shm_peer {
    struct shm_peer *next;
    bool is_caller;
    bool failed; /* progress ends what hangs on it, and frees it */
    eep_status why;
    int fd;         /* -1: not connected yet */
    bool wants_out; /* the socket was full */
    uint8_t identity[EEPI_HOLDER_IDENTITY_BYTES];
    uint64_t look_up_id, connect_id; /* what the holder has not answered yet; 0: nothing */
    uint64_t ask_us;                 /* when the holder is to be asked; UINT64_MAX: it was */
    const unsigned char *region;
    eepi_copy_times times; /* of chunks that were written for it, as if they were whole */
    uint32_t acks;         /* bits of slots whose acknowledgement waits for room in the socket */
    uint64_t ack_sequence[SHM_SLOTS];
} shm_peer;

/* A transfer that is served; gone when its last chunk is written. */
typedef struct shm_serve {
    struct shm_serve *next;
    shm_peer *peer;
    uint64_t transfer, epoch;
    uint64_t begin;         /* of the range in the blob */
    uint64_t offset, total; /* within the range: next byte to send; bytes of the range */
    uint64_t deadline_us;
    eepi_bulk_part parts[EEPI_BULK_PARTS];
    int num_parts;
    bool dropped;
} shm_serve;

/* What is in a slot of our region. */
typedef struct shm_slot {
    shm_peer *peer; /* who has it to read; NULL: free */
    uint64_t epoch, transfer, sequence;
    uint64_t since_us, deadline_us;
} shm_slot;

typedef struct bulk_shm {
    eepi_bulk base;
    shm_address address;
    eepi_holder_client holder;
    uint64_t hold_id; /* of the running HOLD; 0: none */
    bool is_held;
    bool refusal_noted; /* the owner was told why it is not held; once, until it is again */
    int region_fd;
    unsigned char *region;
    shm_peer *peers;
    uint32_t num_peers;
    shm_serve *serves; /* in the order in which they are served next */
    uint32_t num_serves;
    shm_slot slots[SHM_SLOTS];
    uint64_t now_us; /* when this progress began */
} bulk_shm;

/* ---- bulk_shm_open.c. On failure the text says why. */
EEP_MUST_CHECK eep_status eepi_bulk_shm_open(const eepi_bulk_config *config, char *error_out,
                                             size_t error_bytes, eepi_bulk **bulk_out);

/* ---- bulk_shm.c */
extern const bulk_carrier eepi_shm_carrier;

/* ---- bulk_shm_holder.c */
/* The client of the holder that this copier is, not connected yet. */
void eepi_shm_holder_fill(bulk_shm *shm, const eepi_bulk_config *config);
/* Ask the holder for each peer whose time to be asked for has come; nonzero if there was one. The
 * fetch that named the peer may have ended meanwhile: the next one finds it connected. */
int eepi_shm_holder_ask(bulk_shm *shm, uint64_t now_us);
/* Note once why nobody can fetch from us, where the holder is there and refuses. A holder that is
 * not there is the store's absence, which the store's client reports. */
void eepi_shm_holder_note_refusal(bulk_shm *shm);
/* Why the holder does not take our memory, as far as it has said so; what to do. */
const char *eepi_shm_refusal(eep_status why);

/* ---- bulk_shm_serve.c */
/* A message of a peer that asks. */
void eepi_shm_serve_handle(bulk_shm *shm, shm_peer *from, const shm_wire *message);
/* Write and announce chunks, end what is over; nonzero if there was work. */
int eepi_shm_serve_progress(bulk_shm *shm);
/* Lower *next_us to the next time that the serving side must look at the clock. */
void eepi_shm_serve_arm(const bulk_shm *shm, uint64_t *next_us);
/* Drop what is served to a peer that has ended (NULL: to all); its slots are free. */
void eepi_shm_serve_drop(bulk_shm *shm, const shm_peer *peer);

/* ---- bulk_shm_peer.c */
/* NULL: no memory. */
shm_peer *eepi_shm_peer_add(bulk_shm *shm, const uint8_t *identity, bool is_caller);
/* Nothing refers to the peer any more. */
void eepi_shm_peer_free(bulk_shm *shm, shm_peer **link);
/* The live peer that is asked at that address, or NULL. */
shm_peer *eepi_shm_peer_find(const bulk_shm *shm, const void *address, size_t bytes);
/* The peer has failed, first of all for this reason: progress ends what it was asked for. */
void eepi_shm_peer_fail(shm_peer *peer, eep_status why);
/* Whether requests can be sent to it. */
bool eepi_shm_peer_is_ready(const shm_peer *peer);
/* Have epoll_ctl watch its socket, for room too if it wants_out. */
bool eepi_shm_peer_watch(const bulk_shm *shm, shm_peer *peer, int operation);
/* Send a message on the peer's socket, without waiting. False: the socket is full (EAGAIN). After
 * any other error the peer has failed. */
bool eepi_shm_send(shm_peer *peer, const shm_wire *wire);
/* Send the request of a fetch, now or as soon as its peer is ready and has room. */
void eepi_shm_send_request(eepi_bulk *bulk, bulk_fetch *fetch);
/* Cancelling is a courtesy: the server's own deadline ends what is not cancelled. */
void eepi_shm_send_cancel(eepi_bulk *bulk, const bulk_fetch *fetch);
/* Give back the slots that were read. */
void eepi_shm_send_acks(const bulk_shm *shm, shm_peer *peer);
/* The peer is ready, or has room again: send it all that waits for that. */
void eepi_shm_send_waiting(bulk_shm *shm, shm_peer *peer);
#endif
