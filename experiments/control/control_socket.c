/* SPDX-License-Identifier: Apache-2.0 */
/* The connections of the control socket: accepted, polled, turned away, told events. */
#include "experiments/control/control_request.h"

#include "transport/holder/holder_socket.h"
#include "graphs/base/reserve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_AT_ONCE = 128,     /* connections that are taken in a round */
    HELLO_MS = 10000,      /* a connection that has asked for nothing for so long is dropped */
    ACCEPT_PAUSE_MS = 100, /* after no descriptor could be had */
};

/* ---------------------------------------------------------------- connections */

static void hang_up(control *self, int index)
{
    control_peer_close(&self->peer[index]);
    cJSON_Delete(self->owed[index].id);
    self->owed[index] = (control_owed){0};
}

static void read_peer(control *self, int index)
{
    control_peer *peer = &self->peer[index];
    char *line = NULL;
    size_t bytes = 0;
    control_peer_read(peer);
    while (peer->fd >= 0) {
        control_line found = control_peer_next(peer, &line, &bytes);
        if (found == LINE_NONE) {
            return;
        }
        if (found == LINE_TOO_LONG) {
            char error[64];
            snprintf(error, sizeof error, "the line is longer than %d bytes",
                     CONTROL_LINE_BYTES - 1);
            control_refuse(self, index, NULL, error);
        } else if (bytes > 0) {
            self->owed[index].asked = true;
            self->owed[index].heard = ++self->num_heard;
            control_on_line(self, index, line, bytes);
        }
    }
}

static int free_place(const control *self)
{
    int index = 0;
    while (index < CONTROL_MAX_PEERS && self->peer[index].fd >= 0) {
        index++;
    }
    return index;
}

static const char NO_ROOM[] = "the run has too many connections now: try again";

/* A peer that only holds a connection makes way for a new one: first a peer that has asked for
 * nothing, then the peer that was silent longest. A peer that waits, watches, or has not read all
 * of its answers stays. What has come by now is done first. Returns the place that is free then;
 * CONTROL_MAX_PEERS: none. */
static int make_place(control *self)
{
    int least = -1;
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        read_peer(self, i);
        if (self->peer[i].fd < 0) {
            hang_up(self, i);
            return i;
        }
    }
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        const control_owed *owed = &self->owed[i];
        if (owed->watches || owed->goal != GOAL_NONE || control_peer_is_pending(&self->peer[i])) {
            continue;
        }
        if (least < 0 || owed->asked < self->owed[least].asked ||
            (owed->asked == self->owed[least].asked && owed->heard < self->owed[least].heard)) {
            least = i;
        }
    }
    if (least < 0) {
        return CONTROL_MAX_PEERS;
    }
    if (!self->owed[least].asked) {
        control_refuse(self, least, NULL, NO_ROOM);
    }
    hang_up(self, least);
    return least;
}

