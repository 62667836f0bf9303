/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_client.h"

#include "membership/store/store_link.h"
#include "membership/store/store_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    FIRST_RETRY_US = 1000,
    BYE_BOUND_US = 200 * 1000,
};

/* ---------------------------------------------------------------- replies */

/* Hand out the kept item; it lives until the next call. */
static void hand_out(eepi_store_client *client, eepi_store_item *before, eepi_store_item *item,
                     eepi_store_reply *reply_out)
{
    eepi_store_items_unlink(&client->kept, before, item);
    client->current = item;
    *reply_out = item->reply;
}

eep_status eepi_store_client_next(eepi_store_client *client, eepi_store_reply *reply_out)
{
    free(client->current);
    client->current = NULL;
    if (!client->kept.first) {
        eep_status status = eepi_store_link_take(client, reply_out);
        if (status == EEP_OK) {
            return EEP_OK;
        }
    }
    if (!client->kept.first) {
        return EEP_ERR_TIMEOUT;
    }
    hand_out(client, NULL, client->kept.first, reply_out);
    return EEP_OK;
}

static bool take_kept(eepi_store_client *client, uint64_t id, eepi_store_reply *reply_out)
{
    eepi_store_item *before = NULL;
    for (eepi_store_item *item = client->kept.first; item; before = item, item = item->next) {
        if (item->reply.kind == EEPI_STORE_REPLY && item->reply.id == id) {
            hand_out(client, before, item, reply_out);
            return true;
        }
    }
    return false;
}

static bool is_pending(const eepi_store_client *client, uint64_t id)
{
    for (const eepi_store_item *item = client->pending.first; item; item = item->next) {
        if (item->reply.id == id && !item->restores) {
            return true;
        }
    }
    return false;
}

/* Sleep until the socket has something, something is due, or `end_us`. */
static void wait_for_socket(const eepi_store_client *client, uint64_t end_us)
{
    struct pollfd set = {.fd = client->fd, .events = POLLIN};
    uint64_t wake_us = end_us, now = eepi_now_us();
    if (eepi_store_client_wants_write(client)) {
        set.events |= POLLOUT;
    }
    if (client->fd < 0 && client->next_connect_us < wake_us) {
        wake_us = client->next_connect_us;
    }
    if (client->opening && now + EEPI_STORE_LOOK_US < wake_us) {
        wake_us = now + EEPI_STORE_LOOK_US;
    }
    if (eepi_store_link_is_up(client) && client->next_look_us < wake_us) {
        wake_us = client->next_look_us;
    }
    if (eepi_store_link_is_up(client) && client->ttl_us > 0 &&
        client->next_keepalive_us < wake_us) {
        wake_us = client->next_keepalive_us;
    }
    if (wake_us > now) {
        struct timespec pause = {.tv_sec = (time_t)((wake_us - now) / 1000000),
                                 .tv_nsec = (long)((wake_us - now) % 1000000) * 1000};
        (void)ppoll(&set, 1, &pause, NULL);
    }
}

eep_status eepi_store_client_wait(eepi_store_client *client, uint64_t id, uint64_t timeout_us,
                                  eepi_store_reply *reply_out)
{
    uint64_t start_us = eepi_now_us();
    uint64_t end_us = timeout_us < UINT64_MAX - start_us ? start_us + timeout_us : UINT64_MAX;
    free(client->current);
    client->current = NULL;
    if (id == 0) {
        return EEP_ERR_NO_MEMORY;
    }
    if (take_kept(client, id, reply_out)) {
        return EEP_OK;
    }
    if (!is_pending(client, id)) {
        return EEP_ERR_INVALID;
    }
    for (;;) {
        eepi_store_reply reply;
        while (eepi_store_link_take(client, &reply) == EEP_OK) {
            if (reply.kind == EEPI_STORE_REPLY && reply.id == id) {
                *reply_out = reply;
                return EEP_OK;
            }
            eepi_store_item *item = eepi_store_item_new(&reply, reply.size);
            if (!item) {
                eepi_store_link_break(client); /* nothing may be missed silently */
                break;
            }
            eepi_store_items_push(&client->kept, item);
        }
        if (take_kept(client, id, reply_out)) {
            return EEP_OK;
        }
        if (eepi_now_us() >= end_us) {
            return EEP_ERR_TIMEOUT;
        }
        wait_for_socket(client, end_us);
    }
}

/* ---------------------------------------------------------------- requests */

static bool key_fits(const char *key)
{
    return key && strnlen(key, EEPI_STORE_KEY_MAX) < EEPI_STORE_KEY_MAX;
}

/* Send a request, or have its refusal handed out: either way it gets one REPLY. */
static uint64_t request(eepi_store_client *client, eepi_store_message *message, bool valid)
{
    eepi_store_reply reply = {.kind = EEPI_STORE_REPLY,
                              .id = client->next_id,
                              .status = EEP_ERR_UNREACHABLE,
                              .key = key_fits(message->key) ? message->key : ""};
    eepi_store_item *item = eepi_store_item_new(&reply, 0);
    if (!item) {
        return 0;
    }
    message->id = client->next_id++;
    if (!valid) {
        item->reply.status = EEP_ERR_INVALID;
    } else if (eepi_store_link_is_up(client)) {
        if (eepi_store_link_send(client, message)) {
            eepi_store_items_push(&client->pending, item);
            return message->id;
        }
        item->reply.status = EEP_ERR_NO_MEMORY;
    }
    eepi_store_items_push(&client->kept, item);
    return message->id;
}

