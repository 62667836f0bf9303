/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk bytes between ranks, by one of two carriers: memory shared within a host (bulk_shm.c), or
 * UCX active messages over tcp (bulk_ucx.c). docs/ARCHITECTURE.md says why.
 *
 * One thread owns an eepi_bulk. A fetch asks a peer for a named blob; the peer's `serve` function
 * says where the bytes are; they arrive in chunks, which land in the requester's buffer or where
 * its `land` function puts them, and each chunk carries (epoch, transfer id), so that chunks of a
 * voided transfer are dropped (rule R1), and comes from the peer that was asked. Peers may die at
 * any moment: a fetch then ends with EEP_ERR_UNREACHABLE and the others go on. Connections are made
 * on demand, one per peer address, and replaced one by one. */
#ifndef EEPI_BULK_H
#define EEPI_BULK_H

#include "eep/eep.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct eepi_bulk eepi_bulk;

/* What is asked for: a whole blob, or a range of it. */
typedef struct eepi_blob {
    uint64_t epoch; /* of the view that ordered the transfer */
    int32_t layer;
    int32_t expert;
    uint64_t offset; /* of the first byte that is wanted */
    uint64_t total;  /* bytes of the whole blob, which both sides must agree on; 0: the range ends
                        with the blob */
} eepi_blob;

/* Up to EEPI_BULK_PARTS pieces of memory that make up a blob, in order. */
enum { EEPI_BULK_PARTS = 8, EEPI_BULK_GRAIN_BYTES = 16 * 1024 };
typedef struct eepi_bulk_part {
    const void *data;
    size_t bytes;
} eepi_bulk_part;
/* Name the pieces of the whole blob; they must stay readable until `served` (their content is the
 * receiver's to check). Of these only `bytes` bytes from blob->offset are read. Return the number
 * of parts, 0 if this rank has no such blob (the fetch ends with EEP_ERR_NOT_FOUND). */
typedef int (*eepi_bulk_serve_fn)(void *user, const eepi_blob *blob, uint64_t bytes,
                                  eepi_bulk_part *parts_out);
/* The pieces that a serve function named are not read any more (the transfer ended, either way).
 * Called once for each serve that named some, from eepi_bulk_progress or eepi_bulk_close. */
typedef void (*eepi_bulk_served_fn)(void *user, const eepi_bulk_part *parts, int num_parts);
/* Bytes of a fetch without a buffer have arrived: put them where they belong. `offset` is counted
 * from the begin of the range and and `bytes` are multiples of EEPI_BULK_GRAIN_BYTES, but for the
 * end of the range. They can be read during the call only, and may come again, from another
 * transfer or in part from another chunk, where the fetch then fails. Called from
 * eepi_bulk_progress while the fetch runs, and not behind its end or cancel; calls no copier. */
typedef void (*eepi_bulk_land_fn)(void *user, uint64_t transfer, uint64_t offset, const void *data,
                                  uint64_t bytes);
/* A fetch ended: EEP_OK (all bytes have landed), EEP_ERR_UNREACHABLE, EEP_ERR_NOT_FOUND,
 * EEP_ERR_PROTOCOL (sizes differ, or the range ends behind the blob), EEP_ERR_TIMEOUT or
 * EEP_ERR_SYSTEM (no descriptors or memory map left here). Called from eepi_bulk_progress. */
typedef void (*eepi_bulk_done_fn)(void *user, uint64_t transfer, eep_status status);

/* Something that whoever runs this rank should know: a sentence, valid during the call. Called from
 * eepi_bulk_progress. */
typedef void (*eepi_bulk_note_fn)(void *user, const char *text);

/* What a copier can do. */
typedef struct eepi_bulk_facts {
    eep_bulk carrier;              /* SHM or UCX */
    uint32_t ucx_major, ucx_minor; /* of the UCX that runs; 0: it is another carrier */
    int fetches_per_peer;          /* under way at a time: with more the bytes leave the caches */
    bool sends_cuda;               /* pieces of blobs may lie in GPU memory, as UCX says */
} eepi_bulk_facts;

