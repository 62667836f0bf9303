/* SPDX-License-Identifier: Apache-2.0 */
/* A planned change of view: joins, leaves and background repair, staged by all and then flipped
 * in-band (rules M3, M7, M10). */
#include "membership/core/core_plan.h"

#include "membership/core/core_check.h"
#include "membership/core/core_common.h"
#include "membership/core/core_turn.h"
#include "membership/core/core_draft.h"
#include "membership/core/core_ends.h"
#include "membership/core/core_members.h"
#include "membership/core/core_rebalance.h"
#include "repair/placement.h"
#include "repair/planner/planner.h"

#include <string.h>

enum { RETRY_US = 200000, UNHEARD_US = 1000000, SEEK_AFTER_US = 100000 };

/* A member of the present view must stay in the next one: those who are new follow its first step,
 * and two views that share no member would need a lease between them (M8). The group from `first`
 * on is RETIRING in the draft. */
static bool may_leave(const eepi_core *core, const eepi_view *draft, int first)
{
    int staying = 0;

    for (int other = 0; other < draft->shape.max_ranks; other++) {
        staying += (other < first || other >= first + eepi_core_group_seats(core)) &&
                   eepi_view_is_member(core->view, other) && eepi_view_is_member(draft, other);
    }
    return staying > 0 && eepi_plan_can_leave(draft, core->table, first);
}

/* A member of the group from `first` on has asked to leave: all of them leave, now or, RETIRING,
 * once others hold what only they hold. */
static void let_leave(eepi_core *core, eepi_view *draft, int first, int *changes, int *retirements)
{
    const int last = first + eepi_core_group_seats(core);
    int retired = 0;

    for (int seat = first; seat < last; seat++) {
        retired += eepi_view_seat_at(draft, seat)->state == EEP_SEAT_ACTIVE;
        eepi_view_seat_at(draft, seat)->state = EEP_SEAT_RETIRING;
    }
    if (!may_leave(core, draft, first)) {
        if (retired > 0) {
            eepi_core_examine_layers(core);
        }
        *retirements += retired;
        return;
    }
    for (int seat = first; seat < last; seat++) {
        eepi_view_seat_at(draft, seat)->state = EEP_SEAT_VACANT;
        eepi_core_let_go(core, draft, seat);
        eepi_core_drop_checkpoint(draft, seat);
        ++*changes;
    }
    eepi_plan_empty_nonmembers(draft);
}

/* Does the plan take or drop the seat against the present view? */
static bool plan_changes(const eepi_core *core, int seat)
{
    return eepi_view_is_member(core->plan, seat) != eepi_view_is_member(core->view, seat);
}

static bool plan_is_acknowledged(const eepi_core *core)
{
    for (int seat = 0; seat < core->plan->shape.max_ranks; seat++) {
        if ((eepi_view_is_member(core->plan, seat) || eepi_view_is_member(core->view, seat)) &&
            core->peers[seat].staged_digest != core->plan->digest) {
            return false;
        }
    }
    return true;
}

/* A process that the plan lets in has ended: it will never acknowledge the plan. */
static bool plan_is_void(const eepi_core *core)
{
    for (int seat = 0; seat < core->plan->shape.max_ranks; seat++) {
        uint32_t generation = eepi_view_seat_at(core->plan, seat)->generation;
        if (eepi_view_is_member(core->plan, seat) && plan_changes(core, seat) &&
            eepi_core_has_exited(core, seat, generation)) {
            return true;
        }
    }
    return false;
}

/* A plan lapses. The joiner that let it lapse waits a little; nobody else does (L4: no healthy rank
 * waits for a joiner). */
static void drop_plan(eepi_core *core)
{
    bool is_theirs = false;

    for (int seat = 0; seat < core->plan->shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (plan_changes(core, seat) && peer->staged_digest != core->plan->digest) {
            peer->plan_after_us = core->now_us + RETRY_US; /* it did not acknowledge */
            is_theirs = true;
        }
        peer->staged_digest = 0; /* the same plan made again is staged again */
    }
    for (int seat = 0; seat < core->plan->shape.max_ranks && !is_theirs; seat++) {
        if (plan_changes(core, seat) && eepi_view_is_member(core->plan, seat)) {
            core->peers[seat].plan_after_us = core->now_us + UNHEARD_US; /* by some member */
        }
    }
    eepi_core_note_renewal_lapsed(core);
    core->has_plan = false;
    eepi_core_wake_at(core, core->now_us + RETRY_US);
}

