/* Endpoints of the bulk copier: one per peer that we ask, made on demand, replaced one by one, and
 * one per peer that asks us, accepted from our listener; answers go back on that.
 *
 * Connections go through listeners, not by worker addresses: those need a message and its answer on
 * the lanes themselves, and UCX 1.13 ends the process if the other side dies while that answer is
 * queued.
 *
 * A peer's death reaches us through the endpoint's error handler or through a send that ends with
 * an error; both only set `failed`. Progress then ends what hangs on the peer and force-closes the
 * endpoint; the peer's memory lives until UCX has returned the close and every send. A peer that is
 * merely silent is never closed: force-closing an endpoint to a stopped process is not safe in UCX
 * (kill it first, or let it come back). */
#include "transport/bulk/bulk_ucx.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

static void on_error(void *peer_arg, ucp_ep_h ep, ucs_status_t status)
{
    bulk_peer *peer = peer_arg;
    (void)ep;
    (void)status;
    peer->failed = true;
}

bulk_peer *eepi_bulk_peer_of(const bulk_ucx *bulk, ucp_ep_h ep)
{
    for (bulk_peer *peer = bulk->peers; peer != NULL; peer = peer->next) {
        if (!peer->failed && peer->ep == ep) {
            return peer;
        }
    }
    return NULL;
}

bulk_peer *eepi_bulk_peer_find(bulk_ucx *bulk, const void *address, size_t bytes)
{
    for (bulk_peer *peer = bulk->peers; peer != NULL; peer = peer->next) {
        if (!peer->failed && peer->ep != NULL && peer->address_bytes == bytes &&
            memcmp(peer->address, address, bytes) == 0) {
            return peer;
        }
    }
    return NULL;
}

eep_status eepi_bulk_peer_get(bulk_ucx *bulk, const void *address, size_t bytes,
                              bulk_peer **peer_out)
{
    bulk_peer *peer = eepi_bulk_peer_find(bulk, address, bytes);
    if (peer != NULL) {
        *peer_out = peer;
        return EEP_OK;
    }
    peer = calloc(1, sizeof *peer + bytes);
    if (peer == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    peer->address_bytes = bytes;
    memcpy(peer->address, address, bytes);
    bulk_address to;
    memcpy(&to, address, bytes < sizeof to ? bytes : sizeof to);
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
        .sockaddr = {.addr = (const struct sockaddr *)&to.socket, .addrlen = sizeof to.socket},
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = on_error, .arg = peer},
    };
    if (bytes != sizeof to || ucp_ep_create(bulk->worker, &params, &peer->ep) != UCS_OK) {
        free(peer);
        return EEP_ERR_UNREACHABLE;
    }
    peer->next = bulk->peers;
    bulk->peers = peer;
    *peer_out = peer;
    return EEP_OK;
}

static void accept_call(bulk_ucx *bulk, ucp_conn_request_h request)
{
    bulk_peer *peer = calloc(1, sizeof *peer);
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .conn_request = request,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = on_error, .arg = peer},
    };
    if (peer == NULL) {
        ucp_listener_reject(bulk->listener, request);
        return;
    }
    if (ucp_ep_create(bulk->worker, &params, &peer->ep) != UCS_OK) {
        free(peer);
        return;
    }
    peer->next = bulk->peers;
    bulk->peers = peer;
}

int eepi_bulk_peers_accept(bulk_ucx *bulk)
{
    int work = 0;
    while (bulk->calls != NULL) {
        bulk_call *call = bulk->calls;
        bulk->calls = call->next;
        accept_call(bulk, call->request);
        free(call);
        work = 1;
    }
    return work;
}

/* Begin to close a failed peer's endpoint. */
static void close_peer(bulk_peer *peer)
{
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
        .flags = UCP_EP_CLOSE_FLAG_FORCE,
    };
    ucp_ep_h ep = peer->ep;
    peer->ep = NULL;
    ucs_status_ptr_t request = ucp_ep_close_nbx(ep, &param);
    peer->closing = UCS_PTR_IS_PTR(request) ? request : NULL;
}

/* Whether nothing of the peer is left in UCX. */
static bool peer_is_closed(bulk_peer *peer)
{
    if (peer->closing != NULL && ucp_request_check_status(peer->closing) != UCS_INPROGRESS) {
        ucp_request_free(peer->closing);
        peer->closing = NULL;
    }
    return peer->ep == NULL && peer->closing == NULL && peer->sends == 0;
}

