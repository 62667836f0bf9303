/* Bulk copies over UCX active messages: open, progress, and the side that asks for bytes.
 *
 * A fetch and its transfer, both ends (docs/ARCHITECTURE.md says why active messages over tcp):
 *
 *     requester                                    server
 *     REQUEST(epoch, transfer, blob, bytes)  --->  asks its `serve` function
 *                                            <---  CHUNK(epoch, transfer, offset) ...
 *     each chunk checked against the fetch,        at most BULK_CHUNKS_IN_FLIGHT inside UCX
 *     then copied to its place
 *     (CANCEL when it has given up           --->  sends no more)
 *                                            <---  END(status) instead of chunks: no such blob
 *
 * A buffer is written only while its fetch is in `fetches`, and only by the thread that owns the
 * bulk, so taking a fetch out of that list is all that it takes to void a transfer. */
#include "transport/bulk_internal.h"
#include "transport/ucx_process.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

uint64_t eepi_bulk_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t eepi_bulk_deadline_us(uint64_t now_us, uint64_t timeout_us)
{
    return timeout_us > UINT64_MAX - now_us ? UINT64_MAX : now_us + timeout_us;
}

/* ---------------------------------------------------------------- fetches */

/* Take a running fetch out of the list: nothing lands in its buffer any more. */
static void end_fetch(eepi_bulk *bulk, bulk_fetch *fetch, eep_status status)
{
    bulk_fetch **link = &bulk->fetches;
    while (*link != fetch)
        link = &(*link)->next;
    *link = fetch->next;
    fetch->next = NULL;
    fetch->status = status;
    *bulk->ended_end = fetch;
    bulk->ended_end = &fetch->next;
}

static void send_request(const bulk_fetch *fetch, uint64_t timeout_us)
{
    bulk_address to;
    memcpy(&to, fetch->peer->address, sizeof(to));
    bulk_wire wire = {
        .magic = BULK_MAGIC,
        .kind = BULK_REQUEST,
        .epoch = fetch->blob.epoch,
        .transfer = fetch->transfer,
        .bytes = fetch->bytes,
        .total = to.mark,
        .timeout_us = timeout_us,
        .layer = fetch->blob.layer,
        .expert = fetch->blob.expert,
    };
    eepi_bulk_send_control(fetch->peer, &wire);
}

/* Ask the server to send no more, if it is there. */
static void send_cancel(const bulk_fetch *fetch)
{
    if (fetch->peer == NULL || fetch->peer->failed)
        return;
    bulk_wire wire = {
        .magic = BULK_MAGIC,
        .kind = BULK_CANCEL,
        .epoch = fetch->blob.epoch,
        .transfer = fetch->transfer,
    };
    eepi_bulk_send_control(fetch->peer, &wire);
}

static bulk_fetch *find_fetch(const eepi_bulk *bulk, const bulk_wire *wire)
{
    for (bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = fetch->next) {
        if (fetch->transfer == wire->transfer && fetch->blob.epoch == wire->epoch)
            return fetch;
    }
    return NULL;
}

/* Whether a chunk is one of those that the fetch still waits for. */
static bool chunk_fits(const bulk_fetch *fetch, const bulk_wire *wire, size_t payload_bytes)
{
    if (wire->total != fetch->bytes || wire->offset >= fetch->bytes ||
        wire->offset % EEPI_BULK_CHUNK_BYTES != 0)
        return false;
    uint64_t bytes = fetch->bytes - wire->offset;
    if (bytes > EEPI_BULK_CHUNK_BYTES)
        bytes = EEPI_BULK_CHUNK_BYTES;
    uint64_t chunk = wire->offset / EEPI_BULK_CHUNK_BYTES;
    return wire->bytes == bytes && payload_bytes == bytes &&
           (fetch->arrived[chunk / 8] & (1u << chunk % 8)) == 0;
}