static void turn_away(int fd, const char *error)
{
    char line[CONTROL_ERROR_BYTES];
    int bytes = snprintf(line, sizeof line, "{\"ok\":false,\"error\":\"%s\"}\n", error);
    (void)!send(fd, line, (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_RDWR);
    close(fd);
}

static void tell_limit(int fd, const void *user)
{
    char error[128];
    struct rlimit limit = {0};
    (void)user;
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    snprintf(error, sizeof error, "eep-run has no descriptor left: limit %llu (ulimit -n)",
             (unsigned long long)limit.rlim_cur);
    turn_away(fd, error);
}

static void accept_peers(control *self)
{
    int fd = -1, num = 0; /* not for ever, if they come as fast as they are taken */
    while (num++ < MAX_AT_ONCE &&
           (fd = accept4(self->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        int index = free_place(self);
        if (!eepi_holder_is_trusted(fd)) {
            close(fd);
            continue;
        }
        index = index < CONTROL_MAX_PEERS ? index : make_place(self);
        if (index == CONTROL_MAX_PEERS) {
            turn_away(fd, NO_ROOM); /* all of them watch or wait */
            continue;
        }
        control_peer_open(&self->peer[index], fd);
        self->owed[index] = (control_owed){.since_ms = self->now_ms, .heard = ++self->num_heard};
    }
    if (fd >= 0) {
        return;
    }
    if (errno == EMFILE || errno == ENFILE) {
        if (!eepi_reserve_turn_away(&self->reserve_fd, self->socket.fd, tell_limit, NULL)) {
            self->accept_again_ms = self->now_ms + ACCEPT_PAUSE_MS;
        }
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        self->accept_again_ms = self->now_ms + ACCEPT_PAUSE_MS;
    }
}

void control_fds(const control *self, struct pollfd set_out[CONTROL_MAX_FDS])
{
    bool takes = self->now_ms >= self->accept_again_ms;
    set_out[0] = (struct pollfd){.fd = takes ? self->socket.fd : -1, .events = POLLIN};
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        const control_peer *peer = &self->peer[i];
        short in = peer->at_end ? 0 : POLLIN, out = control_peer_is_pending(peer) ? POLLOUT : 0;
        set_out[1 + i] = (struct pollfd){.fd = peer->fd, .events = (short)(in | out)};
    }
}

void control_handle(control *self, const struct pollfd set[CONTROL_MAX_FDS], double now_ms)
{
    self->now_ms = now_ms;
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        control_peer *peer = &self->peer[i];
        short seen = set[1 + i].fd == peer->fd ? set[1 + i].revents : 0;
        if (peer->fd >= 0 && seen & POLLOUT) {
            control_peer_flush(peer);
        }
        if (peer->fd >= 0 && seen & (POLLIN | POLLHUP | POLLERR)) {
            read_peer(self, i);
        }
        if (peer->fd >= 0) {
            control_settle_wait(self, i);
        }
        if (peer->fd >= 0 && !self->owed[i].asked && now_ms - self->owed[i].since_ms > HELLO_MS) {
            hang_up(self, i);
        }
        /* A peer that sends no more and has all its answers is done. One that waits or watches
         * keeps its connection open. */
        if (peer->fd < 0 || (peer->at_end && !control_peer_is_pending(peer))) {
            hang_up(self, i);
        }
    }
    if (set[0].revents) {
        accept_peers(self);
    }
}

/* ---------------------------------------------------------------- events */

bool control_is_watched(const control *self)
{
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        if (self->peer[i].fd >= 0 && self->owed[i].watches) {
            return true;
        }
    }
    return false;
}

void control_event(control *self, const char *line)
{
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        if (self->peer[i].fd >= 0 && self->owed[i].watches) {
            control_peer_say(&self->peer[i], line);
        }
    }
}

/* ---------------------------------------------------------------- open and close */

eep_status control_open(const char *path, const control_ops *ops, void *user, control **control_out,
                        char error[CONTROL_ERROR_BYTES])
{
    if (*path == '\0' || strlen(path) >= CONTROL_PATH_BYTES) {
        snprintf(error, CONTROL_ERROR_BYTES, "a socket's path has 1 to %d bytes, '%.128s' has %zu",
                 CONTROL_PATH_BYTES - 1, path, strlen(path));
        return EEP_ERR_INVALID;
    }
    control *self = calloc(1, sizeof *self);
    if (!self) {
        snprintf(error, CONTROL_ERROR_BYTES, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    self->ops = ops;
    self->user = user;
    self->socket.fd = -1;
    self->reserve_fd = eepi_reserve_open();
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        self->peer[i].fd = -1;
    }
    memcpy(self->path, path, strlen(path));
    eep_status status = control_listen(self->path, &self->socket, error);
    if (status != EEP_OK) {
        if (self->socket.fd >= 0) {
            close(self->socket.fd);
        }
        if (self->reserve_fd >= 0) {
            close(self->reserve_fd);
        }
        free(self);
        return status;
    }
    *control_out = self;
    return EEP_OK;
}

void control_close(control *self, bool good)
{
    struct stat info;
    if (!self) {
        return;
    }
    control_event(self, good ? "{\"event\":\"end\",\"good\":true}"
                             : "{\"event\":\"end\",\"good\":false}");
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        control_owed *owed = &self->owed[i];
        if (self->peer[i].fd >= 0 && owed->goal == GOAL_DONE) {
            cJSON *answer = control_answer_to(owed->id, true);
            cJSON_AddBoolToObject(answer, "good", good);
            control_answer(self, i, answer);
        } else if (self->peer[i].fd >= 0 && owed->goal == GOAL_SETTLED) {
            control_refuse(self, i, owed->id, "wait: the run has ended");
        }
        hang_up(self, i);
    }
    if (lstat(self->path, &info) == 0 && info.st_dev == self->socket.device &&
        info.st_ino == self->socket.inode) {
        unlink(self->path);
    }
    shutdown(self->socket.fd, SHUT_RDWR);
    close(self->socket.fd);
    if (self->reserve_fd >= 0) {
        close(self->reserve_fd);
    }
    free(self);
}
