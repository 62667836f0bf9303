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

int eepi_core_evidence(const eepi_core *core, int seat)
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
