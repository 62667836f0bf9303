/* SPDX-License-Identifier: Apache-2.0 */
/* Connections between simulated processes: a rank's to its host's agent, and agents' to those of
 * other hosts. They keep order, and bring messages whole. Between hosts they stand still while the
 * way is cut, as TCP does: what was sent arrives afterwards, unless its sender has given the
 * connection up. The end of a process ends its connections, but not where its host has lost power.
 */
#include "tests/sim/parts/sim_lines.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_US = 5, NEAR_US = 300, FAR_US = 3000, AGAIN_US = 40000, END_US = 20000 };

typedef struct parcel {
    struct parcel *next;
    size_t bytes;
    int fd;
    uint8_t data[];
} parcel;

struct sim_line_end {
    struct sim_line_end *other;
    sim_process *process;                          /* NULL: it has not been accepted yet */
    parcel *first_sent, *last_sent, *first, *last; /* to this end; what has arrived */
    uint64_t newest_us;
    size_t unsent; /* bytes on their way to this end */
    int is_open, is_closed, is_refused;
    int is_named; /* its owner says who it is */
    _Alignas(max_align_t) uint8_t who[SIM_LINE_NAME_BYTES];
};

typedef struct listener {
    struct listener *next;
    sim_process *process;
    char address[SIM_ADDRESS_BYTES];
    sim_line_end *waiting[64];
    int num_waiting, fd, is_closed;
} listener;

static listener *listeners;

void sim_lines_open(void)
{
    listeners = NULL;
}

static int host_of(const sim_line_end *end)
{
    return end->process ? end->process->host : -1;
}

static int is_cut(const sim_line_end *from, const sim_line_end *to)
{
    return host_of(from) >= 0 && host_of(to) >= 0 && sim_hosts_are_cut(host_of(from), host_of(to));
}

static uint64_t travel_us(const sim_line_end *a, const sim_line_end *b)
{
    return sim_delay(LEAST_US, host_of(a) == host_of(b) ? NEAR_US : FAR_US);
}

static void wake(const sim_line_end *end)
{
    if (end->process) {
        sim_wake(&end->process->poll_key, SIM_POLLERS);
    }
}

/* ------------------------------------------------------------------ listening */

static listener *listener_at(const char *address)
{
    listener *found = NULL;

    for (listener *l = listeners; l; l = l->next) {
        if (!found && strcmp(l->address, address) == 0 && !l->is_closed && l->process->alive) {
            found = l; /* the newest one has the place */
        }
    }
    return found;
}

int sim_line_listen(const char *address)
{
    listener *l = calloc(1, sizeof *l);

    l->process = sim_self();
    strncpy(l->address, address, sizeof l->address - 1);
    l->next = listeners;
    listeners = l;
    return l->fd = sim_fd_new(SIM_FD_LISTENER, l);
}

void sim_line_unlisten(int fd)
{
    listener *l = sim_fd_what(fd);

    if (l) {
        l->is_closed = 1;
    }
}

int sim_listener_is_readable(const void *what)
{
    const listener *l = what;

    return !l->is_closed && l->num_waiting > 0;
}

static void welcome(void *user, uint64_t number)
{
    sim_line_end *end = user;

    (void)number;
    if (is_cut(end->other, end)) {
        sim_after(sim_random(AGAIN_US), welcome, end, 0);
        return;
    }
    end->is_open = 1;
    wake(end);
}

int sim_line_accept(int fd)
{
    listener *l = sim_fd_what(fd);
    sim_line_end *end;

    if (!l || l->num_waiting == 0) {
        errno = EAGAIN;
        return -1;
    }
    end = l->waiting[0];
    memmove(l->waiting, l->waiting + 1, (size_t)--l->num_waiting * sizeof l->waiting[0]);
    end->process = sim_self();
    end->is_open = 1;
    sim_after(travel_us(end, end->other), welcome, end->other, 0);
    return sim_fd_new(SIM_FD_LINE, end);
}

typedef struct knocking {
    listener *at;
    sim_line_end *from;
} knocking;

static void knock(void *user, uint64_t number)
{
    knocking *k = user;
    const sim_process *p = k->at->process;

    (void)number;
    if (k->from->is_closed || !k->from->process->alive) {
        return;
    }
    if (sim_hosts_are_cut(k->from->process->host, p->host) ||
        sim_hosts_are_cut(p->host, k->from->process->host)) {
        sim_after(sim_random(AGAIN_US), knock, k, 0);
        return;
    }
    if (!p->alive || k->at->is_closed || k->at->num_waiting == 64) {
        k->from->is_refused = 1;
        wake(k->from);
        return;
    }
    k->at->waiting[k->at->num_waiting++] = k->from->other;
    sim_wake(&k->at->process->poll_key, SIM_POLLERS);
}

