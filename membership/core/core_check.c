/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants of docs/PROTOCOL.md that one rank can see alone, as assertions. They stay on in
 * release builds: a rank that breaks one harms all others, and its end harms none of them. A check
 * of a draft reads each slot once, as sealing it does; a check of the state reads each seat once.
 */
#include "membership/core/core_check.h"

#include "membership/core/core_common.h"

#include <assert.h>
#include <stddef.h>

static bool share_a_member(const eepi_view *before, const eepi_view *after)
{
    for (int seat = 0; seat < after->shape.max_ranks; seat++) {
        if (eepi_view_is_member(before, seat) &&
            eepi_view_has(after, seat, eepi_view_seat_at(before, seat)->generation)) {
            return true;
        }
    }
    return false;
}

/* S7: a view that serves covers all experts. M1: one that does not is a fault's, or begins an
 * instance again, and is served after its repair alone. */
static void check_coverage(const eepi_view *draft)
{
    const bool serves = draft->phase == EEPI_VIEW_SERVING;

    if (eepi_view_num_active(draft) == 0) { /* the last view: nobody serves it */
        return;
    }
    assert(serves == (eepi_view_num_uncovered(draft, -1) == 0));
    assert(serves || draft->cause == EEPI_VIEW_FAULT || draft->cause == EEPI_VIEW_INITIAL);
}

/* R1: bytes reach a slot behind their checksum alone, so what is to be filled has one; and a view
 * that names slots FILLING while it serves is a planned one. */
static void check_fills(const eepi_view *draft)
{
    const eepi_view_shape *shape = &draft->shape;

    for (int layer = 0; layer < shape->num_layers; layer++) {
        for (int i = 0; i < shape->max_ranks * shape->num_slots; i++) {
            const eepi_view_slot *slot =
                eepi_view_slot_at(draft, layer, i / shape->num_slots, i % shape->num_slots);
            if (slot->state != EEPI_SLOT_FILLING) {
                continue;
            }
            assert(*eepi_view_checksum_at(draft, layer, slot->expert) != 0);
            assert(draft->phase == EEPI_VIEW_REPAIRING || draft->cause == EEPI_VIEW_PLANNED);
        }
    }
}

/* P7: each fault view, and no other, has another colour, into whose windows nobody stores who is
 * out. A colour's memory is replaced by a fault view that takes it, or while it is idle. */
static void check_colours(const eepi_core *core, const eepi_view *draft)
{
    const eepi_view *view = core->view;
    const bool is_fault = draft->cause == EEPI_VIEW_FAULT;

    assert((draft->colour != view->colour) == is_fault);
    assert(!is_fault || !eepi_view_is_tainted(draft, draft->colour));
    for (int colour = 0; colour < EEPK_COLOURS; colour++) {
        assert(draft->serial[colour] - view->serial[colour] <= 1);
        assert(draft->serial[colour] == view->serial[colour] || colour != view->colour);
    }
}

/* P11: a group serves as a whole. */
static void check_groups(const eepi_view *draft)
{
    const int seats = draft->shape.seats_per_group;

    for (int seat = 0; seats > 1 && seat < draft->shape.max_ranks; seat++) {
        assert(eepi_view_is_member(draft, seat) == eepi_view_is_member(draft, seat - seat % seats));
    }
}

void eepi_core_check_draft(const eepi_core *core, const eepi_view *draft)
{
    const eepi_view *view = core->view; /* all empty before the first */
    const bool begins = draft->cause == EEPI_VIEW_INITIAL;

    assert(draft->epoch > view->epoch); /* S2: an epoch is never used again */
    /* M4: a draft stands on the newest document */
    assert(draft->base_digest == (core->has_view ? view->digest : 0));
    assert(draft->first_step >= view->first_step);           /* D5: nor is a step number */
    assert(begins || draft->collective >= view->collective); /* P13: nor is a result forgotten */
    assert(draft->proposer == core->config.seat);            /* M4: who drafts a view proposes it */
    check_colours(core, draft);
    for (int seat = 0; seat < draft->shape.max_ranks; seat++) { /* S12: generations go up */
        assert(eepi_view_seat_at(draft, seat)->generation >=
               eepi_view_seat_at(view, seat)->generation);
    }
    /* M8: who stays knows what was promised and started before */
    assert(begins || share_a_member(view, draft) || eepi_view_num_active(draft) == 0);
    check_coverage(draft);
    check_fills(draft);
    check_groups(draft);
    assert(eepi_view_backups_are_sound(draft)); /* N24 */
}

/* P8: stores end behind the process, and the process behind its first sign. */
static void check_ends(const core_peer *peer)
{
    assert(peer->stores_ended <= peer->ended && peer->ended <= peer->exited);
}

