/* SPDX-License-Identifier: Apache-2.0 */
/* Coverage after a fault: for each expert that no member holds, a slot to fill and a living source;
 * and what becomes of slots that are being filled. */
#include "repair/planner/planner.h"

#include "repair/planner/plan_bound.h"
#include "repair/planner/plan_choose.h"
#include "repair/planner/plan_improve.h"
#include "repair/planner/plan_reasons.h"

#include <assert.h>
#include <string.h>

#define EMPTY_SLOT ((eepi_view_slot){.expert = EEPI_NO_EXPERT, .source = EEPI_NO_SEAT})

/* What planning one document carries from layer to layer. */
typedef struct coverage {
    eepi_view *view;
    eepi_plan_table *table;
    eepi_plan_cost cost;
    eepi_plan_reasons why;
} coverage;

static void remember(coverage *c, const eepi_plan_choice *choice)
{
    c->table->choices[c->table->num_choices++] = *choice;
}

/* The file can be read as before: by the seat itself, or by another one where nobody has a backup.
 */
static bool is_file_of_member(const coverage *c, int seat, int named)
{
    const eepi_plan_table *t = c->table;
    const int reader = eepi_source_seat(named, seat);

    return eepi_source_is_file(named) && t->can_read_file && t->can_read_file[reader] &&
           eepi_view_is_member(c->view, reader) && (reader == seat || t->num_of_sources == 0);
}

/* The living source that a fill of an earlier plan goes on with: what it names if that still can
 * give it. -1: none. After eepi_plan_find_sources. */
static int source_of_kept(coverage *c, int seat, int named)
{
    eepi_plan_table *t = c->table;
    eepi_plan_weight weight;

    eepi_plan_weigh_sources(t);
    const int best = eepi_plan_source_for(t, seat, &weight);
    if (best == seat) {
        return seat;
    }
    for (int i = 0; i < t->num_of_sources; i++) {
        if (t->sources[i] == named) {
            return named;
        }
    }
    return is_file_of_member(c, seat, named) ? named : best;
}

/* Where the sources of an expert of the layer at hand are kept. */
static uint64_t *bits_of(const eepi_plan_table *t, int expert)
{
    return t->hole_sources + (size_t)expert * (((size_t)t->network.shape.max_ranks + 63) / 64);
}

/* A FILLING slot goes on if its expert is still to be restored and has a source; else it holds
 * nothing. */
static void keep_or_clear(coverage *c, int layer, int seat, int slot)
{
    eepi_plan_table *t = c->table;
    eepi_view_slot *s = eepi_view_slot_at(c->view, layer, seat, slot);
    int source = -1;

    uint64_t *bits = bits_of(t, s->expert);

    if (eepi_view_is_member(c->view, seat) && t->layers[0].count[s->expert] == 0 &&
        !t->kept[s->expert]) {
        eepi_plan_find_sources(t, c->view, layer, s->expert);
        source = source_of_kept(c, seat, s->source);
        eepi_plan_note_sources(t, bits);
    }
    if (source < 0) {
        eepi_plan_clear_slot(s);
        return;
    }
    s->source = (uint16_t)source;
    t->kept[s->expert] = true;
    eepi_plan_load(&t->network, source, seat);
    remember(c, &(eepi_plan_choice){.layer = layer,
                                    .expert = s->expert,
                                    .seat = seat,
                                    .slot = slot,
                                    .source = source,
                                    .source_parts = bits[0],
                                    .is_kept = true,
                                    .before = EMPTY_SLOT});
}

/* What an earlier plan was filling goes on where it restores coverage: its owner may have the bytes
 * already. */
static void keep_useful_fills(coverage *c, int layer)
{
    const eepi_view_shape *shape = &c->view->shape;

    memset(c->table->kept, 0, (size_t)shape->num_experts * sizeof *c->table->kept);
    for (int seat = 0; seat < shape->max_ranks && c->table->layers[0].num_filling; seat++) {
        const eepi_view_slot *slots = eepi_view_slot_at(c->view, layer, seat, 0);
        for (int slot = 0; slot < shape->num_slots; slot++) {
            if (slots[slot].state == EEPI_SLOT_FILLING) {
                keep_or_clear(c, layer, seat, slot);
            }
        }
    }
}

/* The experts that are to be placed, in order of number, into table->holes; how many sources each
 * has. Those without any are named. Returns their number. */
static int find_holes(coverage *c, int layer)
{
    eepi_plan_table *t = c->table;
    int num = 0;

    for (int expert = 0; expert < c->view->shape.num_experts; expert++) {
        if (t->layers[0].count[expert] > 0) {
            continue;
        }
        t->num_sources[num] = eepi_plan_find_sources(t, c->view, layer, expert);
        if (!eepi_plan_has_source(t)) {
            eepi_plan_reasons_name(&c->why, layer, expert);
            continue;
        }
        eepi_plan_note_sources(t, bits_of(t, expert));
        t->holes[num++] = expert;
    }
    eepi_plan_reasons_end_clause(&c->why, "no live copy or backup");
    return num;
}

