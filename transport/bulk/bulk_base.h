/* SPDX-License-Identifier: Apache-2.0 */
/* What the carriers of the bulk copier share: the messages, the transfers that were asked for, the
 * checks of what arrives, and the timer. bulk.c stands above the carriers and reaches them by their
 * table; this stands below them.
 *
 * A fetch and its transfer, both ends, over either carrier:
 *
 *     requester                                    server
 *     REQUEST(epoch, transfer, blob, range)  --->  asks its `serve` function
 *                                            <---  CHUNK(epoch, transfer, offset) ...
 *     each chunk checked against the fetch         a few at a time are under way
 *     and its sender, then put into its place
 *     (CANCEL when it has given up           --->  sends no more)
 *                                            <---  END(status) instead of chunks: no such blob
 *
 * Bytes land only while their fetch is in `fetches`, and only by the thread that owns the
 * bulk, so taking a fetch out of that list is all that it takes to void a transfer. */
#ifndef EEPI_BULK_BASE_H
#define EEPI_BULK_BASE_H

#include "transport/bulk/bulk.h"

#include "graphs/base/clock.h"

#include <assert.h>
#include <stdbool.h>

enum {
    BULK_ADDRESS_MAX_BYTES = 4096, /* of what is taken for one */
    BULK_NOTE_BYTES = 700,
    BULK_SERVES_MAX = 4096 /* transfers served at a time; more requests are dropped */
};

#define BULK_MAGIC 0x324c4245u /* "EBL2", little-endian: the second layout of the messages */

typedef enum bulk_kind {
    BULK_REQUEST = 1, /* requester -> server */
    BULK_CANCEL,      /* requester -> server: send no more */
    BULK_CHUNK,       /* server -> requester: `bytes` bytes at `offset` */
    BULK_END,         /* server -> requester: there will be no (more) chunks, see `status` */
    BULK_ACK          /* requester -> server, shared memory: the chunk's slot is read */
} bulk_kind;

/* Header of every message. Unused fields are zero. */
typedef struct bulk_wire {
    uint32_t magic;
    uint32_t kind;
    uint64_t epoch;
    uint64_t transfer;   /* chosen by the requester, unique on its copier */
    uint64_t offset;     /* of a chunk: within the range, where a chunk begins; of a
                            request: where the range begins in the blob */
    uint64_t bytes;      /* of a chunk; of the range in a request */
    uint64_t total;      /* of a chunk: bytes of the range; of a request: of the whole blob */
    uint64_t nonce;      /* of a request: of the address that it is meant for (UCX) */
    uint64_t timeout_us; /* of a request: after this the requester has given up */
    int32_t layer, expert;
    int32_t status; /* of an end */
    uint32_t reserved;
} bulk_wire;
static_assert(sizeof(bulk_wire) == 80, "the wire header has no padding");
static_assert(offsetof(bulk_wire, layer) == 64, "the wire header has no padding");

/* A transfer that this copier has asked for. */
typedef struct bulk_fetch {
    struct bulk_fetch *next;
    const void *peer; /* the carrier's; who is asked, and alone may answer. NULL: this copier */
    bool asked;       /* the request is on its way */
    eepi_blob blob;
    uint64_t transfer, deadline_us;
    unsigned char *buffer; /* NULL: the owner's `land` takes what arrives */
    uint64_t bytes, received;
    eep_status status;       /* once it is in the list of ended ones */
    unsigned char arrived[]; /* one bit per chunk */
} bulk_fetch;

/* What a carrier does. All on the owner's thread. */
typedef struct bulk_carrier {
    /* The live connection to that address, made if there is none. EEP_ERR_NO_MEMORY, or another
     * status with which the fetch ends at once. */
    eep_status (*peer_get)(eepi_bulk *bulk, const void *address, size_t bytes,
                           const void **peer_out);
    /* Send the request of a fetch, now or as soon as its peer is connected; sets `asked`. */
    void (*ask)(eepi_bulk *bulk, bulk_fetch *fetch);
    /* Tell the server to send no more, if it is there. */
    void (*cancel)(eepi_bulk *bulk, const bulk_fetch *fetch);
    /* What has arrived, what is served, which peers have ended; nonzero if there was work. */
    int (*progress)(eepi_bulk *bulk, uint64_t now_us);
    /* Before the owner sleeps: lower *next_us to what must be looked at by then. Nonzero: there is
     * work already. */
    int (*arm)(eepi_bulk *bulk, uint64_t *next_us);
    void (*forget)(eepi_bulk *bulk, const void *address, size_t bytes);
    /* No fetch is running any more: end all else, then free it, with eepi_bulk_base_close. */
    void (*close)(eepi_bulk *bulk);
} bulk_carrier;

