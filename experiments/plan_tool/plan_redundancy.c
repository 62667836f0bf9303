/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/plan_tool/plan_redundancy.h"

#include "repair/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum goal_kind { GOAL_RANKS, GOAL_NEIGHBOURS, GOAL_NODES } goal_kind;

typedef struct goal {
    goal_kind kind;
    int num;
} goal;

static const goal goals[] = {{GOAL_RANKS, 1},      {GOAL_RANKS, 2},       {GOAL_RANKS, 3},
                             {GOAL_RANKS, 4},      {GOAL_NEIGHBOURS, 2},  {GOAL_NEIGHBOURS, 4},
                             {GOAL_NEIGHBOURS, 8}, {GOAL_NEIGHBOURS, 16}, {GOAL_NODES, 1},
                             {GOAL_NODES, 2}};

/* ---------------------------------------------------------------- what a placement survives */

/* Units (ranks or nodes) that hold the expert in a layer. */
static int num_holders(const eepi_view *view, int layer, int expert, bool of_nodes)
{
    const eepi_view_shape *s = &view->shape;
    int num = 0, last = -1;

    for (int seat = 0; seat < s->max_ranks; seat++) {
        const int unit = of_nodes ? eepi_view_node_of(s, seat) : seat;
        if (unit != last && eepi_view_holds(view, layer, seat, expert)) {
            num++;
            last = unit;
        }
    }
    return num;
}

/* No `num` neighbouring seats, the last beside the first, hold all replicas: some gap on the ring
 * between two holders is too wide to be outside such a run. */
static bool reaches_beyond(const eepi_view *view, int layer, int expert, int num)
{
    const int ranks = view->shape.max_ranks;

    for (int from = 0; from < ranks; from++) {
        bool is_outside = false;
        for (int i = num; i < ranks && !is_outside; i++) {
            is_outside = eepi_view_holds(view, layer, (from + i) % ranks, expert);
        }
        if (!is_outside) {
            return false;
        }
    }
    return true;
}

static bool expert_survives(const eepi_view *view, int layer, int expert, const goal *g)
{
    if (g->kind == GOAL_NEIGHBOURS) {
        return reaches_beyond(view, layer, expert, g->num);
    }
    return num_holders(view, layer, expert, g->kind == GOAL_NODES) > g->num;
}

static bool survives(const eepi_view *view, const goal *g)
{
    for (int i = 0; i < view->shape.num_layers * view->shape.num_experts; i++) {
        if (!expert_survives(view, i / view->shape.num_experts, i % view->shape.num_experts, g)) {
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- the least slots */

/* Without loads all layers of a first placement are alike, so one is enough. */
static eepi_view *place(const plan_case_options *o, int slots, const goal *g)
{
    const eepi_view_shape shape = {.max_ranks = o->ranks,
                                   .num_layers = 1,
                                   .num_experts = o->experts,
                                   .num_slots = slots,
                                   .ranks_per_node = o->ranks_per_node,
                                   .spread = g->kind == GOAL_NEIGHBOURS ? g->num : o->spread};
    eepi_view *view = eepi_view_new(&shape);

    for (int seat = 0; view && seat < o->ranks; seat++) {
        *eepi_view_seat_at(view, seat) =
            (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
    }
    if (view && eepi_plan_initial(view) != EEP_OK) {
        free(view);
        view = NULL;
    }
    return view;
}

static int replicas_needed(const goal *g)
{
    return g->kind == GOAL_NEIGHBOURS ? 2 : g->num + 1;
}

static int slots_needed(const plan_case_options *o, const goal *g)
{
    return (replicas_needed(g) * o->experts + o->ranks - 1) / o->ranks;
}

/* From what counting asks for, up to twice that; 0: none of these. */
static int least_slots(const plan_case_options *o, const goal *g)
{
    const int first = slots_needed(o, g);

    for (int slots = first; slots <= 2 * first && slots <= o->experts; slots++) {
        eepi_view *view = place(o, slots, g);
        const bool is_enough = view && survives(view, g);
        free(view);
        if (is_enough) {
            return slots;
        }
    }
    return 0;
}

static bool is_possible(const plan_case_options *o, const goal *g)
{
    const int width = o->ranks_per_node ? o->ranks_per_node : o->ranks;
    const int nodes = (o->ranks + width - 1) / width;

    return g->num < (g->kind == GOAL_NODES ? nodes : o->ranks) &&
           (g->kind != GOAL_NEIGHBOURS || 2 * g->num <= o->ranks);
}

/* ---------------------------------------------------------------- with backups */

/* An expert is lost for good when its holders are lost and all ranks of the nodes with a backup:
 * the fewest ranks over all experts, less one. */
static int most_with_backups(const plan_case *self)
{
    const eepi_view *view = self->before;
    const eepi_view_shape *s = &view->shape;
    int least = s->max_ranks;

    for (int i = 0; i < s->num_layers * s->num_experts; i++) {
        const int layer = i / s->num_experts, expert = i % s->num_experts;
        int num = 0;
        for (int seat = 0; seat < s->max_ranks; seat++) {
            num += eepi_view_holds(view, layer, seat, expert) ||
                   eepi_view_has_backup(view, seat, layer, expert);
        }
        least = num < least ? num : least;
    }
    return least - 1;
}

static void add_backups(cJSON *report, const plan_case_options *o, const plan_case *self)
{
    const int room = o->ranks - (o->experts + o->slots - 1) / o->slots;
    const int most = self->can_read_file[0] ? o->ranks - 1 : most_with_backups(self);
    cJSON *item = cJSON_AddObjectToObject(report, "with_backups");

    cJSON_AddNumberToObject(item, "slots_a_rank", o->slots);
    cJSON_AddNumberToObject(item, "any_ranks_by_sources", most);
    cJSON_AddNumberToObject(item, "any_ranks_by_room", room);
    cJSON_AddNumberToObject(item, "any_ranks", most < room ? most : room);
}

cJSON *plan_redundancy(const plan_case_options *options)
{
    static const char *const kinds[] = {"ranks", "neighbours", "nodes"};
    char error[PLAN_CASE_ERROR_BYTES];
    cJSON *report = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(report, "goals");
    plan_case self;

    for (size_t i = 0; i < sizeof goals / sizeof goals[0]; i++) {
        const goal *g = &goals[i];
        if (!is_possible(options, g)) {
            continue;
        }
        const int slots = least_slots(options, g);
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "lost", kinds[g->kind]);
        cJSON_AddNumberToObject(item, "num", g->num);
        cJSON_AddNumberToObject(item, "redundant_needed",
                                (replicas_needed(g) - 1) * (double)options->experts);
        cJSON_AddNumberToObject(item, "slots_needed", slots_needed(options, g));
        cJSON_AddNumberToObject(item, "slots_a_rank", slots);
        cJSON_AddNumberToObject(item, "redundant",
                                slots ? (double)slots * options->ranks - options->experts : 0);
        cJSON_AddBoolToObject(item, "exact", true);
        cJSON_AddItemToArray(list, item);
    }
    if (plan_case_open(options, &self, error) == EEP_OK) {
        add_backups(report, options, &self);
        plan_case_close(&self);
    }
    return report;
}
