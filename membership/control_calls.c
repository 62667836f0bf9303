/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine says against a rank, and the descriptor of its event loop. */
#include "eep/control.h"

#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/control/accusations.h"
#include "membership/step/step_watch.h"

#include <string.h>
#include <time.h>

static const uint64_t DAY_US = 86400000000;

static bool is_member(const eep_context *context, int seat)
{
    const eep_seat_state state = context->observed.seats[seat].state;

    return state == EEP_SEAT_ACTIVE || state == EEP_SEAT_RETIRING;
}

/* In the newest view that this rank runs. */
static bool is_in(const eep_context *context, int seat, uint32_t generation)
{
    return is_member(context, seat) && context->observed.seats[seat].generation == generation;
}

static bool is_self(const eep_context *context, int seat, uint32_t generation)
{
    return seat == context->config.rank && generation == context->generation;
}

static eep_status check_seat(const char *call, const eep_context *context, int seat)
{
    if (seat < 0 || seat >= context->config.max_ranks) {
        return eepi_refuse(EEP_ERR_INVALID, "%s: seat is %d: 0 to %d are possible", call, seat,
                           context->config.max_ranks - 1);
    }
    return EEP_OK;
}

/* May this rank say anything of the seat? With the lock. */
static eep_status check_speaker(const char *call, const eep_context *context, int of)
{
    int others = 0;

    if (context->outcome.ended != EEP_OK) {
        return eepi_refuse(context->outcome.ended, "%s: %s", call, context->outcome.why);
    }
    if (!is_in(context, context->config.rank, context->generation)) {
        return eepi_refuse(EEP_ERR_STATE, "%s: this rank is in no view yet", call);
    }
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        others += !eepi_view_are_mates(&context->view_shape, seat, of) && is_member(context, seat);
    }
    if (others == 0) {
        return eepi_refuse(EEP_ERR_STATE,
                           "%s: no other rank than seat %d is in the view, or none outside of its "
                           "group: the last cannot be left out; eep_instance_end ends the instance",
                           call, of);
    }
    return EEP_OK;
}

/* A process that no view has, or has any more. With the lock. */
static eep_status check_known(const char *call, const eep_context *context, int seat,
                              uint32_t generation)
{
    const eep_seat known = context->observed.seats[seat];

    if (generation != 0 && generation <= known.generation) {
        return EEP_OK;
    }
    return eepi_refuse(EEP_ERR_NOT_FOUND,
                       "%s: no view has had generation %u of seat %d: the last one in it was %u",
                       call, generation, seat, known.generation);
}

static eep_status check_kind(const eep_context *context, int seat, uint32_t generation, int kind)
{
    const bool is_own = is_self(context, seat, generation);

    if (kind != EEP_FAULT_RESET && kind != EEP_FAULT_DEVICE && kind != EEP_FAULT_BAD_ANSWER) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_fault_report: kind is %d (%s): EEP_FAULT_RESET, EEP_FAULT_DEVICE "
                           "and EEP_FAULT_BAD_ANSWER can be reported; libeep sees the others",
                           kind, eep_fault_kind_name((eep_fault_kind)kind));
    }
    if (is_own && kind != EEP_FAULT_DEVICE) {
        return eepi_refuse(EEP_ERR_STATE,
                           "eep_fault_report: of itself a rank reports EEP_FAULT_DEVICE alone");
    }
    return EEP_OK;
}

eep_status eep_fault_report(eep_context *context, int32_t seat, uint32_t generation,
                            eep_fault_kind kind)
{
    eep_status status = eepi_check_context("eep_fault_report", context);

    if (status == EEP_OK) {
        status = check_seat("eep_fault_report", context, seat);
    }
    if (status == EEP_OK) {
        status = check_kind(context, seat, generation, (int)kind);
    }
    if (status != EEP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->lock);
    status = check_speaker("eep_fault_report", context, seat);
    if (status == EEP_OK) {
        status = check_known("eep_fault_report", context, seat, generation);
    }
    if (status == EEP_OK && !is_in(context, seat, generation)) {
        status = eepi_refuse(EEP_ERR_NOT_FOUND,
                             "eep_fault_report: generation %u of seat %d is in the view no more",
                             generation, seat);
    }
    if (status == EEP_OK) {
        eepi_words_say(context, &(eepi_suspect){seat, generation, (int)kind});
    }
    pthread_mutex_unlock(&context->lock);
    if (status == EEP_OK) {
        eepi_service_wake(context);
    }
    return status;
}

/* ------------------------------------------------------------------ expel */

/* Oneself: to leave. */
static eep_status leave(eep_context *context)
{
    eep_status status = EEP_OK;

    pthread_mutex_lock(&context->lock);
    if (context->outcome.ended != EEP_OK) {
        status = eepi_refuse(context->outcome.ended, "eep_expel: %s", context->outcome.why);
    } else if (!context->has_joined) {
        status = eepi_refuse(EEP_ERR_STATE,
                             "eep_expel: this rank has not called eep_join yet: eep_close ends it");
    } else {
        context->mailbox.leave |= EEPI_LEAVES;
    }
    pthread_mutex_unlock(&context->lock);
    eepi_service_wake(context);
    return status;
}