/* Put into the draft who joins and leaves now, and who retires to leave later. False: a joiner was
 * refused. */
static bool change_members(eepi_core *core, eepi_view *draft, int *changes_out,
                           int *retirements_out)
{
    const int seats = eepi_core_group_seats(core);
    int changes = 0, retirements = 0;

    *retirements_out = 0;
    if (eepi_core_all_leave(core, draft)) {
        *changes_out = eepi_core_end_instance(core, draft);
        return true;
    }
    for (int first = 0; first < draft->shape.max_ranks; first += seats) {
        const bool joins = eepi_core_may_join(core, draft, first);
        for (int seat = first; joins && seat < first + seats; seat++) {
            if (!eepi_core_admit(core, draft, seat)) { /* refused, not waited for */
                eepi_core_refuse(core, seat);
                return false;
            }
            changes++;
        }
        if (!joins && eepi_core_group_leaves(core, draft, first)) {
            let_leave(core, draft, first, &changes, &retirements);
        }
    }
    eepi_core_free_behind_gates(draft);
    eepi_core_count_backups(core, draft);
    *changes_out = changes;
    *retirements_out = retirements;
    return true;
}

/* P8: a process that left by plan ended without a word, on a device where that proves nothing. A
 * process in its seat waits for the next fault view, which has another colour. None may ever come:
 * then one is made, in which nobody is expelled. */
static void seek_colour(eepi_core *core, const eepi_view *draft)
{
    bool is_sought = false;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        const int first = seat - seat % eepi_core_group_seats(core);
        is_sought |= eepi_core_is_blocked(draft, seat) && eepi_core_wants_in(core, draft, first);
    }
    if (!is_sought || eepi_view_is_tainted(draft, (draft->colour + 1) % EEPK_COLOURS)) {
        core->blocked_us = 0;
        return;
    }
    if (core->blocked_us == 0) {
        core->blocked_us = core->now_us;
    }
    if (core->now_us < core->blocked_us + SEEK_AFTER_US) {
        eepi_core_wake_at(core, core->blocked_us + SEEK_AFTER_US);
        return;
    }
    core->blocked_us = 0;
    core->sought_epoch = core->view->epoch;
    eepi_core_wake_at(core, core->now_us);
}

/* The next planned view: filled slots are routed to, members join and leave, more slots are to be
 * filled. A join or a leave does not wait for fills under way: those are given up. */
static void make_plan(eepi_core *core)
{
    eepi_view *draft = eepi_core_draft(core, EEPI_VIEW_PLANNED);
    int promoted = eepi_core_promote_fills(core, draft);
    int changes = 0, retirements = 0, filling;

    if (!change_members(core, draft, &changes, &retirements)) {
        return;
    }
    filling = eepi_plan_fills(draft, -1, NULL, 0);
    if (filling && !changes && !eepi_core_fills_are_late(core)) {
        return;
    }
    if (filling) {
        changes += eepi_plan_void(draft);
    }
    changes += eepi_core_settle_order(core, draft, promoted > 0);
    if (!changes) {
        changes += eepi_core_take_order(core, draft);
    }
    if (!changes) {
        changes += eepi_core_renew_colour(core, draft);
    }
    if (!changes) {
        seek_colour(core, draft);
    }
    if (!changes) { /* another join or leave may follow: what they ask for waits a little */
        changes += eepi_core_plan_round(core, draft);
    }
    if (changes + promoted + retirements > 0) {
        eepi_core_split_loads(core, draft);
    } else if (!core->config.background && eepi_core_shares_are_stale(core, draft)) {
        eepi_core_share_out(core, draft);
    } else {
        return;
    }
    if (draft->first_step < core->own_step) { /* joiners read tags near it, which are cut (S13) */
        draft->first_step = core->own_step;
    }
    eepi_core_check_draft(core, draft);
    eepi_view_seal(draft);
    memcpy(core->plan, draft, draft->bytes);
    core->has_plan = true;
    core->stage_asked = false;
    core->plan_us = core->now_us;
    eepi_core_act(core, EEPI_ACTION_PLAN)->view = core->plan;
}

