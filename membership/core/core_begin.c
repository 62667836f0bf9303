/* SPDX-License-Identifier: Apache-2.0 */
/* The first view of an instance, or of one that begins again after all of its processes have ended
 * (rules M7, M8). */
#include "membership/core/core_begin.h"

#include "membership/core/core_common.h"
#include "membership/core/core_draft.h"
#include "membership/core/core_members.h"
#include "membership/core/core_check.h"
#include "membership/view/view_order.h"
#include "repair/placement.h"
#include "repair/planner/planner.h"

#include <stdio.h>
#include <string.h>

#define FIRST_STEP_STRIDE (1ull << 32) /* more steps than one instance runs between two views */

/* The process that the newest document names for the seat has ended as a whole, since after the
 * first sign of it its threads may decide for a moment: some rank saw it, or a newer process took
 * the seat, which it may do only after that (M7). */
static bool has_ended(const eepi_core *core, int seat)
{
    const eepi_view_seat *s = eepi_view_seat_at(core->view, seat);
    const core_peer *peer = &core->peers[seat];

    if (!core->has_view || s->generation == 0 ||
        eepi_core_process_has_ended(core, seat, s->generation) ||
        eepi_view_is_fenced(core->view, seat)) {
        return true;
    }
    return peer->generation > s->generation && peer->host == s->host; /* N8 */
}

/* An instance begins, or begins again after all of its processes have ended, since then nobody is
 * left who could let others in. No lease is needed between such views (M8): the ends were observed.
 */
static bool may_begin(const eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        const core_peer *peer = &core->peers[seat];
        uint32_t last = core->has_view ? eepi_view_seat_at(core->view, seat)->generation : 0;
        bool is_first = seat < core->config.num_ranks;
        if (core->has_view && eepi_view_is_member(core->view, seat) && !has_ended(core, seat)) {
            return false;
        }
        /* a rank that left with all others may not have read of it yet (M8) */
        if (eepi_core_instance_has_ended(core) &&
            eepi_view_seat_at(core->view, seat)->state == EEP_SEAT_QUARANTINED &&
            !has_ended(core, seat)) {
            return false;
        }
        if (is_first && (!peer->ready || peer->generation <= last || !has_ended(core, seat) ||
                         eepi_core_has_exited(core, seat, peer->generation))) {
            return false;
        }
    }
    return true;
}

/* The newest document (empty: none yet) without its members. Step numbers go on far above those of
 * the instance that has ended (D5); its windows are gone with it. */
static eepi_view *draft_beginning(eepi_core *core)
{
    eepi_view *draft = core->draft;

    memcpy(draft, core->view, core->view->bytes);
    draft->base_digest = core->has_view ? core->view->digest : 0;
    draft->first_step = core->has_view ? core->view->first_step + FIRST_STEP_STRIDE : 1;
    draft->collective = 0; /* its processes are new */
    draft->epoch++;
    draft->phase = EEPI_VIEW_SERVING;
    draft->cause = EEPI_VIEW_INITIAL;
    draft->proposer = core->config.seat;
    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        eepi_view_seat *s = eepi_view_seat_at(draft, seat);
        eepi_core_drop_checkpoint(draft, seat);
        if (s->state != EEP_SEAT_QUARANTINED || has_ended(core, seat)) {
            s->state = EEP_SEAT_VACANT;
        }
        s->reach = s->former = 0; /* the windows of those who begin are new */
    }
    eepi_plan_empty_nonmembers(draft);
    eepi_view_drop_gone_backups(draft);
    if (eepi_core_instance_has_ended(core)) { /* what begins now may have other weights */
        eepi_view_forget_checksums(draft);
    }
    return draft;
}

/* All members of the newest document have ended, and not in order. */
static void say_how_to_forget(eepi_core *core)
{
    char why[EEPI_CORE_WHY_BYTES - 120];

    if (!core->has_view || eepi_core_instance_has_ended(core)) {
        return;
    }
    snprintf(why, sizeof why, "%.130s", core->why);
    snprintf(core->why, sizeof core->why,
             "%s; that instance has not ended in order: eep_store_forget, or eep-store --forget, "
             "removes what it left",
             why);
}

