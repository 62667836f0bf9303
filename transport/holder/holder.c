/* SPDX-License-Identifier: Apache-2.0 */
/* The holder: it opens, accepts clients, and serves them from a thread of its own. */
#include "transport/holder/holder_table.h"

#include "graphs/base/clock.h"
#include "graphs/base/descriptors.h"
#include "graphs/base/reserve.h"
#include "graphs/base/thread.h"
#include "transport/holder/holder_socket.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum {
    MAX_CLIENTS = 4096,
    MAX_HELD_PER_CLIENT = 16,
    MAX_RETAINED = 4096,
    HELLO_US = 5000000,    /* a client that has not said hello by then is let go */
    MAX_EVENTS = 64,       /* taken from epoll per round */
    MESSAGES_A_ROUND = 16, /* of one holder_client */
    PAUSE_US = 20000,      /* without looking for clients, when descriptors have run out */
    MAX_GUESTS = 256,
    GUESTS_PART = 4 /* guests take at most one in so many descriptors */
};

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

/* ---------------------------------------------------------------- clients */

static void set_paused(eepi_holder *holder, bool paused)
{
    struct epoll_event event = {.events = paused ? 0 : EPOLLIN, .data.ptr = &holder->listen_fd};
    epoll_ctl(holder->epoll_fd, EPOLL_CTL_MOD, holder->listen_fd, &event);
    holder->paused_us = paused ? holder->now_us + PAUSE_US : 0;
}

/* `answer` says why. */
static void turn_away(int fd, const void *answer)
{
    (void)eepi_holder_send(fd, answer, sizeof(eepi_holder_message), -1);
    close(fd);
}

/* Descriptors ran out. A guest makes room, if there is one, by the end of the round; else whoever
 * comes is turned away. */
static void make_room(eepi_holder *holder)
{
    const eepi_holder_message answer =
        eepi_holder_answer(holder, &(eepi_holder_message){.id = 0}, EEP_ERR_SYSTEM);
    if (!eepi_holder_evict(holder, NULL) &&
        !eepi_reserve_turn_away(&holder->reserve_fd, holder->listen_fd, turn_away, &answer)) {
        set_paused(holder, true);
    }
}

static void accept_some(eepi_holder *holder)
{
    for (int i = 0; i < MAX_EVENTS; i++) {
        int fd = accept4(holder->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE) {
                make_room(holder);
            } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                set_paused(holder, true);
            }
            return;
        }
        eep_status status = eepi_holder_add_client(holder, fd);
        if (status != EEP_OK) {
            const eepi_holder_message answer =
                eepi_holder_answer(holder, &(eepi_holder_message){.id = 0}, status);
            turn_away(fd, &answer);
        }
    }
}

/* ---------------------------------------------------------------- the thread */

/* Free the dropped clients, and those that have not said hello in time. */
static void reap(eepi_holder *holder)
{
    if (!holder->has_dropped && holder->num_strangers == 0) {
        return;
    }
    holder->has_dropped = false;
    holder_client *next = NULL;
    for (holder_client *at = holder->clients; at != NULL; at = next) {
        next = at->next;
        if (at->dropped ||
            (!at->is_known && holder->now_us - at->since_us >= holder->limits.hello_us)) {
            eepi_holder_free_client(holder, at);
        }
    }
}

/* Milliseconds until somebody is to be looked at whatever happens; -1: nobody. */
static int timeout_ms(const eepi_holder *holder)
{
    if (holder->paused_us != 0) {
        return PAUSE_US / 1000;
    }
    if (holder->num_strangers == 0) {
        return -1;
    }
    uint64_t quarter_us = holder->limits.hello_us / 4;
    return quarter_us < 1000 ? 1 : (int)(quarter_us / 1000);
}