/* Those with fewest sources first: they can go to the fewest places. (Counting sort; stable.) */
static void order_holes(eepi_plan_table *t, int num_holes, int max_ranks)
{
    memset(t->bucket, 0, ((size_t)max_ranks + 2) * sizeof *t->bucket);
    for (int i = 0; i < num_holes; i++) {
        t->bucket[t->num_sources[i] + 1]++;
    }
    for (int i = 1; i <= max_ranks; i++) {
        t->bucket[i] += t->bucket[i - 1];
    }
    for (int i = 0; i < num_holes; i++) {
        t->order[t->bucket[t->num_sources[i]]++] = t->holes[i];
    }
}

/* `only_own`: not if a backup of its own node is not the best source. */
static void place_hole(coverage *c, int layer, int expert, bool only_own)
{
    eepi_plan_table *t = c->table;
    eepi_plan_choice choice = {
        .layer = layer, .expert = expert, .source_parts = bits_of(t, expert)[0]};
    eepi_plan_weight weight;

    eepi_plan_recall_sources(t, bits_of(t, expert));
    if (!eepi_plan_choose(t, &t->layers[0], UINT64_MAX, &choice, &weight) ||
        (only_own && choice.source != choice.seat)) {
        return;
    }
    t->unplaced[expert] = false;
    eepi_plan_place(t, &t->layers[0], &choice);
    remember(c, &choice);
}

/* Place them all, fewest sources first; returns how many found no slot. */
static int place_holes(coverage *c, int layer, int num_holes)
{
    eepi_plan_table *t = c->table;
    int num_unplaced = 0;

    /* A fill takes exactly one spare slot, whichever: no choice leaves a later expert without one.
     * Counts of 0 stay 0 and others stay above: the same experts as before are uncovered. */
    for (int i = 0; i < num_holes; i++) {
        t->unplaced[t->order[i]] = !t->kept[t->order[i]];
    }
    /* First those for whom a backup of their own node is best: else those that cross links anyway
     * would take the slots beside these backups. */
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < num_holes; i++) {
            const int expert = t->order[i];
            if (t->unplaced[expert]) {
                place_hole(c, layer, expert, pass == 0);
            }
            num_unplaced += pass && t->unplaced[expert];
        }
    }
    return num_unplaced;
}

/* Rule R4: coverage comes before pins, and before nothing else does a pin yield. What is placed in
 * this layer stays there: no search moves more onto pinned slots. */
static void place_on_pins(coverage *c, int layer, int first_choice, int num_holes)
{
    eepi_plan_table *t = c->table;

    t->layers[0].pins_yield = true;
    eepi_plan_layer_list(&t->layers[0]);
    for (int i = 0; i < num_holes; i++) {
        if (t->unplaced[t->order[i]]) {
            place_hole(c, layer, t->order[i], false);
        }
    }
    for (int i = first_choice; i < t->num_choices; i++) {
        t->choices[i].is_kept = true;
    }
}

static void cover_layer(coverage *c, int layer)
{
    eepi_plan_table *t = c->table;
    int num_holes, first_choice, num_unplaced;

    eepi_plan_layer_count(&t->layers[0], c->view, layer);
    num_holes = find_holes(c, layer);
    if (num_holes == 0 && t->layers[0].num_filling == 0) {
        return;
    }
    first_choice = t->num_choices;
    keep_useful_fills(c, layer);
    eepi_plan_layer_list(&t->layers[0]);
    order_holes(t, num_holes, c->view->shape.max_ranks);
    eepi_plan_bound_add_layer(t, num_holes);
    num_unplaced = place_holes(c, layer, num_holes);
    if (num_unplaced > 0 && t->layers[0].has_pins) {
        place_on_pins(c, layer, first_choice, num_holes);
    }
    for (int i = 0; i < num_holes; i++) {
        if (t->unplaced[t->holes[i]]) {
            eepi_plan_reasons_name(&c->why, layer, t->holes[i]);
        }
    }
    eepi_plan_reasons_end_clause(&c->why, "no live copy and no free slot");
}

static void begin(coverage *c, const eepi_plan_given *given)
{
    static const eepi_plan_given nothing;
    eepi_plan_table *t = c->table;

    given = given ? given : &nothing;
    t->can_read_file = given->can_read_file;
    t->num_choices = t->num_shifted = 0;
    memset(t->capacity, 0, (size_t)c->view->shape.max_ranks * sizeof *t->capacity);
    eepi_plan_table_begin(t, c->view, given->links, given->expert_bytes);
}