int sim_line_connect(const char *address)
{
    listener *l = listener_at(address);
    sim_line_end *end;
    knocking *k;

    if (!l) {
        errno = ECONNREFUSED;
        return -1;
    }
    end = calloc(2, sizeof *end);
    end[0].other = end + 1;
    end[1].other = end;
    end->process = sim_self();
    k = calloc(1, sizeof *k);
    *k = (knocking){l, end};
    sim_after(sim_delay(LEAST_US, NEAR_US), knock, k, 0);
    return sim_fd_new(SIM_FD_LINE, end);
}

/* ------------------------------------------------------------------ messages */

/* Nothing can come any more, and this end can know it. */
static int has_ended(const sim_line_end *end)
{
    const sim_line_end *other = end->other;

    if (end->is_refused) {
        return 1;
    }
    if (is_cut(other, end) || !other->process || end->first_sent) {
        return 0;
    }
    return other->is_closed || (!other->process->alive && !other->process->lost_power &&
                                sim->now_us >= other->process->gone_us + END_US / 10);
}

int sim_line_is_readable(const void *what)
{
    const sim_line_end *end = what;

    return !end->is_closed && (end->first || has_ended(end));
}

static void arrive(void *user, uint64_t number)
{
    sim_line_end *end = user, *from = end->other;
    parcel *p = end->first_sent;

    (void)number;
    if (!p) {
        return;
    }
    if (is_cut(from, end) && !from->is_closed) {
        sim_after(sim_delay(1000, AGAIN_US), arrive, end, 0);
        return;
    }
    end->first_sent = p->next;
    end->last_sent = p->next ? end->last_sent : NULL;
    end->unsent -= p->bytes;
    p->next = NULL;
    if (end->is_closed || (from->is_closed && (is_cut(from, end) || sim_random(2)))) {
        wake(end);
        return;
    }
    if (end->last) {
        end->last->next = p;
    } else {
        end->first = p;
    }
    end->last = p;
    wake(end);
}

bool sim_line_send(int fd, const void *bytes, size_t size, int passed_fd)
{
    sim_line_end *to, *end = sim_fd_what(fd);
    parcel *p;
    uint64_t at_us;

    if (!end || end->is_closed || has_ended(end)) {
        return false;
    }
    to = end->other;
    p = calloc(1, sizeof *p + size);
    p->bytes = size;
    p->fd = passed_fd >= 0 ? sim_fd_copy(passed_fd) : -1;
    memcpy(p->data, bytes, size);
    if (to->last_sent) {
        to->last_sent->next = p;
    } else {
        to->first_sent = p;
    }
    to->last_sent = p;
    to->unsent += size;
    at_us = sim->now_us + travel_us(end, to);
    to->newest_us = at_us > to->newest_us ? at_us : to->newest_us;
    sim_after(to->newest_us - sim->now_us, arrive, to, 0);
    return true;
}

ssize_t sim_line_receive(int fd, void *bytes, size_t size, int *passed_out)
{
    sim_line_end *end = sim_fd_what(fd);
    parcel *p = end ? end->first : NULL;

    *passed_out = -1;
    if (!p) {
        errno = EAGAIN;
        return !end || has_ended(end) ? 0 : -1;
    }
    end->first = p->next;
    end->last = p->next ? end->last : NULL;
    memcpy(bytes, p->data, p->bytes < size ? p->bytes : size);
    *passed_out = p->fd;
    return (ssize_t)p->bytes;
}

size_t sim_line_unsent(int fd)
{
    const sim_line_end *end = sim_fd_what(fd);

    return end ? end->other->unsent : 0;
}

bool sim_line_is_open(int fd)
{
    const sim_line_end *end = sim_fd_what(fd);

    return end && end->is_open;
}

void sim_line_name(int fd, const void *who, size_t bytes)
{
    sim_line_end *end = sim_fd_what(fd);

    assert(bytes <= sizeof end->who);
    memcpy(end->who, who, bytes);
    end->is_named = 1;
}

const void *sim_line_peer(int fd)
{
    const sim_line_end *other = ((sim_line_end *)sim_fd_what(fd))->other;

    return other->is_named ? other->who : NULL;
}

void sim_line_close(int fd)
{
    sim_line_end *end = sim_fd_what(fd);

    if (end) {
        end->is_closed = 1;
        wake(end->other);
    }
}