static uint64_t key_request(eepi_store_client *client, eepi_store_message *message)
{
    bool valid = key_fits(message->key) && message->key[0] != '\0' &&
                 message->value_size <= EEPI_STORE_VALUE_MAX &&
                 (message->value || message->value_size == 0);
    return request(client, message, valid);
}

uint64_t eepi_store_get(eepi_store_client *client, const char *key)
{
    eepi_store_message message = {.type = EEPI_STORE_MSG_GET, .key = key};
    return key_request(client, &message);
}

uint64_t eepi_store_put(eepi_store_client *client, const char *key, const void *value, size_t size,
                        int leased)
{
    eepi_store_message message = {.type = EEPI_STORE_MSG_PUT,
                                  .lease = leased ? client->lease : 0,
                                  .key = key,
                                  .value = value,
                                  .value_size = size};
    return key_request(client, &message);
}

uint64_t eepi_store_cas(eepi_store_client *client, const char *key, uint64_t expected,
                        const void *value, size_t size)
{
    eepi_store_message message = {.type = EEPI_STORE_MSG_CAS,
                                  .revision = expected,
                                  .key = key,
                                  .value = value,
                                  .value_size = size};
    return key_request(client, &message);
}

uint64_t eepi_store_remove(eepi_store_client *client, const char *key)
{
    eepi_store_message message = {.type = EEPI_STORE_MSG_REMOVE, .key = key};
    return key_request(client, &message);
}

uint64_t eepi_store_list(eepi_store_client *client, const char *prefix)
{
    eepi_store_message message = {.type = EEPI_STORE_MSG_LIST, .key = prefix};
    return request(client, &message, key_fits(prefix));
}

/* The watch that is to stand for this prefix, new or there already; NULL: no room. */
static eepi_store_watched *find_watch(eepi_store_client *client, const char *prefix)
{
    for (size_t i = 0; i < client->num_watches; i++) {
        if (strcmp(client->watch[i].prefix, prefix) == 0) {
            return &client->watch[i];
        }
    }
    if (client->num_watches == EEPI_STORE_WATCH_MAX) {
        return NULL;
    }
    eepi_store_watched *watch = &client->watch[client->num_watches++];
    strcpy(watch->prefix, prefix);
    return watch;
}

uint64_t eepi_store_watch(eepi_store_client *client, const char *prefix)
{
    eepi_store_message message = {.type = EEPI_STORE_MSG_WATCH, .key = prefix};
    eepi_store_watched *watch = key_fits(prefix) ? find_watch(client, prefix) : NULL;
    if (watch) {
        watch->id = client->next_id;
    }
    return request(client, &message, watch != NULL);
}

uint64_t eepi_store_unwatch(eepi_store_client *client, const char *prefix)
{
    eepi_store_message message = {.type = EEPI_STORE_MSG_UNWATCH, .key = prefix};
    bool valid = key_fits(prefix);
    for (size_t i = 0; valid && i < client->num_watches; i++) {
        if (strcmp(client->watch[i].prefix, prefix) == 0) {
            client->watch[i] = client->watch[--client->num_watches];
            break;
        }
    }
    return request(client, &message, valid);
}

uint64_t eepi_store_lease(eepi_store_client *client, uint64_t ttl_us)
{
    eepi_store_message message = {
        .type = EEPI_STORE_MSG_LEASE, .lease = client->lease, .ttl_us = ttl_us, .key = ""};
    if (ttl_us > 0) {
        client->ttl_us = ttl_us;
        client->next_keepalive_us = eepi_now_us() + ttl_us / 3;
    }
    return request(client, &message, ttl_us > 0);
}

uint64_t eepi_store_lease_until_us(const eepi_store_client *client)
{
    const uint64_t sent_us = client->etcd ? eepi_etcd_lease_sent_us(client->etcd) : 0;

    return sent_us == 0 ? 0 : sent_us + client->ttl_us - client->ttl_us / 10;
}

/* ---------------------------------------------------------------- open and close */

/* Leases have names of 64 random bits, so that a client finds its own again after a break. */
static bool draw_lease(uint64_t *lease_out)
{
    uint64_t lease = 0;
    while (lease == 0) {
        if (getrandom(&lease, sizeof lease, 0) != sizeof lease) {
            return false;
        }
    }
    *lease_out = lease;
    return true;
}

