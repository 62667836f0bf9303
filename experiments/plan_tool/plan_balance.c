/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/plan_tool/plan_balance.h"

#include <string.h>

/* The load of a seat in a layer; each expert's is split by the shares of its replicas. */
static double load_of(const eepi_view *view, const double *per_share, int layer, int seat)
{
    double load = 0;

    for (int slot = 0; slot < view->shape.num_slots; slot++) {
        const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
        if (s->state == EEPI_SLOT_HOLDS) {
            load += per_share[s->expert] * (s->share ? s->share : 1);
        }
    }
    return load;
}

/* The load of an expert for each unit of share of its replicas. Replicas without shares are alike;
 * a replica without one among others with shares gets none. */
static void price_shares(const eepi_view *view, const uint32_t *loads, int layer, double *per_share)
{
    const eepi_view_shape *s = &view->shape;

    memset(per_share, 0, (size_t)s->num_experts * sizeof *per_share);
    for (int i = 0; i < s->max_ranks * s->num_slots; i++) {
        const eepi_view_slot *slot =
            eepi_view_slot_at(view, layer, i / s->num_slots, i % s->num_slots);
        if (slot->state == EEPI_SLOT_HOLDS && eepi_view_is_member(view, i / s->num_slots)) {
            per_share[slot->expert] += slot->share ? slot->share : 1;
        }
    }
    for (int expert = 0; expert < s->num_experts; expert++) {
        const double load = loads ? loads[expert] : 1;
        per_share[expert] = per_share[expert] > 0 ? load / per_share[expert] : 0;
    }
}

plan_balance plan_balance_of(const plan_case *self, eepi_background *background, double *per_share,
                             eepi_view *view)
{
    const eepi_view_shape *s = &view->shape;
    plan_balance balance = {0, 0};

    eepi_background_begin(background, view, NULL, 0);
    for (int layer = 0; layer < s->num_layers; layer++) {
        const uint32_t *loads = plan_case_loads(self, layer);
        double most = 0, all = 0;
        (void)eepi_background_split(background, view, layer, loads, &eepi_background_defaults,
                                    true);
        price_shares(view, loads, layer, per_share);
        for (int seat = 0; seat < s->max_ranks; seat++) {
            const double load =
                eepi_view_is_member(view, seat) ? load_of(view, per_share, layer, seat) : 0;
            most = load > most ? load : most;
            all += load;
        }
        const double ratio = all > 0 ? most * eepi_view_num_active(view) / all : 0;
        balance.worst = ratio > balance.worst ? ratio : balance.worst;
        balance.mean += ratio / s->num_layers;
    }
    return balance;
}
