/* SPDX-License-Identifier: Apache-2.0 */
/* Random layers for the tests of placement, by a seed. */
#ifndef PLACEMENT_CASES_H
#define PLACEMENT_CASES_H

#include "tests/lib/planner_fixture.h"
#include "repair/placement/judge_layer.h"
#include "repair/placement/place_layer.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_SEATS = 40, MOST_SLOTS = 12, MOST_EXPERTS = 160 };

/* Loads by one of four laws: permuted Zipf of exponent 0.5 and 1, lognormal, uniform. */
static inline void draw_loads(uint64_t *random, int law, int num_experts, uint32_t *loads)
{
    for (int e = 0; e < num_experts; e++) {
        const double even = (double)(random_next(random) >> 11) * 0x1p-53;
        const double normal = sqrt(-2 * log(1 - even)) *
                              cos(6.2831853 * (double)(random_next(random) >> 11) * 0x1p-53);
        const double zipf = 100000 / pow(e + 1, law == 0 ? 0.5 : 1);
        loads[e] = (uint32_t)(law < 2 ? zipf : law == 2 ? 1000 * exp(normal) : 1000 * even);
    }
    for (int e = num_experts - 1; law < 2 && e > 0; e--) {
        const int other = below(random, e + 1);
        const uint32_t load = loads[e];
        loads[e] = loads[other];
        loads[other] = load;
    }
}

typedef struct layer_case {
    eepi_layer_problem problem;
    uint8_t active[MOST_SEATS];
    uint32_t loads[MOST_EXPERTS];
    int32_t pinned[MOST_SEATS * MOST_SLOTS];
    int ranks, slots;
} layer_case;

/* `regular`: all seats have ranks, nodes are alike, nothing is pinned, the distance is the default.
 */
static inline void draw_case(uint64_t *random, bool regular, layer_case *c)
{
    eepi_layer_problem *p = &c->problem;
    const int per_node = below(random, 3) ? 1 + below(random, 8) : 0;

    *c = (layer_case){0};
    p->shape = (eepi_view_shape){.max_ranks = 1 + below(random, MOST_SEATS),
                                 .num_layers = 1,
                                 .num_slots = 1 + below(random, MOST_SLOTS),
                                 .ranks_per_node = per_node};
    if (regular && per_node > 0) {
        const int nodes = 1 + below(random, MOST_SEATS / per_node);
        p->shape.max_ranks = nodes * per_node;
    }
    p->shape.spread = !regular && below(random, 4) == 0 ? 1 + below(random, 20) : 0;
    for (int seat = 0; seat < p->shape.max_ranks; seat++) {
        c->active[seat] = regular || below(random, 6) > 0;
        c->ranks += c->active[seat];
    }
    c->slots = c->ranks * p->shape.num_slots;
    const int most = c->slots < MOST_EXPERTS ? c->slots : MOST_EXPERTS;
    p->shape.num_experts = 1 + (most > 1 ? below(random, most) : 0);
    p->active = c->active;
    p->goal = (eepi_placement_goal)below(random, 3);
    draw_loads(random, below(random, 4), p->shape.num_experts, c->loads);
    p->loads = below(random, 5) ? c->loads : NULL;
}
#endif