static eep_status connect_within(eepi_store_client *client, uint64_t timeout_us)
{
    uint64_t start_us = eepi_now_us(), retry_us = FIRST_RETRY_US;
    for (;;) {
        eep_status status = eepi_store_link_connect(client);
        uint64_t spent_us = eepi_now_us() - start_us;
        if (status == EEP_OK && client->opening) {
            status = eepi_store_link_open_within(client,
                                                 spent_us < timeout_us ? timeout_us - spent_us : 0);
            if (status != EEP_OK) {
                const int error = errno;
                eepi_store_link_break(client);
                errno = error; /* for eepi_store_socket_why */
            }
            spent_us = eepi_now_us() - start_us;
        }
        if (status != EEP_ERR_UNREACHABLE || spent_us >= timeout_us) {
            return status;
        }
        uint64_t pause_us = retry_us < timeout_us - spent_us ? retry_us : timeout_us - spent_us;
        const struct timespec pause = {.tv_nsec = (long)pause_us * 1000};
        nanosleep(&pause, NULL);
        retry_us = 2 * retry_us < EEPI_STORE_RECONNECT_US ? 2 * retry_us : EEPI_STORE_RECONNECT_US;
    }
}

/* The way to the store, before the first connection. */
static eep_status prepare(eepi_store_client *client)
{
    if (client->url.scheme == EEPI_STORE_ETCD) {
        return eepi_etcd_open(&client->url, &client->etcd);
    }
    client->has_key = client->url.key_file[0] != '\0';
    return client->has_key ? eepi_store_link_read_key(client) : EEP_OK;
}

eep_status eepi_store_client_open(const char *address, uint64_t timeout_us,
                                  eepi_store_client **client_out)
{
    eepi_store_url url;
    if (!address || !client_out || eepi_store_url_parse(address, &url, NULL, 0) != EEP_OK) {
        return EEP_ERR_INVALID;
    }
    eepi_store_client *client = calloc(1, sizeof *client);
    if (!client) {
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status = EEP_ERR_NO_MEMORY;
    client->fd = -1;
    client->next_id = 1;
    client->url = url;
    client->notice = eepi_store_notice_new();
    if (!client->notice) {
        goto fail;
    }
    if (!draw_lease(&client->lease)) {
        status = EEP_ERR_SYSTEM;
        goto fail;
    }
    status = prepare(client);
    if (status == EEP_OK) {
        status = connect_within(client, timeout_us);
    }
    if (status != EEP_OK) {
        goto fail;
    }
    client->announced = true;
    *client_out = client;
    return EEP_OK;
fail:
    eepi_etcd_close(client->etcd);
    eepi_secure_key_wipe(&client->secure_config.key);
    free(client->notice);
    free(client);
    return status;
}

static void list_free(eepi_store_items *list)
{
    while (list->first) {
        eepi_store_item *item = list->first;
        eepi_store_items_unlink(list, NULL, item);
        free(item);
    }
}

static void say_bye(eepi_store_client *client)
{
    const eepi_store_message bye = {.type = EEPI_STORE_MSG_BYE, .key = ""};
    uint64_t end_us = eepi_now_us() + BYE_BOUND_US;
    (void)eepi_store_link_send(client, &bye); /* unsent: the lease ends by its ttl */
    while (eepi_store_client_wants_write(client) && eepi_now_us() < end_us) {
        struct pollfd set = {.fd = client->fd, .events = POLLOUT};
        (void)poll(&set, 1, 10);
        eepi_store_link_flush(client);
    }
}

void eepi_store_client_close(eepi_store_client *client)
{
    if (!client) {
        return;
    }
    if (eepi_store_link_is_up(client)) {
        say_bye(client);
    }
    if (client->fd >= 0) {
        shutdown(client->fd, SHUT_RDWR); /* a forked child may hold a copy */
        close(client->fd);
    }
    if (client->has_key) {
        eepi_secure_end(&client->secure);
        eepi_secure_key_wipe(&client->secure_config.key);
    }
    eepi_etcd_close(client->etcd);
    list_free(&client->pending);
    list_free(&client->kept);
    free(client->current);
    free(client->notice);
    eepi_store_inbox_free(&client->inbox);
    free(client->out);
    free(client);
}

bool eepi_store_keeps(const eepi_store_client *client)
{
    return client->etcd != NULL;
}

int eepi_store_client_fd(const eepi_store_client *client)
{
    return client->fd;
}

int eepi_store_client_wants_write(const eepi_store_client *client)
{
    return eepi_store_link_owes(client);
}

eep_status eepi_store_client_refusal(const eepi_store_client *client)
{
    return client->refusal;
}

const char *eepi_store_client_why(const eepi_store_client *client)
{
    if (client->etcd) {
        return client->refusal == EEP_OK ? "" : eepi_etcd_why();
    }
    switch (client->refusal) {
    case EEP_OK:
        return "";
    case EEP_ERR_SYSTEM:
        return "its process has no descriptor left: raise its limit (ulimit -n)";
    case EEP_ERR_STATE:
        return client->has_key ? client->why
               : client->url.scheme == EEPI_STORE_TCP
                   ? "it asks for the job's key (key-file=PATH or EEP_KEY_FILE)"
                   : "it serves processes of its own user only, and this one is of another";
    case EEP_ERR_UNSUPPORTED:
        return "it speaks another version of the store's messages than this process: run one "
               "release of libeep on all";
    case EEP_ERR_NO_MEMORY:
        return "it has as many connections as it takes";
    default:
        return eep_strerror(client->refusal);
    }
}
