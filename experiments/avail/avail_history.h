/* SPDX-License-Identifier: Apache-2.0 */
/* A history of faults and returns. Time goes from event to event, and what passes between them is
 * summed per draw. Two kinds: whole groups that are down, and seats that are empty. */
#ifndef EEPX_AVAIL_HISTORY_H
#define EEPX_AVAIL_HISTORY_H

#include "experiments/avail/avail_draws.h"

typedef struct avail_away {
    double back_h;
    int64_t first, end; /* seats or groups [first, end) */
    int64_t number;     /* of those that left, from 1 */
} avail_away;

typedef struct avail_history {
    const avail_input *in;
    avail_shares shares;
    int64_t num_seats, num_struck;
    double mean_h, next_fault_h;
    uint64_t random;
    avail_away *away;
    int64_t num_away, max_away, last_away;
    /* of the draw under way; then mean and sum of squares over draws */
    double sum[AVAIL_NUM_FIGURES], mean[AVAIL_NUM_FIGURES], squares[AVAIL_NUM_FIGURES];
    int64_t events[AVAIL_NUM_FIGURES];
    int64_t num_draws, trials, successes;
} avail_history;

typedef struct avail_history_calls {
    void (*pass)(void *owner, double hours);
    /* A fault takes the seats [first, end) at this hour. */
    eep_status (*strike)(void *owner, double now_h, int64_t first, int64_t end);
    void (*come_back)(void *owner, const avail_away *away);
} avail_history_calls;

void avail_history_open(avail_history *self, const avail_input *in, const avail_shares *shares,
                        int64_t num_seats, uint64_t seed);
EEP_MUST_CHECK eep_status avail_history_leave(avail_history *self, double back_h, int64_t first,
                                              int64_t end);
/* Add to a figure of the draw under way. `is_event`: it comes from one event more. */
void avail_history_count(avail_history *self, avail_figure figure, double amount, bool is_event);
EEP_MUST_CHECK eep_status avail_history_run(avail_history *self, const avail_history_calls *calls,
                                            void *owner, double draw_h, int64_t draws);
void avail_history_close(avail_history *self, avail_drawn_figures *drawn_out);

/* FIXED, RESTART and FAILOVER: groups that are down. */
EEP_MUST_CHECK eep_status avail_groups_run(avail_history *history, const time_law *outage,
                                           int64_t groups, int64_t standby, double draw_h,
                                           int64_t draws);
/* ELASTIC: seats of one instance that are empty; and the least redundancy for a target. */
EEP_MUST_CHECK eep_status avail_seats_run(avail_history *history, const time_law *empty,
                                          double draw_h, int64_t draws, double target,
                                          int32_t *redundancy_out);
#endif
