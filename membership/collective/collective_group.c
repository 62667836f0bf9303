/* SPDX-License-Identifier: Apache-2.0 */
/* The members of a view, as collectives know them, and what a change of view does to the number
 * that is under way (rule P13). Service thread. */
#include "membership/collective/collective_between.h"
#include "membership/collective/collective_ledger.h"
#include "membership/collective/collective_state.h"
#include "membership/collective/collective_words.h"
#include "membership/context/context.h"
#include "membership/context/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLOSE_BOUND_US = 5000000, NAP_NS = 1000000 };

/* ------------------------------------------------------------------ groups */

/* NULL: no memory, or this rank is no member. Areas that are not mapped yet are taken later. */
static eepi_collective_group *group_of(const eep_context *context, const eepi_view *view)
{
    const struct eepi_collectives *all = context->calls.collectives;
    const int seats = view->shape.max_ranks;
    eepi_collective_group *group;

    if (!eepi_view_has(view, context->config.rank, context->generation)) {
        return NULL;
    }
    group = calloc(1, sizeof *group + (size_t)seats * sizeof group->member[0]);
    if (!group) {
        return NULL;
    }
    *group = (eepi_collective_group){.num_users = 1,
                                     .epoch = view->epoch,
                                     .least_number = view->collective,
                                     .max_ranks = seats,
                                     .self = context->config.rank,
                                     .holder = seats};
    for (int seat = seats - 1; seat >= 0; seat--) {
        const uint32_t generation = eepi_view_seat_at(view, seat)->generation;
        eepi_collective_area *area = seat == context->config.rank ? all->own : all->peers[seat];
        if (!eepi_view_is_member(view, seat)) {
            continue;
        }
        group->holder = seat;
        group->member[seat].generation = generation;
        if (area && area->generation == generation) {
            group->member[seat].area = eepi_collective_area_hold(area);
        }
    }
    group->reach = eepi_collective_find_reach(group);
    return group;
}

/* ------------------------------------------------------------------ numbers */

/* No number ends under the present view any more; which was the last one? A rank that has given
 * nothing under it knows, since none can have ended. */
static void close_ledger(struct eepi_collectives *all, bool stays)
{
    eepi_collective_group *group = all->group;
    uint64_t number;

    eepi_collective_learn(all);
    if (!group || !all->is_numbered || !group->is_begun) {
        return;
    }
    if (eepi_collective_reach_of(group) == EEPI_REACH_FAR) {
        eepi_between_close(all, stays);
    } else if (eepi_ledger_close(&eepi_collective_holder(group)->ledger, group->epoch, stays,
                                 &number) &&
               number > all->last) {
        all->last = number;
    }
    eepi_collective_judge(all, false);
}

/* Last: what it has closed before is closed for whoever sees this. */
static void be_at(struct eepi_collectives *all, uint64_t epoch)
{
    __atomic_store_n(&all->own->memory->at, epoch, __ATOMIC_RELEASE);
    eepi_collective_tell(all);
}

/* ------------------------------------------------------------------ what the context says */

void eepi_collectives_follow(eep_context *context, const eepi_view *view)
{
    struct eepi_collectives *all = context->calls.collectives;
    eepi_collective_group *group, *before;

    pthread_mutex_lock(&all->lock);
    before = all->group;
    if (before && view->epoch <= before->epoch) {
        pthread_mutex_unlock(&all->lock);
        return;
    }
    all->has_stopped = false;
    group = group_of(context, view);
    if (view->cause == EEPI_VIEW_PLANNED) {
        close_ledger(all, group != NULL);
        all->group = group;
        be_at(all, view->epoch);
        eepi_collective_settle(all);
        eepi_collective_take_over(all);
    } else { /* its document says what has ended */
        all->group = group;
        all->last = view->collective;
        all->is_numbered = true;
        eepi_collective_group_drop(all->from);
        all->from = NULL;
        eepi_collective_judge(all, true);
        be_at(all, view->epoch);
        eepi_collective_settle(all);
    }
    all->is_open = group != NULL;
    eepi_collective_wake_in(all, all->pending.is_given ? all->pending.group : NULL);
    eepi_collective_group_drop(before);
    pthread_mutex_unlock(&all->lock);
}

void eepi_collectives_stop(eep_context *context)
{
    struct eepi_collectives *all = context->calls.collectives;

    pthread_mutex_lock(&all->lock);
    close_ledger(all, false);
    all->is_open = false;
    all->has_stopped = true;
    eepi_collective_wake_in(all, all->pending.is_given ? all->pending.group : NULL);
    pthread_mutex_unlock(&all->lock);
}

uint64_t eepi_collectives_last(eep_context *context, uint64_t *held_out)
{
    struct eepi_collectives *all = context->calls.collectives;
    uint64_t last;

    pthread_mutex_lock(&all->lock);
    last = all->is_numbered ? all->last : 0;
    *held_out = all->is_numbered ? eepi_between_held(all) : 0;
    pthread_mutex_unlock(&all->lock);
    return last;
}

