/* SPDX-License-Identifier: Apache-2.0 */
/* Background repair (tier 3 of the repair hierarchy): redundancy, distance and balance come back
 * behind live traffic, in rounds over many layers, each round one flip. A planned view takes slots
 * away from routing and names them FILLING; their owners fill them once they run it; the next
 * planned view, when all have acknowledged their checksums, routes to them (rule R1). */
#include "membership/core/core_rebalance.h"

#include "membership/core/core_common.h"
#include "repair/background/background.h"
#include "repair/planner/planner.h"

#include <string.h>

enum {
    LEAST_FILLS = 16,          /* slots per round, after rounds that took too long */
    WORK_OF_CALL = 1 << 16,    /* slots and experts that one call looks at, */
    WORK_OF_FILL = 1 << 10,    /* and what a fill counts beside them */
    FILL_BOUND_US = 30000000,  /* a round that takes longer is given up, */
    FILL_BACKOFF_US = 10000000 /* and nothing is moved for so long */
};

/* The owner may write into its FILLING slots as soon as a step under that view has ended here: none
 * of its own steps reads them any more. */
void eepi_core_advance_fills(eepi_core *core)
{
    const eepi_view *view = core->view;

    if (core->status != CORE_SERVING || view->phase != EEPI_VIEW_SERVING ||
        core->installed_epoch != view->epoch || core->fill_digest == view->digest ||
        eepi_plan_fills(view, core->config.seat, NULL, 0) == 0) {
        return;
    }
    core->fill_digest = view->digest;
    eepi_core_act(core, EEPI_ACTION_FILL)->view = view;
}

int eepi_core_promote_fills(eepi_core *core, eepi_view *draft)
{
    int promoted = 0;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        if (eepi_view_is_member(draft, seat) &&
            core->peers[seat].filled_digest == core->view->digest) {
            promoted += eepi_plan_filled(draft, seat);
        }
    }
    if (promoted > 0 && eepi_plan_fills(draft, -1, NULL, 0) == 0) { /* in time */
        core->round_fills *= core->round_fills < EEPI_ROUND_FILLS ? 2 : 1;
    }
    return promoted;
}

bool eepi_core_fills_are_late(eepi_core *core)
{
    uint64_t bound_us = core->fill_us + FILL_BOUND_US;

    if (core->now_us < bound_us) {
        eepi_core_wake_at(core, bound_us);
        return false;
    }
    core->background_after_us = core->now_us + FILL_BACKOFF_US;
    core->round_fills /= core->round_fills > LEAST_FILLS ? 2 : 1;
    eepi_core_examine_layers(core);
    return true;
}

/* Somebody retires and waits until others have what only it holds. */
static bool somebody_retires(const eepi_view *view)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (eepi_view_seat_at(view, seat)->state == EEP_SEAT_RETIRING) {
            return true;
        }
    }
    return false;
}

void eepi_core_examine_layers(eepi_core *core)
{
    core->examined_layers = 0;
    core->pass_fills = 0;
}

/* The pass goes on from the layer where it stopped. What it moved may make more moves worth while,
 * so passes follow until one finds nothing. */
static void end_pass(eepi_core *core)
{
    if (core->examined_layers == core->config.shape.num_layers && core->pass_fills > 0) {
        eepi_core_examine_layers(core);
    }
}

/* Layers until the round is full or has taken long enough for one call: a large instance never
 * keeps this thread for long. */
static int plan_layers(eepi_core *core, eepi_view *draft)
{
    const eepi_view_shape *shape = &draft->shape;
    const int64_t layer_work = (int64_t)shape->max_ranks * shape->num_slots + shape->num_experts;
    const int some = shape->num_experts / 8 > 1 ? shape->num_experts / 8 : 1;
    eepi_background_limits limits = eepi_background_defaults;
    int64_t work = 0;
    int fills = 0, splits = 0;

    limits.max_exposed = some < limits.max_exposed ? some : limits.max_exposed;
    eepi_background_begin(core->background, draft, core->links, eepi_core_expert_bytes(core));
    while (core->examined_layers < shape->num_layers && fills < core->round_fills &&
           work < WORK_OF_CALL) {
        const int layer = core->examined_layers++;
        int n;
        limits.max_fills = core->round_fills - fills;
        n = eepi_background_layer(core->background, layer, eepi_core_loads(core, layer), &limits);
        fills += n;
        work += layer_work + (int64_t)n * WORK_OF_FILL;
        if (n == 0) { /* where fills are planned, eepi_core_split_loads does it */
            splits += eepi_background_split(core->background, draft, layer,
                                            eepi_core_loads(core, layer), &limits, false);
        }
    }
    core->pass_fills += fills + splits;
    return fills + splits;
}

/* Layers whose routing changes split their loads anew: a slot that is new has no share yet. */
void eepi_core_split_loads(eepi_core *core, eepi_view *draft)
{
    const eepi_view_shape *shape = &draft->shape;
    const size_t bytes = (size_t)shape->max_ranks * (size_t)shape->num_slots *
                         sizeof *eepi_view_slot_at(draft, 0, 0, 0);

    for (int layer = 0; layer < shape->num_layers; layer++) {
        if (memcmp(eepi_view_slot_at(draft, layer, 0, 0),
                   eepi_view_slot_at(core->view, layer, 0, 0), bytes) != 0) {
            (void)eepi_background_split(core->background, draft, layer,
                                        eepi_core_loads(core, layer), &eepi_background_defaults,
                                        true);
        }
    }
}

int eepi_core_plan_round(eepi_core *core, eepi_view *draft)
{
    int fills;

    end_pass(core);
    if (!core->config.background || core->examined_layers == draft->shape.num_layers) {
        return 0;
    }
    if (core->now_us < core->background_after_us && !somebody_retires(draft)) {
        eepi_core_wake_at(core, core->background_after_us);
        return 0;
    }
    fills = plan_layers(core, draft);
    if (fills == 0) {
        eepi_core_wake_at(core, core->now_us); /* the next layers, or the next pass */
    }
    return fills;
}

void eepi_core_take_loads(eepi_core *core, const uint32_t *loads)
{
    eepi_core_examine_layers(core);
    core->has_loads = loads != NULL;
    core->loads_are_new = true;
    if (loads) {
        memcpy(core->loads, loads, eepi_core_num_loads(&core->config.shape) * sizeof *loads);
    }
}