/* A step that this thread is in ends before any view follows. With the lock. */
static bool is_in_step(const eep_context *context)
{
    return context->stepper.in_step &&
           pthread_equal(__atomic_load_n(&context->calls.caller, __ATOMIC_RELAXED), pthread_self());
}

/* Until a view has decided and, if the process is out, this rank runs a view without it. With the
 * lock, which is released meanwhile. */
static void wait_for_view(eep_context *context, int seat, uint32_t generation, uint64_t timeout_us)
{
    const uint64_t at_us = eepi_now_us() + (timeout_us < DAY_US ? timeout_us : DAY_US);
    const struct timespec until = {(time_t)(at_us / 1000000u), (long)(at_us % 1000000u) * 1000};
    bool late = timeout_us == 0;

    while (!late && context->outcome.ended == EEP_OK && !eepi_call_is_closed(context)) {
        const eepi_verdict verdict = eepi_words_verdict(context, seat, generation);
        if (!verdict.waits && (verdict.is_in || !is_in(context, seat, generation))) {
            break;
        }
        late = eepi_rank_wait(context, &until);
    }
}

/* What the caller is told. With the lock. */
static eep_status tell(const eep_context *context, int seat, uint32_t generation,
                       eep_verdict *verdict_out)
{
    const eepi_verdict verdict = eepi_words_verdict(context, seat, generation);
    const bool is_out = !is_in(context, seat, generation) || !verdict.is_in;
    const eep_verdict told = {.is_out = is_out,
                              .epoch = __atomic_load_n(&context->known_epoch, __ATOMIC_ACQUIRE),
                              .kept_epoch = is_out ? 0 : verdict.kept_epoch};

    if (context->outcome.ended != EEP_OK) {
        return eepi_refuse(context->outcome.ended, "eep_expel: %s", context->outcome.why);
    }
    if (eepi_call_is_closed(context)) {
        return eepi_refuse(EEP_ERR_STATE, "eep_expel: another thread has called eep_close");
    }
    if (verdict_out) {
        EEPI_STRUCT_GIVE(eep_verdict, verdict_out, &told);
    }
    if (is_out) {
        return EEP_OK;
    }
    if (!verdict.waits && verdict.kept_epoch != 0) {
        return eepi_refuse(EEP_ERR_CONFLICT,
                           "eep_expel: the view of epoch %llu kept rank %d (generation %u): with "
                           "it experts would be lost, or this rank was left out of it",
                           (unsigned long long)verdict.kept_epoch, seat, generation);
    }
    return eepi_refuse(EEP_ERR_TIMEOUT,
                       "eep_expel: no view has decided on rank %d (generation %u) yet; the newest "
                       "one has epoch %llu",
                       seat, generation, (unsigned long long)told.epoch);
}

static eep_status expel(eep_context *context, int32_t seat, uint32_t generation,
                        uint64_t timeout_us, eep_verdict *verdict_out)
{
    eep_status status = check_speaker("eep_expel", context, seat);

    if (status == EEP_OK) {
        status = check_known("eep_expel", context, seat, generation);
    }
    if (status == EEP_OK && is_in_step(context)) {
        status = eepi_refuse(EEP_ERR_STATE,
                             "eep_expel: this thread is in a step, and no view follows before its "
                             "end: call eep_step_end first, or ask from another thread");
    }
    if (status != EEP_OK) {
        return status;
    }
    if (is_in(context, seat, generation)) {
        eepi_words_say(context, &(eepi_suspect){seat, generation, EEP_FAULT_EXPELLED});
        eepi_service_wake(context);
        wait_for_view(context, seat, generation, timeout_us);
    }
    return tell(context, seat, generation, verdict_out);
}

eep_status eep_expel(eep_context *context, int32_t seat, uint32_t generation, uint64_t timeout_us,
                     eep_verdict *verdict_out)
{
    eep_status status = eepi_check_context("eep_expel", context);

    if (status == EEP_OK) {
        status = eepi_check_may_wait("eep_expel");
    }
    if (status == EEP_OK && verdict_out) {
        status = EEPI_STRUCT_CHECK(eep_verdict, verdict_out);
    }
    if (status == EEP_OK) {
        status = check_seat("eep_expel", context, seat);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (is_self(context, seat, generation)) {
        return leave(context);
    }
    eepi_call_waits(context, 1);
    pthread_mutex_lock(&context->lock);
    status = expel(context, seat, generation, timeout_us, verdict_out);
    pthread_mutex_unlock(&context->lock);
    eepi_call_waits(context, -1); /* the context may go now */
    return status;
}

/* ------------------------------------------------------------------ event loops */

int eep_event_fd(eep_context *context)
{
    return eepi_check_context("eep_event_fd", context) == EEP_OK ? eepi_step_watch_start(context)
                                                                 : -1;
}

eep_status eep_event_drain(eep_context *context, uint32_t *ready_out)
{
    eep_status status = eepi_check_context("eep_event_drain", context);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_event_drain", "ready_out", ready_out);
    }
    if (status == EEP_OK && !eepi_ready_take(context, ready_out)) {
        status = eepi_refuse(EEP_ERR_STATE,
                             "eep_event_drain: eep_event_fd comes first: it makes the descriptor");
    }
    return status;
}
