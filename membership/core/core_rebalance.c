/* SPDX-License-Identifier: Apache-2.0 */
/* Background repair (tier 3 of the repair hierarchy): redundancy and balance come back behind live
 * traffic, a layer per round, each round one flip. A planned view takes slots away from routing and
 * names them FILLING; their owners fill them once they run it; the next planned view, when all have
 * acknowledged their checksums, routes to them (rule R1). */
#include "membership/core/core_rebalance.h"

#include "membership/core/core_common.h"
#include "repair/planner/planner.h"
#include "repair/rebalance.h"

enum {
    ROUND_FILLS = 16,          /* slots per round, in one layer */
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

int eepi_core_promote_fills(const eepi_core *core, eepi_view *draft)
{
    int promoted = 0;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        if (eepi_view_is_member(draft, seat) &&
            core->peers[seat].filled_digest == core->view->digest) {
            promoted += eepi_plan_filled(draft, seat);
        }
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
    core->examined_layers = 0;
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

/* A layer is looked at per call, so that a large instance never keeps this thread for long. */
int eepi_core_plan_round(eepi_core *core, eepi_view *draft)
{
    int fills;

    if (!core->config.background || core->examined_layers == draft->shape.num_layers) {
        return 0;
    }
    if (core->now_us < core->background_after_us && !somebody_retires(draft)) {
        eepi_core_wake_at(core, core->background_after_us);
        return 0;
    }
    fills = eepi_plan_background(draft, core->examined_layers, ROUND_FILLS);
    if (fills == 0) {
        core->examined_layers++;
        eepi_core_wake_at(core, core->now_us);
    }
    return fills;
}