void eepi_collectives_end(eep_context *context, const eepi_outcome *outcome)
{
    struct eepi_collectives *all = context->calls.collectives;

    pthread_mutex_lock(&all->lock);
    if (all->ended != EEP_OK) {
        pthread_mutex_unlock(&all->lock);
        return;
    }
    all->ended = outcome->ended;
    snprintf(all->why, sizeof all->why, "%s", outcome->why);
    all->is_open = false;
    eepi_collective_wake_in(all, all->pending.is_given ? all->pending.group : NULL);
    pthread_mutex_unlock(&all->lock);
}

/* With the lock. */
static bool has_area(const struct eepi_collectives *all, int seat, uint32_t generation)
{
    return all->peers[seat] && all->peers[seat]->generation == generation;
}

eep_status eepi_collectives_map(eep_context *context, int seat, uint32_t generation, int32_t pid,
                                int32_t fd, char *why_out, size_t why_bytes)
{
    struct eepi_collectives *all = context->calls.collectives;
    eepi_collective_area *area;
    eep_status status;
    bool is_there;

    pthread_mutex_lock(&all->lock);
    is_there = has_area(all, seat, generation);
    pthread_mutex_unlock(&all->lock);
    if (is_there) {
        return EEP_OK;
    }
    status = eepi_collective_area_map(pid, fd, seat, generation, why_out, why_bytes, &area);
    if (status == EEP_OK) {
        pthread_mutex_lock(&all->lock);
        eepi_collective_take_area(all, seat, area);
        pthread_mutex_unlock(&all->lock);
    }
    return status;
}

eep_status eepi_collectives_reach(eep_context *context, int seat, uint32_t generation)
{
    struct eepi_collectives *all = context->calls.collectives;
    eep_status status = EEP_OK;
    eepi_collective_area *area;

    pthread_mutex_lock(&all->lock);
    if (!has_area(all, seat, generation)) {
        status = eepi_collective_area_mirror(seat, generation, &area);
        if (status == EEP_OK) {
            eepi_collective_take_area(all, seat, area);
        }
    }
    pthread_mutex_unlock(&all->lock);
    return status;
}

/* ------------------------------------------------------------------ opening and closing */

eep_status eepi_collectives_open(eep_context *context)
{
    struct eepi_collectives *all = calloc(1, sizeof *all);
    pthread_condattr_t attributes;

    context->calls.collectives = all;
    if (!all) {
        return EEP_ERR_NO_MEMORY;
    }
    all->context = context;
    context->calls.talk = (eepi_network_talk){eepi_collective_say, eepi_collective_hear, context};
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&all->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&all->lock, NULL);
    all->peers = calloc((size_t)context->config.max_ranks, sizeof(eepi_collective_area *));
    all->sizes = calloc((size_t)context->config.max_ranks, sizeof *all->sizes);
    return all->peers && all->sizes ? EEP_OK : EEP_ERR_NO_MEMORY;
}

eep_status eepi_collectives_make(eep_context *context, char *why_out, size_t why_bytes,
                                 int32_t *fd_out)
{
    eepi_collective_area *area;
    eep_status status = eepi_collective_area_make(context->config.rank, context->generation,
                                                  why_out, why_bytes, &area);

    if (status == EEP_OK) {
        context->calls.collectives->own = eepi_collective_area_hold(area);
        *fd_out = area->fd;
    }
    return status;
}

bool eepi_collectives_interrupt(eep_context *context)
{
    const struct timespec nap = {0, NAP_NS};
    const uint64_t begun_us = eepi_now_us();
    struct eepi_collectives *all = context->calls.collectives;
    const char *call;

    for (;;) {
        pthread_mutex_lock(&all->lock);
        all->is_closing = true;
        eepi_collective_wake_in(all, all->pending.is_given ? all->pending.group : NULL);
        pthread_mutex_unlock(&all->lock);
        call = __atomic_load_n(&all->call, __ATOMIC_ACQUIRE);
        if (!call) {
            return true;
        }
        if (eepi_now_us() - begun_us >= CLOSE_BOUND_US) {
            eepi_log(context, EEP_LOG_ERROR,
                     "eep_close closes nothing: another thread is in %s yet: call eep_close again "
                     "when that call has ended",
                     call);
            return false;
        }
        nanosleep(&nap, NULL);
    }
}

void eepi_collectives_join(eep_context *context)
{
    pthread_mutex_lock(&context->calls.collectives->lock);
    context->calls.collectives->has_joined = true;
    pthread_mutex_unlock(&context->calls.collectives->lock);
}

void eepi_collectives_close(eep_context *context)
{
    struct eepi_collectives *all = context->calls.collectives;

    if (!all) {
        return;
    }
    eepi_collective_group_drop(all->pending.group);
    eepi_collective_group_drop(all->group);
    eepi_collective_group_drop(all->from);
    for (int seat = 0; all->peers && seat < context->config.max_ranks; seat++) {
        eepi_collective_area_drop(all->peers[seat]);
    }
    eepi_collective_area_drop(all->own);
    free(all->peers);
    free(all->staging);
    free(all->sizes);
    pthread_cond_destroy(&all->changed);
    pthread_mutex_destroy(&all->lock);
    free(all);
}
