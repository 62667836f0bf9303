/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's steps: begin, end, wait. Rank thread; see docs/PROTOCOL.md, "The step". */
#include "membership/step/step.h"

#include "eep/shapes.h"
#include "graphs/base/public_call.h"
#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "membership/context/event.h"
#include "membership/loads/loads.h"
#include "membership/step/bad_input.h"
#include "membership/step/capture.h"
#include "membership/step/proxies.h"
#include "membership/step/running_graph.h"
#include "membership/step/step_shapes.h"
#include "membership/step/step_texts.h"
#include "membership/step/step_trace.h"
#include "membership/step/step_watch.h"

#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    END_MARGIN_US = 1000000, /* for the engine's own kernels in the graph */
    HELD_US = 50000,         /* longest time that a bell keeps this rank from its next step */
    HELD_NAP_US = 10000,
    JOINER_NAP_US = 200,
};

eep_status eepi_steps_open(eep_context *context)
{
    const size_t seats = (size_t)context->config.max_ranks;

    context->steps = calloc(1, sizeof *context->steps + seats * sizeof(eepk_window_header *));
    if (!context->steps) {
        return EEP_ERR_NO_MEMORY;
    }
    for (int32_t i = 0; i < context->config.num_shapes; i++) { /* so far they are the caller's */
        context->steps->shapes[i] = context->config.shapes[i];
    }
    context->config.shapes = context->steps->shapes;
    return EEP_OK;
}

void eepi_steps_close(eep_context *context)
{
    free(context->steps);
}

void eepi_steps_tell_at(eep_context *context, int seat, eepk_window_header *header)
{
    pthread_mutex_lock(&context->lock);
    context->steps->peer_headers[seat] = header;
    pthread_mutex_unlock(&context->lock);
}

static const uint64_t DAY_US = 86400000000; /* no wait is longer, whatever is asked for */

static void deadline_of(uint64_t timeout_us, struct timespec *until_out)
{
    uint64_t at = eepi_now_us() + (timeout_us < DAY_US ? timeout_us : DAY_US);

    *until_out = (struct timespec){(time_t)(at / 1000000u), (long)(at % 1000000u) * 1000};
}

static eep_status ended(eep_context *context)
{
    return eepi_fail(context, context->outcome.ended, "%s", context->outcome.why);
}

static eep_status no_view(eep_context *context)
{
    return eepi_fail(context, EEP_ERR_TIMEOUT, "no view to serve under yet%s",
                     context->outcome.waits);
}

/* ------------------------------------------------------------------ switching views */

/* Where host threads do not see what kernels store, hosts tell each other which step they begin
 * (rule D5). They store the tag that layer 0 is going to publish. The lock is held, so that no
 * peer's window closes meanwhile (partner: map_peer). */
static void tell_begin(eep_context *context, const eepk_launch *launch)
{
    const eepk_shape *shape = &context->shape;
    uint64_t tag = eepk_tag_at(shape, launch->epoch, launch->step, (uint32_t)launch->shape,
                               (eepk_exchange_at){0, 0, EEPK_PHASE_DISPATCH, 0});

    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        eepk_window_header *header = context->steps->peer_headers[seat];
        if (!header) {
            continue;
        }
        eepk_store_release(eepk_dispatch_tag(shape, (uint8_t *)header, 0, shape->self), tag);
        eepk_doorbell_ring(&header->doorbell);
    }
}

/* Switch if a view is due. Rules T2, T3: the flip is launched on the rank's own stream, before the
 * step's graph. The lock is held, and released during the launch, which may block: the service
 * thread must go on meanwhile, or peers take this rank for silent. */
