/* What the files of the bulk copier share: bulk_ucx.c (open, progress, fetches), bulk_serve.c (the
 * side that has the bytes) and bulk_endpoint.c (endpoints and sends).
 *
 * UCX callbacks only record (a chunk lands, a request is queued, a send has ended, a peer has
 * failed); all that follows from it happens in eepi_bulk_progress, outside of UCX. */
#ifndef EEPI_BULK_INTERNAL_H
#define EEPI_BULK_INTERNAL_H

#include "transport/bulk.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <ucp/api/ucp.h>

enum {
    BULK_AM_ID = 1,                /* the one active message id in use */
    BULK_CHUNKS_IN_FLIGHT = 4,     /* chunks per transfer handed to UCX and not yet sent */
    BULK_ADDRESS_MAX_BYTES = 4096, /* of what is taken for one */
    BULK_SERVES_MAX = 4096,        /* transfers served at a time; more requests are dropped */
    BULK_CLOSE_FLUSH_US = 100000   /* longest wait of eepi_bulk_close for sends, then for closes */
};

#define BULK_MAGIC 0x4b4c4245u /* "EBLK", little-endian */

typedef enum bulk_kind {
    BULK_REQUEST = 1, /* requester -> server; payload: the requester's worker address */
    BULK_CANCEL,      /* requester -> server: send no more; payload: the same */
    BULK_CHUNK,       /* server -> requester; payload: `bytes` bytes at `offset` */
    BULK_END          /* server -> requester: there will be no (more) chunks, see `status` */
} bulk_kind;

/* Header of every active message. Unused fields are zero. */
typedef struct bulk_wire {
    uint32_t magic;
    uint32_t kind;
    uint64_t epoch;
    uint64_t transfer;   /* chosen by the requester, unique on its worker */
    uint64_t offset;     /* of a chunk: a multiple of EEPI_BULK_CHUNK_BYTES */
    uint64_t bytes;      /* of a chunk; of the whole blob in a request */
    uint64_t total;      /* bytes of the whole blob, as the server has it; of a request: the mark */
    uint64_t timeout_us; /* of a request: after this the requester has given up */
    int32_t layer, expert;
    int32_t status; /* of an end */
    uint32_t reserved;
} bulk_wire;
static_assert(sizeof(bulk_wire) == 72, "the wire header has no padding");
static_assert(offsetof(bulk_wire, layer) == 56, "the wire header has no padding");

/* Where a copier listens. A request has the mark, so that another one that has the port later does
 * not answer it. */
typedef struct bulk_address {
    struct sockaddr_in socket;
    uint64_t mark;
} bulk_address;

/* A connection to the copier with that address, or, without one, a connection that somebody has
 * made to us. */
typedef struct bulk_peer {
    struct bulk_peer *next;
    ucp_ep_h ep;    /* NULL once its closing has begun */
    bool failed;    /* recorded by UCX callbacks; progress closes it */
    void *closing;  /* request of the running close */
    uint32_t sends; /* handed to UCX and not yet ended */
    size_t address_bytes;
    unsigned char address[];
} bulk_peer;

struct bulk_serve;
/* One message handed to UCX: header, pieces and owner stay put until it has ended. */
typedef struct bulk_send {
    bulk_wire wire;
    ucp_dt_iov_t pieces[EEPI_BULK_PARTS];
    size_t num_pieces;
    bulk_peer *peer;
    struct bulk_serve *serve; /* owner; NULL: nobody, freed at its end */
    bool busy;
} bulk_send;

/* A transfer that this worker serves. */
typedef struct bulk_serve {
    struct bulk_serve *next;
    bulk_peer *peer;
    uint64_t transfer, epoch;
    uint64_t offset, total; /* next byte to send, bytes of the blob */
    uint64_t deadline_us;
    eepi_bulk_part parts[EEPI_BULK_PARTS];
    int num_parts;
    uint32_t in_flight;
    bool dropped; /* cancelled, too late or peer gone: ends when in_flight is 0 */
    bulk_send sends[BULK_CHUNKS_IN_FLIGHT];
} bulk_serve;

/* Somebody wants to connect. */
typedef struct bulk_call {
    struct bulk_call *next;
    ucp_conn_request_h request;
} bulk_call;

/* A request or cancel that has arrived and waits for progress. */
typedef struct bulk_message {
    struct bulk_message *next;
    bulk_wire wire;
    ucp_ep_h ep; /* on which it came, and is answered */
} bulk_message;

/* A transfer that this worker has asked for. */
typedef struct bulk_fetch {
    struct bulk_fetch *next;
    bulk_peer *peer; /* NULL: this worker itself, or the peer is gone */
    eepi_blob blob;
    uint64_t transfer, deadline_us;
    unsigned char *buffer;
    uint64_t bytes, received;
    eep_status status;       /* once it is in the list of ended ones */
    unsigned char arrived[]; /* one bit per chunk */
} bulk_fetch;

