/* SPDX-License-Identifier: Apache-2.0 */
/* Which slot holds which expert at first, and what a process that takes a seat is to load. */
#include "repair/placement.h"
#include "membership/view/view_order.h"
#include "repair/placement/place_layer.h"
#include "repair/spread.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the first placement */

/* Memory for one layer, and the seats that have members. */
typedef struct fresh {
    eepi_placer *placer;
    uint8_t *active;  /* [max_ranks] */
    int32_t *experts; /* [max_ranks][num_slots] */
    int32_t *pinned;  /* the same: what the members' slots are to hold */
} fresh;

static size_t slots_of(const eepi_view *view)
{
    return (size_t)view->shape.max_ranks * (size_t)view->shape.num_slots;
}

static bool has_memory(fresh *f, const eepi_view *view)
{
    f->placer = eepi_placer_new(&view->shape);
    f->active = calloc((size_t)view->shape.max_ranks, sizeof *f->active);
    f->experts = calloc(slots_of(view), sizeof *f->experts);
    f->pinned = calloc(slots_of(view), sizeof *f->pinned);
    return f->placer && f->active && f->experts && f->pinned;
}

static void free_memory(fresh *f)
{
    eepi_placer_free(f->placer);
    free(f->active);
    free(f->experts);
    free(f->pinned);
}

/* What the slots of a layer are to hold: `pinned`, or else the view's wishes. false: an expert that
 * does not exist. */
static bool take_pins(fresh *f, const eepi_view *view, const int32_t *pinned,
                      const uint16_t *ordered)
{
    const int num_slots = view->shape.num_slots;

    for (int i = 0; i < (int)slots_of(view); i++) {
        const int32_t wanted = pinned ? pinned[i] : ordered[i] == EEPI_NO_EXPERT ? -1 : ordered[i];
        f->pinned[i] = f->active[i / num_slots] ? wanted : -1;
        if (f->pinned[i] < -1 || f->pinned[i] >= view->shape.num_experts) {
            return false;
        }
    }
    return true;
}

static eep_status place_one(fresh *f, eepi_view *view, const eepi_plan_wish *wish, int layer)
{
    const size_t experts = (size_t)view->shape.num_experts;
    const uint16_t *ordered = eepi_view_layer_wishes(view, layer);
    const int32_t *pinned = wish->pinned ? wish->pinned + (size_t)layer * slots_of(view) : NULL;
    const eepi_layer_problem problem = {
        .shape = view->shape,
        .goal = wish->goal,
        .active = f->active,
        .loads = wish->loads ? wish->loads + (size_t)layer * experts : NULL,
        .pinned = pinned || ordered ? f->pinned : NULL,
    };

    if ((pinned || ordered) && !take_pins(f, view, pinned, ordered)) {
        return EEP_ERR_INVALID;
    }
    return eepi_place_layer(f->placer, &problem, f->experts);
}

static void write_layer(const fresh *f, eepi_view *view, int layer)
{
    const int num_slots = view->shape.num_slots;

    for (int i = 0; i < (int)slots_of(view); i++) {
        if (f->experts[i] >= 0) {
            eepi_plan_set_slot(eepi_view_slot_at(view, layer, i / num_slots, i % num_slots),
                               EEPI_SLOT_HOLDS, f->experts[i], EEPI_NO_SEAT);
        }
    }
}

eep_status eepi_plan_fresh(eepi_view *view, const eepi_plan_wish *wish)
{
    const bool alike = !wish->loads && !wish->pinned && view->order_number == 0;
    eep_status status = EEP_ERR_NO_MEMORY;
    fresh f = {0};

    if (has_memory(&f, view)) {
        status = EEP_OK;
        for (int seat = 0; seat < view->shape.max_ranks; seat++) {
            f.active[seat] = eepi_view_is_member(view, seat);
        }
        for (int layer = 0; layer < view->shape.num_layers && status == EEP_OK; layer++) {
            if (layer == 0 || !alike) {
                status = place_one(&f, view, wish, layer);
            }
            if (status == EEP_OK) {
                write_layer(&f, view, layer);
            }
        }
    }
    free_memory(&f);
    return status;
}

