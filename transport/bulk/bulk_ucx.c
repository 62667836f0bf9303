/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copies over UCX active messages (docs/ARCHITECTURE.md says why these, over tcp): open,
 * close, and what arrives. */
#include "transport/bulk/bulk_ucx.h"
#include "graphs/base/descriptors.h"
#include "transport/ucx/ucx_process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <xxhash.h>

/* What a copier over UCX takes, at most, once its own two are made. */
enum { DESCRIPTORS = 10, OWN_DESCRIPTORS = 2 };

static bulk_ucx *ucx_of(eepi_bulk *bulk)
{
    return (bulk_ucx *)bulk;
}

/* ---------------------------------------------------------------- fetches */

static eep_status get_peer(eepi_bulk *bulk, const void *address, size_t bytes,
                           const void **peer_out)
{
    bulk_peer *peer = NULL;
    eep_status status = eepi_bulk_peer_get(ucx_of(bulk), address, bytes, &peer);
    if (status == EEP_OK) {
        *peer_out = peer;
    }
    return status;
}

static void ask(eepi_bulk *bulk, bulk_fetch *fetch)
{
    bulk_peer *peer = (bulk_peer *)fetch->peer;
    bulk_address to;
    memcpy(&to, peer->address, sizeof to);
    uint64_t now_us = eepi_now_us();
    bulk_wire wire = {
        .magic = BULK_MAGIC,
        .kind = BULK_REQUEST,
        .epoch = fetch->blob.epoch,
        .transfer = fetch->transfer,
        .offset = fetch->blob.offset,
        .bytes = fetch->bytes,
        .total = fetch->blob.total,
        .nonce = to.nonce,
        .timeout_us = fetch->deadline_us > now_us ? fetch->deadline_us - now_us : 0,
        .layer = fetch->blob.layer,
        .expert = fetch->blob.expert,
    };
    (void)bulk;
    fetch->asked = true;
    eepi_bulk_send_control(peer, &wire);
}

/* Ask the server to send no more, if it is there. */
static void send_cancel(eepi_bulk *bulk, const bulk_fetch *fetch)
{
    bulk_peer *peer = (bulk_peer *)fetch->peer;
    bulk_wire wire = {
        .magic = BULK_MAGIC,
        .kind = BULK_CANCEL,
        .epoch = fetch->blob.epoch,
        .transfer = fetch->transfer,
    };
    (void)bulk;
    if (!peer->failed) {
        eepi_bulk_send_control(peer, &wire);
    }
}

static void handle_chunk(eepi_bulk *bulk, const void *peer, const bulk_wire *wire,
                         const void *payload, size_t payload_bytes)
{
    bulk_fetch *fetch = eepi_bulk_fetch_find(bulk, peer, wire);
    if (fetch == NULL) {
        return; /* of a voided transfer, or not from whom it was asked of (rule R1) */
    }
    if (!eepi_bulk_chunk_fits(bulk, fetch, wire, payload_bytes)) {
        send_cancel(bulk, fetch);
        eepi_bulk_fetch_end(bulk, fetch, EEP_ERR_PROTOCOL);
        return;
    }
    eepi_bulk_chunk_land(bulk, fetch, wire->offset, payload, payload_bytes);
    eepi_bulk_chunk_landed(bulk, fetch, wire);
}

