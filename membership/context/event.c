/* SPDX-License-Identifier: Apache-2.0 */
/* Events, with their time. */
#include "membership/context/event.h"

#include "graphs/base/thread.h"
#include "membership/context/context.h"
#include "membership/trace/trace_rows.h"

static void trace(const eep_context *context, const eep_event_info *record)
{
    const eepi_trace_row row = {.time_ns = record->time_ns,
                                .epoch = record->epoch,
                                .value = record->value,
                                .about_seat = record->seat,
                                .about_generation = record->generation,
                                .kind = EEPI_TRACE_EVENT + (int32_t)record->kind};

    eepi_trace_put(context->observed.trace, &row);
}

void eepi_event(const eep_context *context, eep_event_kind kind, int32_t seat, uint32_t generation,
                uint64_t epoch, uint64_t value)
{
    eep_event_info record = {sizeof record, kind, seat, generation, epoch, value, eepi_now_ns()};

    if (!context->config.event && !context->observed.trace) {
        return;
    }
    if (epoch == 0) { /* of no view in particular */
        record.epoch = __atomic_load_n(&context->known_epoch, __ATOMIC_ACQUIRE);
    }
    trace(context, &record);
    if (!context->config.event) {
        return;
    }
    (void)!eepi_callback_begin();
    context->config.event(context->config.user, &record);
    eepi_callback_end();
}
