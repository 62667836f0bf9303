/* SPDX-License-Identifier: Apache-2.0 */
/* How far the clock of another host is ahead of ours, from questions and answers: the answer that
 * came soonest of the last HOST_CLOCK_SAMPLES tells it best, and is wrong by at most half of the
 * time that it took. Pure. */
#ifndef EEPX_HOST_CLOCK_H
#define EEPX_HOST_CLOCK_H

#include <stdint.h>

enum { HOST_CLOCK_SAMPLES = 32 };

/* Zero-initialised knows nothing: both clocks are taken for the same. */
typedef struct host_clock {
    struct {
        int64_t ahead_ns;
        uint64_t took_ns;
    } sample[HOST_CLOCK_SAMPLES];
    uint64_t num; /* samples so far */
    int64_t ahead_ns;
    uint64_t took_ns; /* of the sample that this is from */
} host_clock;

/* Asked at `asked_ns` and answered at `answered_ns` by our clock, with `theirs_ns` by the other. */
void host_clock_add(host_clock *self, uint64_t asked_ns, uint64_t answered_ns, uint64_t theirs_ns);
/* A time of the other host by our clock; 0 stays 0, which means never. */
uint64_t host_clock_ours(const host_clock *self, uint64_t theirs_ns);
/* The times in a packet of a rank (wire.h), in place. */
void host_clock_translate(const host_clock *self, void *packet, uint64_t bytes);
#endif