static void take_chunk(eepi_bulk *bulk, const bulk_wire *wire, const void *payload,
                       size_t payload_bytes)
{
    bulk_fetch *fetch = find_fetch(bulk, wire);
    if (fetch == NULL)
        return; /* of a voided transfer (rule R1) */
    if (!chunk_fits(fetch, wire, payload_bytes)) {
        send_cancel(fetch);
        end_fetch(bulk, fetch, EEP_ERR_PROTOCOL);
        return;
    }
    uint64_t chunk = wire->offset / EEPI_BULK_CHUNK_BYTES;
    memcpy(fetch->buffer + wire->offset, payload, payload_bytes);
    fetch->arrived[chunk / 8] |= (unsigned char)(1u << chunk % 8);
    fetch->received += payload_bytes;
    if (fetch->received == fetch->bytes)
        end_fetch(bulk, fetch, EEP_OK);
}

static void take_end(eepi_bulk *bulk, const bulk_wire *wire)
{
    bulk_fetch *fetch = find_fetch(bulk, wire);
    if (fetch == NULL)
        return;
    bool known = wire->status == EEP_ERR_NOT_FOUND || wire->status == EEP_ERR_UNREACHABLE;
    end_fetch(bulk, fetch, known ? wire->status : EEP_ERR_PROTOCOL);
}

static ucs_status_t on_message(void *bulk_arg, const void *header, size_t header_bytes, void *data,
                               size_t bytes, const ucp_am_recv_param_t *param)
{
    eepi_bulk *bulk = bulk_arg;
    bulk_wire wire;
    /* What is sent by rendezvous is not ours; returning without receiving it drops it. */
    if (bulk->closing || header_bytes != sizeof(wire) ||
        (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0)
        return UCS_OK;
    memcpy(&wire, header, sizeof(wire));
    if (wire.magic != BULK_MAGIC)
        return UCS_OK;
    if (wire.kind == BULK_REQUEST || wire.kind == BULK_CANCEL) {
        if ((param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) != 0)
            eepi_bulk_serve_queue(bulk, &wire, param->reply_ep);
    } else if (wire.kind == BULK_CHUNK)
        take_chunk(bulk, &wire, data, bytes);
    else if (wire.kind == BULK_END)
        take_end(bulk, &wire);
    return UCS_OK;
}

void eepi_bulk_fetch_lose(eepi_bulk *bulk, const bulk_peer *peer)
{
    bulk_fetch *next = NULL;
    for (bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = next) {
        next = fetch->next;
        if (fetch->peer == peer)
            end_fetch(bulk, fetch, EEP_ERR_UNREACHABLE);
    }
}

/* A fetch from this worker's own address: no message is needed. */
static void fetch_locally(eepi_bulk *bulk, bulk_fetch *fetch)
{
    eepi_bulk_part parts[EEPI_BULK_PARTS];
    int num_parts = 0;
    eep_status status = eepi_bulk_serve_ask(bulk, &fetch->blob, fetch->bytes, parts, &num_parts);
    if (status == EEP_OK) {
        unsigned char *to = fetch->buffer;
        for (int i = 0; i < num_parts; i++) {
            if (parts[i].bytes > 0)
                memcpy(to, parts[i].data, parts[i].bytes);
            to += parts[i].bytes;
        }
        if (bulk->served)
            bulk->served(bulk->user, parts, num_parts);
    }
    end_fetch(bulk, fetch, status);
}

static int progress_fetches(eepi_bulk *bulk, uint64_t now_us)
{
    int work = 0;
    bulk_fetch *next = NULL;
    for (bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = next) {
        next = fetch->next;
        if (fetch->peer == NULL) {
            fetch_locally(bulk, fetch);
            work = 1;
        } else if (now_us >= fetch->deadline_us) {
            send_cancel(fetch);
            end_fetch(bulk, fetch, EEP_ERR_TIMEOUT);
            work = 1;
        }
    }
    return work;
}

/* Call `done` for what has ended; it may start or cancel fetches. */
static int deliver(eepi_bulk *bulk)
{
    int work = 0;
    while (bulk->ended != NULL) {
        bulk_fetch *fetch = bulk->ended;
        bulk->ended = fetch->next;
        if (bulk->ended == NULL)
            bulk->ended_end = &bulk->ended;
        uint64_t transfer = fetch->transfer;
        eep_status status = fetch->status;
        free(fetch);
        bulk->done(bulk->user, transfer, status);
        work = 1;
    }
    return work;
}

/* ---------------------------------------------------------------- waking up */

/* Make the descriptor readable at that time (0: never, 1: now). */
static void set_timer(eepi_bulk *bulk, uint64_t at_us)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at_us / 1000000u),
                     .tv_nsec = (long)(at_us % 1000000u) * 1000},
    };
    timerfd_settime(bulk->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    bulk->timer_at_us = at_us;
}

