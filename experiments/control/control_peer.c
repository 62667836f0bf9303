/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to the control socket: bytes in, lines out. */
#include "experiments/control/control_peer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void control_peer_open(control_peer *self, int fd)
{
    self->fd = fd;
    self->at_end = self->skips = false;
    self->num_in = self->num_taken = self->num_out = self->num_sent = 0;
}

void control_peer_close(control_peer *self)
{
    if (self->fd >= 0) {
        /* A forked child that never execs may hold a copy: the other side must see the end. */
        shutdown(self->fd, SHUT_RDWR);
        close(self->fd);
        self->fd = -1;
    }
}

void control_peer_read(control_peer *self)
{
    memmove(self->in, self->in + self->num_taken, self->num_in - self->num_taken);
    self->num_in -= self->num_taken;
    self->num_taken = 0;
    ssize_t bytes =
        recv(self->fd, self->in + self->num_in, CONTROL_LINE_BYTES - self->num_in, MSG_DONTWAIT);
    if (bytes > 0) {
        self->num_in += (size_t)bytes;
    } else if (bytes == 0) {
        self->at_end = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        control_peer_close(self);
    }
}

control_line control_peer_next(control_peer *self, char **line_out, size_t *bytes_out)
{
    for (;;) {
        char *line = self->in + self->num_taken;
        size_t left = self->num_in - self->num_taken;
        char *end = memchr(line, '\n', left);
        if (!end && !self->at_end && (self->skips || left == CONTROL_LINE_BYTES)) {
            bool said = self->skips;
            self->skips = true;
            self->num_taken = self->num_in;
            return said ? LINE_NONE : LINE_TOO_LONG;
        }
        if (!end && !(self->at_end && left > 0)) {
            return LINE_NONE;
        }
        size_t bytes = end ? (size_t)(end - line) : left;
        self->num_taken += bytes + (end != NULL);
        if (self->skips) { /* that was its end */
            self->skips = false;
            continue;
        }
        line[bytes] = '\0';
        *line_out = line;
        *bytes_out = bytes;
        return LINE_TAKEN;
    }
}

void control_peer_flush(control_peer *self)
{
    while (self->fd >= 0 && self->num_sent < self->num_out) {
        ssize_t bytes = send(self->fd, self->out + self->num_sent, self->num_out - self->num_sent,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
        if (bytes < 0 && errno == EINTR) {
            continue;
        }
        if (bytes < 0) {
            if (errno != EAGAIN) {
                control_peer_close(self);
            }
            return;
        }
        self->num_sent += (size_t)bytes;
    }
}

void control_peer_say(control_peer *self, const char *line)
{
    size_t bytes = strlen(line) + 1;
    control_peer_flush(self);
    if (self->fd < 0) {
        return;
    }
    memmove(self->out, self->out + self->num_sent, self->num_out - self->num_sent);
    self->num_out -= self->num_sent;
    self->num_sent = 0;
    if (bytes > sizeof self->out - self->num_out) {
        control_peer_close(self);
        return;
    }
    memcpy(self->out + self->num_out, line, bytes - 1);
    self->out[self->num_out + bytes - 1] = '\n';
    self->num_out += bytes;
    control_peer_flush(self);
}

bool control_peer_is_pending(const control_peer *self)
{
    return self->fd >= 0 && self->num_sent < self->num_out;
}
