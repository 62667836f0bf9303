/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_conn.h"

#include "membership/store/store_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    OUT_FULL_BYTES = 1024 * 1024,           /* a connection that owes us that much is paused */
    OUT_EVENT_MAX_BYTES = 64 * 1024 * 1024, /* a watcher that is so far behind is dropped */
    ROUND_BYTES = 1024 * 1024,              /* read or written on one connection per round */
    IOV_MESSAGES = 32,
};

/* ---------------------------------------------------------------- output */

static void mark_dirty(eepi_store_conn *conn)
{
    struct eep_store *store = conn->store;
    if (conn->dirty) {
        return;
    }
    conn->dirty = true;
    conn->next_dirty = NULL;
    if (store->dirty_last) {
        store->dirty_last->next_dirty = conn;
    } else {
        store->dirty_first = conn;
    }
    store->dirty_last = conn;
}

static void out_pop(eepi_store_conn *conn)
{
    eepi_store_out *out = conn->out_first;
    conn->out_first = out->next;
    if (!conn->out_first) {
        conn->out_last = NULL;
    }
    conn->out_sent = 0;
    conn->queued_bytes -= out->bytes;
    conn->event_bytes -= out->is_event ? out->bytes + sizeof *out : 0;
    eepi_store_value_release(out->value);
    free(out);
}

static void mute(eepi_store_conn *conn)
{
    conn->mute = true;
    while (conn->out_first) {
        out_pop(conn);
    }
}

/* Freed at the end of the round: this round's epoll events may still name it. */
static void kill_conn(eepi_store_conn *conn)
{
    mute(conn);
    conn->dead = true;
    conn->store->has_dead = true;
}

static void enqueue(eepi_store_conn *conn, const eepi_store_message *message,
                    eepi_store_value *value)
{
    if (conn->mute) {
        return;
    }
    eepi_store_out *out = malloc(sizeof *out);
    if (!out) {
        kill_conn(conn); /* it must not miss a message and go on */
        return;
    }
    out->next = NULL;
    out->value = value ? eepi_store_value_retain(value) : NULL;
    out->is_event = message->type == EEPI_STORE_MSG_CHANGED;
    out->head_bytes = eepi_store_wire_encode(message, out->head);
    out->bytes =
        out->head_bytes + message->value_size + eepi_store_wire_padding(message->value_size);
    if (conn->out_last) {
        conn->out_last->next = out;
    } else {
        conn->out_first = out;
    }
    conn->out_last = out;
    conn->queued_bytes += out->bytes;
    conn->event_bytes += out->is_event ? out->bytes + sizeof *out : 0;
    mark_dirty(conn);
    if (conn->event_bytes > OUT_EVENT_MAX_BYTES) {
        kill_conn(conn);
    }
}

/* Append [bytes, bytes + size) less its first *skip_io bytes. */
static void iov_add(struct iovec *iov, size_t *num_io, const void *bytes, size_t size,
                    size_t *skip_io)
{
    if (*skip_io >= size) {
        *skip_io -= size;
        return;
    }
    iov[*num_io].iov_base = (char *)(uintptr_t)bytes + *skip_io;
    iov[*num_io].iov_len = size - *skip_io;
    (*num_io)++;
    *skip_io = 0;
}

