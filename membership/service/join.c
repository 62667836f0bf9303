/* A context's way into the view and out of it, and what can be asked of it. */
#include "graphs/device/device_ops.h"
#include "graphs/base/public_call.h"
#include "graphs/base/thread.h"
#include "membership/context/context.h"
#include "membership/context/wake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { FETCH_BOUND_US = 5000000, FILL_RETRY_US = 1000000, BIND_BOUND_US = 1000000 };

/* ------------------------------------------------------------------ joining and leaving */

static size_t bulk_address_of(void *user, int32_t seat, const void **address_out)
{
    eep_context *context = user;
    const eepi_peer *peer = &context->peers[seat];

    if (!peer->record_bytes) {
        return 0;
    }
    *address_out = peer->record.bulk_address;
    return peer->record.bulk_address_bytes;
}

/* The FILLING slots of the newest view are filled, or cannot be (an older view's work was
 * cancelled).
 */
static void repaired(void *user, uint64_t digest, eep_status status, uint64_t bytes,
                     const char *why)
{
    eep_context *context = user;
    eepi_input input = {.kind = EEPI_INPUT_FILLED, .digest = digest};
    int paused = eepi_core_view(context->core)->phase == EEPI_VIEW_REPAIRING;

    if (status != EEP_OK) {
        eepi_log(context, EEP_LOG_ERROR, "repair failed, trying again: %s", why);
        context->fill_again_us = eepi_now_us() + FILL_RETRY_US;
        context->fill_again_digest = digest;
        return;
    }
    context->told.bytes += bytes;
    pthread_mutex_lock(&context->lock);
    *(paused ? &context->counters.weights_bytes_in_pause
             : &context->counters.weights_bytes_background) += bytes;
    pthread_mutex_unlock(&context->lock);
    eepi_event(context, paused ? EEP_EVENT_REPAIRED : EEP_EVENT_REBALANCED, context->config.rank,
               context->generation, 0, bytes);
    eepi_inbox_post(context->inbox, &input);
}

static eep_status open_executor(eep_context *context)
{
    eepi_executor_config config = {.device = context->config.device,
                                   .seat = context->config.rank,
                                   .num_tensors = context->num_tensors,
                                   .num_layers = context->config.num_layers,
                                   .num_slots = context->config.num_slots,
                                   .background_bytes_per_s = context->config.background_bytes_per_s,
                                   .fetch_timeout_us = FETCH_BOUND_US,
                                   .slot = eepi_weights_slot,
                                   .backup = eepi_weights_backup,
                                   .address = bulk_address_of,
                                   .done = repaired,
                                   .user = context};
    eepi_executor *executor;
    eep_status status;

    memcpy(config.tensor_bytes, context->tensor_bytes, sizeof config.tensor_bytes);
    if (config.background_bytes_per_s == 0) {
        config.background_bytes_per_s = 1; /* never used: no view asks for it */
    }
    status = eepi_serving_open(context);
    if (status == EEP_OK) {
        status = eepi_executor_open(&config, &executor);
    }
    if (status != EEP_OK) {
        return eepi_fail(context, status, "eep_join: no memory or thread for repairs: %s",
                         eep_strerror(status));
    }
    __atomic_store_n(&context->executor, executor, __ATOMIC_RELEASE);
    return EEP_OK;
}

/* Memory beyond what was reserved is got while the others serve, and may hold them up. */
static void say_late_calls(const eep_context *context)
{
    uint64_t calls = eepi_device_late_calls(context->config.device) - context->late_calls_at_open;

    if (calls > 0) {
        eepi_log(context, EEP_LOG_WARN,
                 "%llu calls of this process may have waited for ranks that wait in kernels, and "
                 "held up others: see EEP_CUDA_PINNED_MB in docs/INTEGRATION.md",
                 (unsigned long long)calls);
    }
}

static void bind_rank(void *user)
{
    eep_context *context = user;

    (void)!eepi_topology_bind(context->topology, EEPI_THREAD_RANK, context->config.rank,
                              context->config.num_ranks);
}

/* The rank thread, and the worker of its stream where streams have one. */
static void bind_threads(eep_context *context)
{
    if (!context->topology) {
        return;
    }
    bind_rank(context);
    if (eepi_stream_run_on_worker(context->stream, bind_rank, context) == EEP_OK) {
        (void)!eep_stream_synchronize(context->stream, BIND_BOUND_US);
    }
}

/* The first of one or several calls. */
static eep_status ask_to_join(eep_context *context)
{
    sigset_t signals;
    eep_status status;

    if (!context->stream) {
        return eepi_fail(context, EEP_ERR_STATE, "eep_join: %s", EEPI_NO_STREAM_TEXT);
    }
    status = eepi_check_sequence(context, "eep_join");
    if (status == EEP_OK) {
        status = eepi_weights_seal(context);
    }
    if (status != EEP_OK) {
        return status;
    }
    eepi_signals_block(&signals); /* threads that other libraries start take none */
    status = open_executor(context);
    eepi_signals_restore(&signals);
    if (status != EEP_OK) {
        return status;
    }
    say_late_calls(context);
    bind_threads(context); /* asks the device, so without the lock */
    pthread_mutex_lock(&context->lock);
    context->joined_once = 1;
    context->captures_at_join = (int64_t)eep_device_captures(context->config.device);
    context->mailbox.ready = 1;
    eepi_service_wake(context);
    pthread_mutex_unlock(&context->lock);
    return EEP_OK;
}

static eep_status say_who_is_missing(eep_context *context)
{
    const uint64_t us = context->config.join_timeout_us;
    char missing[EEPI_ERROR_BYTES / 2];

    eepi_arrivals_say(context, missing, sizeof missing);
    return eepi_fail(context, EEP_ERR_TIMEOUT, "eep_join: not let in within %llu %s: %s",
                     (unsigned long long)(us % 1000 ? us : us / 1000), us % 1000 ? "us" : "ms",
                     missing);
}