static eep_status switch_view(eep_context *context)
{
    const eepi_live *next =
        eepi_step_stream_of(context) ? eepi_stepper_flip_to(&context->stepper) : NULL;
    uint64_t epoch = next ? next->epoch : 0, digest = next ? next->digest : 0;
    bool in_band;
    eep_status status;

    if (!next) {
        if (context->stepper.mail.flipped) { /* we have left */
            eepi_wake_at(context, &eepi_own_window(context)->doorbell);
            eepi_service_wake(context);
        }
        return EEP_OK;
    }
    pthread_mutex_unlock(&context->lock);
    status = eepi_tables_flip(context->tables, eepi_step_stream_of(context), epoch, digest);
    if (status == EEP_OK) {
        status = eepi_proxies_flip(context);
    }
    pthread_mutex_lock(&context->lock);
    if (status != EEP_OK) {
        eepi_stepper_flip_failed(&context->stepper);
        eepi_service_wake(context);
        if (context->outcome.ended != EEP_OK) { /* meanwhile, for another reason */
            return ended(context);
        }
        context->outcome.ended = status == EEP_ERR_STATE ? EEP_ERR_PROTOCOL : EEP_ERR_DEVICE;
        snprintf(context->outcome.why, sizeof context->outcome.why, "view %llu %s %s",
                 (unsigned long long)epoch,
                 status == EEP_ERR_STATE ? "was agreed on but is not what is staged here"
                                         : "could not be switched to:",
                 status == EEP_ERR_STATE ? "" : eepi_device_failure(context->config.device));
        return ended(context);
    }
    in_band = eepi_stepper_flipped(&context->stepper);
    eepi_wake_at(context, &eepi_own_window(context)->doorbell);
    if (in_band) {
        uint64_t first = context->stepper.step + 1;
        pthread_mutex_unlock(&context->lock); /* the callback may look at the context */
        eepi_event(context, EEP_EVENT_FLIPPED, -1, 0, epoch, first);
        pthread_mutex_lock(&context->lock);
    }
    eepi_service_wake(context); /* the other bank is idle now: a plan may wait for it */
    return context->outcome.ended == EEP_OK ? EEP_OK : ended(context);
}

/* The step before was aborted, the bell of a member says that its process begins to end, and the
 * service thread has not stopped this rank yet. A step that begins nevertheless completes nowhere.
 * It costs all peers a wake, and the processor that they need in order to agree on the next view.
 */
static bool is_held(const eep_context *context)
{
    struct eepi_steps *steps = context->steps;

    if (steps->held_until_us != 0 &&
        (eepi_now_us() >= steps->held_until_us || !eepi_detector_any_ends(context->detector))) {
        steps->held_until_us = 0;
    }
    return steps->held_until_us != 0;
}

/* With the lock held: may a step begin now? Flips if one is due. */
static eep_status try_begin(eep_context *context, bool *may_out)
{
    eep_status status;

    *may_out = false;
    if (eepi_call_is_closed(context)) {
        return eepi_fail_closing(context, context->calls.call);
    }
    if (context->outcome.ended != EEP_OK) {
        return ended(context);
    }
    status = switch_view(context);
    if (status == EEP_OK) {
        *may_out =
            eepi_stepper_may_begin(&context->stepper, eepi_peer_step(context)) && !is_held(context);
    }
    return status;
}

/* With the lock held: wait for what may let a step begin. True: it is `until`. */
static bool wait_to_begin(eep_context *context, const struct timespec *until)
{
    const eepi_stepper *stepper = &context->stepper;
    const bool follows = stepper->must_follow && stepper->live.epoch != 0;
    struct timespec soon;

    if (!follows && (stepper->wedged || context->steps->held_until_us == 0)) {
        return eepi_rank_wait(context, until);
    }
    /* a joiner looks at its window for the peers' first step: short naps */
    deadline_of(follows ? JOINER_NAP_US : HELD_NAP_US, &soon);
    (void)eepi_rank_wait(context, &soon);
    deadline_of(0, &soon);
    return soon.tv_sec > until->tv_sec ||
           (soon.tv_sec == until->tv_sec && soon.tv_nsec > until->tv_nsec);
}

static eep_status check_begin(eep_context *context, const char *call, int32_t wanted,
                              const eep_step *step_out)
{
    eep_status status = eepi_refuse_in_capture(context, call);

    if (status == EEP_OK && EEPI_STRUCT_CHECK_IN(call, eep_step, step_out) != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status == EEP_OK) {
        status = eepi_shape_check(context, call, wanted);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (!context->has_joined) {
        return eepi_fail(context, EEP_ERR_STATE, "%s before eep_join", call);
    }
    if (context->stepper.in_step) {
        return eepi_fail(context, EEP_ERR_STATE, "the last step was not ended: eep_step_end");
    }
    if (!eepi_step_stream_of(context)) {
        return eepi_fail(context, EEP_ERR_STATE, "%s: %s", call, EEPI_NO_STREAM_TEXT);
    }
    if (eepi_stream_is_closed(eepi_step_stream_of(context))) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "%s: the stream in which steps are replayed was closed: name "
                         "another one with eep_step_stream",
                         call);
    }
    return eepi_check_sequence(context, call);
}

