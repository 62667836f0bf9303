/* SPDX-License-Identifier: Apache-2.0 */
/* Faults in time, units that are away, and sums cut into draws. */
#include "experiments/avail/avail_history.h"

#include "experiments/avail/avail_constants.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- faults */

static int64_t round_up(int64_t value, int64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Faults strike a seat by chance, and its node or rack with it. The seats beyond the history's own
 * belong to others: their node or rack may be shared. */
void avail_history_open(avail_history *self, const avail_input *in, const avail_shares *shares,
                        int64_t num_seats, uint64_t seed)
{
    int64_t struck = num_seats;
    struck = shares->node > 0 ? round_up(struck, shares->node_gpus) : struck;
    struck = shares->rack > 0 ? round_up(struck, shares->rack_gpus) : struck;
    *self = (avail_history){.in = in,
                            .shares = *shares,
                            .num_seats = num_seats,
                            .num_struck = struck,
                            .mean_h = in->mtbf_h / (double)struck,
                            .random = seed};
    self->next_fault_h = time_law_exponential(self->mean_h, &self->random);
}

/* Seats [first, end) of the history that the next fault takes; empty: it takes others. */
static void next_fault(avail_history *self, int64_t *first_out, int64_t *end_out)
{
    const int64_t seat = (int64_t)(time_law_uniform(&self->random) * (double)self->num_struck);
    const double kind = time_law_uniform(&self->random);
    int64_t unit = 1;
    if (kind < self->shares.node) {
        unit = self->shares.node_gpus;
    } else if (kind < self->shares.node + self->shares.rack) {
        unit = self->shares.rack_gpus;
    }
    *first_out = seat / unit * unit;
    *end_out = *first_out + unit < self->num_seats ? *first_out + unit : self->num_seats;
    self->next_fault_h += time_law_exponential(self->mean_h, &self->random);
}

/* ---------------------------------------------------------------- who is away */

eep_status avail_history_leave(avail_history *self, double back_h, int64_t first, int64_t end)
{
    if (self->num_away == self->max_away) {
        const int64_t most = self->max_away ? 2 * self->max_away : 16;
        avail_away *away = realloc(self->away, (size_t)most * sizeof *away);
        if (!away) {
            return EEP_ERR_NO_MEMORY;
        }
        self->away = away;
        self->max_away = most;
    }
    self->away[self->num_away++] = (avail_away){back_h, first, end, ++self->last_away};
    return EEP_OK;
}

/* The one that is back first; -1: all are there. Few are away at a time. */
static int64_t first_back(const avail_history *self)
{
    int64_t first = -1;
    for (int64_t i = 0; i < self->num_away; i++) {
        first = first < 0 || self->away[i].back_h < self->away[first].back_h ? i : first;
    }
    return first;
}

/* ---------------------------------------------------------------- draws */

static void end_draw(avail_history *self, double years)
{
    self->num_draws++;
    for (int f = 0; f < AVAIL_NUM_FIGURES; f++) {
        const double value = self->sum[f] / years, off = value - self->mean[f];
        self->mean[f] += off / (double)self->num_draws;
        self->squares[f] += off * (value - self->mean[f]);
        self->sum[f] = 0;
    }
}

static void forget(avail_history *self)
{
    for (int f = 0; f < AVAIL_NUM_FIGURES; f++) {
        self->sum[f] = 0;
        self->events[f] = 0;
    }
    self->trials = self->successes = 0;
}

/* Hours are counted from the begin of the draw, so that they keep their digits. */
static void begin_draw(avail_history *self, double draw_h)
{
    self->next_fault_h -= draw_h;
    for (int64_t i = 0; i < self->num_away; i++) {
        self->away[i].back_h -= draw_h;
    }
}

/* The next fault or return. */
static eep_status go_on(avail_history *self, const avail_history_calls *calls, void *owner,
                        int64_t back, double now_h)
{
    int64_t first = 0, end = 0;
    if (back >= 0 && self->away[back].back_h <= now_h) {
        const avail_away away = self->away[back];
        self->away[back] = self->away[--self->num_away];
        calls->come_back(owner, &away);
        return EEP_OK;
    }
    next_fault(self, &first, &end);
    return first < end ? calls->strike(owner, now_h, first, end) : EEP_OK;
}

/* The first draw is not counted: all ranks were well when it began. */
eep_status avail_history_run(avail_history *self, const avail_history_calls *calls, void *owner,
                             double draw_h, int64_t draws)
{
    double now_h = 0;
    eep_status status = EEP_OK;
    for (int64_t draw = -1; draw < draws && status == EEP_OK;) {
        const int64_t back = first_back(self);
        const double back_h = back >= 0 ? self->away[back].back_h : INFINITY;
        const double next_h = fmin(back_h, self->next_fault_h);
        if (next_h < draw_h) {
            calls->pass(owner, next_h - now_h);
            now_h = next_h;
            status = go_on(self, calls, owner, back, now_h);
            continue;
        }
        calls->pass(owner, draw_h - now_h);
        now_h = 0;
        begin_draw(self, draw_h);
        if (draw++ < 0) {
            forget(self);
        } else {
            end_draw(self, draw_h / AVAIL_HOURS_A_YEAR);
        }
    }
    return status;
}

void avail_history_count(avail_history *self, avail_figure figure, double amount, bool is_event)
{
    self->sum[figure] += amount;
    self->events[figure] += is_event;
}

void avail_history_close(avail_history *self, avail_drawn_figures *drawn_out)
{
    const double draws = (double)self->num_draws;
    for (int f = 0; f < AVAIL_NUM_FIGURES; f++) {
        drawn_out->figure[f] =
            (avail_drawn){.mean = self->mean[f],
                          .error = draws > 1 ? sqrt(self->squares[f] / (draws - 1) / draws) : 0,
                          .events = self->events[f]};
    }
    const double trials = (double)self->trials, share = (double)self->successes / fmax(trials, 1);
    drawn_out->figure[AVAIL_SECOND_FAULT] =
        (avail_drawn){share, sqrt(share * (1 - share) / fmax(trials, 1)), self->successes};
    free(self->away);
}