/* false: the socket takes no more, ever. */
static bool put_out(eepi_store_conn *conn, struct iovec *iov, size_t num, size_t *sent_out)
{
    if (conn->secure) {
        return eepi_store_secure_send(conn->secure, conn->fd, iov, num, sent_out) == EEP_OK;
    }
    struct msghdr header = {.msg_iov = iov, .msg_iovlen = num};
    ssize_t sent = sendmsg(conn->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    *sent_out = sent > 0 ? (size_t)sent : 0;
    return sent >= 0 || errno == EAGAIN || errno == EINTR;
}

/* One sendmsg of the first messages; returns the bytes sent, 0 when the socket is full. */
static size_t send_some(eepi_store_conn *conn)
{
    static const unsigned char zeros[8];
    struct iovec iov[3 * IOV_MESSAGES];
    size_t num = 0, skip = conn->out_sent;
    const eepi_store_out *out = conn->out_first;
    for (int i = 0; out && i < IOV_MESSAGES; i++, out = out->next) {
        iov_add(iov, &num, out->head, out->head_bytes, &skip);
        if (out->value) {
            size_t size = out->value->size;
            iov_add(iov, &num, out->value->bytes, size, &skip);
            iov_add(iov, &num, zeros, eepi_store_wire_padding(size), &skip);
        }
    }
    size_t sent = 0;
    if (!put_out(conn, iov, num, &sent)) {
        mute(conn);
        return 0;
    }
    conn->out_sent += sent;
    while (conn->out_first && conn->out_sent >= conn->out_first->bytes) {
        size_t rest = conn->out_sent - conn->out_first->bytes;
        out_pop(conn);
        conn->out_sent = rest;
    }
    return sent;
}

/* ---------------------------------------------------------------- requests */

static void reply(eepi_store_conn *conn, const eepi_store_message *request, eep_status status,
                  uint64_t revision, eepi_store_value *value)
{
    const eepi_store_message message = {.type = EEPI_STORE_MSG_REPLY,
                                        .status = status,
                                        .id = request->id,
                                        .revision = revision,
                                        .key = request->key,
                                        .value_size = value ? value->size : 0};
    enqueue(conn, &message, value);
}

static void handle_get(eepi_store_conn *conn, const eepi_store_message *request, eep_status status)
{
    uint64_t revision = 0;
    eepi_store_value *value = NULL;
    eep_status found = eepi_store_table_get(conn->store->table, request->key, &revision, &value);
    reply(conn, request, status == EEP_OK ? found : status, revision, value);
}

static void handle_write(eepi_store_conn *conn, const eepi_store_message *request)
{
    eepi_store_table *table = conn->store->table;
    eepi_store_value *value = eepi_store_value_new(request->value, request->value_size);
    uint64_t revision = 0;
    eep_status status = EEP_ERR_NO_MEMORY;
    if (value && request->type == EEPI_STORE_MSG_CAS) {
        status = eepi_store_table_cas(table, request->key, request->revision, value, &revision);
    } else if (value) {
        status = eepi_store_table_put(table, request->key, value, request->lease, &revision);
    }
    eepi_store_value_release(value);
    if (status == EEP_ERR_CONFLICT) {
        handle_get(conn, request, status);
    } else {
        reply(conn, request, status, revision, NULL);
    }
}

typedef struct listing {
    eepi_store_conn *conn;
    uint64_t id;
} listing;

static void list_entry(void *user, const char *key, uint64_t revision, eepi_store_value *value)
{
    const listing *list = user;
    const eepi_store_message message = {.type = EEPI_STORE_MSG_ENTRY,
                                        .id = list->id,
                                        .revision = revision,
                                        .key = key,
                                        .value_size = value->size};
    enqueue(list->conn, &message, value);
}

static eep_status add_prefix(eepi_store_conn *conn, const char *prefix)
{
    for (size_t i = 0; i < conn->num_prefixes; i++) {
        if (strcmp(conn->prefix[i], prefix) == 0) {
            return EEP_OK;
        }
    }
    char *copy = conn->num_prefixes < EEPI_STORE_WATCH_MAX ? strdup(prefix) : NULL;
    if (!copy) {
        return EEP_ERR_NO_MEMORY;
    }
    conn->prefix[conn->num_prefixes++] = copy;
    return EEP_OK;
}

static void remove_prefix(eepi_store_conn *conn, const char *prefix)
{
    for (size_t i = 0; i < conn->num_prefixes; i++) {
        if (strcmp(conn->prefix[i], prefix) == 0) {
            free(conn->prefix[i]);
            conn->prefix[i] = conn->prefix[--conn->num_prefixes];
            return;
        }
    }
}

static void handle_list(eepi_store_conn *conn, const eepi_store_message *request)
{
    eep_status status = EEP_OK;
    if (request->type == EEPI_STORE_MSG_WATCH) {
        status = add_prefix(conn, request->key);
    }
    if (status == EEP_OK) {
        listing list = {.conn = conn, .id = request->id};
        eepi_store_table_list(conn->store->table, request->key, list_entry, &list);
    }
    reply(conn, request, status, 0, NULL);
}

static void handle_lease(eepi_store_conn *conn, const eepi_store_message *request)
{
    struct eep_store *store = conn->store;
    eep_status status =
        eepi_store_table_lease(store->table, request->lease, request->ttl_us, store->now_us);
    if (status == EEP_OK) {
        conn->lease = request->lease;
        conn->ttl_us = request->ttl_us;
    }
    reply(conn, request, status, 0, NULL);
}

static void handle(eepi_store_conn *conn, const eepi_store_message *request)
{
    switch (request->type) {
    case EEPI_STORE_MSG_GET:
        handle_get(conn, request, EEP_OK);
        break;
    case EEPI_STORE_MSG_PUT:
    case EEPI_STORE_MSG_CAS:
        handle_write(conn, request);
        break;
    case EEPI_STORE_MSG_REMOVE:
        reply(conn, request, eepi_store_table_remove(conn->store->table, request->key), 0, NULL);
        break;
    case EEPI_STORE_MSG_LIST:
    case EEPI_STORE_MSG_WATCH:
        handle_list(conn, request);
        break;
    case EEPI_STORE_MSG_UNWATCH:
        remove_prefix(conn, request->key);
        reply(conn, request, EEP_OK, 0, NULL);
        break;
    case EEPI_STORE_MSG_LEASE:
        handle_lease(conn, request);
        break;
    case EEPI_STORE_MSG_KEEPALIVE: /* its arrival has renewed the lease */
        break;
    case EEPI_STORE_MSG_BYE:
        if (conn->lease) {
            eepi_store_table_revoke(conn->store->table, conn->lease);
        }
        conn->lease = 0;
        kill_conn(conn);
        break;
    default: /* only a store sends the others */
        kill_conn(conn);
        break;
    }
}

/* Do the requests that have arrived, until the connection's output is full. */
static void serve(eepi_store_conn *conn)
{
    while (!conn->dead) {
        eepi_store_message request;
        if (conn->queued_bytes > OUT_FULL_BYTES) {
            conn->paused = true;
            return;
        }
        eep_status status = eepi_store_inbox_next(&conn->inbox, &request);
        if (status == EEP_ERR_TIMEOUT) {
            return;
        }
        if (status == EEP_OK) {
            conn->asked = true;
            handle(conn, &request);
        } else {
            if (status == EEP_ERR_UNSUPPORTED && !conn->secure) { /* its version; say ours */
                eepi_store_turn_away(conn->fd, status);
            }
            kill_conn(conn);
        }
    }
}

static void renew(eepi_store_conn *conn)
{
    struct eep_store *store = conn->store;
    if (conn->lease &&
        eepi_store_table_lease(store->table, conn->lease, conn->ttl_us, store->now_us) != EEP_OK) {
        kill_conn(conn); /* the lease had expired and there is no room for it again */
    }
}

/* Bytes from the socket into the inbox. false: none now, or the connection is over. */
static bool receive(eepi_store_conn *conn, size_t *got_out, bool *more_out)
{
    size_t space = 0;
    void *bytes;
    ssize_t got;
    if (conn->secure) {
        const eep_status status = eepi_store_conn_receive(conn, got_out);
        if (status != EEP_OK && status != EEP_ERR_TIMEOUT) {
            kill_conn(conn);
        }
        *more_out = true;
        return status == EEP_OK;
    }
    bytes = eepi_store_inbox_space(&conn->inbox, &space);
    got = bytes ? recv(conn->fd, bytes, space, MSG_DONTWAIT) : 0;
    if (got > 0) {
        eepi_store_inbox_filled(&conn->inbox, (size_t)got);
        *got_out = (size_t)got;
        *more_out = (size_t)got == space;
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        kill_conn(conn);
    }
    return got > 0;
}

/* The first request's output is pushed first: mark_dirty before its changes wake the watchers. */
static void read_some(eepi_store_conn *conn)
{
    size_t total = 0, got = 0;
    bool more = true;
    mark_dirty(conn);
    while (more && total < ROUND_BYTES && !conn->dead && !conn->paused) {
        if (!receive(conn, &got, &more)) {
            return;
        }
        total += got;
        if (got > 0) {
            conn->heard_us = conn->store->now_us;
            renew(conn);
            serve(conn);
        }
    }
}

void eepi_store_conn_ready(eepi_store_conn *conn, uint32_t events)
{
    if (conn->dead) {
        return;
    }
    if (events & (EPOLLHUP | EPOLLERR)) { /* nobody reads any more; finish what was asked */
        mute(conn);
        conn->paused = false;
        serve(conn);
    }
    if (!conn->paused && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        read_some(conn);
    }
    mark_dirty(conn);
}

/* ---------------------------------------------------------------- pushing */

/* Something is to be sent, in the queue or in the channel. */
static bool owes(const eepi_store_conn *conn)
{
    size_t unsent = 0;
    if (conn->secure && !conn->mute) {
        (void)eepi_secure_unsent(conn->secure, &unsent);
    }
    return conn->out_first || unsent > 0;
}

static void push(eepi_store_conn *conn)
{
    size_t total = 0, none;
    if (conn->secure && !conn->mute && !put_out(conn, NULL, 0, &none)) {
        mute(conn);
    }
    while (!conn->dead) {
        if (conn->out_first) {
            size_t sent = total < ROUND_BYTES ? send_some(conn) : 0;
            if (sent == 0 && !conn->mute) {
                break;
            }
            total += sent;
            if (sent > 0 && conn->paused) {
                renew(conn); /* it reads, though we do not look at its keep-alives */
            }
        } else if (conn->paused) {
            conn->paused = false;
            serve(conn);
        } else {
            break;
        }
    }
    uint32_t events = (conn->paused ? 0 : EPOLLIN) | (owes(conn) ? EPOLLOUT : 0);
    if (!conn->dead && events != conn->epoll_events) {
        struct epoll_event event = {.events = events, .data.ptr = conn};
        if (epoll_ctl(conn->store->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) != 0) {
            kill_conn(conn);
        }
        conn->epoll_events = events;
    }
}

void eepi_store_conns_push(struct eep_store *store)
{
    while (store->dirty_first) {
        eepi_store_conn *conn = store->dirty_first;
        store->dirty_first = conn->next_dirty;
        if (!store->dirty_first) {
            store->dirty_last = NULL;
        }
        push(conn);
        conn->dirty = false;
    }
}

void eepi_store_conns_changed(void *user, const char *key, uint64_t revision,
                              eepi_store_value *value)
{
    struct eep_store *store = user;
    const eepi_store_message message = {.type = EEPI_STORE_MSG_CHANGED,
                                        .revision = revision,
                                        .key = key,
                                        .value_size = value ? value->size : 0};
    for (eepi_store_conn *conn = store->conns; conn; conn = conn->next) {
        for (size_t i = 0; i < conn->num_prefixes; i++) {
            if (strncmp(key, conn->prefix[i], strlen(conn->prefix[i])) == 0) {
                enqueue(conn, &message, value);
                break;
            }
        }
    }
}

/* ---------------------------------------------------------------- life */

static bool greet(eepi_store_conn *conn)
{
    eepi_store_conn *crowded = NULL;
    const bool done = eepi_store_conn_greet(conn, &crowded);
    if (crowded) {
        kill_conn(crowded);
    }
    return done;
}

bool eepi_store_conn_new(struct eep_store *store, int fd, bool secure)
{
    eepi_store_conn *conn = calloc(1, sizeof *conn);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (!conn) {
        return false;
    }
    conn->store = store;
    conn->fd = fd;
    if ((secure && !greet(conn)) || epoll_ctl(store->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        eepi_store_conn_unsecure(conn);
        free(conn);
        return false;
    }
    conn->since_us = conn->heard_us = store->now_us;
    conn->epoll_events = EPOLLIN;
    conn->next = store->conns;
    if (conn->next) {
        conn->next->prev = conn;
    }
    store->conns = conn;
    store->num_conns++;
    return true;
}

/* A child that was forked and has not exec'ed holds a copy of every descriptor. So a close alone
 * neither tells the other side nor ends epoll's watch, which names `conn`. In such a child the
 * socket and the watch are its parent's: only the copy is closed. */
static void end_socket(eepi_store_conn *conn)
{
    struct eep_store *store = conn->store;
    if (getpid() == store->pid) {
        (void)epoll_ctl(store->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
        shutdown(conn->fd, SHUT_RDWR);
    }
    close(conn->fd);
}

void eepi_store_conn_free(eepi_store_conn *conn)
{
    struct eep_store *store = conn->store;
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        store->conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    store->num_conns--;
    mute(conn);
    end_socket(conn);
    eepi_store_conn_unsecure(conn);
    for (size_t i = 0; i < conn->num_prefixes; i++) {
        free(conn->prefix[i]);
    }
    eepi_store_inbox_free(&conn->inbox);
    free(conn);
}

/* ---------------------------------------------------------------- guests */

static bool is_guest(const eepi_store_conn *conn)
{
    return !conn->dead && !conn->lease && conn->num_prefixes == 0;
}

bool eepi_store_conns_evict(struct eep_store *store, const eepi_store_conn *but, bool unproven)
{
    eepi_store_conn *least = NULL;
    for (eepi_store_conn *conn = store->conns; conn; conn = conn->next) {
        if (conn == but || !is_guest(conn) || (unproven && eepi_store_conn_has_proven(conn))) {
            continue;
        }
        if (!least || (least->asked && !conn->asked) ||
            (least->asked == conn->asked && conn->heard_us <= least->heard_us)) {
            least = conn; /* the list begins with the newest: of equals, the oldest */
        }
    }
    if (least) {
        kill_conn(least);
    }
    return least != NULL;
}

size_t eepi_store_conns_guests(const struct eep_store *store)
{
    size_t num = 0;
    for (const eepi_store_conn *conn = store->conns; conn; conn = conn->next) {
        num += is_guest(conn) && eepi_store_conn_has_proven(conn);
    }
    return num;
}

uint64_t eepi_store_conns_expire(struct eep_store *store)
{
    uint64_t next_us = UINT64_MAX;
    for (eepi_store_conn *late; (late = eepi_store_conns_unproven(store, &next_us));) {
        kill_conn(late);
    }
    for (eepi_store_conn *conn = store->conns; conn; conn = conn->next) {
        uint64_t end_us = conn->since_us + store->hello_us;
        if (conn->asked || conn->dead) {
            continue;
        }
        if (end_us <= store->now_us) {
            kill_conn(conn);
        } else if (end_us < next_us) {
            next_us = end_us;
        }
    }
    return next_us;
}
