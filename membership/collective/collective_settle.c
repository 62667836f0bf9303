/* SPDX-License-Identifier: Apache-2.0 */
/* Which number comes next under the newest view, as soon as that can be known (rule P13). */
#include "membership/collective/collective_between.h"
#include "membership/collective/collective_ledger.h"
#include "membership/collective/collective_state.h"

/* A rank that was let in by a planned view learns the number from those who were there before. */
void eepi_collective_learn(struct eepi_collectives *all)
{
    const eepi_collective_reach reach =
        all->group ? eepi_collective_reach_of(all->group) : EEPI_REACH_UNKNOWN;
    uint64_t word;

    if (all->is_numbered || reach == EEPI_REACH_UNKNOWN) {
        return;
    }
    if (reach == EEPI_REACH_FAR) {
        eepi_between_learn(all);
        return;
    }
    word = eepi_ledger_load(&eepi_collective_holder(all->group)->ledger);
    if (eepi_ledger_ahead(word, all->group->epoch) == 0) {
        all->last = eepi_ledger_number(word);
        all->is_numbered = all->group->is_begun = true;
    }
}

/* Under the newest view numbers go on behind the last one: in the holder's ledger, once all members
 * are known to be near, and in this rank's own word, by which others know what it holds. */
static void begin(struct eepi_collectives *all)
{
    eepi_collective_group *group = all->group;
    uint64_t *own = &all->own->memory->ledger;

    if (!group || !all->is_numbered || all->from) {
        return;
    }
    if (eepi_ledger_ahead(eepi_ledger_load(own), group->epoch) < 0) {
        eepi_ledger_begin(own, group->epoch, all->last);
        eepi_collective_tell(all);
        eepi_collective_ring(group);
    }
    if (!group->is_begun && eepi_collective_holder(group)) {
        eepi_ledger_begin(&eepi_collective_holder(group)->ledger, group->epoch, all->last);
        group->is_begun = true;
    }
}

/* What has not ended under the view before goes over to the planned one, as it was given. */
void eepi_collective_take_over(struct eepi_collectives *all)
{
    eepi_collective_pending *pending = &all->pending;
    eepi_collective_group *before = pending->group;

    if (!pending->is_given || pending->verdict != EEPI_COLLECTIVE_UNDER_WAY || !all->group ||
        all->from || before == all->group) {
        return;
    }
    pending->group = eepi_collective_group_hold(all->group);
    __atomic_store_n(&eepi_contribution_of(all->own, pending->number)->epoch, all->group->epoch,
                     __ATOMIC_SEQ_CST);
    eepi_collective_tell(all);
    eepi_collective_ring(before); /* this rank's call waits there */
    eepi_collective_group_drop(before);
    eepi_collective_ring(all->group); /* it may be the last that the others wait for */
}

void eepi_collective_settle(struct eepi_collectives *all)
{
    const bool was_in_doubt = all->from != NULL;

    if (all->has_stopped) { /* what it reports is what it knows */
        return;
    }
    eepi_collective_learn(all);
    if (eepi_between_resolve(all)) {
        begin(all);
        if (was_in_doubt) {
            eepi_collective_take_over(all);
        }
    }
}

bool eepi_collective_may_give(struct eepi_collectives *all)
{
    if (!all->is_open || !all->group) {
        return false;
    }
    eepi_collective_settle(all);
    return all->is_numbered && all->group->is_begun &&
           eepi_collective_reach_of(all->group) != EEPI_REACH_UNKNOWN;
}

void eepi_collective_take_area(struct eepi_collectives *all, int seat, eepi_collective_area *area)
{
    eepi_collective_group *group = all->group;

    eepi_collective_area_drop(all->peers[seat]);
    all->peers[seat] = eepi_collective_area_hold(area);
    if (group && group->member[seat].generation == area->generation && !group->member[seat].area) {
        group->member[seat].area = eepi_collective_area_hold(area);
        group->reach = eepi_collective_find_reach(group);
        eepi_collective_tell(all);
        eepi_collective_settle(all);
        eepi_collective_wake_in(all, NULL);
    }
}
