/* SPDX-License-Identifier: Apache-2.0 */
/* A history for each regime, and how far its figures are from the formulas'. */
#include "experiments/avail/avail_draws.h"

#include "experiments/avail/avail_constants.h"
#include "experiments/avail/avail_history.h"
#include "experiments/base/random.h"

#include <math.h>

/* A draw is at least so many outages long, so that one does not tell of the next. */
enum { LEAST_OUTAGES = 50 };
/* A part of a sum that is smaller says nothing about it. */
#define LEAST_PART 1e-4

/* ---------------------------------------------------------------- drawn figures */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t avail_drawn_events(const avail_drawn_figures *drawn, avail_figure figure,
                           const avail_figures *formula)
{
    static const avail_figure hours[] = {AVAIL_PAUSED, AVAIL_STOPPED};
    static const avail_figure lost[] = {AVAIL_LOST_PAUSED, AVAIL_LOST_DEGRADED, AVAIL_LOST_STOPPED};
    if (figure != AVAIL_DOWNTIME && figure != AVAIL_LOST) {
        return drawn->figure[figure].events;
    }
    const avail_figure *part = figure == AVAIL_LOST ? lost : hours;
    int64_t events = INT64_MAX;
    for (int i = 0; i < (figure == AVAIL_LOST ? 3 : 2); i++) {
        const bool counts = formula->value[part[i]] > LEAST_PART * formula->value[figure];
        events = counts ? least(events, drawn->figure[part[i]].events) : events;
    }
    return events == INT64_MAX ? 0 : events;
}

double avail_drawn_distance(const avail_drawn_figures *drawn, avail_figure figure,
                            const avail_figures *formula)
{
    const avail_drawn *one = &drawn->figure[figure];
    if (avail_drawn_events(drawn, figure, formula) < AVAIL_LEAST_EVENTS || one->error <= 0) {
        return NAN;
    }
    return fabs(one->mean - formula->value[figure]) / one->error;
}

/* ---------------------------------------------------------------- a regime */

eep_status avail_draw(const avail_input *in, avail_regime regime, const avail_shares *shares,
                      int64_t draws, uint64_t seed, double target, avail_drawn_figures *drawn_out)
{
    const time_law outage = avail_until_whole(in, regime);
    const int64_t groups = regime == AVAIL_FAILOVER ? avail_groups(in) : 1;
    const int64_t standby = regime == AVAIL_FAILOVER ? avail_standby(in) : 0;
    const double shortest_h = LEAST_OUTAGES * time_law_mean(&outage);
    const double draw_h = fmax((double)AVAIL_HOURS_A_YEAR / (double)groups, shortest_h);
    uint64_t state = seed;
    const uint64_t own = random_next(&state) ^ ((uint64_t)in->width << 8 | (uint64_t)regime);
    avail_history history;
    eep_status status = EEP_OK;
    avail_history_open(&history, in, shares, groups * in->width, own);
    drawn_out->redundancy = -1;
    if (regime == AVAIL_ELASTIC) {
        status = avail_seats_run(&history, &outage, draw_h, draws, target, &drawn_out->redundancy);
    } else {
        status = avail_groups_run(&history, &outage, groups, standby, draw_h, draws);
    }
    avail_history_close(&history, drawn_out);
    return status;
}