eep_status eepi_plan_initial(eepi_view *view)
{
    const eepi_plan_wish wish = {.goal = EEPI_PLACE_MIXED};

    return eepi_plan_fresh(view, &wish);
}

/* ---------------------------------------------------------------- a seat's assignment */

/* Mark in table->kept the experts of which a replica on `seat` would be apart from another one. */
static void mark_apart(const eepi_view *view, eepi_plan_table *table, int layer, int seat)
{
    const int num_members = eepi_view_num_active(view) + !eepi_view_is_member(view, seat);
    const int distance = eepi_spread_distance(&view->shape, num_members);

    memset(table->kept, 0, (size_t)view->shape.num_experts * sizeof *table->kept);
    for (int other = 0; other < view->shape.max_ranks; other++) {
        if (other == seat || !eepi_view_is_member(view, other) ||
            !eepi_spread_is_apart(&view->shape, distance, seat, other)) {
            continue;
        }
        for (int slot = 0; slot < view->shape.num_slots; slot++) {
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, other, slot);
            if (s->state == EEPI_SLOT_HOLDS) {
                table->kept[s->expert] = true;
            }
        }
    }
}

/* The order in which a seat wants experts; less is wanted more. */
static uint64_t rank_of(const eepi_plan_table *table, const uint32_t *loads, int expert)
{
    const uint64_t replicas = table->count[expert] < 1u << 30 ? table->count[expert] : 1u << 30;
    const bool near = replicas == 1 && !table->kept[expert];

    return replicas << 33 | (uint64_t)near << 32 | (loads ? UINT32_MAX - loads[expert] : 0);
}

/* The `wanted` (< num_experts) experts that come first, lower numbers first among equals, written
 * in order of number. */
static void choose_first(const eepi_plan_table *table, const uint32_t *loads, int num_experts,
                         int wanted, int32_t *experts_out)
{
    uint64_t low = 0, high = UINT64_MAX; /* find the least limit that admits enough experts */
    int below = 0, written = 0;

    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        int admitted = 0;
        for (int expert = 0; expert < num_experts; expert++) {
            admitted += rank_of(table, loads, expert) <= middle;
        }
        if (admitted >= wanted) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    for (int expert = 0; expert < num_experts; expert++) {
        below += rank_of(table, loads, expert) < low;
    }
    int at_limit = wanted - below;
    for (int expert = 0; expert < num_experts && written < wanted; expert++) {
        const uint64_t at = rank_of(table, loads, expert);
        if (at < low || (at == low && at_limit-- > 0)) {
            experts_out[written++] = expert;
        }
    }
}

static int num_lost(const eepi_plan_table *table, int num_experts)
{
    int lost = 0;

    for (int expert = 0; expert < num_experts; expert++) {
        lost += table->count[expert] == 0;
    }
    return lost;
}

/* A lost expert that this seat held, and no lower seat that is no member: whoever takes the seats
 * of all that had it, one of them loads it. */
static bool is_own(const eepi_view *view, int layer, int seat, int expert)
{
    for (int other = 0; other <= seat; other++) {
        const bool counts = other == seat || !eepi_view_is_member(view, other);
        for (int slot = 0; counts && slot < view->shape.num_slots; slot++) {
            if (eepi_view_slot_at(view, layer, other, slot)->expert == expert) {
                return other == seat;
            }
        }
    }
    return false;
}

/* Of the experts without a live replica, more than `wanted`: the seat's own ones, then those of
 * that turn. The others stand in a ring, and the turns follow one another round it. */
static void choose_lost(const eepi_view *view, eepi_plan_table *table, int layer, int seat,
                        int wanted, int turn, int32_t *experts_out)
{
    const int num_experts = view->shape.num_experts;
    int written = 0, others = 0, at = 0;

    for (int expert = 0; expert < num_experts; expert++) {
        const bool lost = table->count[expert] == 0;
        table->kept[expert] = lost && written < wanted && is_own(view, layer, seat, expert);
        if (table->kept[expert]) {
            experts_out[written++] = expert;
        } else {
            others += lost;
        }
    }
    const int room = wanted - written; /* less than the others: all are more than wanted */
    const int begin = (int)((int64_t)turn * room % others);
    for (int expert = 0; expert < num_experts; expert++) {
        if (table->count[expert] == 0 && !table->kept[expert] &&
            (at++ - begin + others) % others < room) {
            experts_out[written++] = expert;
        }
    }
}