static void check_status(const eepi_core *core)
{
    const uint64_t epoch = core->view->epoch;

    switch (core->status) {
    case CORE_SERVING: /* M2: never under a view that it has promised not to serve */
        assert(core->installed_epoch != 0 && core->reported_epoch < core->installed_epoch);
        break;
    case CORE_WEDGED:
    case CORE_LEAVING:
        assert(core->has_view && core->was_member);
        break;
    case CORE_OUTSIDE:
        assert(core->installed_epoch == 0);
        break;
    case CORE_OVER:
        break;
    }
    /* S2: what this rank runs, or has promised, is no newer than what it knows */
    assert(core->installed_epoch <= epoch && core->reported_epoch <= epoch);
    /* M4: a plan stands on the newest document, or is void */
    assert(!core->has_plan ||
           (core->plan->epoch > epoch && core->plan->base_digest == core->view->digest));
}

/* M5: evidence names the process that the newest view has, or had, in that seat. */
static void check_suspect(const eepi_core *core, const eepi_suspect *suspect)
{
    assert(suspect->generation != 0);
    /* P11: of itself a rank says that its device has failed, and nothing else */
    assert(suspect->seat != core->config.seat || suspect->kind == EEP_FAULT_DEVICE);
    assert(suspect->generation == eepi_view_seat_at(core->view, suspect->seat)->generation);
}

static void check_action(const eepi_core *core, const eepi_action *action)
{
    switch (action->kind) {
    case EEPI_ACTION_REPORT: /* M2: the promise follows the end of the step */
        assert(core->status == CORE_WEDGED && core->drained);
        for (int i = 0; i < action->report.num_suspects; i++) {
            check_suspect(core, &action->report.suspects[i]);
        }
        break;
    case EEPI_ACTION_KILL:
        check_suspect(core, &action->suspect);
        break;
    case EEPI_ACTION_INSTALL: /* S4: a rank serves what it is in */
        assert(core->status == CORE_SERVING && action->view->phase == EEPI_VIEW_SERVING);
        assert(eepi_view_has(action->view, core->config.seat, core->config.generation));
        break;
    case EEPI_ACTION_STAGE: /* T2: the idle bank does not wait for a flip of its own */
        assert(core->status == CORE_OUTSIDE || core->installed_epoch == core->view->epoch);
        break;
    case EEPI_ACTION_FILL: /* R1: no step reads the slot any more */
        assert(action->view->phase == EEPI_VIEW_REPAIRING ||
               core->installed_epoch == action->view->epoch);
        break;
    default:
        break;
    }
}

void eepi_core_check(const eepi_core *core)
{
    check_status(core);
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        check_ends(&core->peers[seat]);
    }
    for (int i = 0; i < core->num_actions; i++) {
        check_action(core, &core->actions[i]);
    }
}

/* ------------------------------------------------------------------ the status of this rank */

static const char *const names[CORE_NUM_STATUSES] = {"OUTSIDE", "SERVING", "WEDGED", "LEAVING",
                                                     "OVER"};

/* [from][to]; NULL: there is no such transition. */
static const char *const rules[CORE_NUM_STATUSES][CORE_NUM_STATUSES] = {
    [CORE_OUTSIDE] =
        {
            [CORE_SERVING] = "M3, M4: the committed view lets this rank in",
            [CORE_WEDGED] = "M1, M2: that view is REPAIRING, or a member of it is suspected or has "
                            "promised not to serve it",
            [CORE_OVER] = "M4: the instance goes on, ends or cannot begin without this rank",
        },
    [CORE_SERVING] =
        {
            [CORE_SERVING] = "M4: the winner's document is authoritative, whoever missed why",
            [CORE_WEDGED] = "M2: no step of this view can complete any more",
            [CORE_LEAVING] = "M10: a planned view lets this rank go, and others do not run it yet",
            [CORE_OVER] = "M4: the committed view is without this rank",
        },
    [CORE_WEDGED] =
        {
            [CORE_SERVING] = "M4: a newer view was committed that this rank has not promised away",
            [CORE_OVER] = "M4, P11: the committed view is without this rank, or no view follows",
        },
    [CORE_LEAVING] =
        {
            [CORE_OVER] = "M10: all members that live run the view, or none ever will",
        },
    [CORE_OVER] =
        {
            [CORE_OVER] = "S4: a rank that is out stays out; it may be told so again",
        },
};

void eepi_core_set_status(eepi_core *core, core_status next)
{
    assert(rules[core->status][next] != NULL);
    core->status = next;
}

const char *eepi_core_status_name(core_status status)
{
    return names[status];
}