/* With the lock held: its number, epoch, shape and deadline. */
static void launch_step(eep_context *context, uint32_t wanted, eepk_launch *launch)
{
    eepi_stepper *stepper = &context->stepper;

    *launch = eepi_stepper_begin(stepper, eepi_peer_step(context), eepi_now_us());
    launch->wants_loads = eepi_loads_begin_step(context);
    launch->wanted_shape = wanted;
    launch->shape = eepi_stepper_take_shape(
        stepper, wanted,
        eepi_stepper_peer_shape(stepper, &context->shape, (uint8_t *)eepi_own_window(context)));
    eepi_thread_serves(1);
    if (eepi_window_is_discrete(context->window)) {
        tell_begin(context, launch);
    }
}

/* `wanted` becomes the shape of the step. */
static eep_status begin_step(eep_context *context, const char *call, uint64_t timeout_us,
                             int32_t *shape, eep_step *step_out)
{
    eepk_launch *launch = eepi_tables_launch(context->tables);
    eep_status status = check_begin(context, call, *shape, step_out);
    struct timespec until;
    bool may = false, late = false;

    if (status != EEP_OK) {
        return status;
    }
    deadline_of(timeout_us, &until);
    pthread_mutex_lock(&context->lock);
    for (;;) {
        status = try_begin(context, &may);
        if (status != EEP_OK || may || late) {
            break;
        }
        late = wait_to_begin(context, &until);
    }
    if (status == EEP_OK && !may && context->outcome.uncovered) {
        status = eepi_fail(context, EEP_ERR_UNCOVERED, "%s", context->outcome.why);
    } else if (status == EEP_OK && !may) {
        status = no_view(context);
    }
    if (status == EEP_OK) {
        launch_step(context, (uint32_t)*shape, launch);
        EEPI_STRUCT_GIVE(eep_step, step_out,
                         (&(eep_step){.num_active = context->stepper.live.num_active,
                                      .step = launch->step,
                                      .epoch = launch->epoch}));
        *shape = (int32_t)launch->shape;
    }
    pthread_mutex_unlock(&context->lock);
    return status == EEP_OK ? eepi_proxies_begin(context, launch) : status;
}

eep_status eep_step_begin(eep_context *context, uint64_t timeout_us, eep_step *step_out)
{
    eep_status status = eepi_call_begin(context, "eep_step_begin");
    int32_t shape = 0;

    if (status != EEP_OK) {
        return status;
    }
    if (context->shape.num_shapes > 1) {
        return eepi_call_end(context, eepi_fail(context, EEP_ERR_STATE,
                                                "eep_step_begin: this context has %u shapes: "
                                                "eep_step_begin_shape says which one the step has",
                                                context->shape.num_shapes));
    }
    eepi_step_trace_begin(context);
    return eepi_call_end(context,
                         begin_step(context, "eep_step_begin", timeout_us, &shape, step_out));
}

eep_status eep_step_begin_shape(eep_context *context, uint64_t timeout_us, int32_t wanted,
                                eep_step *step_out, int32_t *shape_out)
{
    eep_status status = eepi_call_begin(context, "eep_step_begin_shape");
    int32_t shape = wanted;

    if (status != EEP_OK) {
        return status;
    }
    status = eepi_check_argument(context, "eep_step_begin_shape", "shape_out", shape_out);
    if (status == EEP_OK) {
        eepi_step_trace_begin(context);
        status = begin_step(context, "eep_step_begin_shape", timeout_us, &shape, step_out);
    }
    if (status == EEP_OK) {
        *shape_out = shape;
    }
    return eepi_call_end(context, status);
}

/* ------------------------------------------------------------------ the end of a step */

/* The host has given up the running step. With the lock held, under which the word is raised. */
static bool is_given_up(const eep_context *context)
{
    return *eepi_tables_abort_step(context->tables) >= context->stepper.step;
}

