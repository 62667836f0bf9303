/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's memory, and the counting that placement and planning share. */
#include "repair/planner/plan_table.h"

#include <stdlib.h>

static bool allocate(eepi_plan_table *t, const eepi_view_shape *shape)
{
    const size_t experts = (size_t)shape->num_experts, seats = (size_t)shape->max_ranks;

    t->count = calloc(experts, sizeof *t->count);
    t->kept = calloc(experts, sizeof *t->kept);
    t->unplaced = calloc(experts, sizeof *t->unplaced);
    t->holes = calloc(experts, sizeof *t->holes);
    t->order = calloc(experts, sizeof *t->order);
    t->num_sources = calloc(experts, sizeof *t->num_sources);
    t->hole_sources = calloc(experts * ((seats + 63) / 64), sizeof *t->hole_sources);
    t->bucket = calloc(seats + 2, sizeof *t->bucket);
    t->members = calloc(seats, sizeof *t->members);
    t->sources = calloc(seats, sizeof *t->sources);
    t->node_stamp = calloc(seats, sizeof *t->node_stamp);
    t->parts = calloc(seats, sizeof *t->parts);
    t->found = calloc(seats, sizeof *t->found);
    t->groups = calloc(seats, sizeof *t->groups);
    t->capacity = calloc(seats, sizeof *t->capacity);
    t->outside = calloc(experts, sizeof *t->outside);
    t->fixed = calloc(seats, sizeof *t->fixed);
    t->choices = calloc((size_t)shape->num_layers * experts, sizeof *t->choices);
    t->fill_first = calloc(seats, sizeof *t->fill_first);
    t->fill_next = calloc((size_t)shape->num_layers * experts, sizeof *t->fill_next);
    t->reached_by = calloc(seats, sizeof *t->reached_by);
    t->queue = calloc(seats, sizeof *t->queue);
    t->shifted = calloc(seats * (EEPI_PLAN_CHAIN + 1), sizeof *t->shifted);
    t->links = eepi_links_new(shape);
    return t->count && t->kept && t->unplaced && t->holes && t->order && t->num_sources &&
           t->hole_sources && t->bucket && t->members && t->sources && t->node_stamp && t->parts &&
           t->found && t->groups && t->capacity && t->fixed && t->outside && t->choices &&
           t->fill_first && t->fill_next && t->reached_by && t->queue && t->shifted && t->links;
}

eepi_plan_table *eepi_plan_table_new(const eepi_view_shape *shape)
{
    eepi_plan_table *table = calloc(1, sizeof *table);
    bool is_whole;

    if (!table) {
        return NULL;
    }
    is_whole = allocate(table, shape);
    for (int i = 0; i <= EEPI_PLAN_CHAIN; i++) {
        is_whole &= eepi_plan_layer_open(&table->layers[i], shape);
    }
    is_whole &= eepi_plan_network_open(&table->network, shape);
    if (!is_whole) {
        eepi_plan_table_free(table);
        return NULL;
    }
    return table;
}

void eepi_plan_table_free(eepi_plan_table *table)
{
    if (!table) {
        return;
    }
    free(table->count);
    free(table->kept);
    free(table->unplaced);
    free(table->holes);
    free(table->order);
    free(table->num_sources);
    free(table->hole_sources);
    free(table->bucket);
    free(table->members);
    free(table->sources);
    free(table->node_stamp);
    free(table->parts);
    free(table->found);
    free(table->groups);
    free(table->capacity);
    free(table->outside);
    free(table->fixed);
    free(table->choices);
    free(table->fill_first);
    free(table->fill_next);
    free(table->reached_by);
    free(table->queue);
    free(table->shifted);
    eepi_links_free(table->links);
    for (int i = 0; i <= EEPI_PLAN_CHAIN; i++) {
        eepi_plan_layer_close(&table->layers[i]);
    }
    eepi_plan_network_close(&table->network);
    free(table);
}

static void divide_members(eepi_plan_table *t)
{
    t->num_parts = 0;
    for (int i = 0; i < t->num_members; i++) {
        const int node = t->network.seats[t->members[i]].node;
        const uint64_t out_ns = eepi_plan_out_unit_ns(&t->network, t->members[i]);
        eepi_plan_part *part = &t->parts[t->num_parts - 1];
        if (i == 0 || i == t->num_staying || part->node != node) {
            part = &t->parts[t->num_parts++];
            *part =
                (eepi_plan_part){.node = node, .from = i, .out_unit_ns = out_ns, .cross_seat = -1};
        }
        part->end = i + 1;
        part->out_unit_ns = out_ns < part->out_unit_ns ? out_ns : part->out_unit_ns;
    }
}

void eepi_plan_table_begin(eepi_plan_table *table, const eepi_view *view, const eepi_links *links,
                           uint64_t expert_bytes)
{
    table->num_members = 0;
    for (int retiring = 0; retiring < 2; retiring++) {
        for (int seat = 0; seat < view->shape.max_ranks; seat++) {
            const int state = eepi_view_seat_at(view, seat)->state;
            if (state == (retiring ? EEP_SEAT_RETIRING : EEP_SEAT_ACTIVE)) {
                table->members[table->num_members++] = seat;
            }
        }
        table->num_staying = retiring ? table->num_staying : table->num_members;
    }
    eepi_plan_network_reset(&table->network, links ? links : table->links, expert_bytes);
    divide_members(table);
}

void eepi_plan_count_replicas(const eepi_view *view, int layer, int without, bool staying,
                              eepi_plan_table *replicas)
{
    for (int expert = 0; expert < view->shape.num_experts; expert++) {
        replicas->count[expert] = 0;
    }
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (seat == without || !eepi_view_is_member(view, seat) ||
            (staying && eepi_view_seat_at(view, seat)->state == EEP_SEAT_RETIRING)) {
            continue;
        }
        for (int slot = 0; slot < view->shape.num_slots; slot++) {
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            if (s->state == EEPI_SLOT_HOLDS) {
                replicas->count[s->expert]++;
            }
        }
    }
}
