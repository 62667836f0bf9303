/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of numbers, between hosts. */
#include "membership/collective/collective_between.h"

#include "membership/collective/collective_ledger.h"

static uint64_t word_of(const eepi_collective_group *group, int seat)
{
    return eepi_ledger_load(&group->member[seat].area->memory->ledger);
}

void eepi_between_promise(struct eepi_collectives *all)
{
    const eepi_collective_pending *pending = &all->pending;
    eepi_collective_group *group = all->group;

    if (!all->is_open || !group || !group->is_begun || !pending->is_given ||
        pending->verdict != EEPI_COLLECTIVE_UNDER_WAY || pending->group != group ||
        eepi_collective_reach_of(group) != EEPI_REACH_FAR ||
        eepi_ledger_number(word_of(group, group->self)) >= pending->number ||
        !eepi_collective_all_have_given(group, pending->number)) {
        return;
    }
    if (eepi_ledger_end(&all->own->memory->ledger, group->epoch, pending->number)) {
        eepi_collective_tell(all);
        eepi_collective_ring(group);
    }
}

uint64_t eepi_between_held(const struct eepi_collectives *all)
{
    const uint64_t promised = eepi_ledger_number(eepi_ledger_load(&all->own->memory->ledger));

    return promised > all->last ? promised : all->last;
}

bool eepi_between_has_ended(const eepi_collective_group *group, uint64_t number)
{
    for (int seat = 0; seat < group->max_ranks; seat++) {
        uint64_t word;
        if (!eepi_collective_has(group, seat)) {
            continue;
        }
        word = word_of(group, seat);
        if (eepi_ledger_ahead(word, group->epoch) != 0 || eepi_ledger_number(word) < number) {
            return false;
        }
    }
    return true;
}

void eepi_between_close(struct eepi_collectives *all, bool stays)
{
    eepi_collective_group *group = all->group;
    uint64_t promised;

    if (eepi_ledger_close(&all->own->memory->ledger, group->epoch, stays, &promised) && stays &&
        promised > all->last && !all->from) {
        all->from = eepi_collective_group_hold(group);
    }
}

/* Those that are at the newest view, or behind it, promise nothing under an older one. A word of a
 * newer epoch than the doubt's has what its owner found when it came there: no number ends there
 * before this rank has come, too. */
bool eepi_between_resolve(struct eepi_collectives *all)
{
    const eepi_collective_group *from = all->from, *group = all->group;
    uint64_t number;

    if (!from) {
        return true;
    }
    if (!group) {
        return false;
    }
    number = eepi_ledger_number(word_of(from, from->self));
    for (int seat = 0; seat < from->max_ranks && number > all->last; seat++) {
        uint64_t word;
        if (!eepi_collective_has(from, seat) || seat == from->self ||
            from->member[seat].generation != group->member[seat].generation) {
            continue;
        }
        if (__atomic_load_n(&from->member[seat].area->memory->at, __ATOMIC_ACQUIRE) <
            group->epoch) {
            return false;
        }
        word = word_of(from, seat);
        number = eepi_ledger_number(word) < number ? eepi_ledger_number(word) : number;
    }
    all->last = number > all->last ? number : all->last;
    eepi_collective_group_drop(all->from);
    all->from = NULL;
    eepi_collective_judge(all, false);
    return true;
}

/* Where all are new, the number of those who have left is not known any more, and nobody is left
 * who has it. */
void eepi_between_learn(struct eepi_collectives *all)
{
    const eepi_collective_group *group = all->group;
    bool all_are_new = true;

    for (int seat = 0; seat < group->max_ranks && !all->is_numbered; seat++) {
        uint64_t word;
        if (!eepi_collective_has(group, seat)) {
            continue;
        }
        word = word_of(group, seat);
        if (eepi_ledger_ahead(word, group->epoch) == 0) {
            all->last = eepi_ledger_number(word);
            all->is_numbered = true;
        }
        all_are_new &= !(word & EEPI_LEDGER_BEGUN) &&
                       __atomic_load_n(&group->member[seat].area->memory->at, __ATOMIC_ACQUIRE) >=
                           group->epoch;
    }
    if (!all->is_numbered && all_are_new) {
        all->last = group->least_number;
        all->is_numbered = true;
    }
}
