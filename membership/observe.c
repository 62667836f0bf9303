/* SPDX-License-Identifier: Apache-2.0 */
/* What can be asked of a context. */
#include "graphs/base/public_call.h"
#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "membership/step/arrivals.h"

#include <string.h>

int32_t eep_rank(const eep_context *context)
{
    return context ? context->config.rank : -1;
}

uint32_t eep_generation(const eep_context *context)
{
    return context ? context->generation : 0;
}

/* Of the newest view, or a process that is on its way into it. With the lock. */
static eep_seat seat_now(const eep_context *context, int seat)
{
    const eep_seat in_view = context->observed.seats[seat];
    const uint32_t generation = eepi_arrival_generation(context, seat);

    if (in_view.state == EEP_SEAT_VACANT && generation > in_view.generation) {
        return (eep_seat){EEP_SEAT_JOINING, generation};
    }
    return in_view;
}

eep_status eep_snapshot_get(eep_context *context, eep_snapshot *snapshot_out,
                            eep_counters *counters_out, eep_seat *seats_out)
{
    eep_status status = eepi_check_context("eep_snapshot_get", context);
    const eepi_stepper *steps;
    eep_snapshot snapshot;
    eep_counters counters;
    uint64_t captures;

    if (status == EEP_OK) {
        status = EEPI_STRUCT_CHECK(eep_snapshot, snapshot_out);
    }
    if (status == EEP_OK && counters_out) {
        status = EEPI_STRUCT_CHECK(eep_counters, counters_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    captures = eep_device_captures(context->config.device);
    steps = &context->stepper;
    pthread_mutex_lock(&context->lock);
    snapshot = (eep_snapshot){.epoch = context->observed.seats_epoch,
                              .max_ranks = context->config.max_ranks};
    counters = context->observed.counters;
    counters.steps_ok = steps->steps_ok;
    counters.steps_aborted = steps->steps_aborted;
    counters.steps_aborted_by_join = steps->steps_aborted_by_join;
    counters.steps_waiting_on_join = steps->steps_waiting_on_join;
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        eep_seat_state state = context->observed.seats[seat].state;
        snapshot.num_active += state == EEP_SEAT_ACTIVE || state == EEP_SEAT_RETIRING;
        if (seats_out) {
            seats_out[seat] = seat_now(context, seat);
        }
    }
    if (context->has_joined) {
        counters.captures_after_join = captures - context->observed.captures_at_join;
    }
    pthread_mutex_unlock(&context->lock);
    EEPI_STRUCT_GIVE(eep_snapshot, snapshot_out, &snapshot);
    if (counters_out) {
        EEPI_STRUCT_GIVE(eep_counters, counters_out, &counters);
    }
    return EEP_OK;
}

eep_status eep_fault_next(eep_context *context, eep_fault *fault_out)
{
    eep_status status = eepi_check_context("eep_fault_next", context);

    if (status == EEP_OK) {
        status = EEPI_STRUCT_CHECK(eep_fault, fault_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = EEP_ERR_NOT_FOUND;
    pthread_mutex_lock(&context->lock);
    if (context->observed.num_faults > 0) {
        EEPI_STRUCT_GIVE(eep_fault, fault_out, &context->observed.faults[0]);
        context->observed.num_faults--;
        memmove(context->observed.faults, context->observed.faults + 1,
                (size_t)context->observed.num_faults * sizeof context->observed.faults[0]);
        status = EEP_OK;
    }
    pthread_mutex_unlock(&context->lock);
    return status;
}
