/* SPDX-License-Identifier: Apache-2.0 */
/* Workers, endpoints and messages of UCX for rows. */
#include "transport/network/ucx_port.h"

#include "graphs/base/descriptors.h"
#include "transport/ucx/ucx_config.h"
#include "transport/ucx/ucx_process.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* What a port takes, at most; asked before, since UCX 1.13 ends the process where its own thread
 * cannot have them. */
enum { DESCRIPTORS = 12 };

/* ------------------------------------------------------------------ messages */

eepi_ucx_message *eepi_ucx_message_get(eepi_ucx_link *link)
{
    eepi_ucx_port *port = link->port;
    eepi_ucx_message *message = port->idle;

    if (message) {
        port->idle = message->next;
    } else {
        message = malloc(sizeof *message + port->message_bytes);
    }
    if (message) {
        message->link = link;
    }
    return message;
}

static void has_ended(eepi_ucx_message *message, ucs_status_t status)
{
    eepi_ucx_link *link = message->link;

    link->num_sends--;
    if (status != UCS_OK && !link->has_failed) {
        link->has_failed = true;
        link->why = status;
    }
    message->next = link->port->idle;
    link->port->idle = message;
}

static void on_sent(void *request, ucs_status_t status, void *message)
{
    has_ended(message, status);
    ucp_request_free(request);
}

void eepi_ucx_message_send(eepi_ucx_message *message, unsigned id, size_t bytes)
{
    /* Reply: the other end learns on which endpoint it came. */
    const ucp_request_param_t param = {
        .op_attr_mask =
            UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS,
        .flags = UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_REPLY,
        .cb.send = on_sent,
        .user_data = message,
    };
    eepi_ucx_link *link = message->link;
    ucs_status_ptr_t request = UCS_STATUS_PTR(UCS_ERR_CONNECTION_RESET);

    link->num_sends++;
    if (link->ep && !link->has_failed) {
        request = ucp_am_send_nbx(link->ep, id, NULL, 0, message->payload, bytes, &param);
    }
    if (!UCS_PTR_IS_PTR(request)) {
        has_ended(message, UCS_PTR_STATUS(request));
    }
}

/* ------------------------------------------------------------------ endpoints */

static void on_error(void *user, ucp_ep_h ep, ucs_status_t status)
{
    eepi_ucx_link *link = user;

    (void)ep;
    if (!link->has_failed) {
        link->has_failed = true;
        link->why = status;
    }
}

static eepi_ucx_link *link_make(eepi_ucx_port *port, ucp_ep_params_t *params, ucs_status_t *why_out)
{
    eepi_ucx_link *link = calloc(1, sizeof *link);

    *why_out = UCS_ERR_NO_MEMORY;
    if (!link) {
        return NULL;
    }
    link->port = port;
    params->field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params->err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params->err_handler.cb = on_error;
    params->err_handler.arg = link;
    *why_out = ucp_ep_create(port->worker, params, &link->ep);
    if (*why_out != UCS_OK) {
        free(link);
        return NULL;
    }
    link->next = port->links;
    port->links = link;
    port->num_links++;
    return link;
}

eepi_ucx_link *eepi_ucx_link_open(eepi_ucx_port *port, const eepi_lane_path *to,
                                  ucs_status_t *why_out)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(to->port)};
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR,
        .flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
        .sockaddr = {.addr = (const struct sockaddr *)&at, .addrlen = sizeof at},
    };

    *why_out = UCS_ERR_UNREACHABLE;
    if (to->ip_bytes != 4) {
        return NULL;
    }
    memcpy(&at.sin_addr, to->ip, 4);
    return link_make(port, &params, why_out);
}

eepi_ucx_link *eepi_ucx_link_accept(eepi_ucx_port *port)
{
    eepi_ucx_link *link = NULL;

    while (port->calls && !link) {
        eepi_ucx_call *call = port->calls;
        ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST,
                                  .conn_request = call->request};
        ucs_status_t why;
        port->calls = call->next;
        link = link_make(port, &params, &why);
        if (!link && why == UCS_ERR_NO_MEMORY) {
            ucp_listener_reject(port->listener, call->request);
        }
        free(call);
    }
    return link;
}

static eepi_ucx_link *link_of(const eepi_ucx_port *port, ucp_ep_h ep)
{
    for (eepi_ucx_link *link = port->links; link; link = link->next) {
        if (link->ep == ep && !link->has_failed) {
            return link;
        }
    }
    return NULL;
}

