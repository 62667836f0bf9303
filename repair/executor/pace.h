/* SPDX-License-Identifier: Apache-2.0 */
/* How fast weights may be copied behind live traffic, so that steps keep their time. Pure: times
 * and durations are passed in.
 *
 * Durations of steps without a copy under way are the measure. While copies run, their slowest
 * tenth may take `percent` longer than the slowest tenth of those. A window of EEPI_PACE_WINDOW
 * steps with too many slower ones halves the rate. One with few raises it by a quarter, more slowly
 * near a rate that was too much before. In between it stays. The rate never falls below
 * the floor, so copies end. Now and then copies pause for some steps, which renews the measure. */
#ifndef EEPI_PACE_H
#define EEPI_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    EEPI_PACE_QUIET = 64, /* steps without copies that are remembered */
    EEPI_PACE_WINDOW = 20,
    EEPI_PACE_FLOOR_SHARE = 256 /* the floor is the ceiling divided by this */
};

typedef struct eepi_pace {
    uint64_t ceiling, floor; /* bytes per second */
    uint32_t percent;        /* 0: the rate is the ceiling, whatever steps take */
    uint64_t rate;
    uint64_t too_much; /* a rate that was; 0: none is known */
    uint32_t quiet_us[EEPI_PACE_QUIET];
    uint32_t num_quiet; /* all that were ever heard */
    uint32_t window_us[EEPI_PACE_WINDOW];
    int num_window;
    bool listens;      /* copies pause, to hear steps without them */
    bool skips;        /* the next step was partly under other circumstances */
    int num_heard;     /* since it listens */
    uint64_t since_us; /* it listens, or copies have run without a pause */
    uint64_t step_us;  /* when a step ended last; 0: never */
} eepi_pace;

void eepi_pace_open(eepi_pace *pace, uint64_t ceiling, int32_t percent);
/* Copies begin, or have ended. */
void eepi_pace_begin(eepi_pace *pace, uint64_t now_us);
void eepi_pace_end(eepi_pace *pace);
/* A step that took so long has ended; `copies`: between begin and end. */
void eepi_pace_step(eepi_pace *pace, bool copies, uint32_t took_us, uint64_t now_us);
/* May the next piece be copied? If not, ask again at *wake_us_out. */
bool eepi_pace_may(eepi_pace *pace, uint64_t now_us, uint64_t *wake_us_out);
/* Bytes per second; at least 1. */
uint64_t eepi_pace_rate(const eepi_pace *pace, uint64_t now_us);
#endif
