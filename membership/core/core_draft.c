/* SPDX-License-Identifier: Apache-2.0 */
/* The document that this rank would commit next: a copy of the newest view to be changed, and its
 * way into the register. */
#include "membership/core/core_draft.h"

#include "membership/core/core_check.h"
#include "membership/core/core_common.h"
#include "membership/core/core_ends.h"
#include "membership/core/core_rebalance.h"
#include "membership/view/view_order.h"
#include "repair/planner/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* docs/REDUNDANCY.md has the reasons. */
enum {
    SHARE_SWEEPS = 8,       /* passes over a layer's experts: more gain nothing that can be seen */
    SHARE_GAIN_PERCENT = 5, /* of the most loaded ranks' tokens, for which shares alone change */
};

/* A document that the store forgot may have had this epoch, by another proposer and on another
 * base. So each proposer has epochs of its own in two cases, whatever the base: in doubt, and where
 * it leaves out a rank that lives and may alone know what follows. These epochs are two residues
 * modulo twice the number of seats and one (S2: no epoch is committed twice). */
uint64_t eepi_core_fresh_epoch(const eepi_core *core, bool left_alive)
{
    uint64_t seats = (uint64_t)core->config.shape.max_ranks + 1, leap = 2 * seats;
    uint64_t own = (uint64_t)core->config.seat + (left_alive ? seats : 0);
    uint64_t least = core->view->epoch + 1 + (uint64_t)core->in_doubt * leap;

    if (!core->in_doubt && !left_alive) {
        return least;
    }
    if (core->in_doubt && least <= core->tried_epoch) {
        least = core->tried_epoch + 1;
    }
    return least + (own + leap - least % leap) % leap;
}

eepi_view *eepi_core_draft(eepi_core *core, eepi_view_cause cause)
{
    eepi_view *draft = core->draft;

    memcpy(draft, core->view, core->view->bytes);
    draft->epoch = eepi_core_fresh_epoch(core, false);
    draft->base_digest = core->view->digest;
    draft->cause = (uint8_t)cause;
    draft->phase = EEPI_VIEW_SERVING;
    draft->proposer = core->config.seat;
    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        eepi_core_free_seat(core, draft, seat);
    }
    return draft;
}

void eepi_core_drop_checkpoint(eepi_view *draft, int seat)
{
    eepi_view_seat_at(draft, seat)->flags &= (uint8_t)~EEPI_SEAT_HAS_CHECKPOINT;
}

eep_status eepi_core_plan_coverage(eepi_core *core, eepi_view *draft, int *num_fills_out)
{
    bool can_read_file[EEP_MAX_RANKS];
    const eepi_plan_given given = {.links = core->links,
                                   .expert_bytes = eepi_core_expert_bytes(core),
                                   .can_read_file = can_read_file};
    eepi_plan_cost cost;
    eep_status status;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        can_read_file[seat] = eepi_view_has_checkpoint(draft, seat);
    }
    status = eepi_plan_coverage(draft, core->table, &given, &cost, core->why, sizeof core->why);
    if (status == EEP_OK) {
        *num_fills_out = eepi_plan_num_fills(&cost);
        core->plan_bound_ns = cost.bound_ns;
    }
    return status;
}

/* The live replicas of a layer: [max_ranks][num_slots], -1 for none. */
static const int32_t *list_replicas(eepi_core *core, const eepi_view *view, int layer)
{
    const eepi_view_shape *shape = &view->shape;
    int32_t *to = core->slot_experts;

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        const bool is_member = eepi_view_is_member(view, seat);
        for (int slot = 0; slot < shape->num_slots; slot++) {
            const eepi_view_slot *at = eepi_view_slot_at(view, layer, seat, slot);
            *to++ = is_member && at->state == EEPI_SLOT_HOLDS ? at->expert : -1;
        }
    }
    return core->slot_experts;
}

void eepi_core_share_out(eepi_core *core, eepi_view *draft)
{
    const eepi_view_shape *shape = &draft->shape;
    const size_t slots = (size_t)shape->max_ranks * (size_t)shape->num_slots;

    for (int layer = 0; layer < shape->num_layers; layer++) {
        const uint32_t *loads = eepi_core_loads(core, layer);
        eepi_view_slot *first = eepi_view_slot_at(draft, layer, 0, 0);
        if (loads) {
            eepi_shares_split(core->shares, list_replicas(core, draft, layer), loads, SHARE_SWEEPS,
                              core->slot_shares);
        }
        for (size_t i = 0; i < slots; i++) {
            first[i].share = loads ? core->slot_shares[i] : 0;
        }
    }
    core->loads_are_new = false;
}

bool eepi_core_shares_are_stale(eepi_core *core, const eepi_view *draft)
{
    const eepi_view_shape *shape = &draft->shape;
    const size_t slots = (size_t)shape->max_ranks * (size_t)shape->num_slots;
    uint64_t present = 0, best = 0;

    for (int layer = 0; core->loads_are_new && layer < shape->num_layers; layer++) {
        const uint32_t *loads = eepi_core_loads(core, layer);
        const eepi_view_slot *first = eepi_view_slot_at(draft, layer, 0, 0);
        const int32_t *replicas = list_replicas(core, draft, layer);
        bool any = false;
        if (!loads) {
            continue;
        }
        for (size_t i = 0; i < slots; i++) {
            core->slot_shares[i] = first[i].share;
            any |= first[i].share != 0;
        }
        present += eepi_shares_peak(core->shares, replicas, loads, any ? core->slot_shares : NULL);
        eepi_shares_split(core->shares, replicas, loads, SHARE_SWEEPS, core->slot_shares);
        best += eepi_shares_peak(core->shares, replicas, loads, core->slot_shares);
    }
    core->loads_are_new = false;
    return present > best && (present - best) * 100 >= present * SHARE_GAIN_PERCENT;
}