/* How the step ended; done_step was read before. A kernel of the engine that saw the step given up
 * may have left work out, behind the last exchange too (eep_step_words): then its result is none,
 * whatever the exchanges say. That kernel's look came before done_step, and this one comes behind
 * it, so this one sees the word as well. */
static eepk_status how_it_ended(const eep_context *context)
{
    eepk_status s = *eepi_tables_status(context->tables);

    if (s.result == EEPK_STEP_OK && is_given_up(context)) {
        s.result = EEPK_STEP_HOST_ABORT;
        s.layer = (uint32_t)context->config.num_layers - 1;
        s.phase = EEPK_PHASE_COMBINE;
    }
    return s;
}

/* The graph's work has ended with `device`; the lock is held. */
static eep_status end_step(eep_context *context, eep_status device)
{
    eepi_stepper *stepper = &context->stepper;
    uint64_t expel_us = stepper->expel_us;
    const bool replayed =
        device == EEP_OK &&
        eepk_load_acquire(&eepi_tables_status(context->tables)->done_step) == stepper->step;
    const eepk_status ended = how_it_ended(context), *s = &ended;
    const bool ok = eepi_stepper_end(stepper, replayed ? s : NULL, eepi_now_us());

    if (stepper->expel_us != expel_us) {
        eepi_detector_set_expel_us(context->detector, stepper->expel_us);
    }
    if (device != EEP_OK) {
        return eepi_fail(context, EEP_ERR_DEVICE, "the step's graph did not end: %s %s",
                         eep_strerror(device), eepi_device_failure(context->config.device));
    }
    if (!replayed) {
        return eepi_step_say_unfinished(context, stepper->step);
    }
    context->observed.counters.stale_dropped += s->stale_dropped;
    eepi_loads_end_step(context);
    if (s->result == EEPK_STEP_PART || s->result == EEPK_STEP_AGAIN ||
        s->result == EEPK_STEP_OTHER_GRAPH) {
        return eepi_step_say_no_step(context, s);
    }
    if (!ok) {
        context->steps->held_until_us = eepi_now_us() + HELD_US;
        return eepi_step_say_aborted(context, s);
    }
    return s->bad_input ? eepi_step_say_bad_input(context, s) : EEP_OK;
}

/* The step's own stream is empty, and its graph runs on in another one. It may still store, so the
 * step stays open and no promise is made (rule M2). */
static eep_status say_runs_on(eep_context *context)
{
    return eepi_fail(context, EEP_ERR_DEVICE,
                     "step %llu has begun and not ended, and the stream of this context's steps is "
                     "empty: its graph runs in another stream, or lacks eep_step_finish; it was "
                     "aborted: call eep_step_end until it has ended, or eep_close, and name its "
                     "stream with eep_step_stream before eep_step_begin",
                     (unsigned long long)context->stepper.step);
}

/* By our abort word, or since the flip to its view did not come before it: no fault. */
static bool is_own_abort(const eep_context *context)
{
    uint32_t result = how_it_ended(context).result;

    return result == EEPK_STEP_HOST_ABORT || result == EEPK_STEP_WRONG_BANK;
}

static eep_status say_ran_in_another_stream(eep_context *context)
{
    return eepi_fail(context, EEP_ERR_STATE,
                     "step %llu ran in another stream than this context's steps do, or in one that "
                     "was closed meanwhile, and was aborted: name its stream with eep_step_stream "
                     "before eep_step_begin",
                     (unsigned long long)context->stepper.step);
}