static void count_costs(coverage *c)
{
    const eepi_plan_table *t = c->table;

    for (int i = 0; i < t->num_choices; i++) {
        const eepi_plan_choice *choice = &t->choices[i];
        const bool is_file = eepi_source_is_file(choice->source);
        c->cost.num_own += choice->source == choice->seat;
        c->cost.num_file += is_file;
        c->cost.num_remote += choice->source != choice->seat && !is_file;
        c->cost.num_evicted += choice->before.state == EEPI_SLOT_HOLDS;
    }
    c->cost.makespan_ns = eepi_plan_makespan_ns(&t->network);
}

eep_status eepi_plan_coverage(eepi_view *view, eepi_plan_table *table, const eepi_plan_given *given,
                              eepi_plan_cost *cost_out, char *why_out, size_t why_bytes)
{
    coverage c = {
        .view = view, .table = table, .why = {.text = why_out, .size = why_out ? why_bytes : 0}};

    begin(&c, given);
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        cover_layer(&c, layer);
    }
    if (c.why.num_named > 0) {
        eepi_plan_reasons_finish(&c.why);
        return EEP_ERR_UNCOVERED;
    }
    c.cost.bound_ns = eepi_plan_improve(table, view);
    count_costs(&c);
    if (cost_out) {
        *cost_out = c.cost;
    }
    return EEP_OK;
}

/* What a FILLING slot of a document costs. */
static void measure_fill(const eepi_view *view, eepi_plan_table *table, int layer, int seat,
                         const eepi_view_slot *slot, eepi_plan_cost *cost)
{
    const bool is_file = eepi_source_is_file(slot->source);

    cost->num_own += slot->source == seat;
    cost->num_file += is_file;
    cost->num_remote += slot->source != seat && !is_file;
    if (is_file || eepi_view_has_backup(view, slot->source, layer, slot->expert)) {
        eepi_plan_load(&table->network, slot->source, seat);
    } else {
        eepi_plan_load_slot(&table->network, slot->source, seat);
    }
}

void eepi_plan_measure(const eepi_view *view, eepi_plan_table *table, const eepi_plan_given *given,
                       eepi_plan_cost *cost_out)
{
    const eepi_view_shape *s = &view->shape;
    eepi_plan_network *n = &table->network;
    eepi_plan_cost cost = {.num_own = 0};

    eepi_plan_network_reset(n, given->links ? given->links : table->links, given->expert_bytes);
    for (int i = 0; i < s->num_layers * s->max_ranks; i++) {
        const int seat = i % s->max_ranks;
        const eepi_view_slot *slots = eepi_view_slot_at(view, i / s->max_ranks, seat, 0);
        for (int slot = 0; slot < s->num_slots; slot++) {
            if (slots[slot].state == EEPI_SLOT_FILLING) {
                measure_fill(view, table, i / s->max_ranks, seat, &slots[slot], &cost);
            }
        }
    }
    cost.makespan_ns = eepi_plan_makespan_ns(n);
    *cost_out = cost;
}

int eepi_plan_fills(const eepi_view *view, int seat, eepi_fill *fills_out, int capacity)
{
    int num_fills = 0;

    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        for (int at = seat < 0 ? 0 : seat; at < (seat < 0 ? view->shape.max_ranks : seat + 1);
             at++) {
            for (int slot = 0; slot < view->shape.num_slots; slot++) {
                const eepi_view_slot *s = eepi_view_slot_at(view, layer, at, slot);
                if (s->state != EEPI_SLOT_FILLING) {
                    continue;
                }
                if (num_fills < capacity) {
                    fills_out[num_fills] = (eepi_fill){layer, at, slot, s->expert, s->source};
                }
                num_fills++;
            }
        }
    }
    return num_fills;
}

/* Give all FILLING slots of a seat (-1: of all) another state; returns how many there were. */
static int end_fills(eepi_view *view, int seat, eepi_slot_state state)
{
    int num = 0;

    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        for (int at = 0; at < view->shape.max_ranks; at++) {
            for (int slot = 0; slot < view->shape.num_slots; slot++) {
                eepi_view_slot *s = eepi_view_slot_at(view, layer, at, slot);
                if (s->state != EEPI_SLOT_FILLING || (seat >= 0 && at != seat)) {
                    continue;
                }
                eepi_plan_set_slot(s, state, state == EEPI_SLOT_HOLDS ? s->expert : EEPI_NO_EXPERT,
                                   EEPI_NO_SEAT);
                num++;
            }
        }
    }
    return num;
}

int eepi_plan_filled(eepi_view *view, int seat)
{
    return end_fills(view, seat, EEPI_SLOT_HOLDS);
}

int eepi_plan_void(eepi_view *view)
{
    return end_fills(view, -1, EEPI_SLOT_EMPTY);
}

int eepi_plan_can_leave(const eepi_view *view, eepi_plan_table *table, int seat)
{
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        eepi_plan_count_replicas(view, layer, seat, true, table);
        for (int expert = 0; expert < view->shape.num_experts; expert++) {
            if (table->count[expert] == 0) {
                return 0;
            }
        }
    }
    return 1;
}
