/* SPDX-License-Identifier: Apache-2.0 */
/* Rules M4 and N22: members decide in turns, and only a rank whose turn it is hears reports and
 * acknowledgements. Each member puts its report once, addressed to nobody. So a fault costs a
 * number of messages that grows with the number of ranks, and not with its square.
 *
 * All hear one word: the first member that stops says so, in one key that all watch. A rank with
 * the first turn listens at all times. Another one begins when its turn comes: it lists what was
 * put before, and from then on hears what follows. */
#include "membership/core/core_turn.h"

#include "membership/core/core_common.h"

enum {
    WAITS_TURNS = 5, /* so many delays of a proposal, and a plan takes long */
    TURN_MEMBERS = 16
};

/* The place of the seat in the deal: the first seat of each node, then the second of each. */
static int turn_of(const eepi_view_shape *shape, int seat)
{
    const int node = eepi_view_node_of(shape, seat);
    const int first = shape->ranks_per_node > 0 ? node * shape->ranks_per_node : 0;

    return (seat - first) * eepi_view_num_nodes(shape) + node;
}

/* It, or another one of its group, is suspected: it will hardly be in the next view. */
static bool is_doubtful(const eepi_core *core, int seat)
{
    const int seats = eepi_core_group_seats(core), first = seat - seat % seats;

    for (int mate = first; mate < first + seats; mate++) {
        if (eepi_core_evidence(core, mate) != NO_EVIDENCE) {
            return true;
        }
    }
    return false;
}

int eepi_core_order(const eepi_core *core)
{
    const eepi_view_shape *shape = &core->config.shape;
    const int own = turn_of(shape, core->config.seat);
    int order = 0;

    if (!eepi_view_has(core->view, core->config.seat, core->config.generation)) {
        return -1;
    }
    if (core->suspected_epoch >= core->view->epoch || is_doubtful(core, core->config.seat) ||
        eepi_core_own_word(core, core->config.seat) != NO_EVIDENCE) {
        /* the unsuspected ones come first, and who is most accused comes last */
        return eepi_view_num_active(core->view) + eepi_core_is_own_root(core);
    }
    for (int seat = 0; seat < shape->max_ranks; seat++) {
        order += eepi_view_is_member(core->view, seat) && turn_of(shape, seat) < own &&
                 !is_doubtful(core, seat);
    }
    return order;
}

/* A turn has room for the promises of all members. A rank that begins to listen before they are in
 * hears all of them once more, and so do the store and the processor that the ranks share. */
uint64_t eepi_core_turn_us(const eepi_core *core)
{
    const int members = core->has_view ? eepi_view_num_active(core->view) : 0;
    const int groups = members / TURN_MEMBERS;

    return core->config.propose_delay_us * (uint64_t)(groups > 1 ? groups : 1);
}

/* UINT64_MAX: it has none. */
static uint64_t own_turn_us(const eepi_core *core)
{
    const int order = eepi_core_order(core);

    return order < 0 ? UINT64_MAX : core->wedged_us + (uint64_t)order * eepi_core_turn_us(core);
}

bool eepi_core_is_own_turn(eepi_core *core)
{
    const uint64_t turn_us = own_turn_us(core);

    if (turn_us == UINT64_MAX || core->cas_in_flight) {
        return false;
    }
    if (core->now_us >= turn_us) {
        return true;
    }
    eepi_core_wake_at(core, turn_us);
    return false;
}

/* One key has all wedges, each over the one before: what was heard of a seat is kept. */
void eepi_core_on_wedge(eepi_core *core, const eepi_wedge *wedge)
{
    core_peer *peer = &core->peers[wedge->seat];

    if (wedge->generation > peer->wedge_generation) {
        peer->wedge_epoch = 0;
    }
    if (wedge->generation >= peer->wedge_generation && wedge->epoch > peer->wedge_epoch) {
        peer->wedge_generation = wedge->generation;
        peer->wedge_epoch = wedge->epoch;
    }
    if (wedge->cause.kind != NO_EVIDENCE) {
        core->peers[wedge->cause.seat].told = wedge->cause;
        core->peers[wedge->cause.seat].told_epoch = wedge->epoch;
    }
}

/* The drain bound of those that have not reported counts from here (N22). */
void eepi_core_take_report(core_peer *peer, const eepi_report *report)
{
    peer->report_generation = report->generation;
    peer->report_epoch = report->epoch;
    peer->report_step = report->highest_step;
    peer->report_collective = report->collective;
    peer->report_held = report->held;
    memset(peer->report_accused, 0, sizeof peer->report_accused);
    memset(peer->report_unheard, 0, sizeof peer->report_unheard);
    memset(peer->report_resets, 0, sizeof peer->report_resets);
    memset(peer->report_words, 0, sizeof peer->report_words);
}

void eepi_core_on_listens(eepi_core *core)
{
    if (!core->listen_asked) {
        return;
    }
    core->was_reread = core->has_view && core->reread_epoch == core->view->epoch;
    /* a store that keeps all has what was put before: the bound does not begin again (N19) */
    if (!core->listens &&
        !(core->config.store_keeps && core->listened_epoch == core->view->epoch)) {
        core->drain_from_us = core->now_us;
    }
    core->listens = true;
    core->listened_epoch = core->view->epoch;
}

