/* SPDX-License-Identifier: Apache-2.0 */
/* The membership core: facts in, actions out. Each input changes what is known; advance() then
 * looks at all that is known and does what the rules ask for, so that no order of arrival matters.
 */
#include "membership/core/core_begin.h"
#include "membership/core/core_check.h"
#include "membership/core/core_common.h"
#include "membership/core/core_draft.h"
#include "membership/core/core_ends.h"
#include "membership/core/core_facts.h"
#include "membership/core/core_fault.h"
#include "membership/core/core_plan.h"
#include "membership/core/core_rebalance.h"
#include "membership/core/core_turn.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool peers_open(eepi_core *core)
{
    const eepi_view_shape *shape = &core->config.shape;
    size_t slots = (size_t)shape->num_layers * (size_t)shape->num_slots;

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        peer->evidence = peer->said = peer->heard = NO_EVIDENCE;
        peer->experts = calloc(slots, sizeof *peer->experts);
        peer->checksums = calloc(slots, sizeof *peer->checksums);
        peer->backup = calloc(eepi_core_backup_words(shape), sizeof *peer->backup);
        peer->claims = calloc((size_t)shape->num_layers, sizeof *peer->claims);
        peer->counted = calloc(eepi_core_backup_words(shape), sizeof *peer->counted);
        if (!peer->experts || !peer->checksums || !peer->backup || !peer->claims ||
            !peer->counted) {
            return false;
        }
    }
    return true;
}

eep_status eepi_core_open(const eepi_core_config *config, eepi_core **core_out)
{
    size_t seats = (size_t)config->shape.max_ranks;
    size_t slots = seats * (size_t)config->shape.num_slots;
    eepi_core *core = calloc(1, sizeof *core);

    if (!core) {
        return EEP_ERR_NO_MEMORY;
    }
    core->config = *config;
    core->view = eepi_view_new(&config->shape);
    core->plan = eepi_view_new(&config->shape);
    core->draft = eepi_view_new(&config->shape);
    core->table = eepi_plan_table_new(&config->shape);
    core->background = eepi_background_new(&config->shape);
    core->round_fills = EEPI_ROUND_FILLS;
    core->links = eepi_links_new(&config->shape);
    core->peers = calloc(seats, sizeof *core->peers);
    core->suspects = calloc(seats, sizeof *core->suspects);
    core->shares = eepi_shares_new(config->shape.max_ranks, config->shape.num_slots,
                                   config->shape.num_experts);
    core->slot_experts = calloc(slots, sizeof *core->slot_experts);
    core->slot_shares = calloc(slots, sizeof *core->slot_shares);
    core->loads = calloc(eepi_core_num_loads(&config->shape), sizeof *core->loads);
    if (!core->view || !core->plan || !core->draft || !core->table || !core->background ||
        !core->links || !core->peers || !core->suspects || !core->loads || !core->shares ||
        !core->slot_experts || !core->slot_shares || !peers_open(core) ||
        eepi_core_order_open(core) != EEP_OK) {
        eepi_core_close(core);
        return EEP_ERR_NO_MEMORY;
    }
    *core_out = core;
    return EEP_OK;
}

void eepi_core_close(eepi_core *core)
{
    if (!core) {
        return;
    }
    for (int seat = 0; core->peers && seat < core->config.shape.max_ranks; seat++) {
        free(core->peers[seat].experts);
        free(core->peers[seat].checksums);
        free(core->peers[seat].backup);
        free(core->peers[seat].claims);
        free(core->peers[seat].counted);
    }
    free(core->peers);
    free(core->suspects);
    free(core->loads);
    eepi_shares_free(core->shares);
    free(core->slot_experts);
    free(core->slot_shares);
    eepi_core_order_close(core);
    free(core->view);
    free(core->plan);
    free(core->draft);
    eepi_plan_table_free(core->table);
    eepi_background_free(core->background);
    eepi_links_free(core->links);
    free(core);
}

/* ------------------------------------------------------------------ decisions */

/* What members agreed on in-band may be live here before the register told of it. */
static void advance_flipped(eepi_core *core)
{
    uint64_t digest = core->flipped_digest;

    if (digest == 0 || digest != core->view->digest) {
        return;
    }
    core->flipped_digest = 0;
    if (core->announced_digest != digest) { /* the others told in-band before the register did */
        eepi_core_act(core, EEPI_ACTION_ANNOUNCE)->view = core->view;
    }
    core->announced_digest = digest;
    core->installed_epoch = core->view->epoch;
    eepi_core_acknowledge(core, EEPI_ACK_FLIPPED, core->view);
}

/* The register does not have the newest document that this rank knows: the store has lost it. */
static void reassert(eepi_core *core)
{
    eepi_action *action;

    if (!core->register_lags || core->cas_in_flight) {
        return;
    }
    memcpy(core->draft, core->view, core->view->bytes);
    core->cas_in_flight = true;
    core->register_lags = false;
    action = eepi_core_act(core, EEPI_ACTION_CAS);
    action->view = core->draft;
    action->revision = core->revision;
}

