/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_server.h"

#include "graphs/base/clock.h"
#include "graphs/base/public_call.h"
#include "graphs/base/thread.h"
#include "membership/process/seat_file.h"
#include "graphs/base/descriptors.h"
#include "transport/holder/holder_socket.h"
#include "transport/secure/tcp_socket.h"
#include "graphs/base/reserve.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_CONNS = 4096,
    MAX_KEYS = 65536,
    MAX_LEASES = 2 * MAX_CONNS,
    MAX_EVENTS = 64, /* taken from epoll per round */
    LATE_US = 100 * 1000,
    MAX_GUESTS = 256,
    GUESTS_PART = 4,              /* guests take at most one in so many descriptors */
    ACCEPT_PAUSE_US = 100 * 1000, /* after no descriptor could be had */
    FAILED_PAUSE_NS = 10 * 1000 * 1000,
};
static const size_t MAX_BYTES = (size_t)1 << 30;

/* Of the calendar. */
static uint64_t date_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---------------------------------------------------------------- rounds of the thread */

/* Watch the listeners, or not: a connection that waits and cannot be taken would wake us for ever.
 */
static void listen_again(struct eep_store *store, bool watch)
{
    struct epoll_event event = {.events = watch ? EPOLLIN : 0, .data.ptr = &store->listener};
    (void)epoll_ctl(store->epoll_fd, EPOLL_CTL_MOD, store->listener.fd, &event);
    if (store->tcp_fd >= 0) {
        event.data.ptr = &store->tcp_fd;
        (void)epoll_ctl(store->epoll_fd, EPOLL_CTL_MOD, store->tcp_fd, &event);
    }
    store->accept_again_us = watch ? 0 : store->now_us + ACCEPT_PAUSE_US;
}

/* Without waiting: whoever has just connected has read nothing yet. */
static void turn_away(int fd, const void *status)
{
    eepi_store_turn_away(fd, *(const eep_status *)status);
    close(fd);
}

/* Descriptors ran out. A guest makes room, if there is one, by the end of the round; else whoever
 * comes is turned away, and told so. For somebody who has yet to prove the key only one makes room
 * that has not proved it either. */
static void make_room(struct eep_store *store, int listener)
{
    const eep_status why = EEP_ERR_SYSTEM;
    const bool proves = listener == store->tcp_fd && store->has_key;
    if (!eepi_store_conns_evict(store, NULL, proves)) {
        listen_again(store, eepi_reserve_turn_away(&store->reserve_fd, listener, turn_away, &why));
    }
}

static void accept_some(struct eep_store *store, int listener)
{
    for (int i = 0; i < MAX_EVENTS; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE) {
                make_room(store, listener);
            } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                listen_again(store, false);
            }
            return;
        }
        const bool by_tcp = listener == store->tcp_fd, proves = by_tcp && store->has_key;
        if (by_tcp) { /* without a key: of this machine, whoever it is (docs/STORES.md) */
            eepi_tcp_prepare(fd);
        } else if (!eepi_holder_is_trusted(fd)) { /* nobody makes room for another user */
            turn_away(fd, &(eep_status){EEP_ERR_STATE});
            continue;
        }
        /* Nobody makes room for one who has not proved the key. */
        bool has_room =
            store->num_conns < MAX_CONNS || (!proves && eepi_store_conns_evict(store, NULL, false));
        if (!has_room || !eepi_store_conn_new(store, fd, proves)) {
            turn_away(fd, &(eep_status){EEP_ERR_NO_MEMORY});
            continue;
        }
        if (!proves && eepi_store_conns_guests(store) > store->most_guests) {
            (void)eepi_store_conns_evict(store, store->conns, false); /* not the newcomer */
        }
    }
}

static void reap(struct eep_store *store)
{
    if (!store->has_dead) {
        return;
    }
    store->has_dead = false;
    eepi_store_conn *next = NULL;
    for (eepi_store_conn *conn = store->conns; conn; conn = next) {
        next = conn->next;
        if (conn->dead) {
            eepi_store_conn_free(conn);
        }
    }
}

/* Milliseconds until the next lease or silent connection ends or the listener is watched again,
 * rounded up; -1: nothing is due. */
