/* SPDX-License-Identifier: Apache-2.0 */
/* Views on their way into the banks; what cannot be staged now is tried again. */
#include "membership/service/staging.h"

#include "eep/control.h"
#include "graphs/device/device_ops.h"
#include "membership/collective/collective.h"
#include "membership/context/bank_image.h"
#include "membership/context/context.h"
#include "membership/context/event.h"
#include "membership/context/log.h"
#include "membership/context/outcome.h"
#include "membership/service/peers.h"
#include "membership/service/tell.h"
#include "membership/weights/weights.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    STAGE_BOUND_US = 2000000,
    STAGE_PAUSE_US = 20000,
    STAGE_MAX_PAUSE_US = 2000000,
};

struct eepi_staging {
    eepi_view *held;   /* a plan that could not be staged yet; NULL: none */
    uint64_t pause_us; /* how long after the last failure the next try comes */
    eep_status failed; /* why the last try failed */
    uint64_t failed_digest, failing_since_us; /* the committed view that cannot be installed */
};

eep_status eepi_staging_open(eep_context *context)
{
    context->staging = calloc(1, sizeof *context->staging);
    return context->staging ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_staging_close(eep_context *context)
{
    if (context->staging) {
        free(context->staging->held);
    }
    free(context->staging);
}

/* Views that came one after the other may each name new memory, and none of them be installed here.
 * What only the earlier ones named makes room for that of the next one (rule P7): three memories of
 * a colour are kept, that of the live bank, of the newest document, and of a plan. */
static void make_room(eep_context *context)
{
    const eepi_view *committed = eepi_core_view(context->core);

    if (committed) {
        eepi_peers_drop(context, committed);
    }
}

/* Memory that was dropped never comes back (P7). The newest view names such memory if the store has
 * forgotten all, and others have begun without those that a process waited for: they know nothing
 * of its window. So no view can have it. */
static bool is_left_behind(const eep_context *context)
{
    const eepi_view *committed = eepi_core_view(context->core);

    return committed && eepi_window_has_dropped(context->window, committed->serial);
}

static bool stage(eep_context *context, const eepi_view *view)
{
    eepk_peer *peers = calloc((size_t)view->shape.max_ranks, sizeof *peers);
    eep_status status = EEP_ERR_NO_MEMORY;

    if (peers) {
        make_room(context);
        status = eepi_peers_renew(context, view);
    }
    if (status == EEP_OK) {
        status = eepi_peers_map(context, view, peers);
    }
    if (status == EEP_OK) {
        eepi_bank_image_of(&context->shape, view, peers, eepi_tables_image(context->tables));
        status = eepi_tables_stage(context->tables, STAGE_BOUND_US);
    }
    free(peers);
    context->staging->failed = status;
    if (status != EEP_OK) {
        eepi_log(context, EEP_LOG_WARN, "epoch %llu could not be staged: %s %s",
                 (unsigned long long)view->epoch, eep_strerror(status),
                 eepi_device_failure(context->config.device));
    }
    if (status != EEP_OK && is_left_behind(context)) {
        eepi_end_service(context, EEP_ERR_EVICTED,
                         "the store has forgotten the views that this process has known, and "
                         "others have begun without them");
    }
    return status == EEP_OK;
}

/* The view as the rank thread needs it; before follow_seats. */
static eepi_live live_of(const eep_context *context, const eepi_view *view)
{
    return eepi_live_of(view, context->config.rank, context->generation, context->observed.seats);
}

static void follow_seats(eep_context *context, const eepi_view *view)
{
    eepi_collectives_follow(context, view); /* first: who sees the epoch has its members */
    pthread_mutex_lock(&context->lock);
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *s = eepi_view_seat_at(view, seat);
        context->observed.seats[seat] = (eep_seat){(eep_seat_state)s->state, s->generation};
    }
    context->observed.seats_epoch = view->epoch;
    pthread_mutex_unlock(&context->lock);
    eepi_rank_wake(context); /* a thread may wait in eep_expel for this */
    eepi_ready(context, EEP_READY_VIEW);
    eepi_peers_drop(context, view);
    /* one that leaves computes with what it holds until it switches */
    if (eepi_view_has(view, context->config.rank, context->generation)) {
        eepi_weights_follow(context, view);
    }
}

