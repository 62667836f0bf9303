/* SPDX-License-Identifier: Apache-2.0 */
/* The end of endpoints and workers of UCX.
 *
 * Progress ends the transfers of a failed peer and force-closes its endpoint; the peer's memory
 * lives until UCX has returned the close and every send. A peer that is merely silent is never
 * closed: force-closing an endpoint to a stopped process is not safe in UCX (kill it first, or let
 * it continue). */
#include "transport/bulk/bulk_ucx.h"

#include <sched.h>
#include <stdlib.h>

/* Begin to close a failed peer's endpoint. */
static void begin_close(bulk_peer *peer)
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
            begin_close(peer);
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
    /* The flush alone: messages need no fence, and UCX 1.22 waits in one without a bound, for a
     * stopped peer too. */
    for (bulk_peer *peer = bulk->peers; peer != NULL; peer = peer->next) {
        if (peer->ep != NULL && !peer->failed) {
            wait_request(bulk, ucp_ep_flush_nbx(peer->ep, &none), flush_us);
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

static void free_peers(bulk_ucx *bulk)
{
    while (bulk->peers != NULL) {
        bulk_peer *peer = bulk->peers;
        bulk->peers = peer->next;
        free(peer);
    }
}

void eepi_bulk_destroy(bulk_ucx *ucx)
{
    eepi_bulk_base_close(&ucx->base);
    if (ucx->listener != NULL) {
        ucp_listener_destroy(ucx->listener);
    }
    if (ucx->worker != NULL) {
        ucp_worker_destroy(ucx->worker);
    }
    if (ucx->context != NULL) {
        ucp_cleanup(ucx->context);
    }
    eepi_bulk_serve_free(ucx);
    free_peers(ucx);
    free(ucx);
}