static int timeout_ms(const struct eep_store *store)
{
    uint64_t next_us = eepi_store_table_next_expiry(store->table);
    next_us = store->silent_end_us < next_us ? store->silent_end_us : next_us;
    if (store->accept_again_us && store->accept_again_us < next_us) {
        next_us = store->accept_again_us;
    }
    uint64_t now_us = eepi_now_us();
    if (next_us == UINT64_MAX) {
        return -1;
    }
    if (next_us <= now_us) {
        return 0;
    }
    uint64_t ms = (next_us - now_us + 999) / 1000;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* End leases whose time was up when this round began. All that had arrived by then has been read,
 * so a keep-alive that was in the socket counts. If we looked too late, we were unscheduled, and
 * so perhaps were the clients: the time since the last look does not count (rule M6). */
static void expire(struct eep_store *store, uint64_t last_us)
{
    uint64_t next_us = eepi_store_table_next_expiry(store->table);
    if (next_us > store->now_us) {
        return;
    }
    if (store->now_us - next_us > LATE_US) {
        eepi_store_table_extend(store->table, store->now_us - last_us);
    }
    eepi_store_table_expire(store->table, store->now_us);
}

/* One wait and all that it brought; false: stop. */
static bool round_once(struct eep_store *store)
{
    struct epoll_event events[MAX_EVENTS];
    bool stop = false;
    uint64_t last_us = store->now_us;
    int num = epoll_wait(store->epoll_fd, events, MAX_EVENTS, timeout_ms(store));
    store->now_us = eepi_now_us();
    if (num < 0 && errno != EINTR) { /* somebody closed our descriptor: do not spin over it */
        const struct timespec pause = {.tv_nsec = FAILED_PAUSE_NS};
        nanosleep(&pause, NULL);
    }
    if (store->accept_again_us && store->accept_again_us <= store->now_us) {
        listen_again(store, true);
    }
    for (int i = 0; i < num; i++) {
        if (events[i].data.ptr == &store->listener) {
            accept_some(store, store->listener.fd);
        } else if (events[i].data.ptr == &store->tcp_fd) {
            accept_some(store, store->tcp_fd);
        } else if (events[i].data.ptr == &store->stop_fd) {
            stop = true;
        } else {
            eepi_store_conn_ready(events[i].data.ptr, events[i].events);
        }
    }
    eepi_store_conns_push(store);
    if (num < MAX_EVENTS) {
        expire(store, last_us);
        store->silent_end_us = eepi_store_conns_expire(store);
        eepi_store_conns_push(store);
    }
    reap(store);
    return !stop;
}

static void *serve_thread(void *argument)
{
    struct eep_store *store = argument;
    store->now_us = eepi_now_us();
    store->silent_end_us = UINT64_MAX;
    while (round_once(store)) {
    }
    return NULL;
}

/* ---------------------------------------------------------------- open and close */

static bool epoll_add(const struct eep_store *store, int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};
    return epoll_ctl(store->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Of what is called before the thread starts, nothing fails with EAGAIN. */
static const char *why_not_started(int error, char *text, size_t bytes)
{
    return error == EAGAIN ? eepi_thread_error(error, text, bytes) : strerror(error);
}

static bool start_thread(struct eep_store *store)
{
    return eepi_thread_start(&store->thread, "eep-store", EEPI_STACK_BYTES, serve_thread, store) ==
           EEP_OK;
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static void unlisten(const char *path, const struct eep_store *store,
                     const eepi_store_listener *listener)
{
    if (listener->fd >= 0 && getpid() != store->pid) {
        close(listener->fd);
    } else if (listener->fd >= 0) {
        eepi_store_socket_unlisten(path, listener);
    }
}

static void release(struct eep_store *store)
{
    while (store->conns) {
        eepi_store_conn_free(store->conns);
    }
    if (store->tcp_fd >= 0 && getpid() == store->pid) {
        shutdown(store->tcp_fd, SHUT_RDWR); /* a forked child may hold a copy */
    }
    close_fd(store->tcp_fd);
    unlisten(store->path, store, &store->listener);
    close_fd(store->epoll_fd);
    close_fd(store->stop_fd);
    close_fd(store->reserve_fd);
    eepi_store_table_free(store->table);
    eepi_secure_key_wipe(&store->secure_config.key);
    free(store);
}

/* What we can serve at. `text` (of EEPI_ERROR_TEXT_BYTES) says why not. */
static eep_status parse_address(const char *address, eepi_store_url *url_out, char *text)
{
    eep_status status = eepi_store_url_parse(address, url_out, text, EEPI_ERROR_TEXT_BYTES);
    if (status == EEP_OK && url_out->scheme == EEPI_STORE_ETCD) {
        snprintf(text, EEPI_ERROR_TEXT_BYTES, "etcd serves itself: start none beside it");
        status = EEP_ERR_INVALID;
    } else if (status == EEP_OK && url_out->path[0] == '\0') {
        snprintf(text, EEPI_ERROR_TEXT_BYTES,
                 "a store over TCP needs local=PATH, its socket on this host");
        status = EEP_ERR_INVALID;
    }
    return status;
}

/* The port; with a key, if the address names one. */
static eep_status listen_on_tcp(struct eep_store *store, const eepi_store_url *url, char *text)
{
    eep_status status = EEP_OK;
    store->has_key = url->key_file[0] != '\0';
    if (store->has_key) {
        status =
            eepi_store_secure_config(url, true, &store->secure_config, text, EEPI_ERROR_TEXT_BYTES);
    }
    return status == EEP_OK ? eepi_tcp_listen(url->endpoint[0].host, url->endpoint[0].port, text,
                                              EEPI_ERROR_TEXT_BYTES, &store->tcp_fd)
                            : status;
}

/* All parts of a store whose memory is there; `text` (of EEPI_ERROR_TEXT_BYTES) says why not. What
 * was made stays in it. */
static eep_status open_parts(struct eep_store *store, const char *address, char *text)
{
    char why[EEPI_THREAD_ERROR_BYTES];
    eepi_store_url url;
    const eepi_store_limits limits = {
        .max_keys = MAX_KEYS, .max_leases = MAX_LEASES, .max_bytes = MAX_BYTES};
    eep_status status = parse_address(address, &url, text);
    if (status == EEP_OK) {
        status = eepi_store_socket_listen(url.path, text, EEPI_ERROR_TEXT_BYTES, &store->listener);
    }
    if (status != EEP_OK) {
        return status;
    }
    memcpy(store->path, url.path, sizeof store->path);
    if (url.scheme == EEPI_STORE_TCP) {
        status = listen_on_tcp(store, &url, text);
        if (status != EEP_OK) {
            return status;
        }
    }
    store->most_guests = eepi_descriptors_share(GUESTS_PART, MAX_GUESTS);
    store->hello_us = EEPI_STORE_HELLO_US;
    /* A store starts above all revisions of earlier ones: nobody writes a thousand times a us. */
    store->table = eepi_store_table_new(&limits, date_us() * 1000, eepi_store_conns_changed, store);
    store->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    store->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    store->reserve_fd = eepi_reserve_open();
    if (!store->table || store->epoll_fd < 0 || store->stop_fd < 0 || store->reserve_fd < 0 ||
        !epoll_add(store, store->listener.fd, &store->listener) ||
        (store->tcp_fd >= 0 && !epoll_add(store, store->tcp_fd, &store->tcp_fd)) ||
        !epoll_add(store, store->stop_fd, &store->stop_fd) || !start_thread(store)) {
        snprintf(text, EEPI_ERROR_TEXT_BYTES, "cannot start the store on %.200s: %s", url.path,
                 why_not_started(errno, why, sizeof why));
        return EEP_ERR_SYSTEM;
    }
    return EEP_OK;
}

eep_status eepi_store_serve(const char *address, char *text, struct eep_store **store_out)
{
    struct eep_store *store = calloc(1, sizeof *store);
    eep_status status;

    if (!store) {
        snprintf(text, EEPI_ERROR_TEXT_BYTES, "eep_store_open: out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    store->pid = getpid();
    store->listener.fd = store->tcp_fd = store->epoll_fd = store->stop_fd = store->reserve_fd = -1;
    status = open_parts(store, address, text);
    if (status != EEP_OK) {
        release(store);
        return status;
    }
    *store_out = store;
    return EEP_OK;
}

void eepi_store_serve_no_more(struct eep_store *store)
{
    if (getpid() != store->pid) { /* a forked child has no such thread: only its copies go */
        release(store);
        return;
    }
    uint64_t one = 1;
    ssize_t written = write(store->stop_fd, &one, sizeof one);
    assert(written == sizeof one); /* the counter of an eventfd that is written once */
    (void)written;
    pthread_join(store->thread, NULL);
    eepi_seats_remove(store->path, 0); /* the gate alone; the seats' files stay */
    release(store);
}
