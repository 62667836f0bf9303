/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_link.h"

#include "membership/store/store_socket.h"
#include "transport/holder/holder_socket.h"
#include "transport/secure/tcp_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    OUT_MAX_BYTES = 64 * 1024 * 1024, /* unsent requests beyond this are refused */
    OUT_KEEP_BYTES = 256 * 1024,
    CONNECT_MS = 100, /* for an address of the loopback interface, which answers at once */
};

/* ---------------------------------------------------------------- items */

eepi_store_item *eepi_store_item_new(const eepi_store_reply *reply, size_t value_bytes)
{
    eepi_store_item *item = malloc(sizeof *item + value_bytes);
    if (!item) {
        return NULL;
    }
    item->next = NULL;
    item->restores = false;
    item->reply = *reply;
    strcpy(item->key, reply->key); /* checked against EEPI_STORE_KEY_MAX on every way in */
    item->reply.key = item->key;
    item->reply.value = value_bytes ? item->value : NULL;
    item->reply.size = value_bytes;
    if (value_bytes > 0) {
        memcpy(item->value, reply->value, value_bytes);
    }
    return item;
}

void eepi_store_items_push(eepi_store_items *list, eepi_store_item *item)
{
    item->next = NULL;
    if (list->last) {
        list->last->next = item;
    } else {
        list->first = item;
    }
    list->last = item;
}

/* Unlink `item`, which follows `before` (NULL: it is the first). */
void eepi_store_items_unlink(eepi_store_items *list, eepi_store_item *before, eepi_store_item *item)
{
    if (before) {
        before->next = item->next;
    } else {
        list->first = item->next;
    }
    if (list->last == item) {
        list->last = before;
    }
}

eepi_store_item *eepi_store_notice_new(void)
{
    static const eepi_store_reply disconnected = {.kind = EEPI_STORE_DISCONNECTED, .key = ""};
    return eepi_store_item_new(&disconnected, 0);
}

/* ---------------------------------------------------------------- output */

/* The socket refuses output: what it still has for us is read first, then its end. */
static void set_mute(eepi_store_client *client)
{
    client->mute = true;
    client->out_begin = client->out_end = 0;
    shutdown(client->fd, SHUT_WR);
}

/* One send of what waits; returns the bytes that are gone. */
static size_t push_some(eepi_store_client *client)
{
    unsigned char *from = client->out + client->out_begin;
    const size_t bytes = client->out_end - client->out_begin;
    ssize_t sent;
    if (client->has_key) {
        struct iovec part = {.iov_base = from, .iov_len = bytes};
        size_t taken = 0;
        if (eepi_store_secure_send(&client->secure, client->fd, &part, 1, &taken) != EEP_OK) {
            set_mute(client);
        }
        return taken;
    }
    sent = send(client->fd, from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        set_mute(client);
    }
    return sent > 0 ? (size_t)sent : 0;
}

bool eepi_store_link_owes(const eepi_store_client *client)
{
    size_t unsent = 0;
    if (client->fd >= 0 && client->has_key && !client->mute) {
        (void)eepi_secure_unsent(&client->secure, &unsent);
    }
    return client->fd >= 0 && (client->out_begin < client->out_end || unsent > 0);
}

void eepi_store_link_flush(eepi_store_client *client)
{
    while (eepi_store_link_owes(client)) {
        const size_t gone = push_some(client);
        if (client->mute) {
            return;
        }
        client->out_begin += gone;
        if (gone == 0) {
            return;
        }
    }
    client->out_begin = client->out_end = 0;
    if (client->out_capacity > OUT_KEEP_BYTES) {
        free(client->out);
        client->out = NULL;
        client->out_capacity = 0;
    }
}