eepi_ucx_link *eepi_ucx_link_from(const eepi_ucx_port *port, const ucp_am_recv_param_t *param)
{
    if (!port->network || (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) ||
        !(param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP)) {
        return NULL;
    }
    return link_of(port, param->reply_ep);
}

static void begin_close(eepi_ucx_link *link, uint32_t flags)
{
    const ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = flags};
    ucp_ep_h ep = link->ep;
    ucs_status_ptr_t request;

    link->ep = NULL;
    request = ucp_ep_close_nbx(ep, &param);
    link->closing = UCS_PTR_IS_PTR(request) ? request : NULL;
}

void eepi_ucx_link_close(eepi_ucx_link *link)
{
    if (link->ep && !link->has_failed) {
        begin_close(link, 0);
    }
}

/* Whether nothing of it is left in UCX. */
static bool is_closed(eepi_ucx_link *link)
{
    if (link->closing && ucp_request_check_status(link->closing) != UCS_INPROGRESS) {
        ucp_request_free(link->closing);
        link->closing = NULL;
    }
    return !link->ep && !link->closing && link->num_sends == 0;
}

/* A sender's link that has failed is closed once its lane has seen that. */
static bool reap(eepi_ucx_port *port)
{
    eepi_ucx_link **at = &port->links;
    bool any = false;

    while (*at) {
        eepi_ucx_link *link = *at;
        if (link->has_failed && link->ep && !link->lane) {
            begin_close(link, UCP_EP_CLOSE_FLAG_FORCE);
            any = true;
        }
        if (!link->lane && is_closed(link)) {
            *at = link->next;
            port->num_links--;
            eepi_lane_receipts_close(&link->receipts);
            free(link);
            continue;
        }
        at = &link->next;
    }
    return any;
}

bool eepi_ucx_port_progress(eepi_ucx_port *port)
{
    bool any = ucp_worker_progress(port->worker) != 0;

    return reap(port) || any;
}

/* ------------------------------------------------------------------ opening */

static void on_call(ucp_conn_request_h request, void *user)
{
    eepi_ucx_port *port = user;
    eepi_network *network = port->network;
    eepi_ucx_call *call = NULL;

    if (network && port->num_links < 4 * network->shape.max_ranks + EEPI_SECURE_BEFORE_MAX) {
        call = calloc(1, sizeof *call);
    }
    if (!call) {
        ucp_listener_reject(port->listener, request);
        return;
    }
    call->request = request;
    call->next = port->calls;
    port->calls = call;
}

static ucs_status_t listen_at(eepi_ucx_port *port, const struct sockaddr_in *at)
{
    const ucp_listener_params_t params = {
        .field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
        .sockaddr = {.addr = (const struct sockaddr *)at, .addrlen = sizeof *at},
        .conn_handler = {.cb = on_call, .arg = port},
    };
    ucp_listener_attr_t attributes = {.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR};
    ucs_status_t status = ucp_listener_create(port->worker, &params, &port->listener);
    const struct sockaddr_in *bound = (const struct sockaddr_in *)&attributes.sockaddr;

    if (status == UCS_OK) {
        status = ucp_listener_query(port->listener, &attributes);
    }
    if (status == UCS_OK) {
        port->at.ip_bytes = 4;
        memcpy(port->at.ip, &bound->sin_addr, 4);
        port->at.port = ntohs(bound->sin_port);
    }
    return status;
}

static ucs_status_t take_messages(eepi_ucx_port *port, const eepi_ucx_ear *ear)
{
    const ucp_am_handler_param_t handler = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = ear->id,
        .flags = UCP_AM_FLAG_WHOLE_MSG,
        .cb = ear->hear,
        .arg = port,
    };

    return ucp_worker_set_am_recv_handler(port->worker, &handler);
}

static ucs_status_t open_worker(eepi_ucx_port *port, const char *interface, const char **call_out)
{
    const ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                                 .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP};
    /* Serialized: opened on one thread, driven by another. */
    const ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                        .thread_mode = UCS_THREAD_MODE_SERIALIZED};
    ucp_config_t *config = NULL;
    ucs_status_t status;

    eepi_ucx_quiet();
    *call_out = "ucp_config_read";
    status = eepi_ucx_config(interface, false, &config);
    if (status != UCS_OK) {
        return status;
    }
    *call_out = "ucp_init";
    status = ucp_init(&params, config, &port->context);
    ucp_config_release(config);
    if (status == UCS_OK) {
        *call_out = "ucp_worker_create";
        status = ucp_worker_create(port->context, &worker, &port->worker);
    }
    if (status == UCS_OK) {
        *call_out = "ucp_worker_get_efd";
        status = ucp_worker_get_efd(port->worker, &port->fd);
    }
    return status;
}