/* What could not be staged is tried again: soon, and ever later if that goes on. */
static uint64_t later(eep_context *context)
{
    struct eepi_staging *staging = context->staging;

    staging->pause_us = staging->pause_us == 0 ? STAGE_PAUSE_US : 2 * staging->pause_us;
    if (staging->pause_us > STAGE_MAX_PAUSE_US) {
        staging->pause_us = STAGE_MAX_PAUSE_US;
    }
    return eepi_now_us() + staging->pause_us;
}

static bool install_again(eep_context *context, uint64_t digest);
static bool stage_held(eep_context *context, uint64_t digest);

/* A committed view cannot be installed. All members wait for this rank, and none of them would say
 * that it fails: its heart beats, and nobody steps. So where the failure is its own, and lasts, it
 * takes itself out. A peer that fails to make its memory does the same. */
static void note_not_installed(eep_context *context, const eepi_view *view)
{
    struct eepi_staging *staging = context->staging;
    const bool is_own =
        !eepi_window_has_all(context->window, view->serial) ||
        (staging->failed != EEP_ERR_NOT_FOUND && staging->failed != EEP_ERR_UNREACHABLE);
    const uint64_t now_us = eepi_now_us();
    char why[EEPI_ERROR_BYTES / 2];

    if (staging->failed_digest != view->digest || !is_own) {
        staging->failed_digest = view->digest;
        staging->failing_since_us = now_us;
    }
    if (now_us - staging->failing_since_us < context->config.drain_bound_us) {
        return;
    }
    snprintf(why, sizeof why,
             "this rank cannot make or map the window memory that the view of epoch %llu names "
             "(%s; the log says more): the others go on without it",
             (unsigned long long)view->epoch, eep_strerror(staging->failed));
    eepi_end_service(context, EEP_ERR_SYSTEM, why);
}

/* A view that takes effect from the next step on. */
void eepi_install(eep_context *context, const eepi_view *view)
{
    const bool joining = view->cause == EEPI_VIEW_PLANNED; /* only a rank that is new in it */
    bool flips;
    eepi_live live = live_of(context, view);

    pthread_mutex_lock(&context->lock);
    flips = context->stepper.flipping.epoch != 0;
    if (!flips) {
        eepi_stepper_withdraw(&context->stepper);
    }
    pthread_mutex_unlock(&context->lock);
    if (flips) { /* to the bank that would be written: its end wakes this thread */
        eepi_retry_set(&context->retries, EEPI_RETRY_INSTALL, 0, view->digest, install_again);
        return;
    }
    eepi_retry_drop(&context->retries, EEPI_RETRY_INSTALL);
    if (eepi_tables_staged(context->tables) != view->digest && !stage(context, view)) {
        /* the peer that could not be mapped ends just now, and evidence follows; or the store has
         * forgotten its record, and gets it again */
        eepi_retry_set(&context->retries, EEPI_RETRY_INSTALL, later(context), view->digest,
                       install_again);
        pthread_mutex_lock(&context->lock);
        snprintf(context->outcome.waits, sizeof context->outcome.waits,
                 ": the members have agreed on epoch %llu, and its windows are not all mapped here",
                 (unsigned long long)view->epoch);
        pthread_mutex_unlock(&context->lock);
        note_not_installed(context, view);
        return;
    }
    context->staging->pause_us = 0;
    context->staging->failed_digest = 0;
    follow_seats(context, view);
    pthread_mutex_lock(&context->lock);
    context->outcome.waits[0] = '\0';
    eepi_stepper_install(&context->stepper, &live, joining);
    context->outcome.uncovered = false;
    pthread_mutex_unlock(&context->lock);
    eepi_tell_installed(context, view);
    eepi_event(context, EEP_EVENT_INSTALLED, -1, 0, view->epoch, view->first_step);
    eepi_rank_wake(context);
}

/* Another document may have come meanwhile. */
static bool install_again(eep_context *context, uint64_t digest)
{
    const eepi_view *view = eepi_core_view(context->core);

    if (view->digest != digest || eepi_core_is_wedged(context->core)) {
        return false;
    }
    eepi_install(context, view);
    return true;
}

