/* SPDX-License-Identifier: Apache-2.0 */
/* The members of a view, as collectives know them, and what a change of view does to the number
 * that is under way (rule P13). Service thread. */
#include "membership/collective/collective_ledger.h"
#include "membership/collective/collective_state.h"
#include "membership/context/context.h"
#include "membership/context/log.h"

#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CLOSE_BOUND_US = 5000000, NAP_NS = 1000000 };

/* ------------------------------------------------------------------ areas and groups */

static eepi_collective_area *hold(eepi_collective_area *area)
{
    area->num_users++;
    return area;
}

static void drop(eepi_collective_area *area)
{
    if (area && --area->num_users == 0) {
        eepi_collective_area_close(area);
    }
}

eepi_collective_group *eepi_collective_group_hold(eepi_collective_group *group)
{
    group->num_users++;
    return group;
}

void eepi_collective_group_drop(eepi_collective_group *group)
{
    if (!group || --group->num_users > 0) {
        return;
    }
    for (int seat = 0; seat < group->max_ranks; seat++) {
        drop(group->member[seat].area);
    }
    free(group);
}

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
    *group = (eepi_collective_group){
        .num_users = 1, .epoch = view->epoch, .max_ranks = seats, .holder = seats};
    for (int seat = seats - 1; seat >= 0; seat--) {
        const uint32_t generation = eepi_view_seat_at(view, seat)->generation;
        eepi_collective_area *area = seat == context->config.rank ? all->own : all->peers[seat];
        if (!eepi_view_is_member(view, seat)) {
            continue;
        }
        group->holder = seat;
        group->member[seat].generation = generation;
        if (area && area->generation == generation) {
            group->member[seat].area = hold(area);
        }
    }
    return group;
}

