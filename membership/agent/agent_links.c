/* SPDX-License-Identifier: Apache-2.0 */
/* Beats between hosts. */
#include "membership/agent/agent_links.h"

#include "graphs/base/clock.h"
#include "graphs/base/thread.h"
#include "transport/secure/secure_waiting.h"
#include "transport/secure/tcp_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MAX_GUESTS = 512, /* connections that others have made */
    MAX_KILLS = 64,   /* that wait to be passed on */
    MESSAGES_AT_ONCE = 64,
    RETRY_US = 50000,
    STALE_US = 1000000,
    ACCEPTS_AT_ONCE = 16,
    WHY_BYTES = 320
};

typedef struct kill_order {
    uint64_t host;
    int32_t seat;
    uint32_t generation;
} kill_order;

struct eepi_agent_links {
    eepi_agent_links_config config;
    pthread_t thread;
    int listen_fd, wake_fd;
    bool stop; /* atomic */
    uint64_t next_us;
    uint64_t accept_us; /* nobody is accepted before: there was no descriptor left */
    eepi_agent_link dialled[EEPI_BOARD_HOSTS]; /* in the places of the board */
    uint64_t dial_us[EEPI_BOARD_HOSTS];
    uint32_t num_unanswered[EEPI_BOARD_HOSTS]; /* in a row */
    char dialled_at[EEPI_BOARD_HOSTS][EEPI_BOARD_ADDRESS_BYTES];
    eepi_agent_link *guests[MAX_GUESTS];
    int num_guests;
    eepi_secure_waiting waiting; /* of them, without their proof yet */
    uint64_t noted_us;
    bool has_told_full;          /* that the board has no room for a host */
    kill_order kills[MAX_KILLS]; /* under config.lock */
    int num_kills;
    struct pollfd fds[2 + EEP_MAX_RANKS + 1 + EEPI_BOARD_HOSTS + MAX_GUESTS];
};

static void note(eepi_agent_links *links, const char *text)
{
    if (links->config.note && text[0] && eepi_now_us() - links->noted_us >= 1000000) {
        links->noted_us = eepi_now_us();
        links->config.note(links->config.user, text);
    }
}

/* ------------------------------------------------------------------ connections */

static void drop_guest(eepi_agent_links *links, int at)
{
    eepi_secure_waiting_remove(&links->waiting, links->guests[at]);
    eepi_agent_link_close(links->guests[at]);
    free(links->guests[at]);
    links->guests[at] = links->guests[--links->num_guests];
}

static void drop_guest_named(eepi_agent_links *links, const void *guest)
{
    for (int i = 0; i < links->num_guests; i++) {
        if (links->guests[i] == guest) {
            drop_guest(links, i);
            return;
        }
    }
}

static void accept_some(eepi_agent_links *links)
{
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int fd = accept4(links->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        eepi_agent_link *guest;
        if (fd < 0) {
            const bool is_out = errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
            links->accept_us = is_out ? eepi_now_us() + RETRY_US : 0;
            return;
        }
        guest = links->num_guests < MAX_GUESTS ? calloc(1, sizeof *guest) : NULL;
        if (!guest) {
            close(fd);
        } else if (eepi_agent_link_serve(guest, &links->config.self, fd) != EEP_OK) {
            free(guest);
        } else {
            links->guests[links->num_guests++] = guest;
            drop_guest_named(links, eepi_secure_waiting_add(&links->waiting, guest,
                                                            eepi_tcp_peer(fd), eepi_now_us()));
        }
    }
}

static void expire_guests(eepi_agent_links *links)
{
    uint64_t next_us;
    void *late;

    while ((late = eepi_secure_waiting_expire(&links->waiting, eepi_now_us(), &next_us))) {
        drop_guest_named(links, late);
    }
}

/* Of two agents that with the lower number dials; a rank always does. */
static bool dials(const eepi_agent_links *links, uint64_t host)
{
    return links->config.self.speaker != EEPI_AGENT_SPEAKER || links->config.self.host < host;
}

/* The host's agent has another address now: whoever had the older one has ended, and nobody may
 * have reset the connection to it. */
static void leave_if_elsewhere(eepi_agent_links *links, int place, const char *address)
{
    if (links->dialled[place].fd >= 0 && address[0] &&
        strcmp(links->dialled_at[place], address) != 0) {
        eepi_agent_link_close(&links->dialled[place]);
        links->dial_us[place] = 0;
    }
}