static ucs_status_t open_end(eepi_ucx_port *port, bool listens, const eepi_ucx_ear *ears,
                             const struct sockaddr_in *at, const char **call_out)
{
    ucs_status_t status;

    *call_out = "ucp_worker_set_am_recv_handler";
    status = take_messages(port, &ears[0]);
    if (status == UCS_OK) {
        status = take_messages(port, &ears[1]);
    }
    if (status == UCS_OK && listens) {
        *call_out = "ucp_listener_create";
        status = listen_at(port, at);
    }
    return status;
}

/* Nothing has connected to it. */
static void destroy(eepi_ucx_port *port)
{
    if (port->listener) {
        ucp_listener_destroy(port->listener);
    }
    if (port->worker) {
        ucp_worker_destroy(port->worker);
    }
    if (port->context) {
        ucp_cleanup(port->context);
    }
    free(port);
}

/* ------------------------------------------------------------------ ports that are kept */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static eepi_ucx_port *parked; /* under the lock */

void eepi_ucx_port_park(eepi_ucx_port *port)
{
    port->network = NULL;
    port->parked_by = getpid();
    pthread_mutex_lock(&lock);
    port->next_parked = parked;
    parked = port;
    pthread_mutex_unlock(&lock);
}

/* A forked child's copies are its parent's. */
static eepi_ucx_port *unpark(uint64_t settings, size_t message_bytes)
{
    eepi_ucx_port *found = NULL, **at = &parked;

    pthread_mutex_lock(&lock);
    while (*at && ((*at)->settings != settings || (*at)->message_bytes != message_bytes ||
                   (*at)->parked_by != getpid())) {
        at = &(*at)->next_parked;
    }
    if (*at) {
        found = *at;
        *at = found->next_parked;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static uint64_t settings_of(const struct sockaddr_in *at, bool listens)
{
    char text[1024];

    eepi_ucx_variables(text, sizeof text);
    return XXH64(text, strlen(text), (uint64_t)at->sin_addr.s_addr << 1 | listens);
}

static eep_status refuse(ucs_status_t status, const char *call, const char *interface, char *why,
                         size_t why_bytes)
{
    char text[256];

    if (status == UCS_ERR_NO_MEMORY) {
        snprintf(why, why_bytes, "UCX: %s: out of memory", call);
        return EEP_ERR_NO_MEMORY;
    }
    eepi_ucx_variables(text, sizeof text);
    snprintf(why, why_bytes, "UCX: %s on interface \"%s\": %s%s", call, interface,
             ucs_status_string(status), text);
    return EEP_ERR_UNSUPPORTED;
}

eep_status eepi_ucx_port_open(eepi_network *network, const char *interface, bool listens,
                              const eepi_ucx_ear *ears, char *why, size_t why_bytes,
                              eepi_ucx_port **port_out)
{
    const size_t words = EEPK_RING_WORDS * sizeof(eepk_put);
    const size_t most = network->slot_bytes + words;
    const size_t receipts = eepi_lane_receipts_most(network->shape.ring_slots) * sizeof(uint64_t);
    size_t message_bytes = most > UCX_ROWS_BYTES ? most : UCX_ROWS_BYTES;
    const char *call = "";
    eepi_ucx_port *port;
    struct sockaddr_in at;
    ucs_status_t status;

    message_bytes = receipts > message_bytes ? receipts : message_bytes;
    if (eepi_ucx_interface(interface, &at) != 0) {
        snprintf(why, why_bytes,
                 "EEP_NETWORK_INTERFACE: \"%.40s\" has no IPv4 address or does not exist",
                 interface);
        return EEP_ERR_INVALID;
    }
    port = unpark(settings_of(&at, listens), message_bytes);
    if (port) {
        port->network = network;
        *port_out = port;
        return EEP_OK;
    }
    if (eepi_descriptors_lack(DESCRIPTORS, "rows over UCX", why, why_bytes)) {
        return EEP_ERR_SYSTEM;
    }
    port = calloc(1, sizeof *port);
    if (!port) {
        snprintf(why, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    port->network = network;
    port->message_bytes = message_bytes;
    port->settings = settings_of(&at, listens);
    status = open_worker(port, interface, &call);
    if (status == UCS_OK) {
        status = open_end(port, listens, ears, &at, &call);
    }
    if (status != UCS_OK) {
        destroy(port);
        return refuse(status, call, interface, why, why_bytes);
    }
    *port_out = port;
    return EEP_OK;
}