static bool out_reserve(eepi_store_client *client, size_t bytes)
{
    size_t used = client->out_end - client->out_begin;
    if (used + bytes > OUT_MAX_BYTES) {
        return false;
    }
    if (client->out_begin > 0) {
        memmove(client->out, client->out + client->out_begin, used);
        client->out_begin = 0;
        client->out_end = used;
    }
    if (used + bytes > client->out_capacity) {
        size_t capacity = 2 * client->out_capacity;
        capacity = used + bytes > capacity ? used + bytes : capacity;
        unsigned char *out = realloc(client->out, capacity);
        if (!out) {
            return false;
        }
        client->out = out;
        client->out_capacity = capacity;
    }
    return true;
}

/* Send now what the socket takes and keep a copy of the rest. false: nothing of it was sent. */
bool eepi_store_link_send(eepi_store_client *client, const eepi_store_message *message)
{
    unsigned char head[EEPI_STORE_HEAD_MAX];
    static const unsigned char zeros[8];
    size_t head_bytes = eepi_store_wire_encode(message, head);
    struct iovec part[3] = {
        {.iov_base = head, .iov_len = head_bytes},
        {.iov_base = (void *)(uintptr_t)message->value, .iov_len = message->value_size},
        {.iov_base = (void *)(uintptr_t)zeros,
         .iov_len = eepi_store_wire_padding(message->value_size)},
    };
    size_t total = part[0].iov_len + part[1].iov_len + part[2].iov_len;
    size_t sent = 0;
    if (client->mute) {
        return true; /* it shares the fate of those before it */
    }
    if (client->out_begin == client->out_end && !client->has_key) {
        struct msghdr header = {.msg_iov = part, .msg_iovlen = 3};
        ssize_t result = sendmsg(client->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (result < 0 && errno != EAGAIN && errno != EINTR) {
            set_mute(client);
            return true;
        }
        sent = result > 0 ? (size_t)result : 0;
    }
    if (sent == total) {
        return true;
    }
    if (!out_reserve(client, total - sent)) {
        if (sent > 0) {
            set_mute(client); /* half a message is out: this connection is over */
        }
        return sent > 0;
    }
    for (int i = 0; i < 3; i++) {
        size_t skip = sent < part[i].iov_len ? sent : part[i].iov_len;
        sent -= skip;
        if (part[i].iov_len > skip) {
            memcpy(client->out + client->out_end, (const char *)part[i].iov_base + skip,
                   part[i].iov_len - skip);
            client->out_end += part[i].iov_len - skip;
        }
    }
    if (client->has_key) {
        eepi_store_link_flush(client);
    }
    return true;
}

/* ---------------------------------------------------------------- breaking and restoring */

static void drop_connection(eepi_store_client *client)
{
    shutdown(client->fd, SHUT_RDWR); /* a forked child may hold a copy */
    close(client->fd);
    client->fd = -1;
    client->mute = client->opening = false;
    if (client->has_key) {
        eepi_secure_end(&client->secure);
    }
    client->out_begin = client->out_end = 0;
    client->num_restoring = 0;
    client->next_connect_us = eepi_now_us() + EEPI_STORE_RECONNECT_US;
    eepi_store_inbox_free(&client->inbox);
}

/* DISCONNECTED, then each request without an answer as UNREACHABLE. Needs no memory. */
void eepi_store_link_break(eepi_store_client *client)
{
    drop_connection(client);
    if (client->announced) {
        eepi_store_items_push(&client->kept, client->notice);
        client->notice = NULL;
        client->announced = false;
    }
    while (client->pending.first) {
        eepi_store_item *item = client->pending.first;
        eepi_store_items_unlink(&client->pending, NULL, item);
        if (item->restores) {
            free(item);
        } else {
            eepi_store_items_push(&client->kept, item);
        }
    }
}

static bool send_again(eepi_store_client *client, const eepi_store_message *message)
{
    const eepi_store_reply none = {.id = message->id, .key = ""};
    eepi_store_item *item = eepi_store_item_new(&none, 0);
    if (!item || !eepi_store_link_send(client, message)) {
        free(item);
        return false;
    }
    item->restores = true;
    eepi_store_items_push(&client->pending, item);
    client->num_restoring++;
    return true;
}

/* The lease first, so that it is renewed as early as can be; then the watches. */
static bool send_restoring(eepi_store_client *client)
{
    if (client->ttl_us > 0) {
        const eepi_store_message lease = {.type = EEPI_STORE_MSG_LEASE,
                                          .id = client->next_id++,
                                          .lease = client->lease,
                                          .ttl_us = client->ttl_us,
                                          .key = ""};
        if (!send_again(client, &lease)) {
            return false;
        }
    }
    for (size_t i = 0; i < client->num_watches; i++) {
        const eepi_store_message watch = {.type = EEPI_STORE_MSG_WATCH,
                                          .id = client->watch[i].id,
                                          .key = client->watch[i].prefix};
        if (!send_again(client, &watch)) {
            return false;
        }
    }
    return true;
}

static const eepi_store_reply reconnected = {.kind = EEPI_STORE_RECONNECTED, .key = ""};

eep_status eepi_store_link_connect(eepi_store_client *client)
{
    const eepi_store_endpoint *to = &client->url.endpoint[0];
    eep_status status;
    switch (client->url.scheme) {
    case EEPI_STORE_UNIX:
        return eepi_store_socket_connect(client->url.path, &client->fd);
    case EEPI_STORE_ETCD:
        return eepi_etcd_connect(client->etcd, &client->fd);
    default:
        break;
    }
    status = eepi_tcp_connect(to->host, to->port, client->has_key ? 0 : CONNECT_MS, &client->fd);
    if (status == EEP_OK && client->has_key) {
        status = eepi_store_link_greet(client);
        if (status != EEP_OK) {
            eepi_store_link_break(client);
        }
    }
    return status;
}

bool eepi_store_link_is_up(const eepi_store_client *client)
{
    return client->fd >= 0 && !client->opening;
}

/* What stands is said again, on a connection that is open. */
static void restore(eepi_store_client *client)
{
    eepi_store_item *word = NULL;
    client->next_keepalive_us = eepi_now_us() + client->ttl_us / 3;
    if (!send_restoring(client)) {
        eepi_store_link_break(client);
        return;
    }
    if (client->num_restoring == 0) {
        word = eepi_store_item_new(&reconnected, 0);
        if (!word) {
            eepi_store_link_break(client);
            return;
        }
        eepi_store_items_push(&client->kept, word);
        client->announced = true;
    }
}

static void reconnect(eepi_store_client *client)
{
    client->next_connect_us = eepi_now_us() + EEPI_STORE_RECONNECT_US;
    if (!client->notice) {
        client->notice = eepi_store_notice_new();
    }
    if (!client->notice) {
        return;
    }
    eep_status status = eepi_store_link_connect(client);
    if (status != EEP_OK) {
        if (status != EEP_ERR_SYSTEM) { /* what refused us is not there any more */
            client->refusal = client->etcd && status == EEP_ERR_STATE ? status : EEP_OK;
        }
        return;
    }
    if (!client->opening) {
        restore(client);
    }
}

/* What is due: reconnect, keep-alive, unsent output. */
static void maintain(eepi_store_client *client)
{
    uint64_t now = eepi_now_us();
    if (client->fd < 0) {
        if (now < client->next_connect_us) {
            return;
        }
        reconnect(client);
    }
    if (client->opening) {
        eep_status status = eepi_store_link_open(client);
        if (status == EEP_OK) {
            restore(client);
        } else if (status != EEP_ERR_TIMEOUT) {
            eepi_store_link_break(client);
        }
    }
    if (!eepi_store_link_is_up(client)) {
        return;
    }
    /* A child that it forked keeps the connection open: then no end of it is seen here. */
    if (now >= client->next_look_us) {
        client->next_look_us = now + EEPI_STORE_LOOK_US;
        if (client->url.scheme == EEPI_STORE_UNIX && !eepi_holder_is_served(client->fd)) {
            eepi_store_link_break(client);
            return;
        }
    }
    eepi_store_link_flush(client);
    /* Unsent output renews the lease as well as a keep-alive behind it would. */
    if (client->ttl_us > 0 && now >= client->next_keepalive_us) {
        const eepi_store_message keepalive = {.type = EEPI_STORE_MSG_KEEPALIVE, .key = ""};
        client->next_keepalive_us = now + client->ttl_us / 3;
        if (client->out_begin == client->out_end) {
            (void)eepi_store_link_send(client,
                                       &keepalive); /* none sent: the next one is soon enough */
        }
    }
}

/* ---------------------------------------------------------------- input */

/* Turn a message into what the caller gets. EEP_ERR_TIMEOUT: it is not for the caller. */
static eep_status accept_message(eepi_store_client *client, const eepi_store_message *message,
                                 eepi_store_reply *reply_out)
{
    eepi_store_item *head = client->pending.first;
    bool is_reply = message->type == EEPI_STORE_MSG_REPLY;
    eepi_store_reply reply = {.kind = EEPI_STORE_CHANGED,
                              .id = message->id,
                              .status = message->status,
                              .revision = message->revision,
                              .key = message->key,
                              .value = message->value_size ? message->value : NULL,
                              .size = message->value_size};
    client->refusal = is_reply && message->id == 0 ? message->status : EEP_OK;
    if (is_reply || message->type == EEPI_STORE_MSG_ENTRY) {
        if (!head || head->reply.id != message->id) {
            return EEP_ERR_PROTOCOL; /* answers come in the order of the requests */
        }
        reply.kind = is_reply ? EEPI_STORE_REPLY : EEPI_STORE_ENTRY;
    } else if (message->type != EEPI_STORE_MSG_CHANGED) {
        return EEP_ERR_PROTOCOL;
    }
    client->announced = true;
    if (is_reply) {
        bool restores = head->restores;
        eepi_store_items_unlink(&client->pending, NULL, head);
        free(head);
        if (restores) {
            if (message->status != EEP_OK) {
                return EEP_ERR_PROTOCOL; /* the store is full: break, and try again later */
            }
            if (--client->num_restoring > 0) {
                return EEP_ERR_TIMEOUT;
            }
            reply = reconnected;
        }
    }
    *reply_out = reply;
    return EEP_OK;
}

/* Bytes from the socket into the inbox. EEP_ERR_TIMEOUT: there are none now. */
static eep_status receive(eepi_store_client *client)
{
    size_t space = 0;
    if (client->has_key) {
        return eepi_store_secure_receive(&client->secure, client->fd, &client->inbox, &space);
    }
    void *bytes = eepi_store_inbox_space(&client->inbox, &space);
    if (!bytes) {
        return EEP_ERR_NO_MEMORY;
    }
    ssize_t got = recv(client->fd, bytes, space, MSG_DONTWAIT);
    if (got > 0) {
        eepi_store_inbox_filled(&client->inbox, (size_t)got);
        return EEP_OK;
    }
    return got < 0 && (errno == EAGAIN || errno == EINTR) ? EEP_ERR_TIMEOUT : EEP_ERR_UNREACHABLE;
}

/* The next thing from the connection. After EEP_ERR_TIMEOUT there may be news in `kept`. */
eep_status eepi_store_link_take(eepi_store_client *client, eepi_store_reply *reply_out)
{
    maintain(client);
    while (eepi_store_link_is_up(client)) {
        eepi_store_message message;
        eep_status status = eepi_store_inbox_next(&client->inbox, &message);
        if (status == EEP_OK) {
            status = accept_message(client, &message, reply_out);
            if (status == EEP_OK) {
                return EEP_OK;
            }
            status = status == EEP_ERR_TIMEOUT ? EEP_OK : status;
        } else if (status == EEP_ERR_TIMEOUT) {
            status = receive(client);
        }
        if (status == EEP_ERR_TIMEOUT) {
            break;
        }
        if (status == EEP_ERR_UNSUPPORTED) {
            client->refusal = status;
        }
        if (status != EEP_OK) {
            eepi_store_link_break(client);
        }
    }
    return EEP_ERR_TIMEOUT;
}
