/* SPDX-License-Identifier: Apache-2.0 */
/* Seats of one elastic instance. The others go on without those that are empty. */
#include "experiments/avail/avail_history.h"

#include "experiments/avail/avail_constants.h"

#include <math.h>
#include <stdlib.h>

typedef struct seats_state {
    avail_history *history;
    const time_law *empty;
    int64_t num_empty;
    double *hours_with; /* [width + 1]: so many seats were empty for so long */
    int64_t *left_by;   /* [width]: number of the fault that emptied the seat; 0: a rank is in it */
    bool is_on_trial;   /* one fault's ranks are missing, and no others: will there be a second? */
} seats_state;

static void add_pause(seats_state *self, double seconds, bool is_event)
{
    const double hours = seconds / 3600;
    const double lost = hours * self->history->in->width;
    avail_history_count(self->history, AVAIL_PAUSED, hours, is_event);
    avail_history_count(self->history, AVAIL_DOWNTIME, hours, false);
    avail_history_count(self->history, AVAIL_LOST_PAUSED, lost, is_event);
    avail_history_count(self->history, AVAIL_LOST, lost, false);
}

static void pass(void *owner, double hours)
{
    seats_state *self = owner;
    avail_history *history = self->history;
    const avail_input *in = history->in;
    self->hours_with[self->num_empty] += hours;
    avail_history_count(history, AVAIL_MISSING,
                        hours / AVAIL_HOURS_A_YEAR * (double)self->num_empty, false);
    if (self->num_empty > in->redundancy) {
        avail_history_count(history, AVAIL_STOPPED, hours, false);
        avail_history_count(history, AVAIL_DOWNTIME, hours, false);
        avail_history_count(history, AVAIL_LOST_STOPPED, hours * in->width, false);
        avail_history_count(history, AVAIL_LOST, hours * in->width, false);
    } else {
        const double lost = hours * fmin((double)self->num_empty * in->lost_per_rank, in->width);
        avail_history_count(history, AVAIL_LOST_DEGRADED, lost, false);
        avail_history_count(history, AVAIL_LOST, lost, false);
    }
}

static void end_trial(seats_state *self, bool is_success)
{
    self->history->trials += self->is_on_trial;
    self->history->successes += self->is_on_trial && is_success;
    self->is_on_trial = false;
}

static eep_status strike(void *owner, double now_h, int64_t first, int64_t end)
{
    seats_state *self = owner;
    avail_history *history = self->history;
    const avail_input *in = history->in;
    const int64_t before = self->num_empty, number = history->last_away + 1;
    for (int64_t seat = first; seat < end; seat++) {
        self->num_empty += self->left_by[seat] == 0;
        self->left_by[seat] = self->left_by[seat] ? self->left_by[seat] : number;
    }
    if (self->num_empty == before) {
        return EEP_OK; /* there was nobody */
    }
    end_trial(self, true);
    self->is_on_trial = before == 0;
    add_pause(self, in->detect_s + in->recovery_s, true);
    avail_history_count(history, AVAIL_FAULTS, 1, true);
    avail_history_count(history, AVAIL_MISSING, 0, true);
    avail_history_count(history, AVAIL_LOST_DEGRADED, 0, true);
    if (before <= in->redundancy && self->num_empty > in->redundancy) {
        avail_history_count(history, AVAIL_STOPPED, 0, true);
        avail_history_count(history, AVAIL_LOST_STOPPED, 0, true);
    }
    return avail_history_leave(history, now_h + time_law_draw(self->empty, &history->random), first,
                               end);
}

static void come_back(void *owner, const avail_away *away)
{
    seats_state *self = owner;
    end_trial(self, false);
    for (int64_t seat = away->first; seat < away->end; seat++) {
        if (self->left_by[seat] == away->number) {
            self->left_by[seat] = 0;
            self->num_empty--;
        }
    }
    add_pause(self, self->history->in->reintegration_s, false);
}

static int32_t find_redundancy(const double *hours_with, int32_t width, double target)
{
    double all = 0, beyond = 0;
    int32_t ranks = width;
    for (int32_t i = 0; i <= width; i++) {
        all += hours_with[i];
    }
    while (ranks > 0 && beyond + hours_with[ranks] <= target * all) {
        beyond += hours_with[ranks--];
    }
    return ranks;
}

eep_status avail_seats_run(avail_history *history, const time_law *empty, double draw_h,
                           int64_t draws, double target, int32_t *redundancy_out)
{
    static const avail_history_calls calls = {pass, strike, come_back};
    const size_t num_seats = (size_t)history->num_seats;
    seats_state self = {.history = history,
                        .empty = empty,
                        .hours_with = calloc(num_seats + 1, sizeof *self.hours_with),
                        .left_by = calloc(num_seats, sizeof *self.left_by)};
    eep_status status = EEP_ERR_NO_MEMORY;
    if (self.left_by && self.hours_with) {
        status = avail_history_run(history, &calls, &self, draw_h, draws);
        *redundancy_out = find_redundancy(self.hours_with, history->in->width, target);
    }
    free(self.hours_with);
    free(self.left_by);
    return status;
}