static bool has_told_wedge(const eepi_core *core, int seat)
{
    const core_peer *peer = &core->peers[seat];

    return eepi_view_has(core->view, seat, peer->wedge_generation) &&
           peer->wedge_epoch >= core->view->epoch;
}

bool eepi_core_is_given_up(const eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (eepi_core_has_reported(core, seat) || has_told_wedge(core, seat)) {
            return true;
        }
    }
    return false;
}

/* A word of an older epoch is about a fault that has been settled. */
static int known_cause(const eepi_core *core, int seat, uint32_t generation)
{
    const core_peer *peer = &core->peers[seat];
    const int kind = eepi_core_evidence(core, seat);

    if (kind != NO_EVIDENCE) {
        return kind;
    }
    return peer->told.generation == generation && peer->told_epoch >= core->view->epoch
               ? peer->told.kind
               : NO_EVIDENCE;
}

int eepi_core_cause(const eepi_core *core, int seat, uint32_t generation)
{
    const int seats = eepi_core_group_seats(core), first = seat - seat % seats;
    const int kind = known_cause(core, seat, generation);

    if (kind != NO_EVIDENCE) {
        return kind;
    }
    for (int mate = first; mate < first + seats; mate++) {
        if (known_cause(core, mate, eepi_view_seat_at(core->view, mate)->generation) !=
            NO_EVIDENCE) {
            return EEP_FAULT_GROUP;
        }
    }
    return EEP_FAULT_LEFT_OUT;
}

/* Ends are all that is known against members: the others see those themselves, in the same moment.
 */
static bool all_see_why(const eepi_core *core)
{
    bool any = false;

    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        const int kind = eepi_core_evidence(core, seat);
        if (kind != NO_EVIDENCE && kind != EEP_FAULT_EXIT) {
            return false;
        }
        any |= kind == EEP_FAULT_EXIT;
    }
    return any;
}

/* What stopped this rank, as far as it saw that itself. */
static eepi_suspect cause_of(const eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        const int kind = seat == core->config.seat ? eepi_core_own_word(core, seat)
                                                   : eepi_core_evidence(core, seat);
        if (kind != NO_EVIDENCE) {
            return (eepi_suspect){seat, eepi_view_seat_at(core->view, seat)->generation, kind};
        }
    }
    return (eepi_suspect){0, 0, NO_EVIDENCE};
}

/* Where all see the reason themselves, the first in turn tells, and the others only if they have
 * heard nothing for a while. Of many members the first waits as well: the word would wake all of
 * them while they drain and report, and they may agree before. It is a short while: who has not
 * seen the reason has to report within the drain bound. */
static uint64_t tell_at_us(const eepi_core *core)
{
    const uint64_t delay_us = core->config.propose_delay_us;
    const uint64_t later = eepi_core_turn_us(core) > delay_us; /* they are many */

    if (!all_see_why(core)) {
        return core->wedged_us;
    }
    return core->wedged_us + (later + (eepi_core_order(core) != 0)) * delay_us;
}

/* A view that is REPAIRING has stopped all of its members by itself. What another member has told
 * is not told again. */
void eepi_core_tell_wedge(eepi_core *core)
{
    uint64_t at_us;

    if (core->told_wedge == core->view->epoch || core->view->phase == EEPI_VIEW_REPAIRING) {
        return;
    }
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (has_told_wedge(core, seat)) {
            return;
        }
    }
    at_us = tell_at_us(core);
    if (core->now_us < at_us) {
        eepi_core_wake_at(core, at_us);
        return;
    }
    core->told_wedge = core->view->epoch;
    eepi_core_act(core, EEPI_ACTION_TELL_WEDGE)->wedge =
        (eepi_wedge){core->config.seat, core->config.generation, core->view->epoch, cause_of(core)};
}

/* A plan that is to let this rank in takes long: who has not acknowledged it? */
static bool waits_for_plan(eepi_core *core)
{
    const uint64_t from_us = core->plan_us + WAITS_TURNS * core->config.propose_delay_us;

    if (core->status != CORE_OUTSIDE || !core->has_plan ||
        !eepi_view_has(core->plan, core->config.seat, core->config.generation)) {
        return false;
    }
    if (core->now_us >= from_us) {
        return true;
    }
    eepi_core_wake_at(core, from_us);
    return false;
}

/* A rank that leaves by plan waits for the acknowledgements of those that stay (M10). Where all
 * leave nobody stays: that would be as many lists as ranks, of all ranks each. */
static bool must_listen(eepi_core *core)
{
    const bool leaves = core->status == CORE_LEAVING && !eepi_core_instance_has_ended(core);

    if (!core->has_view || core->status == CORE_OVER) {
        return false;
    }
    if (leaves || eepi_core_order(core) == 0 || waits_for_plan(core)) {
        return true;
    }
    if (core->status != CORE_WEDGED) {
        return false;
    }
    if (core->listen_asked || core->now_us >= own_turn_us(core)) {
        return true;
    }
    eepi_core_wake_at(core, own_turn_us(core));
    return false;
}

void eepi_core_advance_listening(eepi_core *core)
{
    const bool must = must_listen(core);

    if (must == core->listen_asked) {
        return;
    }
    core->listen_asked = must;
    core->listens = false;
    eepi_core_act(core, must ? EEPI_ACTION_LISTEN : EEPI_ACTION_IGNORE);
}
