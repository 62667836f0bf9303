/* SPDX-License-Identifier: Apache-2.0 */
/* The carrier over UCX. From below: bulk_ucx_endpoint.c
 * (endpoints and sends), bulk_ucx_serve.c (the side that has the bytes), bulk_ucx_close.c (the end
 * of endpoints and workers), bulk_ucx_parked.c (workers of closed copiers) and bulk_ucx.c (open,
 * the side that asks, progress).
 *
 * UCX callbacks only record (a chunk lands, a request is queued, a send has ended, a peer has
 * failed); all that follows from it happens in eepi_bulk_progress, outside of UCX. */
#ifndef EEPI_BULK_UCX_H
#define EEPI_BULK_UCX_H

#include "transport/bulk/bulk_base.h"
#include "transport/ucx/ucx_config.h"

#include <netinet/in.h>
#include <ucp/api/ucp.h>

enum {
    BULK_AM_ID = 1, /* the one active message id in use */
    /* Less than a segment of UCX's tcp: so a chunk is one message of the transport, which arrives
     * as a whole in the buffer that it was received into. Longer ones UCX puts together in memory
     * that it allocates for each. */
    BULK_UCX_CHUNK_BYTES = 3 * EEPI_BULK_GRAIN_BYTES,
    BULK_UCX_CHUNKS_IN_FLIGHT = 16, /* of a transfer: sent and not yet received */
    BULK_CLOSE_FLUSH_US = 100000    /* longest wait of eepi_bulk_close for sends, then for closes */
};

/* Where a copier listens. A request names the nonce, so that another copier that has the port later
 * does not answer it. */
typedef struct bulk_address {
    struct sockaddr_in socket;
    uint64_t nonce;
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
    uint64_t begin;         /* of the range in the blob */
    uint64_t offset, total; /* within the range: next byte to send; bytes of the range */
    uint64_t deadline_us;
    eepi_bulk_part parts[EEPI_BULK_PARTS];
    int num_parts;
    uint32_t in_flight;
    bool dropped; /* cancelled, too late or peer gone: ends when in_flight is 0 */
    bulk_send sends[BULK_UCX_CHUNKS_IN_FLIGHT];
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

typedef struct bulk_ucx {
    eepi_bulk base;
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_listener_h listener;
    bulk_address address;
    bulk_call *calls; /* connections that others want, and progress accepts */
    bulk_peer *peers;
    bulk_serve *serves;
    uint32_t num_serves, num_messages;
    bulk_message *messages, **messages_end;
    struct bulk_ucx *next_parked; /* bulk_ucx_parked.c */
    uint64_t parked_us;     /* progressed without an owner, and without a pause, since; or 0 */
    uint64_t progressed_us; /* so, last */
    pid_t parked_by;
    uint64_t settings; /* what the worker was made with: interface and variables */
} bulk_ucx;

/* ---- bulk_ucx.c. On failure the text says why. */
EEP_MUST_CHECK eep_status eepi_bulk_ucx_open(const eepi_bulk_config *config, char *error_out,
                                             size_t error_bytes, eepi_bulk **bulk_out);

/* ---- bulk_ucx_parked.c. Any thread. */
/* Let the worker live on without its owner: nothing of the owner's is in use any more. */
void eepi_bulk_park(bulk_ucx *bulk);
/* Progress those that live on, and destroy the old ones; another thread may be at it. */
void eepi_bulk_progress_parked(void);
/* One of those that live on and were made with these settings, whose owner is the caller from now
 * on; NULL: there is none. */
bulk_ucx *eepi_bulk_unpark(uint64_t settings);

/* ---- bulk_ucx_close.c */
/* End the transfers of failed peers, close their endpoints, free what is closed; nonzero if there
 * was work. Not from UCX callbacks. */
int eepi_bulk_peers_reap(bulk_ucx *bulk);
/* Flush (bounded), then close all endpoints (bounded). */
void eepi_bulk_peers_close(bulk_ucx *bulk);
/* Destroy the worker, free all. */
void eepi_bulk_destroy(bulk_ucx *bulk);

/* ---- bulk_ucx_serve.c */
/* Queue a request or cancel that has arrived. From the active message callback. */
void eepi_bulk_serve_queue(bulk_ucx *bulk, const bulk_wire *wire, ucp_ep_h ep);
/* Accept queued requests and hand on chunks; nonzero if there was work. */
int eepi_bulk_serve_progress(bulk_ucx *bulk, uint64_t now_us);
/* Drop what is served to a peer that has ended (NULL: to all). */
void eepi_bulk_serve_drop(bulk_ucx *bulk, const bulk_peer *peer);
/* Free all serves and messages, after the worker has ended. */
void eepi_bulk_serve_free(bulk_ucx *bulk);

/* ---- bulk_ucx_endpoint.c */
/* The live endpoint to that address, made if there is none. EEP_ERR_NO_MEMORY, or
 * EEP_ERR_UNREACHABLE if UCX refuses the address. Not from UCX callbacks. */
EEP_MUST_CHECK eep_status eepi_bulk_peer_get(bulk_ucx *bulk, const void *address, size_t bytes,
                                             bulk_peer **peer_out);
/* The connection whose endpoint that is, if it lives; else NULL. */
bulk_peer *eepi_bulk_peer_of(const bulk_ucx *bulk, ucp_ep_h ep);
/* Accept who wants to connect; nonzero if there was anybody. Not from UCX callbacks. */
int eepi_bulk_peers_accept(bulk_ucx *bulk);
/* The live endpoint to that address, or NULL. */
bulk_peer *eepi_bulk_peer_find(bulk_ucx *bulk, const void *address, size_t bytes);
/* Hand a message to UCX; `send` has wire, pieces, peer and serve set. A failure is recorded in the
 * peer. When the message has ended, a send without `serve` is freed, one with it is not busy. */
void eepi_bulk_send(bulk_send *send);
/* Send a message without chunk. */
void eepi_bulk_send_control(bulk_peer *peer, const bulk_wire *wire);
#endif