static void fail_to_begin(eepi_core *core)
{
    core->uncovered = true;
    eepi_core_act(core, EEPI_ACTION_UNCOVERED)->why = core->why;
}

/* Has this rank loaded what a first view has in its seat? Overwrites the draft. */
static bool has_loaded_first_view(eepi_core *core)
{
    const eepi_view_shape *shape = &core->config.shape;
    const int32_t *experts = core->peers[core->config.seat].experts;

    memcpy(core->draft, core->view, core->view->bytes); /* empty: there is none yet */
    for (int seat = 0; seat < core->config.num_ranks; seat++) {
        *eepi_view_seat_at(core->draft, seat) =
            (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
    }
    eepi_core_begin_order(core, core->draft);
    if (eepi_plan_initial(core->draft) != EEP_OK) {
        return true;
    }
    for (int i = 0; i < shape->num_layers * shape->num_slots; i++) {
        const eepi_view_slot *s = eepi_view_slot_at(core->draft, i / shape->num_slots,
                                                    core->config.seat, i % shape->num_slots);
        if (experts[i] != (s->state == EEPI_SLOT_HOLDS ? s->expert : -1)) {
            return false;
        }
    }
    return true;
}

/* The view that is begun with would lack experts: some rank took its seat while an instance before
 * still lived, and loaded what that one lacked. The rank that loaded something else than a first
 * view has ends, and a new process takes its seat. */
static void begin_with_gaps(eepi_core *core)
{
    if (has_loaded_first_view(core)) {
        fail_to_begin(core);
        return;
    }
    eepi_core_set_status(core, CORE_OVER);
    eepi_core_act(core, EEPI_ACTION_EVICTED);
}

/* All hear who is refused, and why; another process may take its seat. */
static bool admit_all(eepi_core *core, eepi_view *draft)
{
    for (int seat = 0; seat < core->config.num_ranks; seat++) {
        const bool same_order = eepi_core_has_same_order(core, seat);
        if (same_order && eepi_core_admit(core, draft, seat)) {
            continue;
        }
        if (same_order && eepi_core_fits_others(core, draft, seat)) {
            say_how_to_forget(core); /* else what an instance left behind is not the cause */
        }
        eepi_core_refuse(core, seat);
        fail_to_begin(core);
        return false;
    }
    eepi_core_begin_order(core, draft);
    return true;
}

void eepi_core_advance_initial(eepi_core *core)
{
    eepi_view *draft;
    uint64_t turn_us;
    int fills = 0;

    if (core->config.seat >= core->config.num_ranks || core->cas_in_flight || core->uncovered ||
        !core->register_was_read || !may_begin(core)) {
        return;
    }
    if (core->ready_us == 0) {
        core->ready_us = core->now_us;
    }
    turn_us = core->ready_us + (uint64_t)core->config.seat * core->config.propose_delay_us;
    if (core->now_us < turn_us) {
        eepi_core_wake_at(core, turn_us);
        return;
    }
    draft = draft_beginning(core);
    if (!admit_all(core, draft)) {
        return;
    }
    eepi_core_count_backups(core, draft);
    if ((!core->has_view || eepi_core_instance_has_ended(core)) &&
        eepi_view_num_uncovered(draft, -1) > 0) {
        /* backups cannot help: nobody knows the checksums of what no slot holds */
        snprintf(core->why, sizeof core->why, "%d experts have no slot in the first view",
                 eepi_view_num_uncovered(draft, -1));
        begin_with_gaps(core);
        return;
    }
    if (eepi_core_plan_coverage(core, draft, &fills) != EEP_OK) {
        say_how_to_forget(core);
        begin_with_gaps(core);
        return;
    }
    draft->phase = fills ? EEPI_VIEW_REPAIRING : EEPI_VIEW_SERVING;
    (void)eepi_view_settle_wishes(draft);
    if (!core->has_view) {
        core->revision = 0;
    }
    eepi_core_commit(core);
}