void eepi_collective_ring(const eepi_collective_group *group)
{
    eepi_collective_memory *holder = eepi_collective_holder(group);

    if (holder) {
        __atomic_fetch_add(&holder->wakes, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &holder->wakes, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    }
}

/* The call of this rank looks again, wherever it waits. */
static void wake(const struct eepi_collectives *all, const eepi_collective_group *waited_in)
{
    pthread_cond_broadcast((pthread_cond_t *)(uintptr_t)&all->changed);
    if (waited_in) {
        eepi_collective_ring(waited_in);
    }
}

/* ------------------------------------------------------------------ numbers */

/* A rank that was let in by a planned view learns the number from those who were there before. */
static void learn_number(struct eepi_collectives *all)
{
    eepi_collective_memory *holder = all->group ? eepi_collective_holder(all->group) : NULL;
    uint64_t word = holder ? eepi_ledger_load(&holder->ledger) : 0;

    if (!all->is_numbered && eepi_ledger_ahead(word, all->group ? all->group->epoch : 0) == 0) {
        all->last = eepi_ledger_number(word);
        all->is_numbered = all->group->is_begun = true;
    }
}

/* The ledger of the newest view goes on behind the last number, once its holder is mapped. */
static void begin_ledger(struct eepi_collectives *all)
{
    eepi_collective_group *group = all->group;

    if (group && !group->is_begun && all->is_numbered && eepi_collective_holder(group)) {
        eepi_ledger_begin(&eepi_collective_holder(group)->ledger, group->epoch, all->last);
        group->is_begun = true;
    }
}

static void judge(struct eepi_collectives *all, bool is_final)
{
    eepi_collective_pending *pending = &all->pending;

    if (!pending->is_given || pending->verdict != EEPI_COLLECTIVE_UNDER_WAY) {
        return;
    }
    if (pending->number <= all->last) {
        pending->verdict = EEPI_COLLECTIVE_ENDED;
    } else if (is_final) {
        pending->verdict = EEPI_COLLECTIVE_ABORTED;
    }
}

/* No number ends under the present view any more; which was the last one? */
static void close_ledger(struct eepi_collectives *all, bool stays)
{
    eepi_collective_group *group = all->group;
    uint64_t number;

    learn_number(all);
    if (group && all->is_numbered && eepi_collective_holder(group) &&
        eepi_ledger_close(&eepi_collective_holder(group)->ledger, group->epoch, stays, &number) &&
        number > all->last) {
        all->last = number;
    }
    judge(all, false);
}

/* What has not ended under the view before goes over to the planned one, as it was given. */
static void take_over(struct eepi_collectives *all)
{
    eepi_collective_pending *pending = &all->pending;
    eepi_collective_group *before = pending->group;

    if (!pending->is_given || pending->verdict != EEPI_COLLECTIVE_UNDER_WAY || !all->group) {
        return;
    }
    pending->group = eepi_collective_group_hold(all->group);
    __atomic_store_n(&eepi_contribution_of(all->own, pending->number)->epoch, all->group->epoch,
                     __ATOMIC_SEQ_CST);
    eepi_collective_ring(before); /* this rank's call waits there */
    eepi_collective_group_drop(before);
    eepi_collective_ring(all->group); /* it may be the last that the others wait for */
}

bool eepi_collective_may_give(struct eepi_collectives *all)
{
    if (!all->is_open || !all->group) {
        return false;
    }
    learn_number(all);
    begin_ledger(all);
    for (int seat = 0; seat < all->group->max_ranks; seat++) {
        if (all->group->member[seat].generation != 0 && !all->group->member[seat].area) {
            return false;
        }
    }
    return all->is_numbered && all->group->is_begun;
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
    group = group_of(context, view);
    if (view->cause == EEPI_VIEW_PLANNED) {
        close_ledger(all, group != NULL);
        all->group = group;
        begin_ledger(all);
        take_over(all);
    } else { /* its document says what has ended */
        all->group = group;
        all->last = view->collective;
        all->is_numbered = true;
        judge(all, true);
        begin_ledger(all);
    }
    all->is_open = group != NULL;
    wake(all, all->pending.is_given ? all->pending.group : NULL);
    eepi_collective_group_drop(before);
    pthread_mutex_unlock(&all->lock);
}

void eepi_collectives_stop(eep_context *context)
{
    struct eepi_collectives *all = context->calls.collectives;

    pthread_mutex_lock(&all->lock);
    close_ledger(all, false);
    all->is_open = false;
    wake(all, all->pending.is_given ? all->pending.group : NULL);
    pthread_mutex_unlock(&all->lock);
}

uint64_t eepi_collectives_last(eep_context *context)
{
    struct eepi_collectives *all = context->calls.collectives;
    uint64_t last;

    pthread_mutex_lock(&all->lock);
    last = all->is_numbered ? all->last : 0;
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
    wake(all, all->pending.is_given ? all->pending.group : NULL);
    pthread_mutex_unlock(&all->lock);
}

/* The newest view may have named that process before its memory was mapped. */
static void take_area(struct eepi_collectives *all, int seat, eepi_collective_area *area)
{
    eepi_collective_group *group = all->group;

    drop(all->peers[seat]);
    all->peers[seat] = hold(area);
    if (group && group->member[seat].generation == area->generation && !group->member[seat].area) {
        group->member[seat].area = hold(area);
        begin_ledger(all);
        wake(all, NULL);
    }
}

eep_status eepi_collectives_map(eep_context *context, int seat, uint32_t generation, int32_t pid,
                                int32_t fd, char *why_out, size_t why_bytes)
{
    struct eepi_collectives *all = context->calls.collectives;
    eepi_collective_area *area = all->peers[seat];
    eep_status status;

    if (area && area->generation == generation) {
        return EEP_OK;
    }
    status = eepi_collective_area_map(pid, fd, seat, generation, why_out, why_bytes, &area);
    if (status == EEP_OK) {
        pthread_mutex_lock(&all->lock);
        take_area(all, seat, area);
        pthread_mutex_unlock(&all->lock);
    }
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
        context->calls.collectives->own = hold(area);
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
        wake(all, all->pending.is_given ? all->pending.group : NULL);
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
    for (int seat = 0; all->peers && seat < context->config.max_ranks; seat++) {
        drop(all->peers[seat]);
    }
    drop(all->own);
    free(all->peers);
    free(all->staging);
    free(all->sizes);
    pthread_cond_destroy(&all->changed);
    pthread_mutex_destroy(&all->lock);
    free(all);
}