/* Each message names the endpoint that it came on, and that is who sent it. */
static ucs_status_t on_message(void *ucx_arg, const void *header, size_t header_bytes, void *data,
                               size_t bytes, const ucp_am_recv_param_t *param)
{
    bulk_ucx *ucx = ucx_arg;
    bulk_wire wire;
    /* What is sent by rendezvous is not ours; returning without receiving it drops it. */
    if (ucx->base.closing || header_bytes != sizeof wire ||
        (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0 ||
        (param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0) {
        return UCS_OK;
    }
    memcpy(&wire, header, sizeof wire);
    if (wire.magic != BULK_MAGIC) {
        return UCS_OK;
    }
    const bulk_peer *from = eepi_bulk_peer_of(ucx, param->reply_ep);
    if (wire.kind == BULK_REQUEST || wire.kind == BULK_CANCEL) {
        eepi_bulk_serve_queue(ucx, &wire, param->reply_ep);
    } else if (wire.kind == BULK_CHUNK) {
        handle_chunk(&ucx->base, from, &wire, data, bytes);
    } else if (wire.kind == BULK_END) {
        eepi_bulk_end_arrived(&ucx->base, from, &wire);
    }
    return UCS_OK;
}

/* ---------------------------------------------------------------- progress */

static int progress(eepi_bulk *bulk, uint64_t now_us)
{
    bulk_ucx *ucx = ucx_of(bulk);
    int work = ucp_worker_progress(ucx->worker) != 0;
    work |= eepi_bulk_peers_accept(ucx);
    eepi_bulk_progress_parked();
    work |= eepi_bulk_peers_reap(ucx);
    work |= eepi_bulk_serve_progress(ucx, now_us);
    return work;
}

static int arm(eepi_bulk *bulk, uint64_t *next_us)
{
    bulk_ucx *ucx = ucx_of(bulk);
    if (ucp_worker_arm(ucx->worker) != UCS_OK) {
        return 1;
    }
    for (const bulk_serve *serve = ucx->serves; serve != NULL; serve = serve->next) {
        if (!serve->dropped && serve->deadline_us < *next_us) {
            *next_us = serve->deadline_us;
        }
    }
    return 0;
}

static void forget(eepi_bulk *bulk, const void *address, size_t bytes)
{
    bulk_peer *peer = eepi_bulk_peer_find(ucx_of(bulk), address, bytes);
    if (peer != NULL) {
        peer->failed = true;
    }
}

/* ---------------------------------------------------------------- open and close */

static void on_call(ucp_conn_request_h request, void *ucx_arg)
{
    bulk_ucx *ucx = ucx_arg;
    bulk_call *call = ucx->base.closing ? NULL : calloc(1, sizeof *call);
    if (call == NULL) {
        ucp_listener_reject(ucx->listener, request);
        return;
    }
    call->request = request;
    call->next = ucx->calls;
    ucx->calls = call;
}

/* On a port that the system chooses, of the one interface. */
static ucs_status_t listen_for_peers(bulk_ucx *ucx, const struct sockaddr_in *at)
{
    ucp_listener_params_t params = {
        .field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
        .sockaddr = {.addr = (const struct sockaddr *)at, .addrlen = sizeof *at},
        .conn_handler = {.cb = on_call, .arg = ucx},
    };
    ucp_listener_attr_t attributes = {.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR};
    ucs_status_t status = ucp_listener_create(ucx->worker, &params, &ucx->listener);
    if (status == UCS_OK) {
        status = ucp_listener_query(ucx->listener, &attributes);
    }
    if (status != UCS_OK) {
        return status;
    }
    memcpy(&ucx->address.socket, &attributes.sockaddr, sizeof ucx->address.socket);
    return UCS_OK;
}

/* Context, worker, handler and listener. What was made so far stays in `ucx` on failure. */
static ucs_status_t open_worker(bulk_ucx *ucx, const char *interface, bool asks_for_cuda,
                                const struct sockaddr_in *at, const char **call_out)
{
    ucp_config_t *config = NULL;
    eepi_ucx_quiet();
    *call_out = "ucp_config_read";
    ucs_status_t status = eepi_ucx_config(interface, asks_for_cuda, &config);
    if (status != UCS_OK) {
        return status;
    }
    ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES,
        .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
    };
    *call_out = "ucp_init";
    status = ucp_init(&params, config, &ucx->context);
    ucp_config_release(config);
    if (status != UCS_OK) {
        return status;
    }
    /* Serialized: opened on one thread, driven by another. */
    ucp_worker_params_t worker = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SERIALIZED,
    };
    *call_out = "ucp_worker_create";
    status = ucp_worker_create(ucx->context, &worker, &ucx->worker);
    if (status != UCS_OK) {
        return status;
    }
    ucp_am_handler_param_t handler = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = BULK_AM_ID,
        .flags = UCP_AM_FLAG_WHOLE_MSG,
        .cb = on_message,
        .arg = ucx,
    };
    *call_out = "ucp_worker_set_am_recv_handler";
    status = ucp_worker_set_am_recv_handler(ucx->worker, &handler);
    if (status != UCS_OK) {
        return status;
    }
    *call_out = "ucp_listener_create";
    return listen_for_peers(ucx, at);
}

