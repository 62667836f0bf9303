/* SPDX-License-Identifier: Apache-2.0 */
/* What all files of the membership core share: asking for actions, and the questions that they ask
 * about a seat. Nothing is decided here. */
#include "membership/core/core_common.h"

#include <assert.h>

eepi_action *eepi_core_act(eepi_core *core, eepi_action_kind kind)
{
    eepi_action *action = &core->actions[core->num_actions];

    assert(core->num_actions < EEPI_CORE_MAX_ACTIONS);
    core->num_actions++;
    *action = (eepi_action){.kind = kind};
    return action;
}

bool eepi_core_has_room(const eepi_core *core)
{
    return core->num_actions + CORE_ROOM_KEPT < EEPI_CORE_MAX_ACTIONS;
}

eepi_action *eepi_core_note(eepi_core *core, eepi_action_kind kind)
{
    if (eepi_core_has_room(core)) {
        return eepi_core_act(core, kind);
    }
    core->dropped = (eepi_action){.kind = kind};
    return &core->dropped;
}

void eepi_core_acknowledge(eepi_core *core, eepi_ack_kind kind, const eepi_view *view)
{
    eepi_core_act(core, EEPI_ACTION_ACK)->ack =
        (eepi_ack){core->config.seat, core->config.generation, kind, view->epoch, view->digest};
}

void eepi_core_note_tried(eepi_core *core, uint64_t epoch)
{
    if (epoch > core->tried_epoch) {
        core->tried_epoch = epoch;
    }
}

void eepi_core_wake_at(eepi_core *core, uint64_t time_us)
{
    if (time_us < core->wake_us) {
        core->wake_us = time_us;
    }
}

bool eepi_core_has_exited(const eepi_core *core, int seat, uint32_t generation)
{
    return generation != 0 && generation <= core->peers[seat].exited;
}

bool eepi_core_process_has_ended(const eepi_core *core, int seat, uint32_t generation)
{
    return generation != 0 && generation <= core->peers[seat].ended;
}

bool eepi_core_stores_have_ended(const eepi_core *core, int seat, uint32_t generation)
{
    return generation != 0 && generation <= core->peers[seat].stores_ended;
}

bool eepi_core_stores_no_more(const eepi_core *core, int seat, uint32_t generation)
{
    return eepi_core_stores_have_ended(core, seat, generation) ||
           (generation != 0 && generation == core->peers[seat].last_word);
}

bool eepi_core_instance_has_ended(const eepi_core *core)
{
    return core->has_view && core->view->epoch != 0 && eepi_view_num_active(core->view) == 0;
}

bool eepi_core_needs(const eepi_core *core, int seat)
{
    return eepi_view_is_member(core->view, seat) ||
           (core->peers[seat].left_epoch == core->view->epoch &&
            core->installed_epoch != core->view->epoch && !eepi_core_instance_has_ended(core));
}

bool eepi_core_is_word(int kind)
{
    return kind == EEP_FAULT_RESET || kind == EEP_FAULT_DEVICE || kind == EEP_FAULT_BAD_ANSWER ||
           kind == EEP_FAULT_EXPELLED;
}

bool eepi_core_is_stronger(int kind, int than)
{
    static const int8_t weight[] = {
        [EEP_FAULT_EXIT] = 9,     [EEP_FAULT_RESET] = 8,    [EEP_FAULT_DEVICE] = 7,
        [EEP_FAULT_SILENT] = 6,   [EEP_FAULT_EXPELLED] = 5, [EEP_FAULT_BAD_ANSWER] = 4,
        [EEP_FAULT_DEADLINE] = 3, [EEP_FAULT_LEFT_OUT] = 2, [EEP_FAULT_GROUP] = 1,
    };

    return kind != NO_EVIDENCE && (than == NO_EVIDENCE || weight[kind] > weight[than]);
}

int eepi_core_group_seats(const eepi_core *core)
{
    const int seats = core->config.shape.seats_per_group;

    return seats > 1 ? seats : 1;
}

uint8_t eepi_core_group_leaves(const eepi_core *core, const eepi_view *view, int seat)
{
    const int seats = eepi_core_group_seats(core), first = seat - seat % seats;
    uint8_t leaves = 0;

    for (int mate = first; mate < first + seats; mate++) {
        leaves |=
            eepi_view_has(view, mate, core->peers[mate].generation) ? core->peers[mate].leaving : 0;
    }
    return leaves;
}

int eepi_core_own_word(const eepi_core *core, int seat)
{
    const core_peer *peer = &core->peers[seat];

    return core->has_view && peer->said != NO_EVIDENCE &&
                   eepi_view_has(core->view, seat, peer->said_generation)
               ? peer->said
               : NO_EVIDENCE;
}

