/* SPDX-License-Identifier: Apache-2.0 */
/* Frames on their way from one side of a wire to the other: delay, jitter, rate and loss by rules.
 *
 * A frame follows the first rule of its direction that names its far end. Frames of one rule leave
 * in the order in which they came; frames that follow no rule leave at once. Pure: no I/O, no
 * clock; times are the caller's, in nanoseconds. One thread. */
#ifndef EEPX_DELAY_LINE_H
#define EEPX_DELAY_LINE_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DELAY_LINE_RULES_MAX = 256, DELAY_LINE_MAC_BYTES = 6, DELAY_LINE_HEAD_BYTES = 12 };

typedef struct delay_frame {
    struct delay_frame *next;
    uint64_t due_ns;
    int direction; /* 0: from the first side to the second; 1: back */
    size_t size;
    unsigned char bytes[]; /* as the caller gave them */
} delay_frame;

typedef struct delay_rule {
    int direction;
    bool any; /* any far end; else `mac` alone: the receiver in direction 0, the sender in 1 */
    unsigned char mac[DELAY_LINE_MAC_BYTES];
    uint64_t delay_ns, jitter_ns; /* each frame: delay + a part of jitter, evenly drawn */
    uint64_t bytes_per_s;         /* 0: as fast as it comes */
    uint64_t limit_bytes;         /* what may wait for the rate; more is dropped */
    double loss;                  /* share of frames, 0 to 1 */
    uint64_t free_ns;             /* when the last frame has gone by the rate */
    uint64_t last_due_ns;
    delay_frame *first, *last;
    uint64_t num_lost; /* by chance, or over the limit */
} delay_rule;

typedef struct delay_line {
    delay_rule rule[DELAY_LINE_RULES_MAX];
    size_t num_rules;
    delay_frame *old; /* of rules that were replaced: they leave when they are due */
    uint64_t random;
} delay_line;

/* `seed` decides what is lost and each jitter. */
void delay_line_init(delay_line *self, uint64_t seed);
void delay_line_destroy(delay_line *self);
/* Take the rules of a text in the place of all present ones; frames on their way keep their times.
 * A line: `> MAC [NAME=VALUE]...`, with `<` for the direction back, `*` for any MAC, and the names
 * delay_us, jitter_us, bytes_per_s, limit_bytes, loss. Empty lines and those that begin with # say
 * nothing. EEP_ERR_INVALID: nothing has changed, and `line_out` has the number of the wrong line.
 */
EEP_MUST_CHECK eep_status delay_line_set_rules(delay_line *self, const char *text, int *line_out);
/* Take a frame in at `now_ns`. `ethernet` is its head: receiver, sender. NULL: it is lost.
 * Otherwise a frame with room for `size` bytes, which the caller fills before the next call. */
delay_frame *delay_line_add(delay_line *self, int direction,
                            const unsigned char ethernet[DELAY_LINE_HEAD_BYTES], size_t size,
                            uint64_t now_ns);
/* true: the frame follows no rule. The caller may send it as it is. */
bool delay_line_passes(const delay_line *self, int direction,
                       const unsigned char ethernet[DELAY_LINE_HEAD_BYTES]);
/* The frame that is due first, if it is due at `now_ns`; the caller frees it. NULL: none. */
delay_frame *delay_line_take(delay_line *self, uint64_t now_ns);
/* When the next is due; UINT64_MAX: none waits. */
uint64_t delay_line_next_ns(const delay_line *self);
#endif