/* Work was begun outside of progress: have the owner's poll return. */
static void wake(eepi_bulk *bulk)
{
    if (bulk->timer_at_us != 1)
        set_timer(bulk, 1);
}

/* Sleepable until an event or the next deadline: set the timer, arm UCX. */
static int arm(eepi_bulk *bulk, uint64_t now_us)
{
    if (ucp_worker_arm(bulk->worker) != UCS_OK)
        return 1;
    uint64_t next_us = UINT64_MAX;
    for (const bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = fetch->next) {
        if (fetch->deadline_us < next_us)
            next_us = fetch->deadline_us;
    }
    for (const bulk_serve *serve = bulk->serves; serve != NULL; serve = serve->next) {
        if (!serve->dropped && serve->deadline_us < next_us)
            next_us = serve->deadline_us;
    }
    if (next_us == UINT64_MAX)
        next_us = 0;
    /* An expired timer stays readable until it is set again. */
    if (bulk->timer_at_us != next_us || (next_us != 0 && next_us <= now_us))
        set_timer(bulk, next_us);
    return 0;
}

int eepi_bulk_fd(eepi_bulk *bulk)
{
    return bulk->poll_fd;
}

int eepi_bulk_progress(eepi_bulk *bulk)
{
    int work = ucp_worker_progress(bulk->worker) != 0;
    work |= eepi_bulk_peers_accept(bulk);
    eepi_bulk_progress_parked();
    uint64_t now_us = eepi_bulk_now_us();
    work |= eepi_bulk_peers_reap(bulk);
    work |= eepi_bulk_serve_progress(bulk, now_us);
    work |= progress_fetches(bulk, now_us);
    work |= deliver(bulk);
    return work ? 1 : arm(bulk, now_us);
}

/* ---------------------------------------------------------------- calls of the owner */

eep_status eepi_bulk_fetch(eepi_bulk *bulk, const void *peer_address, size_t address_bytes,
                           const eepi_blob *blob, void *buffer, size_t bytes, uint64_t timeout_us,
                           uint64_t *transfer_out)
{
    if (peer_address == NULL || address_bytes == 0 || address_bytes > BULK_ADDRESS_MAX_BYTES ||
        blob == NULL || buffer == NULL || bytes == 0 || transfer_out == NULL)
        return EEP_ERR_INVALID;
    if (bulk->closing)
        return EEP_ERR_STATE;
    uint64_t num_chunks = (bytes - 1) / EEPI_BULK_CHUNK_BYTES + 1;
    bulk_fetch *fetch = calloc(1, sizeof(*fetch) + num_chunks / 8 + 1);
    if (fetch == NULL)
        return EEP_ERR_NO_MEMORY;
    bool local = address_bytes == sizeof(bulk->address) &&
                 memcmp(peer_address, &bulk->address, address_bytes) == 0;
    eep_status status = EEP_OK;
    if (!local)
        status = eepi_bulk_peer_get(bulk, peer_address, address_bytes, &fetch->peer);
    if (status == EEP_ERR_NO_MEMORY) {
        free(fetch);
        return status;
    }
    fetch->blob = *blob;
    fetch->transfer = ++bulk->last_transfer;
    fetch->deadline_us = eepi_bulk_deadline_us(eepi_bulk_now_us(), timeout_us);
    fetch->buffer = buffer;
    fetch->bytes = bytes;
    fetch->next = bulk->fetches;
    bulk->fetches = fetch;
    *transfer_out = fetch->transfer;
    if (status != EEP_OK)
        end_fetch(bulk, fetch, status); /* UCX may find at once that nobody is there */
    else if (!local)
        send_request(fetch, timeout_us);
    wake(bulk);
    return EEP_OK;
}