/* Have a planned view in the idle bank, ready for its flip; 0: not now. */
static bool stage_live(eep_context *context, const eepi_view *view, const eepi_live *live)
{
    eepi_stage_verdict verdict;

    pthread_mutex_lock(&context->lock);
    verdict = eepi_stepper_stage(&context->stepper, live);
    pthread_mutex_unlock(&context->lock);
    if (verdict != EEPI_STAGE_GO) {
        return verdict == EEPI_STAGE_THERE;
    }
    if (!stage(context, view)) {
        return false;
    }
    context->staging->pause_us = 0;
    pthread_mutex_lock(&context->lock);
    eepi_stepper_staged(&context->stepper, live);
    pthread_mutex_unlock(&context->lock);
    eepi_log(context, EEP_LOG_DEBUG, "staged epoch %llu in the idle bank",
             (unsigned long long)view->epoch);
    eepi_event(context, EEP_EVENT_STAGED, -1, 0, view->epoch, 0);
    eepi_rank_wake(context); /* what was agreed on in-band may have waited for it */
    return true;
}

/* Stage the plan later. `due_us` is 0 while the idle bank is busy: its flip wakes this thread.
 * Otherwise staging failed, and is tried at that time. Likely a peer's record is missing, which a
 * store that forgot gets a moment later than the plan. It may be something else, such as a
 * descriptor, whose return wakes nobody. */
static void hold_plan(eep_context *context, const eepi_view *view, uint64_t due_us)
{
    free(context->staging->held);
    context->staging->held = eepi_view_copy(view);
    eepi_retry_set(&context->retries, EEPI_RETRY_STAGE, due_us, view->digest, stage_held);
}

void eepi_stage_plan(eep_context *context, const eepi_view *view)
{
    eepi_input staged = {.kind = EEPI_INPUT_STAGED, .digest = view->digest};
    eepi_live live = live_of(context, view);
    bool busy;

    /* A rank that has not installed the newest view yet says nothing of what comes behind it: the
     * plan would be committed, and the view between would never be installed here (T2, M3). */
    pthread_mutex_lock(&context->lock);
    busy = eepi_stepper_awaits_flip(&context->stepper) || context->stepper.wedged;
    pthread_mutex_unlock(&context->lock);
    if (busy) {
        hold_plan(context, view, 0);
    } else if (stage_live(context, view, &live)) {
        eepi_inbox_post(context->inbox, &staged);
    } else {
        hold_plan(context, view, later(context)); /* or it lapses, and is made again */
    }
}

static bool stage_held(eep_context *context, uint64_t digest)
{
    eepi_view *plan = context->staging->held;
    bool busy;

    (void)digest;
    if (!plan) { /* no memory for the copy: it is made again */
        return true;
    }
    pthread_mutex_lock(&context->lock);
    busy = eepi_stepper_awaits_flip(&context->stepper) || context->stepper.wedged;
    pthread_mutex_unlock(&context->lock);
    if (busy) {
        return false;
    }
    context->staging->held = NULL;
    if (plan->base_digest == eepi_core_view(context->core)->digest ||
        plan->digest == eepi_core_view(context->core)->digest) {
        eepi_stage_plan(context, plan);
    }
    free(plan);
    return true;
}

void eepi_staging_hurry(eep_context *context)
{
    eepi_retry_hurry(&context->retries, EEPI_RETRY_STAGE);
    eepi_retry_hurry(&context->retries, EEPI_RETRY_INSTALL);
}

void eepi_announce(eep_context *context, const eepi_view *view)
{
    eepi_live live = live_of(context, view);

    if (!live.leaves && !stage_live(context, view, &live)) {
        hold_plan(context, view, later(context));
        eepi_log(context, EEP_LOG_ERROR,
                 "epoch %llu is committed but not staged here: it is tried again",
                 (unsigned long long)view->epoch);
    }
    follow_seats(context, view);
    pthread_mutex_lock(&context->lock);
    eepi_stepper_announce(&context->stepper, &live);
    pthread_mutex_unlock(&context->lock);
    eepi_rank_wake(context);
}