void eepi_core_measure_fills(eepi_core *core, eepi_core_fills *fills_out)
{
    const eepi_plan_given given = {.links = core->links,
                                   .expert_bytes = eepi_core_expert_bytes(core)};
    eepi_plan_cost cost;

    eepi_plan_measure(core->view, core->table, &given, &cost);
    *fills_out = (eepi_core_fills){
        .num_own = cost.num_own,
        .num_remote = cost.num_remote,
        .num_file = cost.num_file,
        .longest_us = cost.makespan_ns / 1000,
        .least_us = core->view->proposer == core->config.seat ? core->plan_bound_ns / 1000 : 0};
}

void eepi_core_commit(eepi_core *core)
{
    eepi_action *action;

    if (core->cas_in_flight || core->store_forgot) {
        return;
    }
    if (core->draft->cause != EEPI_VIEW_PLANNED) { /* a plan is as it was staged */
        eepi_core_share_out(core, core->draft);
        eepi_view_drop_gone_backups(core->draft);
    }
    eepi_core_check_draft(core, core->draft);
    eepi_view_seal(core->draft);
    eepi_core_note_tried(core, core->draft->epoch);
    core->cas_in_flight = true;
    action = eepi_core_act(core, EEPI_ACTION_CAS);
    action->view = core->draft;
    action->revision = core->revision;
}

/* ---------------------------------------------------------------- orders (rule R3) */

eep_status eepi_core_order_open(eepi_core *core)
{
    const size_t bytes = eepi_wishes_bytes(&core->config.shape);

    core->heard_wishes = malloc(bytes);
    core->first_wishes = malloc(bytes);
    return core->heard_wishes && core->first_wishes ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_core_order_close(eepi_core *core)
{
    free(core->heard_wishes);
    free(core->first_wishes);
}

static void keep(const eepi_core *core, const eepi_order *order, eepi_order *kept, void *wishes)
{
    memcpy(wishes, order->wishes, eepi_wishes_bytes(&core->config.shape));
    *kept = *order;
    kept->wishes = wishes;
}

/* R3: an order counts while whoever gave it is in the view, until a view has it or a higher one. */
static bool counts(const eepi_core *core, const eepi_order *order)
{
    return order->number > (core->has_view ? core->view->order_number : 0) &&
           (!core->has_view || eepi_view_has(core->view, order->seat, order->generation));
}

/* R3: the highest number; of two with one number that of the lower seat. */
static bool is_before(const eepi_order *a, const eepi_order *b)
{
    return a->number != b->number ? a->number > b->number : a->seat < b->seat;
}

void eepi_core_on_order(eepi_core *core, const eepi_order *order, bool is_first)
{
    if (is_first) {
        keep(core, order, &core->first_order, core->first_wishes);
    }
    if (!counts(core, &core->heard_order) ||
        (counts(core, order) && is_before(order, &core->heard_order))) {
        keep(core, order, &core->heard_order, core->heard_wishes);
    }
}

void eepi_core_begin_order(eepi_core *core, eepi_view *draft)
{
    eepi_view_take_order(draft, core->first_order.number ? &core->first_order : NULL);
}

static void say_order(uint64_t number, uint64_t digest, char *text, size_t bytes)
{
    if (number == 0) {
        snprintf(text, bytes, "none");
    } else {
        snprintf(text, bytes, "number %llu (digest %016llx)", (unsigned long long)number,
                 (unsigned long long)digest);
    }
}

bool eepi_core_has_same_order(eepi_core *core, int seat)
{
    /* with that of rank 0, so that all who propose a first view refuse the same ranks */
    const core_peer *first = &core->peers[0], *there = &core->peers[seat];
    char ours[64], theirs[64];

    if (first->order_number == there->order_number && first->order_digest == there->order_digest) {
        return true;
    }
    say_order(first->order_number, first->order_digest, ours, sizeof ours);
    say_order(there->order_number, there->order_digest, theirs, sizeof theirs);
    snprintf(core->why, sizeof core->why,
             "rank %d was given another placement (%s) than rank 0 (%s): give all ranks of a first "
             "view the same (eep_placement_set)",
             seat, theirs, ours);
    return false;
}

int eepi_core_take_order(eepi_core *core, eepi_view *draft)
{
    if (!counts(core, &core->heard_order)) {
        return 0;
    }
    eepi_view_take_order(draft, &core->heard_order);
    (void)eepi_view_settle_wishes(draft);
    core->background_after_us = core->now_us;
    eepi_core_examine_layers(core);
    return 1;
}

int eepi_core_settle_order(eepi_core *core, eepi_view *draft, bool has_changed)
{
    int settled;

    if (draft->order_number == 0 || (!has_changed && core->settled_digest == core->view->digest)) {
        return 0;
    }
    settled = eepi_view_settle_wishes(draft);
    if (settled == 0 && !has_changed) {
        core->settled_digest = core->view->digest;
    }
    return settled;
}
