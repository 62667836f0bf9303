/* SPDX-License-Identifier: Apache-2.0 */
/* Groups that a fault takes down as a whole, and standby groups that take over. */
#include "experiments/avail/avail_history.h"

#include "experiments/avail/avail_constants.h"

#include <stdlib.h>

typedef struct groups_state {
    avail_history *history;
    const time_law *outage;
    int64_t groups, standby, num_down;
    int64_t num_failed; /* ranks that failed and are not replaced */
    int64_t *failed;    /* [groups]; 0: it is up */
} groups_state;

static void pass(void *owner, double hours)
{
    groups_state *self = owner;
    avail_history *history = self->history;
    const int64_t over = self->num_down > self->standby ? self->num_down - self->standby : 0;
    const double groups = (double)self->groups, serving = (double)(self->groups - self->standby);
    const double stopped = hours * (double)over / serving;
    const double lost = hours * (double)self->num_down * history->in->width / groups;
    avail_history_count(history, AVAIL_STOPPED, stopped, false);
    avail_history_count(history, AVAIL_DOWNTIME, stopped, false);
    avail_history_count(history, AVAIL_LOST_STOPPED, lost, false);
    avail_history_count(history, AVAIL_LOST, lost, false);
    /* A mean over time: a draw's sum is divided by its years. */
    avail_history_count(history, AVAIL_MISSING,
                        hours / AVAIL_HOURS_A_YEAR * (double)self->num_failed / groups, false);
}

/* The users of a group that serves wait until a free one takes over. All that are up are equally
 * likely to be the ones that serve. */
static void fail_over(groups_state *self)
{
    avail_history *history = self->history;
    const double serving = (double)(self->groups - self->standby);
    const double up = (double)(self->groups - self->num_down);
    if (self->num_down >= self->standby) {
        avail_history_count(history, AVAIL_STOPPED, 0, true);
    } else if (time_law_uniform(&history->random) * up < serving) {
        const double hours = history->in->failover_s / 3600 / serving;
        avail_history_count(history, AVAIL_PAUSED, hours, true);
        avail_history_count(history, AVAIL_DOWNTIME, hours, false);
    }
}

static eep_status strike(void *owner, double now_h, int64_t first, int64_t end)
{
    groups_state *self = owner;
    const int64_t width = self->history->in->width;
    for (int64_t group = first / width; group * width < end; group++) {
        if (self->failed[group]) {
            continue;
        }
        const int64_t low = group * width > first ? group * width : first;
        const int64_t high = (group + 1) * width < end ? (group + 1) * width : end;
        const double outage_h = time_law_draw(self->outage, &self->history->random);
        fail_over(self);
        avail_history_count(self->history, AVAIL_FAULTS, 1.0 / (double)self->groups, true);
        avail_history_count(self->history, AVAIL_LOST_STOPPED, 0, true);
        avail_history_count(self->history, AVAIL_MISSING, 0, true);
        self->failed[group] = high - low;
        self->num_failed += high - low;
        self->num_down++;
        if (avail_history_leave(self->history, now_h + outage_h, group, group + 1) != EEP_OK) {
            return EEP_ERR_NO_MEMORY;
        }
    }
    return EEP_OK;
}

static void come_back(void *owner, const avail_away *away)
{
    groups_state *self = owner;
    self->num_failed -= self->failed[away->first];
    self->failed[away->first] = 0;
    self->num_down--;
}

eep_status avail_groups_run(avail_history *history, const time_law *outage, int64_t groups,
                            int64_t standby, double draw_h, int64_t draws)
{
    static const avail_history_calls calls = {pass, strike, come_back};
    groups_state self = {.history = history,
                         .outage = outage,
                         .groups = groups,
                         .standby = standby,
                         .failed = calloc((size_t)groups, sizeof *self.failed)};
    if (!self.failed) {
        return EEP_ERR_NO_MEMORY;
    }
    const eep_status status = avail_history_run(history, &calls, &self, draw_h, draws);
    free(self.failed);
    return status;
}