/* The part of each rank: put the plan into the idle bank, as soon as that bank is idle. */
static void stage(eepi_core *core)
{
    bool in_new = eepi_view_has(core->plan, core->config.seat, core->config.generation);
    bool in_old = eepi_view_has(core->view, core->config.seat, core->config.generation);

    if (!core->has_plan || core->stage_asked || (!in_new && !in_old)) {
        return;
    }
    if (in_old && core->installed_epoch != core->view->epoch) {
        return; /* the idle bank still waits for its own flip */
    }
    core->stage_asked = true;
    if (in_new) {
        eepi_core_act(core, EEPI_ACTION_STAGE)->view = core->plan;
    } else { /* this rank is the one that leaves */
        eepi_core_note_tried(core, core->plan->epoch);
        eepi_core_acknowledge(core, EEPI_ACK_STAGED, core->plan);
    }
}

/* This rank hears each member of the plan that runs on another host: none is silent, and a beat of
 * each has come, where that is told. A
 * view in which two hosts do not hear each other lasts as long as silence takes to show; then one
 * of them is out, comes back, and so on. So it is not acknowledged, and nobody has lost anything.
 */
static bool hears_all(const eepi_core *core)
{
    for (int seat = 0; seat < core->plan->shape.max_ranks; seat++) {
        const uint32_t generation = eepi_view_seat_at(core->plan, seat)->generation;
        const core_peer *peer = &core->peers[seat];
        if (seat != core->config.seat && eepi_view_is_member(core->plan, seat) &&
            eepi_view_seat_at(core->plan, seat)->host != core->config.host &&
            ((core->config.beats_are_told && peer->beats < generation) ||
             peer->unheard == generation)) {
            return false;
        }
    }
    return true;
}

static void acknowledge_staged(eepi_core *core)
{
    if (core->has_plan && core->staged_digest != 0 && core->staged_digest == core->plan->digest &&
        hears_all(core)) {
        core->staged_digest = 0;
        eepi_core_acknowledge(core, EEPI_ACK_STAGED, core->plan);
    }
}

bool eepi_core_plans(const eepi_core *core)
{
    return core->has_view && core->status == CORE_SERVING && eepi_core_order(core) == 0;
}

/* All acknowledgements go to one store, one after the other: many ranks have more time. */
static uint64_t stage_bound_us(const eepi_core *core)
{
    const uint64_t turn_us = eepi_core_turn_us(core);

    return core->config.stage_bound_us + (turn_us > core->config.propose_delay_us ? turn_us : 0);
}

void eepi_core_advance_plan(eepi_core *core)
{
    const uint64_t bound_us = stage_bound_us(core);
    bool plans;

    if (core->status != CORE_SERVING && core->status != CORE_OUTSIDE) {
        return;
    }
    stage(core);
    acknowledge_staged(core);
    plans = core->status == CORE_SERVING && eepi_core_order(core) == 0 &&
            core->installed_epoch == core->view->epoch && !core->cas_in_flight &&
            !core->store_forgot;
    if (!plans) {
        return;
    }
    if (!core->has_plan) {
        make_plan(core);
        stage(core);
        eepi_core_wake_at(core, core->now_us + RETRY_US);
        return;
    }
    if (core->plan->proposer != core->config.seat) {
        return;
    }
    if (plan_is_acknowledged(core)) {
        memcpy(core->draft, core->plan, core->plan->bytes);
        eepi_core_commit(core);
        return;
    }
    if (plan_is_void(core) || core->now_us >= core->plan_us + bound_us) {
        drop_plan(core);
    } else {
        eepi_core_wake_at(core, core->plan_us + bound_us);
    }
}

void eepi_core_on_plan(eepi_core *core, const eepi_view *plan)
{
    if (!core->has_view || plan->epoch <= core->view->epoch ||
        plan->base_digest != core->view->digest || plan->cause != EEPI_VIEW_PLANNED) {
        return;
    }
    if (plan->proposer == core->config.seat && core->has_plan &&
        core->plan->digest == plan->digest) {
        return; /* this rank's own; another's that is put again had lapsed, and is staged again */
    }
    if (core->flipped_digest == plan->digest) {
        return; /* live already */
    }
    memcpy(core->plan, plan, plan->bytes);
    core->has_plan = true;
    core->stage_asked = false;
    core->plan_us = core->now_us;
}
