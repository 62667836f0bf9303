/* SPDX-License-Identifier: Apache-2.0 */
/* The document that this rank would commit next: a copy of the newest view to be changed, and its
 * way into the register. */
#include "membership/core/core_draft.h"

#include "membership/core/core_check.h"
#include "membership/core/core_common.h"
#include "repair/planner/planner.h"

#include <string.h>

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
        eepi_view_seat *s = eepi_view_seat_at(draft, seat);
        if (s->state == EEP_SEAT_QUARANTINED &&
            eepi_core_stores_have_ended(core, seat, s->generation)) {
            s->state = EEP_SEAT_VACANT;
        }
    }
    return draft;
}

void eepi_core_drop_backups(eepi_view *draft, int seat)
{
    for (int layer = 0; layer < draft->shape.num_layers; layer++) {
        for (int expert = 0; expert < draft->shape.num_experts; expert++) {
            eepi_view_set_backup(draft, seat, layer, expert, false);
        }
    }
    eepi_view_seat_at(draft, seat)->flags = 0;
}

eep_status eepi_core_plan_coverage(eepi_core *core, eepi_view *draft, int *num_fills_out)
{
    bool can_read_file[EEP_MAX_RANKS];
    eepi_plan_given given = {.links = core->links, .can_read_file = can_read_file};
    eepi_plan_cost cost;
    eep_status status;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        can_read_file[seat] = eepi_view_has_checkpoint(draft, seat);
    }
    for (int i = 0; i < EEP_MAX_TENSORS; i++) {
        given.expert_bytes += core->peers[core->config.seat].tensor_bytes[i];
    }
    status = eepi_plan_coverage(draft, core->table, &given, &cost, core->why, sizeof core->why);
    if (status == EEP_OK) {
        *num_fills_out = eepi_plan_num_fills(&cost);
    }
    return status;
}

void eepi_core_commit(eepi_core *core)
{
    eepi_action *action;

    if (core->cas_in_flight) {
        return;
    }
    eepi_core_check_draft(core, core->draft);
    eepi_view_seal(core->draft);
    eepi_core_note_tried(core, core->draft->epoch);
    core->cas_in_flight = true;
    action = eepi_core_act(core, EEPI_ACTION_CAS);
    action->view = core->draft;
    action->revision = core->revision;
}