struct eepi_bulk {
    eepi_bulk_serve_fn serve;
    eepi_bulk_served_fn served;
    eepi_bulk_done_fn done;
    void *user;

    ucp_context_h context;
    ucp_worker_h worker;
    ucp_listener_h listener;
    bulk_address address;
    bulk_call *calls;     /* connections that others want, and progress accepts */
    int poll_fd;          /* epoll over UCX's descriptor and timer_fd */
    int timer_fd;         /* the next deadline, or now */
    uint64_t timer_at_us; /* what timer_fd is set to; 0: off */

    bulk_peer *peers;
    bulk_serve *serves;
    uint32_t num_serves, num_messages;
    bulk_message *messages, **messages_end;
    bulk_fetch *fetches;            /* running */
    bulk_fetch *ended, **ended_end; /* `done` not yet called */
    uint64_t last_transfer;
    bool closing;

    eepi_bulk *next_parked; /* bulk_parked.c */
    uint64_t parked_us;     /* first progressed without an owner; 0: not yet */
};

/* CLOCK_MONOTONIC in microseconds. Any thread. */
uint64_t eepi_bulk_now_us(void);
/* `timeout_us` after `now_us`, saturated. Any thread. */
uint64_t eepi_bulk_deadline_us(uint64_t now_us, uint64_t timeout_us);

/* The live endpoint to that worker address, made if there is none. EEP_ERR_NO_MEMORY, or
 * EEP_ERR_UNREACHABLE if UCX refuses the address. Not from UCX callbacks. */
EEP_MUST_CHECK eep_status eepi_bulk_peer_get(eepi_bulk *bulk, const void *address, size_t bytes,
                                             bulk_peer **peer_out);
/* The connection whose endpoint that is, if it lives; else NULL. */
bulk_peer *eepi_bulk_peer_of(const eepi_bulk *bulk, ucp_ep_h ep);
/* Accept who wants to connect; nonzero if there was anybody. Not from UCX callbacks. */
int eepi_bulk_peers_accept(eepi_bulk *bulk);
/* The live endpoint to that address, or NULL. */
bulk_peer *eepi_bulk_peer_find(eepi_bulk *bulk, const void *address, size_t bytes);
/* End what hangs on failed peers, close their endpoints, free what is closed; nonzero if there was
 * work. Not from UCX callbacks. */
int eepi_bulk_peers_reap(eepi_bulk *bulk);
/* Flush (bounded), then close all endpoints (bounded): the fence of eepi_bulk_close. */
void eepi_bulk_peers_close(eepi_bulk *bulk);
/* Free all peers, after the worker is gone. */
void eepi_bulk_peers_free(eepi_bulk *bulk);
/* Hand a message to UCX; `send` has wire, pieces, peer and serve set. A failure is recorded in the
 * peer. When the message has ended, a send without `serve` is freed, one with it is not busy. */
void eepi_bulk_send(bulk_send *send);
/* Send a message without chunk. */
void eepi_bulk_send_control(bulk_peer *peer, const bulk_wire *wire);

/* Queue a request or cancel that has arrived. From the active message callback. */
void eepi_bulk_serve_queue(eepi_bulk *bulk, const bulk_wire *wire, ucp_ep_h ep);
/* Accept queued requests and hand on chunks; nonzero if there was work. */
int eepi_bulk_serve_progress(eepi_bulk *bulk, uint64_t now_us);
/* Drop what is served to a peer that is gone (NULL: to all). */
void eepi_bulk_serve_drop(eepi_bulk *bulk, const bulk_peer *peer);
/* Free all serves and messages, after the worker is gone. */
void eepi_bulk_serve_free(eepi_bulk *bulk);
/* Ask `serve` for the pieces of a blob. EEP_ERR_NOT_FOUND, or EEP_ERR_PROTOCOL if they are not
 * `bytes` long. */
EEP_MUST_CHECK eep_status eepi_bulk_serve_ask(eepi_bulk *bulk, const eepi_blob *blob,
                                              uint64_t bytes, eepi_bulk_part *parts_out,
                                              int *num_parts_out);

/* End all fetches from a peer that is gone. */
void eepi_bulk_fetch_lose(eepi_bulk *bulk, const bulk_peer *peer);
/* Let the worker live on without its owner: nothing of the owner's is in use any more. Any thread.
 */
void eepi_bulk_park(eepi_bulk *bulk);
/* Progress those that live on, and destroy the old ones. Any thread; another one may be at it. */
void eepi_bulk_progress_parked(void);
/* Destroy the worker, free all. */
void eepi_bulk_destroy(eepi_bulk *bulk);
#endif