void eepi_bulk_cancel_before(eepi_bulk *bulk, uint64_t epoch)
{
    for (bulk_fetch *fetch = bulk->ended; fetch != NULL; fetch = fetch->next) {
        if (fetch->blob.epoch < epoch)
            fetch->status = EEP_ERR_ABORTED;
    }
    bulk_fetch *next = NULL;
    for (bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = next) {
        next = fetch->next;
        if (fetch->blob.epoch < epoch) {
            send_cancel(fetch);
            end_fetch(bulk, fetch, EEP_ERR_ABORTED);
        }
    }
    deliver(bulk);
    wake(bulk);
}

void eepi_bulk_forget(eepi_bulk *bulk, const void *peer_address, size_t address_bytes)
{
    bulk_peer *peer = eepi_bulk_peer_find(bulk, peer_address, address_bytes);
    if (peer != NULL) {
        peer->failed = true;
        wake(bulk);
    }
}

void eepi_bulk_address(const eepi_bulk *bulk, const void **address_out, size_t *bytes_out)
{
    *address_out = &bulk->address;
    *bytes_out = sizeof(bulk->address);
}

/* ---------------------------------------------------------------- open and close */

static eep_status fail(char *error_out, size_t error_bytes, eep_status status, const char *format,
                       ...)
{
    if (error_out != NULL && error_bytes > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error_out, error_bytes, format, arguments);
        va_end(arguments);
    }
    return status;
}

static void on_call(ucp_conn_request_h request, void *bulk_arg)
{
    eepi_bulk *bulk = bulk_arg;
    bulk_call *call = bulk->closing ? NULL : calloc(1, sizeof(*call));
    if (call == NULL) {
        ucp_listener_reject(bulk->listener, request);
        return;
    }
    call->request = request;
    call->next = bulk->calls;
    bulk->calls = call;
}

/* On a port that the system chooses, reachable on this machine. */
static ucs_status_t listen_for_peers(eepi_bulk *bulk)
{
    struct sockaddr_in any = {.sin_family = AF_INET,
                              .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    ucp_listener_params_t params = {
        .field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
        .sockaddr = {.addr = (const struct sockaddr *)&any, .addrlen = sizeof(any)},
        .conn_handler = {.cb = on_call, .arg = bulk},
    };
    ucp_listener_attr_t attributes = {.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR};
    ucs_status_t status = ucp_listener_create(bulk->worker, &params, &bulk->listener);
    if (status == UCS_OK)
        status = ucp_listener_query(bulk->listener, &attributes);
    if (status != UCS_OK)
        return status;
    memcpy(&bulk->address.socket, &attributes.sockaddr, sizeof(bulk->address.socket));
    bulk->address.mark = eepi_bulk_now_us() << 20 ^ (uint64_t)getpid() ^ (uintptr_t)bulk >> 4;
    return UCS_OK;
}

/* Context, worker, handler and address. What was made so far stays in `bulk` on failure. */
static ucs_status_t open_worker(eepi_bulk *bulk, const char **call_out)
{
    ucp_config_t *config = NULL;
    eepi_ucx_quiet();
    *call_out = "ucp_config_read";
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK)
        return status;
    /* Only tcp reports a killed peer soon and leaves survivors unharmed. */
    if (getenv("UCX_TLS") == NULL)
        status = ucp_config_modify(config, "TLS", "tcp");
    ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES,
        .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
    };
    *call_out = "ucp_init";
    if (status == UCS_OK)
        status = ucp_init(&params, config, &bulk->context);
    ucp_config_release(config);
    if (status != UCS_OK)
        return status;
    /* Serialized: opened on one thread, driven by another. */
    ucp_worker_params_t worker = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SERIALIZED,
    };
    *call_out = "ucp_worker_create";
    status = ucp_worker_create(bulk->context, &worker, &bulk->worker);
    if (status != UCS_OK)
        return status;
    ucp_am_handler_param_t handler = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = BULK_AM_ID,
        .flags = UCP_AM_FLAG_WHOLE_MSG,
        .cb = on_message,
        .arg = bulk,
    };
    *call_out = "ucp_worker_set_am_recv_handler";
    status = ucp_worker_set_am_recv_handler(bulk->worker, &handler);
    if (status != UCS_OK)
        return status;
    *call_out = "ucp_listener_create";
    return listen_for_peers(bulk);
}

