/* SPDX-License-Identifier: Apache-2.0 */
/* The rank's side of a trace. A place inside a step is a node of the graph that compares one word:
 * the rows of a send are stored there and its tags are not, as in the laboratory's own ranks
 * (experiments/rank/fault_node.h). */
#include "membership/step/step_trace.h"

#include "graphs/device/device_share.h"
#include "graphs/kernels/combine.h"
#include "graphs/kernels/dispatch.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/step/capture.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DISPATCH, EXPERTS, COMBINE, PLACES_OF_CHAIN };

/* ------------------------------------------------------------------ places inside a step */

typedef struct halt {
    eepi_trace_orders *orders;
    const eepk_world *world;
    uint32_t place, pad;
} halt;
typedef struct halt_dispatch {
    halt halt;
    eepk_dispatch_node_args send;
} halt_dispatch;
typedef struct halt_combine {
    halt halt;
    eepk_combine_node_args send;
} halt_combine;

static bool is_reached(const halt *a, eep_grid g)
{
    return g.block == 0 && g.thread == 0 &&
           __atomic_load_n(&a->orders->armed, __ATOMIC_ACQUIRE) == a->place + 1u &&
           !a->world->control->latch.aborted;
}

/* It stops, and goes on here when it is continued; or it is gone. */
static void act(const halt *a)
{
    const bool stops = a->orders->stops != 0;

    __atomic_store_n(&a->orders->armed, 0, __ATOMIC_RELEASE);
    kill(getpid(), stops ? SIGSTOP : SIGKILL);
}

static void halt_host(const void *args, eep_grid g)
{
    const halt *a = args;

    if (is_reached(a, g)) {
        act(a);
    }
}

static void halt_dispatch_host(const void *args, eep_grid g)
{
    const halt_dispatch *a = args;

    if (is_reached(&a->halt, g)) {
        eepk_send_tokens(&a->send, &a->halt.world->control->latch, g);
        eepk_fence_system();
        act(&a->halt);
    }
}

static void halt_combine_host(const void *args, eep_grid g)
{
    const halt_combine *a = args;

    if (is_reached(&a->halt, g)) {
        eepk_send_home(&a->send, &a->halt.world->control->latch, (int)a->send.has_gaps, g);
        eepk_fence_system();
        act(&a->halt);
    }
}

static const eep_kernel halt_kernel = EEP_KERNEL("halt", halt_host, NULL, NULL, 0);
static const eep_kernel dispatch_kernel =
    EEP_KERNEL("halt_dispatch", halt_dispatch_host, NULL, NULL, 0);
static const eep_kernel combine_kernel =
    EEP_KERNEL("halt_combine", halt_combine_host, NULL, NULL, 0);

static halt place_of(const eep_context *context, uint32_t place, uint32_t chain)
{
    eepi_trace_header *header = eepi_trace_header_of(context->observed.trace);

    return (halt){&header->orders, eepi_capture_world(context), place + chain * PLACES_OF_CHAIN, 0};
}

static eep_status at_node(void *user, eep_stream *stream, eepi_kernel_id id, const void *args,
                          bool is_behind)
{
    const eep_context *context = user;
    const eepk_dispatch_node_args *dispatch = args;
    const eepk_combine_node_args *combine = args;
    const uint32_t layer = (uint32_t)context->config.num_layers / 2;
    const bool has_gaps = id == EEPI_KERNEL_combine_send_formed;
    const bool is_unpack = id == EEPI_KERNEL_unpack || id == EEPI_KERNEL_unpack_formed;

    if (id == EEPI_KERNEL_dispatch_send && !is_behind && dispatch->layer == layer) {
        const halt_dispatch a = {place_of(context, DISPATCH, dispatch->chain), *dispatch};
        return eep_launch(stream, &dispatch_kernel, 1, 1, &a, sizeof a);
    }
    if (is_unpack && is_behind && dispatch->layer == layer) {
        const halt a = place_of(context, EXPERTS, dispatch->chain);
        return eep_launch(stream, &halt_kernel, 1, 1, &a, sizeof a);
    }
    if ((id == EEPI_KERNEL_combine_send || has_gaps) && !is_behind && combine->layer == layer) {
        const halt_combine a = {place_of(context, COMBINE, combine->chain), *combine};
        return eep_launch(stream, &combine_kernel, 1, 1, &a, sizeof a);
    }
    return EEP_OK;
}

