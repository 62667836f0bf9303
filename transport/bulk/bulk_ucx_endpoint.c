/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints of the bulk copier: one per peer that we ask, made on demand, replaced one by one, and
 * one per peer that asks us, accepted from our listener; answers go back on that.
 *
 * Connections go through listeners, not by worker addresses: those need a message and its answer on
 * the connection itself, and UCX 1.13 ends the process if the other side dies while that answer is
 * queued.
 *
 * A peer's death reaches us through the endpoint's error handler or through a send that ends with
 * an error; both only set `failed`, and bulk_ucx_close.c does what follows. */
#include "transport/bulk/bulk_ucx.h"

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
