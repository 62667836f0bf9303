/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/model/expert_time.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

typedef struct expert_time_args {
    const int32_t *slot_begin;
    int32_t num_slots, row_us;
} expert_time_args;

static const eep_kernel_arg fields[] = {
    {"slot_begin", offsetof(expert_time_args, slot_begin), sizeof(const int32_t *),
     EEP_ARG_ADDRESS},
    {"num_slots", offsetof(expert_time_args, num_slots), sizeof(int32_t), EEP_ARG_CONSTANT},
    {"row_us", offsetof(expert_time_args, row_us), sizeof(int32_t), EEP_ARG_CONSTANT},
};

/* It sleeps, so that ranks on the same cores do not slow each other down. */
static void wait_host(const void *args, eep_grid grid)
{
    const expert_time_args *a = args;
    const int64_t ns = (int64_t)a->slot_begin[a->num_slots] * a->row_us * 1000;
    struct timespec until;

    (void)grid;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)((until.tv_nsec + ns) / 1000000000);
    until.tv_nsec = (until.tv_nsec + ns) % 1000000000;
    while (ns > 0 && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

static const eep_kernel kernel =
    EEP_KERNEL("model_expert_time", wait_host, NULL, fields, sizeof fields / sizeof fields[0]);

eep_status expert_time_put(eep_stream *stream, const int32_t *slot_begin, int32_t num_slots,
                           int32_t row_us)
{
    const expert_time_args args = {slot_begin, num_slots, row_us};

    return eep_launch(stream, &kernel, 1, 1, &args, sizeof args);
}