/* So many experts for the seat's slots in a layer, by table->count. */
static void choose_row(const eepi_view *view, eepi_plan_table *table, const uint32_t *loads,
                       int layer, int seat, int wanted, int turn, int32_t *experts_out)
{
    const int num_experts = view->shape.num_experts, rest = wanted % num_experts;
    const int lost = num_lost(table, num_experts);

    for (int i = 0; i < wanted - rest; i++) {
        experts_out[i] = i % num_experts;
    }
    if (rest == 0) {
        return;
    }
    experts_out += wanted - rest;
    if (lost > rest) {
        choose_lost(view, table, layer, seat, rest, turn, experts_out);
    } else {
        mark_apart(view, table, layer, seat);
        choose_first(table, loads ? loads + (size_t)layer * (size_t)num_experts : NULL, num_experts,
                     rest, experts_out);
    }
}

/* The slots of the seat that keep their wish. */
typedef struct granted {
    uint64_t slots[(EEP_MAX_EXPERTS + 63) / 64];
    int num;
} granted;

static bool is_granted(const granted *g, int slot)
{
    return g->slots[slot / 64] >> (slot % 64) & 1u;
}

/* Rule R4: wishes give way, the last first, to experts that have no live replica and no other
 * slot. What is granted counts as a replica. */
static void grant_wishes(const eepi_view *view, eepi_plan_table *table, const uint16_t *wish,
                         granted *g)
{
    const int num_slots = view->shape.num_slots;

    *g = (granted){.num = 0};
    for (int slot = 0; slot < num_slots; slot++) {
        if (wish[slot] != EEPI_NO_EXPERT) {
            g->slots[slot / 64] |= UINT64_C(1) << (slot % 64);
            g->num++;
            table->count[wish[slot]]++;
        }
    }
    for (int slot = num_slots - 1; slot >= 0; slot--) {
        if (num_lost(table, view->shape.num_experts) <= num_slots - g->num) {
            return;
        }
        if (is_granted(g, slot) && table->count[wish[slot]] > 1) {
            g->slots[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
            g->num--;
            table->count[wish[slot]]--;
        }
    }
}

void eepi_plan_seat(const eepi_view *view, eepi_plan_table *table, const uint32_t *loads, int seat,
                    int turn, int32_t *experts_out)
{
    const int num_slots = view->shape.num_slots;

    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        const uint16_t *wishes = eepi_view_layer_wishes(view, layer);
        int32_t *row = experts_out + (size_t)layer * (size_t)num_slots;
        granted g = {.num = 0};
        eepi_plan_count_replicas(view, layer, seat, false, table);
        /* more is lost than one seat has room for: joiners share it by turns, with equal rooms */
        if (wishes && num_lost(table, view->shape.num_experts) <= num_slots) {
            wishes += seat * num_slots;
            grant_wishes(view, table, wishes, &g);
        }
        const int wanted = num_slots - g.num;
        choose_row(view, table, loads, layer, seat, wanted, turn, row);
        for (int slot = num_slots - 1, left = wanted; slot >= 0 && g.num > 0; slot--) {
            row[slot] = is_granted(&g, slot) ? wishes[slot] : row[--left];
        }
    }
}

void eepi_plan_apply_seat(eepi_view *view, int seat, const int32_t *experts)
{
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        for (int slot = 0; slot < view->shape.num_slots; slot++) {
            const int32_t expert = *experts++;
            eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            assert(expert < view->shape.num_experts);
            if (expert >= 0) {
                eepi_plan_set_slot(s, EEPI_SLOT_HOLDS, expert, EEPI_NO_SEAT);
            } else {
                eepi_plan_clear_slot(s);
            }
        }
    }
}

void eepi_plan_empty_nonmembers(eepi_view *view)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (eepi_view_is_member(view, seat)) {
            continue;
        }
        for (int layer = 0; layer < view->shape.num_layers; layer++) {
            for (int slot = 0; slot < view->shape.num_slots; slot++) {
                eepi_plan_clear_slot(eepi_view_slot_at(view, layer, seat, slot));
            }
        }
    }
}