/* First member of each carrier's own struct. */
struct eepi_bulk {
    const bulk_carrier *carrier;
    uint64_t chunk_bytes; /* of the carrier's: of each chunk of a range but the last */
    eepi_bulk_serve_fn serve;
    eepi_bulk_served_fn served;
    eepi_bulk_land_fn land;
    eepi_bulk_done_fn done;
    eepi_bulk_note_fn note;
    void *user;
    eepi_bulk_facts facts;
    const void *address; /* of this copier */
    size_t address_bytes;
    int poll_fd;                    /* epoll over the carrier's descriptors and timer_fd */
    int timer_fd;                   /* the next deadline, or now */
    uint64_t timer_at_us;           /* what timer_fd is set to; 0: off */
    bulk_fetch *fetches;            /* running */
    bulk_fetch *ended, **ended_end; /* `done` not yet called */
    uint64_t last_transfer;
    bool closing;
    bool in_progress; /* what is begun is seen before the owner sleeps */
};

/* Write a text for error_out (may be NULL) and return the status. Any thread. */
__attribute__((format(printf, 4, 5))) eep_status
eepi_bulk_fail(char *error_out, size_t error_bytes, eep_status status, const char *format, ...);
/* `timeout_us` after `now_us`, saturated. Any thread. */
uint64_t eepi_bulk_deadline_us(uint64_t now_us, uint64_t timeout_us);

/* Fill in what is common; makes the two descriptors. EEP_ERR_SYSTEM: errno says why. */
EEP_MUST_CHECK eep_status eepi_bulk_base_open(eepi_bulk *bulk, const bulk_carrier *carrier,
                                              uint64_t chunk_bytes, const eepi_bulk_config *config);
void eepi_bulk_base_close(eepi_bulk *bulk);
/* Have the owner's poll return at that time (0: never, 1: now). */
void eepi_bulk_set_timer(eepi_bulk *bulk, uint64_t at_us);
/* Work was begun outside of progress: have the owner's poll return. */
void eepi_bulk_wake(eepi_bulk *bulk);

/* Messages of a running fetch from its peer. NULL: of a voided transfer, or from somebody else who
 * was not asked (rule R1). */
bulk_fetch *eepi_bulk_fetch_find(const eepi_bulk *bulk, const void *peer, const bulk_wire *wire);
/* Take a running fetch out of the list: nothing of it lands any more. */
void eepi_bulk_fetch_end(eepi_bulk *bulk, bulk_fetch *fetch, eep_status status);
/* Whether a chunk is one of those that the fetch still waits for. */
bool eepi_bulk_chunk_fits(const eepi_bulk *bulk, const bulk_fetch *fetch, const bulk_wire *wire,
                          size_t payload_bytes);
/* Put the bytes of a chunk that fits into their place. */
void eepi_bulk_chunk_land(eepi_bulk *bulk, bulk_fetch *fetch, uint64_t offset, const void *data,
                          uint64_t bytes);
/* A chunk that fits is in its place. */
void eepi_bulk_chunk_landed(eepi_bulk *bulk, bulk_fetch *fetch, const bulk_wire *wire);
/* The server's end of a transfer has arrived. */
void eepi_bulk_end_arrived(eepi_bulk *bulk, const void *peer, const bulk_wire *wire);
/* End all fetches from a peer that is gone. */
void eepi_bulk_fetch_lose(eepi_bulk *bulk, const void *peer, eep_status status);

/* Ask `serve` for the pieces of a blob of which `bytes` bytes from blob->offset are wanted.
 * EEP_ERR_NOT_FOUND, or EEP_ERR_PROTOCOL if they are not blob->total bytes long or the range does
 * not lie within them. */
EEP_MUST_CHECK eep_status eepi_bulk_serve_ask(eepi_bulk *bulk, const eepi_blob *blob,
                                              uint64_t bytes, eepi_bulk_part *parts_out,
                                              int *num_parts_out);
/* Copy `bytes` bytes from `skip` of the pieces, past the caches or not. They are visible to whoever
 * sees a later store of this thread. Any thread. */
void eepi_bulk_gather(unsigned char *to, const eepi_bulk_part *parts, int num_parts, uint64_t skip,
                      uint64_t bytes, bool past_caches);
#endif
