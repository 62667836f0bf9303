/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of the control socket: lines in, lines out, both bounded. Nothing here waits.
 * One thread owns a peer. */
#ifndef EEPX_CONTROL_PEER_H
#define EEPX_CONTROL_PEER_H

#include <stdbool.h>
#include <stddef.h>

enum {
    CONTROL_LINE_BYTES = 4096,         /* longest line that is taken, with its newline */
    CONTROL_OUTPUT_BYTES = 256 * 1024, /* what a peer may leave unread before it is dropped; holds
                                          the status of EEP_MAX_RANKS seats */
};

typedef struct control_peer {
    int fd;                   /* -1: no peer */
    bool at_end;              /* it will send nothing more */
    bool skips;               /* the rest of a line that was too long is thrown away */
    size_t num_in, num_taken; /* bytes in `in`, and how many of them lines were made of */
    size_t num_out, num_sent;
    char in[CONTROL_LINE_BYTES + 1]; /* room for the NUL of a last line without a newline */
    char out[CONTROL_OUTPUT_BYTES];
} control_peer;

typedef enum control_line {
    LINE_NONE,     /* nothing complete is here */
    LINE_TAKEN,    /* *line_out, NUL-terminated, valid until the next call */
    LINE_TOO_LONG, /* said once per line */
} control_line;

/* Take over a non-blocking socket. */
void control_peer_open(control_peer *self, int fd);
/* Close it; without a peer nothing happens. */
void control_peer_close(control_peer *self);
/* Read once. A broken connection is closed. */
void control_peer_read(control_peer *self);
control_line control_peer_next(control_peer *self, char **line_out, size_t *bytes_out);
/* Send `line` and a newline, now or with a later flush. A peer that has left too much unread, or
 * is gone, is closed. */
void control_peer_say(control_peer *self, const char *line);
void control_peer_flush(control_peer *self);
bool control_peer_is_pending(const control_peer *self);
#endif