/* The descriptor to poll: UCX's and a timer. Returns whether it worked; errno says why not. */
static bool open_descriptors(eepi_bulk *bulk)
{
    int ucx_fd = -1;
    if (ucp_worker_get_efd(bulk->worker, &ucx_fd) != UCS_OK) {
        errno = ENOTSUP;
        return false;
    }
    bulk->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    bulk->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (bulk->timer_fd < 0 || bulk->poll_fd < 0)
        return false;
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(bulk->poll_fd, EPOLL_CTL_ADD, ucx_fd, &event) != 0 ||
        epoll_ctl(bulk->poll_fd, EPOLL_CTL_ADD, bulk->timer_fd, &event) != 0)
        return false;
    wake(bulk); /* the first progress arms UCX */
    return true;
}

static void close_descriptors(eepi_bulk *bulk)
{
    if (bulk->poll_fd >= 0)
        close(bulk->poll_fd);
    if (bulk->timer_fd >= 0)
        close(bulk->timer_fd);
    bulk->poll_fd = bulk->timer_fd = -1;
}

void eepi_bulk_destroy(eepi_bulk *bulk)
{
    close_descriptors(bulk);
    if (bulk->listener != NULL)
        ucp_listener_destroy(bulk->listener);
    if (bulk->worker != NULL)
        ucp_worker_destroy(bulk->worker);
    if (bulk->context != NULL)
        ucp_cleanup(bulk->context);
    eepi_bulk_serve_free(bulk);
    eepi_bulk_peers_free(bulk);
    free(bulk);
}

eep_status eepi_bulk_open(eepi_bulk_serve_fn serve, eepi_bulk_served_fn served,
                          eepi_bulk_done_fn done, void *user, char *error_out, size_t error_bytes,
                          eepi_bulk **bulk_out)
{
    if (serve == NULL || done == NULL || bulk_out == NULL)
        return fail(error_out, error_bytes, EEP_ERR_INVALID, "serve, done and bulk_out are needed");
    eepi_bulk *bulk = calloc(1, sizeof(*bulk));
    if (bulk == NULL)
        return fail(error_out, error_bytes, EEP_ERR_NO_MEMORY, "out of memory");
    bulk->serve = serve;
    bulk->served = served;
    bulk->done = done;
    bulk->user = user;
    bulk->timer_fd = -1;
    bulk->poll_fd = -1;
    bulk->messages_end = &bulk->messages;
    bulk->ended_end = &bulk->ended;
    const char *call = "";
    ucs_status_t status = open_worker(bulk, &call);
    if (status != UCS_OK) {
        eepi_bulk_destroy(bulk);
        return fail(error_out, error_bytes, EEP_ERR_UNSUPPORTED, "UCX: %s: %s", call,
                    ucs_status_string(status));
    }
    if (!open_descriptors(bulk)) {
        int error = errno;
        eepi_bulk_destroy(bulk);
        return fail(error_out, error_bytes, EEP_ERR_SYSTEM, "bulk descriptors: %s",
                    strerror(error));
    }
    *bulk_out = bulk;
    return EEP_OK;
}

/* Who has called is refused, as on_call refuses who does from now on. */
static void refuse_calls(eepi_bulk *bulk)
{
    while (bulk->calls != NULL) {
        bulk_call *call = bulk->calls;
        bulk->calls = call->next;
        ucp_listener_reject(bulk->listener, call->request);
        free(call);
    }
}

static bool has_sends(const eepi_bulk *bulk)
{
    uint32_t sends = 0;
    for (const bulk_peer *peer = bulk->peers; peer != NULL; peer = peer->next)
        sends += peer->sends;
    return sends > 0;
}

void eepi_bulk_close(eepi_bulk *bulk)
{
    if (bulk == NULL)
        return;
    bulk->closing = true;
    while (bulk->fetches != NULL) {
        send_cancel(bulk->fetches);
        end_fetch(bulk, bulk->fetches, EEP_ERR_ABORTED);
    }
    deliver(bulk);
    refuse_calls(bulk);
    eepi_bulk_serve_drop(bulk, NULL);
    eepi_bulk_peers_close(bulk);
    if (has_sends(bulk)) { /* of memory that the owner is about to free */
        eepi_bulk_destroy(bulk);
        return;
    }
    eepi_bulk_serve_free(bulk);
    close_descriptors(bulk);
    eepi_bulk_park(bulk);
}