/* Words of members, and of this rank. */
static int word_of(const eepi_core *core, int seat)
{
    const core_peer *peer = &core->peers[seat];
    int kind = eepi_core_own_word(core, seat);

    if (core->spared_epoch == core->view->epoch) {
        return NO_EVIDENCE;
    }
    if (peer->heard_epoch == core->view->epoch &&
        eepi_view_has(core->view, seat, peer->heard_generation) &&
        eepi_core_is_stronger(peer->heard, kind)) {
        kind = peer->heard;
    }
    return kind;
}

bool eepi_core_is_local(const eepi_core *core, int seat)
{
    return eepi_view_seat_at(core->view, seat)->host == core->config.host;
}

bool eepi_core_are_apart(const eepi_core *core, int seat, int other)
{
    return eepi_view_seat_at(core->view, seat)->host != eepi_view_seat_at(core->view, other)->host;
}

bool eepi_core_is_of_pair(int kind)
{
    return kind == EEP_FAULT_SILENT || kind == EEP_FAULT_RESET;
}

bool eepi_core_is_unheard(const eepi_core *core, int seat)
{
    const core_peer *peer = &core->peers[seat];

    return core->has_view && seat != core->config.seat && peer->unheard != 0 &&
           eepi_core_needs(core, seat) && !eepi_core_is_local(core, seat) &&
           eepi_view_seat_at(core->view, seat)->generation == peer->unheard;
}

static bool is_cut(const eepi_core *core, int seat)
{
    return core->cut[seat / 64] >> (seat % 64) & 1u;
}

int eepi_core_evidence(const eepi_core *core, int seat)
{
    int seen = eepi_core_seen(core, seat);
    int word;

    if (!core->has_view || seat == core->config.seat) {
        return NO_EVIDENCE;
    }
    if ((is_cut(core, seat) || eepi_core_is_unheard(core, seat)) &&
        eepi_core_is_stronger(EEP_FAULT_SILENT, seen)) {
        seen = EEP_FAULT_SILENT;
    }
    word = word_of(core, seat);
    return eepi_core_is_stronger(word, seen) ? word : seen;
}

int eepi_core_seen(const eepi_core *core, int seat)
{
    const core_peer *peer = &core->peers[seat];
    uint32_t generation = core->has_view ? eepi_view_seat_at(core->view, seat)->generation : 0;

    if (!core->has_view || seat == core->config.seat || !eepi_core_needs(core, seat)) {
        return NO_EVIDENCE;
    }
    if (eepi_core_has_exited(core, seat, generation)) {
        return EEP_FAULT_EXIT;
    }
    return peer->evidence_generation == generation ? peer->evidence : NO_EVIDENCE;
}

bool eepi_core_has_reported(const eepi_core *core, int seat)
{
    const core_peer *peer = &core->peers[seat];

    return eepi_view_has(core->view, seat, peer->report_generation) &&
           peer->report_epoch >= core->view->epoch;
}

const uint32_t *eepi_core_loads(const eepi_core *core, int layer)
{
    const int num_experts = core->config.shape.num_experts;
    const uint32_t *loads = core->loads + (size_t)layer * (size_t)num_experts;

    for (int expert = 0; core->has_loads && expert < num_experts; expert++) {
        if (loads[expert] != 0) {
            return loads;
        }
    }
    return NULL;
}

uint64_t eepi_core_expert_bytes(const eepi_core *core)
{
    uint64_t bytes = 0;

    for (int i = 0; i < EEP_MAX_TENSORS; i++) {
        bytes += core->peers[core->config.seat].tensor_bytes[i];
    }
    return bytes;
}

static bool accuses(const eepi_core *core, int by, int seat)
{
    return eepi_core_has_reported(core, by) &&
           core->peers[by].report_accused[seat / 64] >> (seat % 64) & 1u;
}

int eepi_core_root_accusers(const eepi_core *core, int seat)
{
    const core_peer *accused = &core->peers[seat];
    int accusers = accused->evidence == EEP_FAULT_DEADLINE &&
                   accused->evidence_by == core->config.seat && seat != core->config.seat;

    for (int other = 0; other < core->config.shape.max_ranks; other++) {
        if (other != seat && accuses(core, seat, other) && !accuses(core, other, seat)) {
            return 0;
        }
        accusers += other != seat && other != core->config.seat && accuses(core, other, seat);
    }
    return accusers;
}

bool eepi_core_is_own_root(const eepi_core *core)
{
    const int own = eepi_core_root_accusers(core, core->config.seat);

    for (int seat = 0; own > 1 && seat < core->config.shape.max_ranks; seat++) {
        if (seat != core->config.seat && eepi_view_is_member(core->view, seat) &&
            eepi_core_root_accusers(core, seat) >= own) {
            return false;
        }
    }
    return own > 1;
}
