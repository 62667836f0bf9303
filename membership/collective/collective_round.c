/* SPDX-License-Identifier: Apache-2.0 */
/* One collective of this rank, in the thread that calls it. */
#include "membership/collective/collective_round.h"

#include "graphs/base/public_call.h"
#include "membership/collective/collective_between.h"
#include "membership/collective/collective_ledger.h"
#include "membership/collective/collective_state.h"
#include "membership/context/context.h"
#include "repair/checksum.h"

#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* LOOK_US: a rank that ends between its contribution and its wake-up wakes nobody. BEGIN_US: nor
 * does the first that begins a ledger. */
enum { LOOK_US = 10000, BEGIN_US = 1000 };

/* ------------------------------------------------------------------ giving */

/* Bytes first, number last: whoever sees the number sees all of it, also of a rank that died. */
static void write_contribution(eep_context *context, const eepi_collective_round *round,
                               uint64_t number, uint64_t epoch)
{
    const eepi_collective_area *own = context->calls.collectives->own;
    eepi_contribution *head = eepi_contribution_of(own, number);

    __atomic_store_n(&head->number, 0, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (round->bytes > 0) {
        memcpy(eepi_contribution_bytes(own, number), round->send, round->bytes);
    }
    head->what = round->what;
    head->seat = (uint32_t)context->config.rank;
    head->generation = context->generation;
    head->bytes = round->bytes;
    head->checksum = round->bytes > 0 ? eepi_checksum_bytes(round->send, round->bytes) : 0;
    head->head_checksum = eepi_contribution_checksum(head, number);
    __atomic_store_n(&head->epoch, epoch, __ATOMIC_RELAXED);
    __atomic_store_n(&head->number, number, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* of two that come last, one sees the other */
}

/* With the lock. */
static eep_status give(eep_context *context, const eepi_collective_round *round)
{
    struct eepi_collectives *all = context->calls.collectives;
    const uint64_t number = all->last + 1;
    eep_status status = eepi_collective_area_reserve(all->own, number, round->bytes);

    if (status != EEP_OK || number > EEPI_LEDGER_MAX_NUMBER) {
        return eepi_refuse(status == EEP_OK ? EEP_ERR_UNSUPPORTED : status,
                           "%s: no memory for %zu bytes of collective %llu", round->call,
                           round->bytes, (unsigned long long)number);
    }
    write_contribution(context, round, number, all->group->epoch);
    all->pending = (eepi_collective_pending){
        .is_given = true,
        .number = number,
        .what = round->what,
        .bytes = round->bytes,
        .group = eepi_collective_group_hold(all->group),
    };
    eepi_collective_tell(all);
    return EEP_OK;
}

/* ------------------------------------------------------------------ taking */

/* What of a seat is wanted. */
static bool is_wanted(const eepi_collective_what *what, int seat)
{
    return what->kind != EEPI_COLLECTIVE_BARRIER &&
           (what->kind != EEPI_COLLECTIVE_BROADCAST || seat == what->root);
}

static bool make_room(struct eepi_collectives *all, size_t bytes)
{
    uint8_t *more;

    if (bytes <= all->staging_bytes) {
        return true;
    }
    more = realloc(all->staging, bytes);
    if (more) {
        all->staging = more;
        all->staging_bytes = bytes;
    }
    return more != NULL;
}

/* Whose contribution it is and what it says, if that is sound. */
static bool take_head(const eepi_collective_group *group, int seat, uint64_t number,
                      eepi_contribution *head_out)
{
    const eepi_collective_area *area = group->member[seat].area;
    const eepi_contribution *head = eepi_contribution_of(area, number);

    if (__atomic_load_n(&head->number, __ATOMIC_ACQUIRE) != number) {
        return false;
    }
    memcpy(head_out, head, sizeof *head_out);
    return eepi_contribution_is_sound(head_out, number, seat, group->member[seat].generation,
                                      area->memory->slot_bytes);
}

/* A contribution counts under the epoch that it names. Where each promises for itself, its owner
 * may not have known that the number had ended when it went to the next epoch. */
static bool is_of(const eepi_collective_group *group, uint64_t epoch)
{
    return epoch == group->epoch ||
           (epoch > group->epoch && eepi_collective_reach_of(group) == EEPI_REACH_FAR);
}

/* The bytes of that head, copied, sound by their checksum, and there still afterwards. */
static bool take_bytes(const eepi_collective_group *group, int seat, uint64_t number,
                       const eepi_contribution *taken, uint8_t *bytes_out)
{
    const eepi_collective_area *area = group->member[seat].area;
    const eepi_contribution *head = eepi_contribution_of(area, number);

    if (taken->bytes > 0 && bytes_out) {
        memcpy(bytes_out, eepi_contribution_bytes(area, number), taken->bytes);
        if (eepi_checksum_bytes(bytes_out, taken->bytes) != taken->checksum) {
            return false;
        }
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&head->number, __ATOMIC_ACQUIRE) == number &&
           is_of(group, __atomic_load_n(&head->epoch, __ATOMIC_ACQUIRE));
}

/* Of all members, one after the other. EEP_ERR_CHECKSUM: one is not sound. EEP_ERR_PROTOCOL: one
 * asked for something else. */
static eep_status take_all(struct eepi_collectives *all, const eepi_collective_pending *pending,
                           const char *call)
{
    const eepi_collective_group *group = pending->group;
    eepi_contribution head;
    size_t used = 0;
    int other = -1;

    for (int seat = 0; seat < group->max_ranks; seat++) {
        const bool is_wanted_here = is_wanted(&pending->what, seat);
        if (group->member[seat].generation == 0) {
            continue;
        }
        if (!take_head(group, seat, pending->number, &head)) {
            return EEP_ERR_CHECKSUM;
        }
        if (memcmp(&head.what, &pending->what, sizeof head.what) != 0) {
            other = seat;
        }
        if (is_wanted_here && !make_room(all, used + head.bytes)) {
            return eepi_refuse(EEP_ERR_NO_MEMORY, "%s: no memory for what was received: call again",
                               call);
        }
        if (!take_bytes(group, seat, pending->number, &head,
                        is_wanted_here ? all->staging + used : NULL)) {
            return EEP_ERR_CHECKSUM;
        }
        all->sizes[seat] = head.bytes;
        used += is_wanted_here ? head.bytes : 0;
    }
    if (other >= 0) {
        return eepi_refuse(EEP_ERR_PROTOCOL,
                           "%s: rank %d called another collective as number %llu, or with another "
                           "root, size, type or operation: all members make the same calls",
                           call, other, (unsigned long long)pending->number);
    }
    return EEP_OK;
}

static bool is_member(const eepi_collective_group *group, int seat)
{
    return seat >= 0 && seat < group->max_ranks && group->member[seat].generation != 0;
}

static eep_status deliver(const struct eepi_collectives *all,
                          const eepi_collective_pending *pending,
                          const eepi_collective_round *round, eep_collective_result *result)
{
    size_t used = 0;

    if (pending->what.kind == EEPI_COLLECTIVE_BROADCAST &&
        !is_member(pending->group, pending->what.root)) {
        return eepi_refuse(EEP_ERR_NOT_FOUND, "%s: root %d is no member under epoch %llu",
                           round->call, pending->what.root,
                           (unsigned long long)pending->group->epoch);
    }
    for (int seat = 0; seat < pending->group->max_ranks; seat++) {
        if (!is_member(pending->group, seat)) {
            continue;
        }
        result->contributors[seat / 64] |= 1ull << (seat % 64);
        if (is_wanted(&pending->what, seat)) {
            round->deliver(round->user, seat, all->staging + used, all->sizes[seat]);
            used += all->sizes[seat];
        }
    }
    return EEP_OK;
}

/* ------------------------------------------------------------------ the round */

/* With the lock: the number is over for this rank. */
static void forget(struct eepi_collectives *all)
{
    eepi_collective_group_drop(all->pending.group);
    all->pending = (eepi_collective_pending){0};
}

static void fill_in(const struct eepi_collectives *all, eep_collective_result *result)
{
    const eepi_collective_pending *pending = &all->pending;

    if (pending->is_given) {
        result->epoch = pending->group->epoch;
        result->number = pending->number;
    }
}

static eep_status say_over(const struct eepi_collectives *all, const char *call)
{
    return eepi_refuse(all->ended, "%s: %s", call, all->why);
}

/* A member has begun the next number but one in the place of that number. */
static bool is_written_over(const eepi_collective_group *group, uint64_t number)
{
    for (int seat = 0; seat < group->max_ranks; seat++) {
        const eepi_collective_area *area = group->member[seat].area;
        if (area && __atomic_load_n(&eepi_contribution_of(area, number)->number,
                                    __ATOMIC_ACQUIRE) != number) {
            return true;
        }
    }
    return false;
}

/* With the lock: it has ended, or does now, and all the contributions are there. */
static bool ends(struct eepi_collectives *all, const eepi_collective_pending *taken)
{
    const eepi_collective_group *group = taken->group;

    if (eepi_collective_reach_of(group) == EEPI_REACH_FAR) {
        return all->is_open && eepi_between_has_ended(group, taken->number);
    }
    return eepi_ledger_end(&eepi_collective_holder(group)->ledger, group->epoch, taken->number);
}

/* The contributions seem to be there, or the number has ended: take them without the lock. If the
 * number has ended then, *over_out; the status says how. Otherwise it goes on. */
static eep_status take_and_end(struct eepi_collectives *all, const eepi_collective_round *round,
                               bool rings, bool *over_out, eep_collective_result *result)
{
    eepi_collective_pending taken = all->pending;
    eep_status status;

    eepi_collective_group_hold(taken.group);
    pthread_mutex_unlock(&all->lock);
    if (rings) {
        eepi_collective_ring(taken.group);
    }
    status = take_all(all, &taken, round->call);
    pthread_mutex_lock(&all->lock);
    if (all->pending.group == taken.group && all->pending.verdict == EEPI_COLLECTIVE_UNDER_WAY &&
        (status == EEP_OK || status == EEP_ERR_PROTOCOL) && ends(all, &taken)) {
        all->pending.verdict = EEPI_COLLECTIVE_ENDED;
        all->last = taken.number;
        eepi_collective_settle(all);
    }
    *over_out = all->pending.verdict == EEPI_COLLECTIVE_ENDED && all->pending.group == taken.group;
    if (*over_out && status == EEP_ERR_CHECKSUM && all->ended == EEP_OK &&
        (!all->is_open || is_written_over(taken.group, taken.number))) {
        *over_out = false; /* the others have gone on without this rank: it will hear so */
    }
    if (*over_out && status == EEP_ERR_CHECKSUM) {
        status = all->ended != EEP_OK
                     ? say_over(all, round->call)
                     : eepi_refuse(status,
                                   "%s: number %llu has ended, and a contribution to it was "
                                   "damaged in memory",
                                   round->call, (unsigned long long)taken.number);
    }
    if (*over_out && status != EEP_ERR_NO_MEMORY) { /* else the next call takes it */
        forget(all);
        pthread_mutex_unlock(&all->lock);
        status = status == EEP_OK ? deliver(all, &taken, round, result) : status;
        pthread_mutex_lock(&all->lock);
    }
    eepi_collective_group_drop(taken.group);
    return status;
}

static eep_status say_late(const struct eepi_collectives *all, const eepi_collective_round *round)
{
    const eepi_collective_group *group = all->pending.group;
    const uint64_t number = all->pending.number;
    int missing = -1, num = 0;

    if (!all->pending.is_given) {
        return eepi_refuse(EEP_ERR_TIMEOUT, "%s: no view is in force within %llu us", round->call,
                           (unsigned long long)round->timeout_us);
    }
    for (int seat = group->max_ranks - 1; seat >= 0; seat--) {
        const eepi_collective_area *area = group->member[seat].area;
        if (!area && is_member(group, seat)) {
            return eepi_refuse(EEP_ERR_TIMEOUT,
                               "%s: number %llu under epoch %llu has not ended within %llu us: the "
                               "memory of rank %d is not known here yet",
                               round->call, (unsigned long long)number,
                               (unsigned long long)group->epoch,
                               (unsigned long long)round->timeout_us, seat);
        }
        if (area && __atomic_load_n(&eepi_contribution_of(area, number)->number,
                                    __ATOMIC_RELAXED) != number) {
            missing = seat;
            num++;
        }
    }
    if (num == 0) {
        return eepi_refuse(
            EEP_ERR_TIMEOUT,
            "%s: number %llu under epoch %llu has not ended within %llu us: a member "
            "does not have all contributions yet",
            round->call, (unsigned long long)number, (unsigned long long)group->epoch,
            (unsigned long long)round->timeout_us);
    }
    return eepi_refuse(EEP_ERR_TIMEOUT,
                       "%s: number %llu under epoch %llu has not ended within %llu us: %d members "
                       "have not called it yet, the first one is rank %d",
                       round->call, (unsigned long long)number, (unsigned long long)group->epoch,
                       (unsigned long long)round->timeout_us, num, missing);
}

/* What this rank's call sleeps on. A member of the newest view may not be known yet. */
static uint32_t *futex_of(const struct eepi_collectives *all)
{
    eepi_collective_memory *holder = eepi_collective_holder(all->pending.group);

    return holder ? &holder->wakes : &all->own->memory->wakes;
}

/* With the lock, which is not held meanwhile. `seen`: of the futex, before the last look. */
static void wait_a_while(struct eepi_collectives *all, uint32_t seen, uint64_t until_us)
{
    const uint64_t now_us = eepi_now_us(), slice = all->pending.is_given ? LOOK_US : BEGIN_US;
    const uint64_t us = until_us - now_us < slice ? until_us - now_us : slice;
    struct timespec time = {(time_t)(us / 1000000u), (long)(us % 1000000u) * 1000};
    eepi_collective_group *group = all->pending.group;
    uint32_t *futex;

    if (!all->pending.is_given) {
        const uint64_t at_us = now_us + us;
        time = (struct timespec){(time_t)(at_us / 1000000u), (long)(at_us % 1000000u) * 1000};
        pthread_cond_timedwait(&all->changed, &all->lock, &time);
        return;
    }
    eepi_collective_group_hold(group);
    futex = futex_of(all);
    pthread_mutex_unlock(&all->lock);
    syscall(SYS_futex, futex, FUTEX_WAIT, seen, &time, NULL, 0);
    pthread_mutex_lock(&all->lock);
    eepi_collective_group_drop(group);
}

static bool may_end(const eepi_collective_group *group, uint64_t number)
{
    return eepi_collective_reach_of(group) == EEPI_REACH_FAR
               ? eepi_between_has_ended(group, number)
               : eepi_collective_all_have_given(group, number);
}

/* What the number that was given to has come to; *over_out: it is over for this call. */
static eep_status look(struct eepi_collectives *all, const eepi_collective_round *round, bool rings,
                       bool *over_out, eep_collective_result *result)
{
    const eepi_collective_pending *pending = &all->pending;
    eep_status status;

    fill_in(all, result);
    if (pending->verdict == EEPI_COLLECTIVE_ABORTED) {
        status = eepi_refuse(EEP_ERR_ABORTED,
                             "%s: a fault came before number %llu had ended under epoch %llu: "
                             "call it again",
                             round->call, (unsigned long long)pending->number,
                             (unsigned long long)pending->group->epoch);
        forget(all);
        *over_out = true;
        return status;
    }
    if (pending->verdict == EEPI_COLLECTIVE_UNDER_WAY && all->ended != EEP_OK) {
        forget(all);
        *over_out = true;
        return say_over(all, round->call);
    }
    if (pending->verdict == EEPI_COLLECTIVE_ENDED ||
        (all->is_open && may_end(pending->group, pending->number))) {
        return take_and_end(all, round, rings, over_out, result);
    }
    if (rings && eepi_collective_reach_of(pending->group) == EEPI_REACH_FAR) {
        eepi_collective_ring(pending->group); /* of near ones each promises for itself */
    }
    return EEP_OK;
}

/* With the lock. */
static eep_status run(eep_context *context, const eepi_collective_round *round,
                      eep_collective_result *result)
{
    struct eepi_collectives *all = context->calls.collectives;
    const uint64_t until_us = eepi_now_us() + round->timeout_us;
    eep_status status = EEP_OK;
    bool over = false, rings = false;

    for (;;) {
        uint32_t seen = 0;
        if (all->is_closing) {
            return eepi_refuse(EEP_ERR_STATE,
                               "%s: another thread has called eep_close: use this context no more",
                               round->call);
        }
        if (!all->pending.is_given && all->ended != EEP_OK) {
            return say_over(all, round->call);
        }
        if (!all->pending.is_given && eepi_collective_may_give(all)) {
            status = give(context, round);
            rings = true;
        }
        if (status == EEP_OK && all->pending.is_given) {
            seen = __atomic_load_n(futex_of(all), __ATOMIC_SEQ_CST);
            eepi_collective_settle(all);
            eepi_between_promise(all);
            status = look(all, round, rings, &over, result);
            rings = false;
        }
        if (over ||
            (status != EEP_OK && status != EEP_ERR_CHECKSUM && status != EEP_ERR_PROTOCOL)) {
            return status;
        }
        status = EEP_OK; /* what was not sound is not there, while the number has not ended */
        if (eepi_now_us() >= until_us) {
            return say_late(all, round);
        }
        wait_a_while(all, seen, until_us);
    }
}

/* Before this rank has joined. */
static eep_status run_alone(const eep_context *context, const eepi_collective_round *round,
                            eep_collective_result *result)
{
    const int seat = context->config.rank;

    if (round->what.kind == EEPI_COLLECTIVE_BROADCAST && round->what.root != seat) {
        return eepi_refuse(EEP_ERR_NOT_FOUND,
                           "%s: root %d is no member of what concerns this rank alone: eep_join "
                           "has not returned yet",
                           round->call, round->what.root);
    }
    result->contributors[seat / 64] |= 1ull << (seat % 64);
    if (is_wanted(&round->what, seat)) {
        round->deliver(round->user, seat, round->send, round->bytes);
    }
    return EEP_OK;
}

static bool is_another(const struct eepi_collectives *all, const eepi_collective_round *round)
{
    const eepi_collective_pending *pending = &all->pending;

    return pending->is_given && (memcmp(&pending->what, &round->what, sizeof round->what) != 0 ||
                                 pending->bytes != round->bytes);
}

eep_status eepi_collective_run(eep_context *context, const eepi_collective_round *round,
                               eep_collective_result *result)
{
    struct eepi_collectives *all = context->calls.collectives;
    eep_status status;

    pthread_mutex_lock(&all->lock);
    if (!all->has_joined && !all->is_closing && all->ended == EEP_OK) {
        pthread_mutex_unlock(&all->lock);
        status = run_alone(context, round, result);
        result->status = status;
        return status;
    }
    if (is_another(all, round)) {
        fill_in(all, result);
        status = eepi_refuse(EEP_ERR_STATE,
                             "%s: number %llu is under way, which this rank began with other "
                             "arguments: call that one again until it ends",
                             round->call, (unsigned long long)all->pending.number);
    } else {
        status = run(context, round, result);
    }
    pthread_mutex_unlock(&all->lock);
    result->status = status;
    return status;
}
