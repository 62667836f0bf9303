/* SPDX-License-Identifier: Apache-2.0 */
/* Coverage inside the pause, then background repair until nothing is left to move. */
#include "experiments/plan_tool/plan_outcome.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 1000 };

const char *const plan_source_names[PLAN_NUM_SOURCES] = {
    "unchanged", "live_replica", "own_node_backup", "other_backup", "checkpoint"};

static size_t num_slots(const eepi_view_shape *s)
{
    return (size_t)s->num_layers * (size_t)s->max_ranks * (size_t)s->num_slots;
}

eep_status plan_outcomes_open(const plan_case *self, double background_bytes_per_s,
                              plan_outcomes *outcomes_out)
{
    const eepi_view_shape *s = &self->before->shape;
    plan_outcomes o = {.self = self,
                       .table = eepi_plan_table_new(s),
                       .background = eepi_background_new(s),
                       .view = eepi_view_copy(self->before),
                       .source = calloc(num_slots(s), sizeof *o.source),
                       .per_share = calloc((size_t)s->num_experts, sizeof *o.per_share),
                       .flows = plan_flows_new(self),
                       .background_bytes_per_s = background_bytes_per_s};

    if (!o.table || !o.background || !o.view || !o.source || !o.per_share || !o.flows) {
        plan_outcomes_close(&o);
        return EEP_ERR_NO_MEMORY;
    }
    o.before = plan_balance_of(self, o.background, o.per_share, o.view);
    *outcomes_out = o;
    return EEP_OK;
}

void plan_outcomes_close(plan_outcomes *outcomes)
{
    eepi_plan_table_free(outcomes->table);
    eepi_background_free(outcomes->background);
    free(outcomes->view);
    free(outcomes->source);
    free(outcomes->per_share);
    plan_flows_free(outcomes->flows);
}

int64_t plan_slots_moved(const int64_t slots[PLAN_NUM_SOURCES])
{
    int64_t moved = 0;

    for (int source = PLAN_LIVE_REPLICA; source < PLAN_NUM_SOURCES; source++) {
        moved += slots[source];
    }
    return moved;
}

/* ---------------------------------------------------------------- one loss */

static plan_source source_of(const eepi_view_shape *s, int source, int seat)
{
    if (eepi_source_is_file(source)) {
        return PLAN_CHECKPOINT;
    }
    return eepi_view_node_of(s, source) == eepi_view_node_of(s, seat) ? PLAN_OWN_NODE_BACKUP
                                                                      : PLAN_OTHER_BACKUP;
}

/* The FILLING slots of a layer hold what they are filled with, and are marked with where it came
 * from. `is_pause`: from backups and files, else from slots. Returns how many. */
static int fill_layer(plan_outcomes *o, int layer, bool is_pause)
{
    const eepi_view_shape *s = &o->view->shape;
    int num = 0;

    for (int i = 0; i < s->max_ranks * s->num_slots; i++) {
        const int seat = i / s->num_slots;
        eepi_view_slot *slot = eepi_view_slot_at(o->view, layer, seat, i % s->num_slots);
        if (slot->state != EEPI_SLOT_FILLING) {
            continue;
        }
        o->source[(size_t)layer * (size_t)(s->max_ranks * s->num_slots) + (size_t)i] =
            (uint8_t)(is_pause ? source_of(s, slot->source, seat) : PLAN_LIVE_REPLICA);
        if (!is_pause) {
            plan_flows_add(o->flows, slot->source, seat, EEPI_LINK_SLOT);
        }
        slot->state = EEPI_SLOT_HOLDS;
        slot->source = EEPI_NO_SEAT;
        num++;
    }
    return num;
}

static void move_behind(plan_outcomes *o, plan_outcome *outcome)
{
    plan_flows_reset(o->flows);
    for (int layer = 0; layer < o->view->shape.num_layers; layer++) {
        for (int round = 0, num = 1; num > 0 && round < MOST_ROUNDS; round++) {
            eepi_background_begin(o->background, o->view, o->self->links,
                                  o->self->given.expert_bytes);
            num = eepi_background_layer(o->background, layer, plan_case_loads(o->self, layer),
                                        &eepi_background_defaults);
            outcome->behind_fills += fill_layer(o, layer, false);
            outcome->rounds += num > 0;
        }
    }
    outcome->behind_link_s = outcome->behind_s = plan_flows_link_s(o->flows);
    if (o->background_bytes_per_s > 0) {
        const double s = plan_flows_most_into(o->flows) / o->background_bytes_per_s;
        outcome->behind_s = s > outcome->behind_s ? s : outcome->behind_s;
    }
}

void plan_slots_count(const plan_outcomes *o, int64_t slots_out[PLAN_NUM_SOURCES])
{
    const eepi_view_shape *s = &o->view->shape;
    const int of_layer = s->max_ranks * s->num_slots;

    memset(slots_out, 0, PLAN_NUM_SOURCES * sizeof *slots_out);
    for (int i = 0; i < s->num_layers * of_layer; i++) {
        const eepi_view_slot *slot =
            eepi_view_slot_at(o->view, i / of_layer, i % of_layer / s->num_slots, i % s->num_slots);
        if (slot->state == EEPI_SLOT_HOLDS) {
            slots_out[o->source[i]]++;
        }
    }
}

eep_status plan_outcomes_of(plan_outcomes *o, const bool *lost, plan_outcome *outcome_out)
{
    plan_outcome outcome = {.before = o->before};
    eepi_plan_cost cost;

    memcpy(o->view, o->self->before, o->self->before->bytes);
    memset(o->source, PLAN_UNCHANGED, num_slots(&o->view->shape));
    plan_case_lose(o->view, lost);
    outcome.uncovered = eepi_view_num_uncovered(o->view, -1);
    const eep_status status =
        eepi_plan_coverage(o->view, o->table, &o->self->given, &cost, NULL, 0);
    if (status == EEP_ERR_UNCOVERED) {
        *outcome_out = outcome;
        return EEP_OK;
    }
    if (status != EEP_OK) {
        return status;
    }
    outcome.is_covered = true;
    outcome.pause_s = (double)cost.makespan_ns / 1e9;
    outcome.bound_s = (double)cost.bound_ns / 1e9;
    for (int layer = 0; layer < o->view->shape.num_layers; layer++) {
        outcome.pause_fills += fill_layer(o, layer, true);
    }
    outcome.paused = plan_balance_of(o->self, o->background, o->per_share, o->view);
    move_behind(o, &outcome);
    outcome.rest = plan_balance_of(o->self, o->background, o->per_share, o->view);
    plan_slots_count(o, outcome.slots);
    *outcome_out = outcome;
    return EEP_OK;
}