/* With the lock. */
static int is_in_view(const eep_context *context)
{
    return context->stepper.pending.epoch != 0 || context->stepper.live.epoch != 0;
}

/* With the lock. Also what was over before this thread ran: a refused rank that has gone again. */
static int is_closed(const eep_context *context, uint32_t num_before)
{
    return context->outcome.uncovered ||
           (!is_in_view(context) && context->outcome.num_closed != num_before);
}

static eep_status join(eep_context *context)
{
    uint64_t at_us;
    struct timespec until;
    eep_status status = eepi_refuse_in_capture(context, "eep_join");
    int late = 0, is_patient;
    uint32_t before;

    if (status != EEP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->lock);
    before = context->outcome.num_closed;
    is_patient = context->outcome.uncovered; /* the caller knows that since the last call */
    pthread_mutex_unlock(&context->lock);
    at_us = eepi_now_us() + context->config.join_timeout_us;
    until = (struct timespec){(time_t)(at_us / 1000000u), (long)(at_us % 1000000u) * 1000};
    if (context->joined_once && !context->waits_to_join) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "eep_join: this context has joined already: eep_step_begin comes next");
    }
    if (!context->joined_once) {
        status = ask_to_join(context);
    }
    if (status != EEP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->lock);
    while (!is_in_view(context) && context->outcome.ended == EEP_OK &&
           (is_patient || !is_closed(context, before)) && !late && !eepi_call_is_closed(context)) {
        late = pthread_cond_timedwait(&context->changed, &context->lock, &until) == ETIMEDOUT;
    }
    if (context->outcome.ended != EEP_OK) {
        status = eepi_fail(context, context->outcome.ended, "eep_join: %s", context->outcome.why);
    } else if (is_closed(context, before)) {
        status = eepi_fail(context, EEP_ERR_UNCOVERED, "eep_join: %s", context->outcome.why);
    } else if (!is_in_view(context)) {
        status = say_who_is_missing(context);
    }
    context->waits_to_join = status == EEP_ERR_TIMEOUT || status == EEP_ERR_UNCOVERED;
    pthread_mutex_unlock(&context->lock);
    return status;
}

eep_status eep_join(eep_context *context)
{
    eep_status status = eepi_call_begin(context, "eep_join");

    if (status != EEP_OK) {
        return status;
    }
    return eepi_call_end(context, join(context));
}

eep_status eep_busy(eep_context *context, uint64_t busy_us)
{
    eep_status status = eepi_check_context("eep_busy", context);

    if (status != EEP_OK) {
        return status;
    }
    if (busy_us > EEP_BUSY_MAX_US) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_busy: busy_us is %llu: 0 to %d are possible; call again before "
                           "that time is over",
                           (unsigned long long)busy_us, EEP_BUSY_MAX_US);
    }
    eepi_detector_set_busy(context->detector, busy_us ? eepi_now_ns() + busy_us * 1000u : 0);
    return EEP_OK;
}

static eep_status ask_to_leave(eep_context *context, const char *call, int leaving)
{
    eep_status status = eepi_refuse_in_capture(context, call);

    if (status != EEP_OK) {
        return status;
    }
    if (!context->joined_once) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "%s: this rank has not called eep_join yet, so it has nothing to leave: "
                         "eep_close ends it",
                         call);
    }
    pthread_mutex_lock(&context->lock);
    if (context->outcome.ended != EEP_OK) {
        status = eepi_fail(context, context->outcome.ended, "%s: %s", call, context->outcome.why);
    }
    context->mailbox.leave |= leaving;
    pthread_mutex_unlock(&context->lock);
    eepi_service_wake(context);
    return status;
}

eep_status eep_drain(eep_context *context)
{
    return ask_to_leave(context, "eep_drain", EEPI_LEAVES);
}

eep_status eep_instance_end(eep_context *context)
{
    return ask_to_leave(context, "eep_instance_end", EEPI_LEAVES | EEPI_LEAVES_AS_LAST);
}

/* ------------------------------------------------------------------ observation */

/* Of the newest view, or a process that is on its way into it. With the lock. */
static eep_seat seat_now(const eep_context *context, int seat)
{
    const eep_seat in_view = context->seats[seat];
    const eepi_arrival *a = &context->arrivals[seat];

    if (in_view.state == EEP_SEAT_VACANT && a->generation > in_view.generation) {
        return (eep_seat){EEP_SEAT_JOINING, a->generation};
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
    snapshot =
        (eep_snapshot){.epoch = context->seats_epoch, .max_ranks = context->config.max_ranks};
    counters = context->counters;
    counters.steps_ok = steps->steps_ok;
    counters.steps_aborted = steps->steps_aborted;
    counters.steps_aborted_by_join = steps->steps_aborted_by_join;
    counters.steps_waiting_on_join = steps->steps_waiting_on_join;
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        eep_seat_state state = context->seats[seat].state;
        snapshot.num_active += state == EEP_SEAT_ACTIVE || state == EEP_SEAT_RETIRING;
        if (seats_out) {
            seats_out[seat] = seat_now(context, seat);
        }
    }
    if (context->joined_once) {
        counters.captures_after_join = captures - (uint64_t)context->captures_at_join;
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
    if (context->num_faults > 0) {
        EEPI_STRUCT_GIVE(eep_fault, fault_out, &context->faults[0]);
        context->num_faults--;
        memmove(context->faults, context->faults + 1,
                (size_t)context->num_faults * sizeof context->faults[0]);
        status = EEP_OK;
    }
    pthread_mutex_unlock(&context->lock);
    return status;
}