int eepi_bulk_peers_reap(bulk_ucx *bulk)
{
    int work = 0;
    bulk_peer **link = &bulk->peers;
    while (*link != NULL) {
        bulk_peer *peer = *link;
        if (peer->failed && peer->ep != NULL) {
            eepi_bulk_fetch_lose(&bulk->base, peer, EEP_ERR_UNREACHABLE);
            eepi_bulk_serve_drop(bulk, peer);
            close_peer(peer);
            work = 1;
        }
        if (peer_is_closed(peer)) {
            *link = peer->next;
            free(peer);
            work = 1;
            continue;
        }
        link = &peer->next;
    }
    return work;
}

/* What a send that has ended (or never began) leaves to do. */
static void send_ended(bulk_send *send, ucs_status_t status)
{
    send->peer->sends--;
    if (status != UCS_OK) {
        send->peer->failed = true;
    }
    if (send->serve == NULL) {
        free(send);
        return;
    }
    send->serve->in_flight--;
    send->busy = false;
}

static void on_sent(void *request, ucs_status_t status, void *send)
{
    send_ended(send, status);
    ucp_request_free(request);
}

void eepi_bulk_send(bulk_send *send)
{
    /* Eager: rendezvous would read the pieces from the other side (get), which is not safe for a
     * survivor when that side dies. Reply: the receiver learns on which endpoint it came. */
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_DATATYPE,
        .flags = UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_REPLY,
        .cb.send = on_sent,
        .user_data = send,
    };
    const void *buffer = send->pieces;
    size_t count = send->num_pieces;
    param.datatype = ucp_dt_make_iov();
    if (count <= 1) {
        param.datatype = ucp_dt_make_contig(1);
        buffer = count == 1 ? send->pieces[0].buffer : NULL;
        count = count == 1 ? send->pieces[0].length : 0;
    }
    send->peer->sends++;
    if (send->serve != NULL) {
        send->serve->in_flight++;
        send->busy = true;
    }
    ucs_status_ptr_t request = UCS_STATUS_PTR(UCS_ERR_CONNECTION_RESET);
    if (send->peer->ep != NULL && !send->peer->failed) {
        request = ucp_am_send_nbx(send->peer->ep, BULK_AM_ID, &send->wire, sizeof send->wire,
                                  buffer, count, &param);
    }
    if (!UCS_PTR_IS_PTR(request)) {
        send_ended(send, UCS_PTR_STATUS(request));
    }
}

void eepi_bulk_send_control(bulk_peer *peer, const bulk_wire *wire)
{
    bulk_send *send = calloc(1, sizeof *send);
    if (send == NULL) {
        return; /* the other side's deadline ends the transfer */
    }
    send->wire = *wire;
    send->peer = peer;
    eepi_bulk_send(send);
}

/* Progress until `request` has ended or `deadline_us` has passed; frees it if it has ended. */
static void wait_request(bulk_ucx *bulk, ucs_status_ptr_t request, uint64_t deadline_us)
{
    if (!UCS_PTR_IS_PTR(request)) {
        return;
    }
    while (ucp_request_check_status(request) == UCS_INPROGRESS) {
        if (eepi_now_us() >= deadline_us) {
            break;
        }
        if (ucp_worker_progress(bulk->worker) == 0) {
            sched_yield();
        }
    }
    /* Freeing one that has not ended is allowed: UCX returns it when it ends. */
    ucp_request_free(request);
}

void eepi_bulk_peers_close(bulk_ucx *bulk)
{
    ucp_request_param_t none = {0};
    uint64_t flush_us = eepi_now_us() + BULK_CLOSE_FLUSH_US;
    if (bulk->peers != NULL && ucp_worker_fence(bulk->worker) == UCS_OK) {
        for (bulk_peer *peer = bulk->peers; peer != NULL; peer = peer->next) {
            if (peer->ep != NULL && !peer->failed) {
                wait_request(bulk, ucp_ep_flush_nbx(peer->ep, &none), flush_us);
            }
        }
    }
    for (bulk_peer *peer = bulk->peers; peer != NULL; peer = peer->next) {
        peer->failed = true;
    }
    uint64_t close_us = eepi_now_us() + BULK_CLOSE_FLUSH_US;
    eepi_bulk_peers_reap(bulk);
    while (bulk->peers != NULL && eepi_now_us() < close_us) {
        if (ucp_worker_progress(bulk->worker) == 0) {
            sched_yield();
        }
        eepi_bulk_peers_reap(bulk);
    }
}

void eepi_bulk_peers_free(bulk_ucx *bulk)
{
    while (bulk->peers != NULL) {
        bulk_peer *peer = bulk->peers;
        bulk->peers = peer->next;
        free(peer);
    }
}
