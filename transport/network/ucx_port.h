/* SPDX-License-Identifier: Apache-2.0 */
/* UCX for rows. A rank has two ports per interface: one of its sender thread, which makes
 * endpoints, and one of its receiver thread, which listens. Each is a context and a worker that one
 * thread at a time drives.
 *
 *     HELLO, ROWS ->    an endpoint and its other end    <- ANSWER, PLACED
 *
 * All are active messages, eager: what rendezvous does is not safe for the survivor of a peer's
 * death. Callbacks of UCX only record, but for rows, which are placed where they arrive.
 *
 * An endpoint is closed by force only once UCX itself has given it up. One whose peer may be alive
 * is abandoned with the messages that UCX has of it (rule N6), until it fails or the process ends.
 */
#ifndef EEPI_UCX_PORT_H
#define EEPI_UCX_PORT_H

#include "transport/proxy/lane_receipts.h"
#include "transport/network/network_state.h"

#include <ucp/api/ucp.h>

/* Ids of active messages. */
enum { UCX_HELLO = 2, UCX_ANSWER, UCX_ROWS, UCX_PLACED };
enum {
    UCX_ROWS_BYTES = 48 << 10, /* of a message, if slots are not larger: one segment of UCX's tcp */
    UCX_IN_FLIGHT = 16,        /* messages of a lane that UCX has not sent yet */
};

typedef struct eepi_ucx_port eepi_ucx_port;

/* An endpoint, of either port. */
typedef struct eepi_ucx_link {
    struct eepi_ucx_link *next;
    eepi_ucx_port *port;
    ucp_ep_h ep;      /* NULL once its closing has begun */
    bool has_failed;  /* recorded by UCX callbacks, */
    ucs_status_t why; /* with this */
    void *closing;    /* request of the running close */
    uint32_t num_sends;
    bool has_heard; /* something has come since the last look */
    bool is_wrong;  /* no rank sends that */
    /* { of a sender */
    eepi_lane *lane; /* that it serves; NULL: it is abandoned */
    uint32_t number; /* of that lane, even then */
    eepi_lane_answer answer;
    /* } { of a receiver */
    uint32_t verdict;      /* to be told; 0: none */
    bool has_greeted;      /* a connection is greeted once, */
    bool is_greeted, owes; /* and heard until it sends what no rank sends, or a newer one is */
    uint32_t source, source_generation;
    eepi_lane_receipts receipts;
    /* } */
} eepi_ucx_link;

/* What UCX reads while it sends. */
typedef struct eepi_ucx_message {
    struct eepi_ucx_message *next;
    eepi_ucx_link *link;
    uint8_t payload[];
} eepi_ucx_message;

typedef struct eepi_ucx_call {
    struct eepi_ucx_call *next;
    ucp_conn_request_h request;
} eepi_ucx_call;

struct eepi_ucx_port {
    eepi_network *network; /* NULL: parked */
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_listener_h listener; /* of a receiver */
    int fd;                  /* readable once there is something to progress; the worker's */
    uint32_t path;           /* of the network's */
    eepi_lane_path at;       /* where it listens */
    eepi_ucx_call *calls;    /* who wants to connect */
    eepi_ucx_link *links;
    uint32_t num_links;
    eepi_ucx_message *idle;
    size_t message_bytes;
    uint64_t settings;
    int parked_by;
    struct eepi_ucx_port *next_parked;
};

/* What comes, by its id; as UCX's callbacks want it, with the port as their first argument. */
typedef struct eepi_ucx_ear {
    unsigned id;
    ucp_am_recv_callback_t hear;
} eepi_ucx_ear;
/* Port and connection of a message; NULL: it is none that is heard. */
eepi_ucx_link *eepi_ucx_link_from(const eepi_ucx_port *port, const ucp_am_recv_param_t *param);

/* `ears`: two of them. `listens`: of a receiver. On failure `why` says it. */
EEP_MUST_CHECK eep_status eepi_ucx_port_open(eepi_network *network, const char *interface,
                                             bool listens, const eepi_ucx_ear *ears, char *why,
                                             size_t why_bytes, eepi_ucx_port **port_out);
/* UCX 1.13 ends the process if a worker is destroyed while a peer connects to it. So ports are kept
 * when their network is closed, with what they still hold, and the next network of the process on
 * that interface takes them over. */
void eepi_ucx_port_park(eepi_ucx_port *port);
/* What UCX has to do, and what follows from it: failed endpoints are closed. True: there was
 * something. */
bool eepi_ucx_port_progress(eepi_ucx_port *port);
/* NULL: UCX refuses, and *why_out says how. */
eepi_ucx_link *eepi_ucx_link_open(eepi_ucx_port *port, const eepi_lane_path *to,
                                  ucs_status_t *why_out);
/* The next one that has called; NULL: nobody more. */
eepi_ucx_link *eepi_ucx_link_accept(eepi_ucx_port *port);
/* Its peer has answered, so it is alive: close it in order. */
void eepi_ucx_link_close(eepi_ucx_link *link);
/* A message to fill with up to port->message_bytes; NULL: out of memory. */
eepi_ucx_message *eepi_ucx_message_get(eepi_ucx_link *link);
/* Its memory is the port's from now on. A failure is recorded in the link. */
void eepi_ucx_message_send(eepi_ucx_message *message, unsigned id, size_t bytes);
#endif
