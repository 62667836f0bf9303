/* SPDX-License-Identifier: Apache-2.0 */
/* Engines that order placements, in a quarter of the histories: for the first view, and while they
 * serve; and what must hold of orders and pins at each commit (R3, R4). */
#include "tests/sim/sim.h"

#include "experiments/base/random.h"
#include "membership/view/view_order.h"

#include <string.h>

enum { MOST_SLOTS = SIM_LAYERS * SIM_MAX_SEATS * SIM_SLOTS, PERIOD_US = 150000 };

static int has_orders(void)
{
    return sim->options.seed % 4 == 1;
}

/* A layer: whole, each expert once on the first ranks and then any; or a few slots of all seats, so
 * that all experts have room beside them. */
static void draw_layer(int layer, int whole, uint64_t *state, int32_t *experts, uint8_t *pinned)
{
    const int num_slots = sim->shape.num_slots, num_experts = sim->shape.num_experts;
    const int num = (whole ? sim->shape.num_ranks : sim->shape.max_ranks) * num_slots;
    const int first = layer * sim->shape.max_ranks * num_slots;
    const int given = whole ? num : num - num_experts > 0 ? num - num_experts : 0;

    for (int n = 0; n < given; n++) {
        int at = (int)(random_next(state) % (uint64_t)num);
        while (experts[first + at] >= 0) {
            at = (at + 1) % num;
        }
        experts[first + at] =
            n < num_experts && whole ? n : (int32_t)(random_next(state) % (uint64_t)num_experts);
        pinned[first + at] = random_next(state) % 2 == 0;
    }
}

static void order(sim_process *p, uint64_t number, int whole, uint64_t state)
{
    int32_t experts[MOST_SLOTS];
    uint8_t pinned[MOST_SLOTS];
    eep_placement placement;
    eep_status status;

    memset(experts, 0xff, sizeof experts);
    memset(pinned, 0, sizeof pinned);
    for (int layer = 0; layer < sim->shape.num_layers; layer++) {
        draw_layer(layer, whole, &state, experts, pinned);
    }
    (void)EEP_SIZED(&placement);
    placement.number = number;
    placement.experts = experts;
    placement.pinned = pinned;
    status = eep_placement_set(p->rank.context, &placement);
    SIM_MUST(status == EEP_OK || status == EEP_ERR_CONFLICT, "R3", "an order is not taken: %s",
             eep_error_text());
    sim_trace("%d.%u orders placement %llu: %s", p->seat, p->generation, (unsigned long long)number,
              eep_strerror(status));
}

void sim_order_first(sim_process *p)
{
    if (has_orders() && sim->options.seed % 8 == 1) { /* all the same */
        order(p, 1, 1, sim->options.seed);
    }
}

void sim_order_sometimes(sim_process *p)
{
    const uint64_t period = sim->now_us / PERIOD_US;
    uint64_t state = sim->options.seed * 7919u + period * 31u + (uint64_t)p->seat;

    if (!has_orders() || period == p->order_period) {
        return;
    }
    p->order_period = period;
    if (random_next(&state) % 4 == 0) { /* two ranks may give one number */
        order(p, 2 + period, (int)(random_next(&state) % 2), state);
    }
}

/* Numbers go up; a pinned slot that holds its expert keeps it in planned views, once its layer is
 * as it was ordered. Where a rank retires, what only it holds comes first. */
void sim_check_orders(const eepi_view *before, const eepi_view *view)
{
    int retires = 0;

    SIM_MUST(view->cause == EEPI_VIEW_INITIAL || view->order_number >= before->order_number, "R3",
             "epoch %llu: placement %llu after %llu", (unsigned long long)view->epoch,
             (unsigned long long)view->order_number, (unsigned long long)before->order_number);
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        retires |= eepi_view_seat_at(before, seat)->state == EEP_SEAT_RETIRING ||
                   eepi_view_seat_at(view, seat)->state == EEP_SEAT_RETIRING;
    }
    if (view->cause != EEPI_VIEW_PLANNED || view->order_digest != before->order_digest || retires) {
        return;
    }
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        const uint16_t *wish = eepi_view_layer_wishes(before, layer);
        for (int i = 0; wish && i < view->shape.max_ranks * view->shape.num_slots; i++) {
            const int seat = i / view->shape.num_slots, slot = i % view->shape.num_slots;
            const uint32_t generation = eepi_view_seat_at(before, seat)->generation;
            SIM_MUST(wish[i] == EEPI_NO_EXPERT || !eepi_view_is_member(before, seat) ||
                         !eepi_view_has(view, seat, generation) ||
                         !eepi_view_is_pinned(before, layer, seat, slot) ||
                         eepi_view_num_unmet(before, layer, true) > 0 ||
                         eepi_view_holds(view, layer, seat, wish[i]),
                     "R4", "epoch %llu: layer %d: expert %d, pinned on rank %d, is gone",
                     (unsigned long long)view->epoch, layer, wish[i], seat);
        }
    }
}