/* ------------------------------------------------------------------ rows */

static void count(void *user, eep_counters *counters_out)
{
    eep_context *context = user;
    eep_snapshot snapshot;

    (void)!eep_snapshot_get(context, EEP_SIZED(&snapshot), counters_out, NULL);
}

static void put(eep_context *context, eepi_trace_kind kind, uint64_t epoch)
{
    const eepi_trace_row row = {
        .time_ns = eepi_now_ns(), .epoch = epoch, .about_seat = -1, .kind = (int32_t)kind};

    eepi_trace_put(context->observed.trace, &row);
}

void eepi_step_trace_open(eep_context *context)
{
    const eepi_trace_config config = {.seat = context->config.rank,
                                      .max_ranks = context->config.max_ranks,
                                      .generation = context->generation,
                                      .count = count,
                                      .user = context};
    const char *faults = getenv("EEP_TRACE_FAULTS");
    char why[512];

    context->observed.trace = eepi_trace_open(&config, why, sizeof why);
    if (why[0]) {
        eepi_log(context, EEP_LOG_WARN, "%s: no rows are written", why);
    }
    if (!context->observed.trace) {
        return;
    }
    if (faults && strcmp(faults, "1") == 0 && !eepi_device_is_cuda(context->config.device)) {
        eepi_capture_watch(context, at_node, context);
        eepi_trace_header_of(context->observed.trace)->can_halt = 1;
    }
    put(context, EEPI_TRACE_OPENED, 0);
}

void eepi_step_trace_close(eep_context *context)
{
    if (context->observed.trace) {
        put(context, EEPI_TRACE_CLOSED, 0);
    }
}

void eepi_step_trace_joined(eep_context *context)
{
    if (context->observed.trace) {
        put(context, EEPI_TRACE_JOINED, __atomic_load_n(&context->known_epoch, __ATOMIC_ACQUIRE));
    }
}

void eepi_step_trace_begin(eep_context *context)
{
    eepi_trace_header *header = eepi_trace_header_of(context->observed.trace);
    uint64_t leaves;

    if (!header) {
        return;
    }
    leaves = __atomic_load_n(&header->orders.leaves, __ATOMIC_ACQUIRE);
    if (leaves != header->orders.leaves_done) {
        header->orders.leaves_done = leaves;
        pthread_mutex_lock(&context->lock);
        context->mailbox.leave |= (int)leaves;
        pthread_mutex_unlock(&context->lock);
        eepi_service_wake(context);
    }
}

/* By half of a deadline at most, so that to be slow alone expels nobody. */
static void be_slow(const eep_context *context, uint64_t took_ns, uint64_t milli)
{
    const uint64_t most_ns = context->config.step_deadline_us * 500u;
    uint64_t ns = milli > 1000 ? took_ns / 1000 * (milli - 1000) : 0;
    struct timespec pause;

    ns = ns < most_ns ? ns : most_ns;
    pause = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&pause, NULL);
}

void eepi_step_trace_end(eep_context *context, eep_status status)
{
    eepi_trace_header *header = eepi_trace_header_of(context->observed.trace);
    const uint64_t began_ns = context->stepper.began_us * 1000u;
    eepi_trace_row row = {.begin_ns = began_ns,
                          .step = context->stepper.step,
                          .epoch = context->stepper.live.epoch,
                          .about_seat = -1,
                          .status = status,
                          .kind = EEPI_TRACE_STEP};
    uint64_t milli;

    if (!header) {
        return;
    }
    milli = __atomic_load_n(&header->orders.slow_milli, __ATOMIC_RELAXED);
    if (milli > 1000) {
        be_slow(context, eepi_now_ns() - began_ns, milli);
    }
    row.time_ns = eepi_now_ns();
    eepi_trace_put(context->observed.trace, &row);
}