static eep_status end_of_step(eep_context *context)
{
    uint64_t wait_us, bound_us;
    bool in_another_stream = false, wakes;
    const eepi_step_mail *mail;
    eep_status status;

    if (!context->stepper.in_step) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "eep_step_end: no step was begun: eep_step_begin comes first");
    }
    status = eepi_refuse_in_capture(context, "eep_step_end");
    if (status != EEP_OK) {
        return status;
    }
    wait_us = eepi_tables_launch(context->tables)->wait_ns / 1000u;
    bound_us = 2 * (uint64_t)eepi_step_num_exchanges(context) * wait_us + END_MARGIN_US;
    status = eepi_stream_await_word(eepi_step_stream_of(context),
                                    &eepi_tables_status(context->tables)->done_step,
                                    context->stepper.step, bound_us);
    if (status == EEP_ERR_STATE && eepi_stream_is_closed(eepi_step_stream_of(context))) {
        status = EEP_OK; /* what was in it may run on, if it was the caller's */
    }
    if (status == EEP_OK) {
        in_another_stream = eepi_running_graph_end(context);
    }
    eepi_proxies_end(context);
    pthread_mutex_lock(&context->lock);
    if (status == EEP_ERR_TIMEOUT) { /* it may still store: no promise before its end (rule M2) */
        status = eepi_fail(context, EEP_ERR_DEVICE, "the step's graph did not end within %llu ms",
                           (unsigned long long)(bound_us / 1000u));
    } else if (status == EEP_OK && eepi_graph_runs(context)) {
        status = say_runs_on(context);
    } else {
        status = end_step(context, status);
    }
    if (in_another_stream && status == EEP_ERR_ABORTED && is_own_abort(context)) {
        status = say_ran_in_another_stream(context);
    }
    mail = &context->stepper.mail;
    wakes = mail->flipped || mail->accused || mail->drained ||
            context->outcome.ended != EEP_OK; /* eepi_store_put_own_end */
    pthread_mutex_unlock(&context->lock);
    if (wakes) { /* it may begin at once, and needs the lock */
        eepi_service_wake(context);
    }
    return status;
}

eep_status eep_step_end(eep_context *context)
{
    eep_status status = eepi_call_begin(context, "eep_step_end");

    if (status != EEP_OK) {
        return status;
    }
    status = end_of_step(context);
    eepi_step_trace_end(context, status);
    return eepi_call_end(context, status);
}

/* ------------------------------------------------------------------ without work */

static bool wanted(eep_context *context, eep_status *status_out)
{
    bool may;

    if (context->outcome.ended != EEP_OK) {
        return true; /* let begin say so */
    }
    *status_out = try_begin(context, &may);
    return *status_out != EEP_OK || eepi_stepper_wants(&context->stepper, eepi_peer_step(context));
}

static eep_status wait_for_step(eep_context *context, uint64_t timeout_us)
{
    eepk_window_header *header;
    uint64_t until_us = eepi_now_us() + (timeout_us < DAY_US ? timeout_us : DAY_US);
    eep_status refused = eepi_refuse_in_capture(context, "eep_step_wait");

    if (refused != EEP_OK) {
        return refused;
    }
    if (!context->has_joined || context->stepper.in_step) {
        return eepi_fail(context, EEP_ERR_STATE, "eep_step_wait belongs between two steps");
    }
    for (;;) {
        eep_status status = EEP_OK;
        uint64_t now = eepi_now_us(), nap_us;
        struct timespec nap;
        uint32_t seen;
        bool go, is_same;

        pthread_mutex_lock(&context->lock);
        header = eepi_own_window(context); /* this thread alone makes another one live */
        seen = eepk_doorbell_read(&header->doorbell);
        go = wanted(context, &status);
        is_same = header == eepi_own_window(context);
        pthread_mutex_unlock(&context->lock);
        if (go) {
            return status;
        }
        if (!is_same) {
            continue;
        }
        if (now >= until_us) {
            return EEP_ERR_TIMEOUT;
        }
        nap_us = until_us - now;
        nap = (struct timespec){(time_t)(nap_us / 1000000u), (long)(nap_us % 1000000u) * 1000};
        __atomic_fetch_add(&header->waiters, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &header->doorbell, FUTEX_WAIT, seen, &nap, NULL, 0);
        __atomic_fetch_sub(&header->waiters, 1, __ATOMIC_SEQ_CST);
    }
}

eep_status eep_step_wait(eep_context *context, uint64_t timeout_us)
{
    eep_status status = eepi_call_begin(context, "eep_step_wait");

    if (status != EEP_OK) {
        return status;
    }
    return eepi_call_end(context, wait_for_step(context, timeout_us));
}

void eep_step_abort(eep_context *context)
{
    if (eepi_check_context("eep_step_abort", context) != EEP_OK) {
        return;
    }
    pthread_mutex_lock(&context->lock);
    if (context->stepper.in_step) {
        eepi_abort_running(context);
    }
    pthread_mutex_unlock(&context->lock);
}
