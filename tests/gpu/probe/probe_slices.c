/* SPDX-License-Identifier: Apache-2.0 */
/* The role that asks what another process on the GPU costs: time slices. */
#include "tests/gpu/probe/probe_role.h"

#include <stdlib.h>

enum {
    GAPS_MOST = 65536,
    GAP_THRESHOLD_NS = 50000, /* longer than any wait of a kernel that runs */
};

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static uint64_t median(uint64_t *values, uint64_t count)
{
    qsort(values, count, sizeof *values, compare_u64);
    return count ? values[count / 2] : 0;
}

/* Of the gaps (began, ended): how many, median and longest; of the times in between: the median. */
static void summarise(probe_role *r, const uint64_t *log, uint64_t count, uint64_t *room)
{
    uint64_t longest = 0, sum = 0, slices = 0;

    for (uint64_t i = 0; i < count; i++) {
        room[i] = log[2 * i + 1] - log[2 * i];
        sum += room[i];
        longest = room[i] > longest ? room[i] : longest;
    }
    r->say.values[0] = count;
    r->say.values[1] = median(room, count);
    r->say.values[2] = longest;
    for (uint64_t i = 0; i + 1 < count; i++) {
        room[slices++] = log[2 * (i + 1)] - log[2 * i + 1];
    }
    r->say.values[3] = median(room, slices);
    r->say.values[4] = sum;
}

/* Says that it is ready; spins when told to; says what it missed, in ns. */
eep_status probe_spin(probe_role *r)
{
    probe_gaps_args gaps = {.most = GAPS_MOST,
                            .threshold_ns = GAP_THRESHOLD_NS,
                            .limit_ns = r->how->seconds * 1000000000ull};
    uint64_t *room = malloc(GAPS_MOST * sizeof *room);
    probe_message asked;
    eep_status status = room ? probe_words(r, 2 * GAPS_MOST, &gaps.log)
                             : probe_fail(r, EEP_ERR_NO_MEMORY, "memory");

    if (status == EEP_OK) {
        status = probe_words(r, 1, &gaps.count);
    }
    if (status == EEP_OK) {
        status = probe_say(r);
    }
    if (status == EEP_OK) {
        status = probe_hear(r, &asked);
    }
    if (status == EEP_OK) {
        status = probe_launch(r, r->stream, PROBE_GAPS, &gaps, sizeof gaps);
    }
    if (status == EEP_OK) {
        status = probe_check(
            r, eep_stream_synchronize(r->stream, r->how->seconds * 1000000ull + PROBE_SYNC_US),
            "the spinning kernel");
    }
    if (status == EEP_OK) {
        summarise(r, gaps.log, eepk_load_acquire(gaps.count), room);
        status = probe_say(r);
    }
    free(room);
    return status;
}