/* This rank asked to leave before any view let it in, and no plan under way does. */
static bool has_left_early(const eepi_core *core)
{
    return core->leaving && !core->was_member && core->register_was_read &&
           !(core->has_plan &&
             eepi_view_has(core->plan, core->config.seat, core->config.generation));
}

/* It asked to leave, or another one of its group did, or all leave. */
static bool leaves_by_plan(const eepi_core *core)
{
    const int seats = eepi_core_group_seats(core);
    const int first = core->config.seat - core->config.seat % seats;
    /* N21: where all leases had lapsed, others go on from there without this rank */
    bool leaves =
        core->leaving || (eepi_core_instance_has_ended(core) && !eepi_view_has_lapsed(core->view));

    for (int mate = first; mate < first + seats; mate++) {
        leaves |= core->peers[mate].leaving != 0;
    }
    return leaves;
}

/* The committed view is without this rank. */
static void advance_outside(eepi_core *core)
{
    if (!core->was_member && !has_left_early(core)) {
        eepi_core_advance_initial(core); /* if all members have ended */
        return;
    }
    if (leaves_by_plan(core) && core->view->cause == EEPI_VIEW_PLANNED &&
        core->status == CORE_SERVING) {
        eepi_core_act(core, EEPI_ACTION_ANNOUNCE)->view = core->view;
        eepi_core_set_status(core, CORE_LEAVING);
        return;
    }
    eepi_core_set_status(core, CORE_OVER);
    eepi_core_act(core, leaves_by_plan(core) ? EEPI_ACTION_DRAINED : EEPI_ACTION_EVICTED);
}

/* Rule M10: a rank that a planned view lets go stays until every member that lives runs that view,
 * or none will any more. */
static void advance_leaving(eepi_core *core)
{
    bool waits = core->view->cause == EEPI_VIEW_PLANNED && !eepi_core_is_given_up(core);

    for (int seat = 0; waits && seat < core->config.shape.max_ranks; seat++) {
        if (eepi_view_is_member(core->view, seat) &&
            core->peers[seat].flipped_digest != core->view->digest &&
            !eepi_core_has_exited(core, seat, eepi_view_seat_at(core->view, seat)->generation)) {
            return;
        }
    }
    eepi_core_set_status(core, CORE_OVER);
    eepi_core_act(core, EEPI_ACTION_DRAINED);
}

static void advance(eepi_core *core)
{
    if (core->status == CORE_OVER) {
        return;
    }
    if (!core->has_view) {
        if (core->leaving && core->register_was_read && !core->cas_in_flight) {
            eepi_core_set_status(core, CORE_OVER); /* there is no view yet to leave */
            eepi_core_act(core, EEPI_ACTION_DRAINED);
            return;
        }
        eepi_core_advance_initial(core);
        return;
    }
    reassert(core);
    eepi_core_read_again(core);
    advance_flipped(core);
    if (core->status == CORE_LEAVING) {
        advance_leaving(core);
        return;
    }
    if (eepi_view_has(core->view, core->config.seat, core->config.generation)) {
        core->was_member = true;
        eepi_core_advance_fault(core);
        eepi_core_advance_fills(core);
    } else {
        advance_outside(core);
    }
    eepi_core_advance_plan(core);
}

const eepi_action *eepi_core_handle(eepi_core *core, const eepi_input *input, int *num_actions_out)
{
    const uint64_t installed_epoch = core->installed_epoch;

    core->num_actions = 0;
    core->now_us = input->now_us;
    core->wake_us = UINT64_MAX;
    if (input->kind == EEPI_INPUT_TICK && input->step > core->own_step) {
        core->own_step = input->step;
    }
    eepi_core_on_input(core, input);
    advance(core);
    eepi_core_advance_listening(core);
    eepi_core_tell_ends(core);
    eepi_core_check(core);
    assert(core->installed_epoch >= installed_epoch); /* S2: it never goes back */
    *num_actions_out = core->num_actions;
    return core->actions;
}

uint64_t eepi_core_wake_us(const eepi_core *core)
{
    return core->wake_us;
}

const eepi_view *eepi_core_view(const eepi_core *core)
{
    return core->has_view ? core->view : NULL;
}

uint64_t eepi_core_num_reused(const eepi_core *core)
{
    return core->num_reused;
}

bool eepi_core_is_wedged(const eepi_core *core)
{
    return core->status == CORE_WEDGED;
}

void eepi_core_print(const eepi_core *core, char *text_out, size_t bytes)
{
    int used =
        snprintf(text_out, bytes, "rank %d (generation %u) %s epoch %llu installed %llu suspects",
                 core->config.seat, core->config.generation, eepi_core_status_name(core->status),
                 (unsigned long long)(core->has_view ? core->view->epoch : 0),
                 (unsigned long long)core->installed_epoch);

    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (used < 0 || (size_t)used >= bytes || eepi_core_evidence(core, seat) == NO_EVIDENCE) {
            continue;
        }
        used += snprintf(text_out + used, bytes - (size_t)used, " %d (generation %u)", seat,
                         eepi_view_seat_at(core->view, seat)->generation);
    }
}