static bool round_once(eepi_holder *holder)
{
    struct epoll_event events[MAX_EVENTS];
    bool stop = false;
    int num = epoll_wait(holder->epoll_fd, events, MAX_EVENTS, timeout_ms(holder));
    holder->now_us = eepi_now_us();
    for (int i = 0; i < num; i++) {
        if (events[i].data.ptr == &holder->listen_fd) {
            accept_some(holder);
        } else if (events[i].data.ptr == &holder->stop_fd) {
            stop = true;
        } else if (!((holder_client *)events[i].data.ptr)->dropped) {
            eepi_holder_read_client(holder, events[i].data.ptr);
        }
    }
    reap(holder);
    if (holder->paused_us != 0 && holder->now_us >= holder->paused_us) {
        set_paused(holder, false);
    }
    return !stop;
}

static void *serve_thread(void *argument)
{
    while (round_once(argument)) {
    }
    return NULL;
}

static void free_holder(eepi_holder *holder)
{
    while (holder->clients != NULL) {
        eepi_holder_free_client(holder, holder->clients);
    }
    (void)!eepi_holder_release_retained(holder, "");
    if (holder->epoll_fd >= 0 && holder->pid == getpid()) {
        epoll_ctl(holder->epoll_fd, EPOLL_CTL_DEL, holder->listen_fd, NULL);
    }
    close_fd(holder->epoll_fd);
    close_fd(holder->stop_fd);
    close_fd(holder->reserve_fd);
    free(holder);
}

static bool watch(const eepi_holder *holder, int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};
    return epoll_ctl(holder->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static uint64_t most_retained_bytes(void)
{
    struct sysinfo info;

    return sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit / 4 * 3 : UINT64_MAX;
}

static void set_limits(eepi_holder_limits *limits)
{
    if (limits->max_clients == 0) {
        limits->max_clients = MAX_CLIENTS;
    }
    if (limits->max_held_per_client == 0) {
        limits->max_held_per_client = MAX_HELD_PER_CLIENT;
    }
    if (limits->max_retained == 0) {
        limits->max_retained = MAX_RETAINED;
    }
    if (limits->max_retained_bytes == 0) {
        limits->max_retained_bytes = most_retained_bytes();
    }
    if (limits->hello_us == 0) {
        limits->hello_us = HELLO_US;
    }
}

eep_status eepi_holder_open(int listen_fd, const eepi_holder_limits *limits,
                            const eepi_holder_agent *agent, eepi_holder **holder_out)
{
    eepi_holder *holder = calloc(1, sizeof *holder);
    if (holder == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    if (limits != NULL) {
        holder->limits = *limits;
    }
    if (agent != NULL) {
        holder->agent = *agent;
    }
    set_limits(&holder->limits);
    holder->pid = getpid();
    holder->listen_fd = listen_fd;
    holder->opened_us = holder->now_us = eepi_now_us();
    holder->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    holder->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    holder->reserve_fd = eepi_reserve_open();
    holder->most_guests = eepi_descriptors_share(GUESTS_PART, MAX_GUESTS);
    int error = 0;
    eep_status status = EEP_ERR_SYSTEM;
    if (holder->epoll_fd < 0 || holder->stop_fd < 0 || holder->reserve_fd < 0 ||
        !watch(holder, listen_fd, &holder->listen_fd) ||
        !watch(holder, holder->stop_fd, &holder->stop_fd)) {
        error = errno;
    }
    if (error == 0) {
        status = eepi_thread_start(&holder->thread, "eep-holder", EEPI_STACK_BYTES, serve_thread,
                                   holder);
        error = errno;
    }
    if (status != EEP_OK) {
        free_holder(holder);
        errno = error;
        return status;
    }
    *holder_out = holder;
    return EEP_OK;
}

void eepi_holder_close(eepi_holder *holder)
{
    if (holder == NULL) {
        return;
    }
    if (holder->pid != getpid()) {
        free_holder(holder);
        return;
    }
    const uint64_t one = 1;
    ssize_t written = write(holder->stop_fd, &one, sizeof one);
    assert(written == sizeof one); /* the counter of an eventfd that is written once */
    (void)written;
    pthread_join(holder->thread, NULL);
    free_holder(holder);
}