static void dial(eepi_agent_links *links, int place, const char *address, uint64_t now_us)
{
    links->dial_us[place] = now_us + RETRY_US;
    snprintf(links->dialled_at[place], sizeof links->dialled_at[place], "%s", address);
    if (eepi_agent_link_dial(&links->dialled[place], &links->config.self, address) != EEP_OK) {
        links->dialled[place].fd = -1;
    }
}

static void dial_some(eepi_agent_links *links, uint64_t now_us)
{
    for (int place = 0; place < EEPI_BOARD_HOSTS; place++) {
        const eepi_board_host *host = &links->config.board->hosts[place];
        char address[EEPI_BOARD_ADDRESS_BYTES];
        if (host->host == 0) {
            return;
        }
        if (host->host == links->config.self.host || !dials(links, host->host)) {
            continue;
        }
        pthread_mutex_lock(links->config.lock);
        memcpy(address, host->address, sizeof address);
        pthread_mutex_unlock(links->config.lock);
        leave_if_elsewhere(links, place, address);
        if (address[0] && links->dialled[place].fd < 0 && now_us >= links->dial_us[place]) {
            dial(links, place, address, now_us);
        }
    }
}

/* ------------------------------------------------------------------ messages */

static void take(eepi_agent_links *links, const eepi_agent_message *message)
{
    char text[WHY_BYTES];
    eep_status status;

    if (message->head.kind == EEPI_AGENT_KILL) {
        if (links->config.kill) {
            links->config.kill(links->config.user, message->entries[0].seat,
                               message->entries[0].generation);
        }
        return;
    }
    pthread_mutex_lock(links->config.lock);
    status = eepi_agent_hear(links->config.table, message);
    pthread_mutex_unlock(links->config.lock);
    if (status == EEP_ERR_CONFLICT &&
        links->config.self.speaker == EEPI_AGENT_SPEAKER) { /* rule N12 */
        snprintf(text, sizeof text,
                 "somebody else speaks for this host, %016llx: give each host, and each pod with a "
                 "pid namespace of its own, another EEP_HOST_ID, or none",
                 (unsigned long long)message->head.host);
        note(links, text);
    }
    if (status == EEP_ERR_NO_MEMORY && !links->has_told_full) {
        links->has_told_full = true;
        snprintf(text, sizeof text,
                 "host %016llx is not heard: an agent has room for %d host ids in its life; give "
                 "pods the EEP_HOST_ID that they had, and start this agent anew",
                 (unsigned long long)message->head.host, EEPI_BOARD_HOSTS);
        links->noted_us = 0; /* once, whatever was told a moment ago */
        note(links, text);
    }
}

/* False: it has ended. */
static bool read_link(eepi_agent_links *links, eepi_agent_link *link)
{
    eepi_agent_message message;
    char why[WHY_BYTES];

    for (int i = 0; i < MESSAGES_AT_ONCE; i++) {
        const eep_status status = eepi_agent_link_take(link, &message, why, sizeof why);
        if (status == EEP_ERR_TIMEOUT) {
            return true;
        }
        if (status != EEP_OK) {
            note(links, why);
            return false;
        }
        take(links, &message);
    }
    return true;
}

static void say_all(eepi_agent_links *links, const eepi_agent_message *message)
{
    for (int place = 0; place < EEPI_BOARD_HOSTS; place++) {
        if (links->dialled[place].fd >= 0) {
            eepi_agent_link_say(&links->dialled[place], message);
        }
    }
    for (int i = 0; i < links->num_guests; i++) {
        eepi_agent_link_say(links->guests[i], message);
    }
}

/* By name: to the agent that the connection proves to be that host's. */
static void pass_on(eepi_agent_links *links, const kill_order *order)
{
    eepi_agent_message message;
    char name[EEPI_SECURE_HOST_BYTES];

    snprintf(name, sizeof name, "%016llx", (unsigned long long)order->host);
    message = eepi_agent_tell_kill(links->config.table, order->seat, order->generation);
    for (int i = 0; i < EEPI_BOARD_HOSTS + links->num_guests; i++) {
        eepi_agent_link *link =
            i < EEPI_BOARD_HOSTS ? &links->dialled[i] : links->guests[i - EEPI_BOARD_HOSTS];
        if (link->fd >= 0 && link->is_open && strcmp(link->channel.peer.identity.host, name) == 0 &&
            strcmp(link->channel.peer.identity.role, "agent") == 0) {
            eepi_agent_link_say(link, &message);
        }
    }
}

