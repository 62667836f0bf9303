/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/model/expert_time.h"
#include "experiments/model/model_bodies.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

enum { LOOK_NS = 2000000 }; /* each look wakes this rank, and cores are shared */

typedef struct expert_time_args {
    const int32_t *slot_begin;
    int32_t num_slots, row_us;
    model_words words;
} expert_time_args;

static const eep_kernel_arg fields[] = {
    {"slot_begin", offsetof(expert_time_args, slot_begin), sizeof(const int32_t *),
     EEP_ARG_ADDRESS},
    {"num_slots", offsetof(expert_time_args, num_slots), sizeof(int32_t), EEP_ARG_CONSTANT},
    {"row_us", offsetof(expert_time_args, row_us), sizeof(int32_t), EEP_ARG_CONSTANT},
    {"running", offsetof(expert_time_args, words.running), sizeof(void *), EEP_ARG_ADDRESS},
    {"given_up", offsetof(expert_time_args, words.given_up), sizeof(void *), EEP_ARG_ADDRESS},
    {"aborted", offsetof(expert_time_args, words.aborted), sizeof(void *), EEP_ARG_ADDRESS},
};

static void sleep_until(int64_t at_ns)
{
    const struct timespec until = {(time_t)(at_ns / 1000000000), (long)(at_ns % 1000000000)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* It sleeps, so that ranks on the same cores do not slow each other down. */
static void wait_host(const void *args, eep_grid grid)
{
    const expert_time_args *a = args;
    const int64_t begin = (int64_t)eepk_now_ns();
    const int64_t end = begin + (int64_t)a->slot_begin[a->num_slots] * a->row_us * 1000;

    for (int64_t at = begin; at < end && !model_is_over(&a->words, grid);) {
        at = at + LOOK_NS < end ? at + LOOK_NS : end;
        sleep_until(at);
    }
}

static const eep_kernel kernel =
    EEP_KERNEL("model_expert_time", wait_host, NULL, fields, sizeof fields / sizeof fields[0]);

eep_status expert_time_put(eep_stream *stream, const int32_t *slot_begin, int32_t num_slots,
                           int32_t row_us, const model_words *words)
{
    const expert_time_args args = {slot_begin, num_slots, row_us, *words};

    return eep_launch(stream, &kernel, 1, 1, &args, sizeof args);
}