/* A copier to be opened. Strings are read during the call only. */
typedef struct eepi_bulk_config {
    eep_bulk carrier;        /* EEP_BULK_AUTO: shared memory */
    const char *interface;   /* UCX: the one network interface that is used; NULL: "lo" */
    const char *holder_path; /* shared memory: the holder's socket (holder.h) */
    bool asks_for_cuda;      /* UCX: pieces of blobs are to lie in GPU memory, if it can do that */
    int32_t seat;            /* what the holder and peers are told of us */
    uint32_t generation;
    eepi_bulk_serve_fn serve;
    eepi_bulk_served_fn served; /* may be NULL */
    eepi_bulk_land_fn land;     /* may be NULL: each fetch has a buffer */
    eepi_bulk_done_fn done;
    eepi_bulk_note_fn note; /* may be NULL */
    void *user;
} eepi_bulk_config;

/* Shared memory: meet the holder (at most 5 s); opens no port. UCX: open a context and worker
 * (about 3 ms, later ones in the process 1.5 ms) and listen on the named interface; UCX runs a
 * thread of its own: do not fork without exec afterwards. `error_out` may be NULL; it names what
 * was tried, the variables that say so, and a limit that was met. EEP_ERR_INVALID,
 * EEP_ERR_UNREACHABLE (no holder answers), EEP_ERR_UNSUPPORTED if UCX or the kernel cannot,
 * EEP_ERR_SYSTEM, EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_bulk_open(const eepi_bulk_config *config, char *error_out,
                                         size_t error_bytes, eepi_bulk **bulk_out);
/* Close all connections, then free all; over UCX after a flush (at most about 200 ms), and a worker
 * of UCX lives on for 10 s, or for the next copier (bulk_ucx_parked.c). A fetch still running ends
 * with EEP_ERR_ABORTED: its `done` comes from here. NULL is ignored. Owner's thread, not from
 * `done`. */
void eepi_bulk_close(eepi_bulk *bulk);
/* By what peers find this copier, to fetch from it. Owned by the bulk. */
void eepi_bulk_address(const eepi_bulk *bulk, const void **address_out, size_t *bytes_out);
/* Owner's thread. */
eepi_bulk_facts eepi_bulk_facts_of(const eepi_bulk *bulk);
/* Readable when there is something to progress; poll it, then call progress until it returns 0. */
int eepi_bulk_fd(eepi_bulk *bulk);
/* Progress once: sends, receives, ends and deadlines; returns nonzero if there was work. When it
 * returns 0 the fd is armed. */
int eepi_bulk_progress(eepi_bulk *bulk);
/* Fetch `bytes` bytes of the blob, from blob->offset, from the peer with that address into `buffer`
 * (valid until `done`; NULL: `land` takes them). `done` is called exactly once, at most about
 * timeout_us later; a peer that cannot be reached is told by it too. EEP_ERR_INVALID (NULL or 0, no
 * buffer and no `land`, a range that ends behind blob->total, or an address of more than 4096
 * bytes), EEP_ERR_NO_MEMORY, EEP_ERR_STATE while closing. Owner's thread, also from `done`. */
EEP_MUST_CHECK eep_status eepi_bulk_fetch(eepi_bulk *bulk, const void *peer_address,
                                          size_t address_bytes, const eepi_blob *blob, void *buffer,
                                          size_t bytes, uint64_t timeout_us,
                                          uint64_t *transfer_out);
/* Cancel one fetch; no byte of it lands any more when this returns. Its `done` comes with
 * EEP_ERR_ABORTED from the next progress. Nothing happens if it has ended. */
void eepi_bulk_cancel(eepi_bulk *bulk, uint64_t transfer);
/* Cancel all fetches of epochs below `epoch`; returns when no byte of them can land any
 * more; each one's `done` comes with EEP_ERR_ABORTED before this returns. */
void eepi_bulk_cancel_before(eepi_bulk *bulk, uint64_t epoch);
/* Forget the connection to a peer that is known to be gone. */
void eepi_bulk_forget(eepi_bulk *bulk, const void *peer_address, size_t address_bytes);
#endif