static void tell_round(eepi_agent_links *links)
{
    eepi_agent_message message;
    kill_order kills[MAX_KILLS];
    int num_kills;
    bool more = true;

    pthread_mutex_lock(links->config.lock);
    if (links->config.refresh) {
        links->config.refresh(links->config.user);
    }
    eepi_agent_next_round(links->config.table);
    num_kills = links->num_kills;
    memcpy(kills, links->kills, sizeof kills);
    links->num_kills = 0;
    pthread_mutex_unlock(links->config.lock);
    for (int32_t at = 0; more;) {
        pthread_mutex_lock(links->config.lock);
        more = eepi_agent_tell(links->config.table, &at, &message);
        pthread_mutex_unlock(links->config.lock);
        if (more) {
            say_all(links, &message);
        }
    }
    for (int i = 0; i < num_kills; i++) {
        pass_on(links, &kills[i]);
    }
}

/* ------------------------------------------------------------------ the thread */

static struct pollfd poll_of(const eepi_agent_link *link)
{
    return (struct pollfd){.fd = link->fd,
                           .events =
                               (short)(POLLIN | (eepi_agent_link_wants_write(link) ? POLLOUT : 0))};
}

static int collect(eepi_agent_links *links, int *num_watched_out)
{
    int num = 2;

    links->fds[0] = (struct pollfd){.fd = links->wake_fd, .events = POLLIN};
    /* who waits to be accepted would end each poll at once */
    links->fds[1] = (struct pollfd){.fd = eepi_now_us() < links->accept_us ? -1 : links->listen_fd,
                                    .events = POLLIN};
    *num_watched_out =
        links->config.watch ? links->config.watch(links->config.user, links->fds + num) : 0;
    num += *num_watched_out;
    for (int place = 0; place < EEPI_BOARD_HOSTS; place++) {
        if (links->dialled[place].fd >= 0) {
            links->fds[num++] = poll_of(&links->dialled[place]);
        }
    }
    for (int i = 0; i < links->num_guests; i++) {
        links->fds[num++] = poll_of(links->guests[i]);
    }
    return num;
}

/* Nothing has come for so long that TCP repeats itself seldom: a new connection is sooner there,
 * and does not bring what was said long ago. */
static bool is_stale(const eepi_agent_link *link)
{
    return eepi_secure_is_late(&link->channel, eepi_now_us()) ||
           eepi_now_us() - link->heard_us > STALE_US;
}

/* It is dialled anew in the next round. */
static bool is_unanswered(eepi_agent_links *links, int place)
{
    const eepi_agent_link *link = &links->dialled[place];
    uint32_t *num = &links->num_unanswered[place];

    if (link->is_open) {
        *num = 0;
        return false;
    }
    if (!eepi_agent_link_is_unanswered(link, *num)) {
        return false;
    }
    (*num)++;
    return true;
}

static void read_all(eepi_agent_links *links)
{
    for (int place = 0; place < EEPI_BOARD_HOSTS; place++) {
        eepi_agent_link *link = &links->dialled[place];
        if (link->fd >= 0 &&
            (!read_link(links, link) || is_unanswered(links, place) || is_stale(link))) {
            eepi_agent_link_close(link);
        }
    }
    for (int i = links->num_guests - 1; i >= 0; i--) {
        if (!read_link(links, links->guests[i]) ||
            (links->guests[i]->is_open && is_stale(links->guests[i]))) {
            drop_guest(links, i);
        } else if (links->guests[i]->is_open) {
            eepi_secure_waiting_remove(&links->waiting, links->guests[i]);
        }
    }
}

static void round_once(eepi_agent_links *links)
{
    uint64_t now_us = eepi_now_us(), count;
    int num, num_watched;

    if (now_us >= links->next_us) {
        dial_some(links, now_us);
        tell_round(links);
        expire_guests(links);
        links->next_us = now_us + EEPI_AGENT_PERIOD_US;
    }
    num = collect(links, &num_watched);
    now_us = eepi_now_us();
    (void)poll(links->fds, (nfds_t)num,
               now_us < links->next_us ? (int)((links->next_us - now_us) / 1000 + 1) : 0);
    if (links->fds[0].revents) {
        (void)!read(links->wake_fd, &count, sizeof count);
        links->next_us = 0;
    }
    if (links->config.polled &&
        links->config.polled(links->config.user, links->fds + 2, num_watched)) {
        links->next_us = 0;
    }
    read_all(links);
    if (links->fds[1].revents) {
        accept_some(links);
    }
}