/* For a worker that is new, or that was another copier's before. */
static ucs_status_t begin(bulk_ucx *ucx)
{
    int fd = -1;
    struct epoll_event event = {.events = EPOLLIN};
    ucx->messages_end = &ucx->messages;
    ucx->num_serves = ucx->num_messages = 0;
    ucx->address.nonce = eepi_now_us() << 20 ^ (uint64_t)getpid() ^ (uintptr_t)ucx >> 4;
    ucx->base.address = &ucx->address;
    ucx->base.address_bytes = sizeof ucx->address;
    ucs_status_t status = ucp_worker_get_efd(ucx->worker, &fd);
    if (status == UCS_OK && epoll_ctl(ucx->base.poll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        status = UCS_ERR_IO_ERROR;
    }
    return status;
}

/* Refuse the calls that have come; on_call refuses later ones. */
static void refuse_calls(bulk_ucx *ucx)
{
    while (ucx->calls != NULL) {
        bulk_call *call = ucx->calls;
        ucx->calls = call->next;
        ucp_listener_reject(ucx->listener, call->request);
        free(call);
    }
}

static bool has_sends(const bulk_ucx *ucx)
{
    uint32_t sends = 0;
    for (const bulk_peer *peer = ucx->peers; peer != NULL; peer = peer->next) {
        sends += peer->sends;
    }
    return sends > 0;
}

static void close_carrier(eepi_bulk *bulk)
{
    bulk_ucx *ucx = ucx_of(bulk);
    refuse_calls(ucx);
    eepi_bulk_serve_drop(ucx, NULL);
    eepi_bulk_peers_close(ucx);
    if (has_sends(ucx)) { /* of memory that the owner is about to free */
        eepi_bulk_destroy(ucx);
        return;
    }
    eepi_bulk_serve_free(ucx);
    eepi_bulk_base_close(bulk);
    eepi_bulk_park(ucx);
}

static const bulk_carrier carrier = {
    .peer_get = get_peer,
    .ask = ask,
    .cancel = send_cancel,
    .progress = progress,
    .arm = arm,
    .forget = forget,
    .close = close_carrier,
};

/* UCX says "unsupported" of nearly all; what is known better is said better. */
static eep_status refuse(ucs_status_t status, const char *call, const char *interface,
                         char *error_out, size_t error_bytes)
{
    char text[256];
    if (eepi_descriptors_lack(DESCRIPTORS, "a copier of weights", text, sizeof text)) {
        return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_SYSTEM, "UCX: %s: %s", call, text);
    }
    if (status == UCS_ERR_NO_MEMORY) {
        return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_NO_MEMORY, "UCX: %s: %s", call,
                              ucs_status_string(status));
    }
    eepi_ucx_variables(text, sizeof text);
    return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_UNSUPPORTED,
                          "UCX: %s on interface \"%s\": %s%s", call, interface,
                          ucs_status_string(status), text);
}

static uint64_t settings_of(const struct sockaddr_in *at, bool asks_for_cuda)
{
    char text[1024];
    eepi_ucx_variables(text, sizeof text);
    return XXH64(text, strlen(text), (uint64_t)at->sin_addr.s_addr << 1 | asks_for_cuda);
}

/* What runs may be another UCX than libeep was compiled with. */
static eepi_bulk_facts facts_of(const bulk_ucx *ucx)
{
    ucp_context_attr_t attributes = {.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES};
    eepi_bulk_facts facts = {.carrier = EEP_BULK_UCX, .fetches_per_peer = 2};
    unsigned release;
    ucp_get_version(&facts.ucx_major, &facts.ucx_minor, &release);
    facts.sends_cuda = ucp_context_query(ucx->context, &attributes) == UCS_OK &&
                       (attributes.memory_types & UCS_BIT(UCS_MEMORY_TYPE_CUDA)) != 0;
    return facts;
}

/* A copier that could not be opened: what UCX has of it goes, or waits for the next one. */
static void give_up(bulk_ucx *ucx, bool is_new)
{
    eepi_bulk_base_close(&ucx->base);
    ucx->base.closing = true;
    if (is_new) {
        eepi_bulk_destroy(ucx);
    } else {
        eepi_bulk_park(ucx);
    }
}

eep_status eepi_bulk_ucx_open(const eepi_bulk_config *config, char *error_out, size_t error_bytes,
                              eepi_bulk **bulk_out)
{
    const char *interface =
        config->interface != NULL && *config->interface != '\0' ? config->interface : "lo";
    const char *call = "epoll_create1";
    struct sockaddr_in at;
    char lack[256]; /* asked before: UCX 1.13 ends the process where its thread cannot have them */
    if (eepi_ucx_interface(interface, &at) != 0) {
        return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_INVALID,
                              "UCX: bulk_interface \"%s\" has no IPv4 address or does not exist",
                              interface);
    }
    uint64_t settings = settings_of(&at, config->asks_for_cuda);
    bulk_ucx *ucx = eepi_bulk_unpark(settings);
    bool is_new = ucx == NULL;
    if (is_new && eepi_descriptors_lack(DESCRIPTORS + OWN_DESCRIPTORS, "a copier over UCX", lack,
                                        sizeof lack)) {
        return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_SYSTEM, "UCX: %s", lack);
    }
    if (is_new && (ucx = calloc(1, sizeof *ucx)) == NULL) {
        return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_NO_MEMORY, "out of memory");
    }
    ucx->settings = settings;
    uint64_t last_transfer = ucx->base.last_transfer;
    ucs_status_t status =
        eepi_bulk_base_open(&ucx->base, &carrier, BULK_UCX_CHUNK_BYTES, config) == EEP_OK
            ? UCS_OK
            : UCS_ERR_IO_ERROR;
    ucx->base.last_transfer = last_transfer; /* numbers that peers have heard are not given again */
    if (status == UCS_OK && is_new) {
        status = open_worker(ucx, interface, config->asks_for_cuda, &at, &call);
    }
    if (status == UCS_OK) {
        call = "ucp_worker_get_efd";
        status = begin(ucx);
    }
    if (status != UCS_OK) {
        eep_status refused = refuse(status, call, interface, error_out, error_bytes);
        give_up(ucx, is_new);
        return refused;
    }
    ucx->base.facts = facts_of(ucx);
    *bulk_out = &ucx->base;
    return EEP_OK;
}