static void *run(void *argument)
{
    eepi_agent_links *links = argument;

    while (!__atomic_load_n(&links->stop, __ATOMIC_ACQUIRE)) {
        round_once(links);
    }
    return NULL;
}

/* ------------------------------------------------------------------ calls */

static eep_status listen_at(eepi_agent_links *links, const char *address, char *error_out,
                            size_t error_bytes)
{
    char host[EEPI_AGENT_ADDRESS_HOST_BYTES];
    uint16_t port;

    if (!eepi_agent_address_parse(address, host, &port)) {
        snprintf(error_out, error_bytes, "'%.80s' is not ADDRESS:PORT", address);
        return EEP_ERR_INVALID;
    }
    if (eepi_tcp_check_host(host, true, error_out, error_bytes) != EEP_OK) {
        return EEP_ERR_INVALID;
    }
    return eepi_tcp_listen(host, port, error_out, error_bytes, &links->listen_fd);
}

static void free_links(eepi_agent_links *links)
{
    while (links->num_guests > 0) {
        drop_guest(links, links->num_guests - 1);
    }
    for (int place = 0; place < EEPI_BOARD_HOSTS; place++) {
        eepi_agent_link_close(&links->dialled[place]);
    }
    if (links->listen_fd >= 0) {
        close(links->listen_fd);
    }
    if (links->wake_fd >= 0) {
        close(links->wake_fd);
    }
    eepi_secure_key_wipe(&links->config.self.key);
    free(links);
}

eep_status eepi_agent_links_open(const eepi_agent_links_config *config, char *error_out,
                                 size_t error_bytes, eepi_agent_links **links_out)
{
    eepi_agent_links *links = calloc(1, sizeof *links);
    char why[EEPI_THREAD_ERROR_BYTES];
    eep_status status = EEP_OK;

    if (!links) {
        return EEP_ERR_NO_MEMORY;
    }
    links->config = *config;
    links->listen_fd = -1;
    links->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (int place = 0; place < EEPI_BOARD_HOSTS; place++) {
        links->dialled[place].fd = -1;
    }
    if (config->listen) {
        status = listen_at(links, config->listen, error_out, error_bytes);
    }
    *links_out = links; /* before its thread, whose callbacks may want it */
    if (status == EEP_OK) {
        status = links->wake_fd >= 0
                     ? eepi_thread_start(&links->thread, "eep-agent", EEPI_STACK_BYTES, run, links)
                     : EEP_ERR_SYSTEM;
        if (status != EEP_OK) {
            snprintf(error_out, error_bytes, "%s", eepi_thread_error(errno, why, sizeof why));
        }
    }
    if (status != EEP_OK) {
        *links_out = NULL;
        free_links(links);
    }
    return status;
}

void eepi_agent_links_close(eepi_agent_links *links)
{
    if (!links) {
        return;
    }
    eepi_agent_links_stop(links);
    pthread_join(links->thread, NULL);
    free_links(links);
}

void eepi_agent_links_stop(eepi_agent_links *links)
{
    __atomic_store_n(&links->stop, true, __ATOMIC_RELEASE);
    eepi_agent_links_hurry(links);
}

void eepi_agent_links_hurry(eepi_agent_links *links)
{
    const uint64_t one = 1;

    (void)!write(links->wake_fd, &one, sizeof one);
}

eep_status eepi_agent_links_kill(eepi_agent_links *links, int32_t seat, uint32_t generation)
{
    eep_status status = EEP_OK;

    pthread_mutex_lock(links->config.lock);
    const kill_order order = {eepi_agent_host_of(links->config.table, seat, generation), seat,
                              generation};
    if (order.host == 0) {
        status = EEP_ERR_NOT_FOUND;
    } else if (links->num_kills == MAX_KILLS) {
        status = EEP_ERR_UNREACHABLE;
    } else {
        links->kills[links->num_kills++] = order;
    }
    pthread_mutex_unlock(links->config.lock);
    eepi_agent_links_hurry(links);
    return status;
}
