/* SPDX-License-Identifier: Apache-2.0 */
/* The formulas of docs/AVAILABILITY.md. Times are in hours, rates per hour. */
#include "experiments/avail/avail_model.h"

#include "experiments/avail/avail_constants.h"

#include <assert.h>
#include <math.h>

#define SECOND_H (1.0 / 3600)

const char *avail_regime_name(avail_regime regime)
{
    static const char *const names[] = {"fixed", "restart", "failover", "elastic"};
    assert(regime >= 0 && regime < AVAIL_NUM_REGIMES);
    return names[regime];
}

const char *avail_figure_name(avail_figure figure)
{
    static const char *const names[] = {
        "faults_per_year",   "paused_h_per_year",   "stopped_h_per_year", "downtime_h_per_year",
        "lost_paused_gpu_h", "lost_degraded_gpu_h", "lost_stopped_gpu_h", "lost_gpu_h_per_year",
        "missing_ranks",     "second_fault",
    };
    assert(figure >= 0 && figure < AVAIL_NUM_FIGURES);
    return names[figure];
}

int64_t avail_groups(const avail_input *in)
{
    return in->gpus / in->width;
}

int64_t avail_standby(const avail_input *in)
{
    const int64_t most = avail_groups(in) - 1;
    return in->standby < most ? in->standby : most;
}

time_law avail_until_whole(const avail_input *in, avail_regime regime)
{
    const bool waits = regime == AVAIL_FIXED || !in->has_spares;
    time_law law = {.has_trace = waits && in->repair.has_trace,
                    .fixed_h = waits ? in->repair.fixed_h : 0};
    law.fixed_h += (regime == AVAIL_ELASTIC ? in->return_s : in->restart_s) * SECOND_H;
    return law;
}

double avail_stop_s(const avail_input *in, avail_regime regime)
{
    if (regime == AVAIL_ELASTIC) {
        return in->detect_s + in->recovery_s + in->reintegration_s;
    }
    if (regime == AVAIL_FAILOVER && avail_standby(in) > 0) {
        return in->failover_s;
    }
    const time_law law = avail_until_whole(in, regime);
    return time_law_mean(&law) / SECOND_H;
}

/* The chance that `num` of `most` are there, each with the chance `share`. */
static double binomial(int64_t num, int64_t most, double share)
{
    if (share <= 0) {
        return num == 0;
    }
    return exp(lgamma((double)most + 1) - lgamma((double)num + 1) -
               lgamma((double)(most - num) + 1) + (double)num * log(share) +
               (double)(most - num) * log1p(-share));
}

/* The chance that more than `num` are there. From the far end, so that small chances keep their
 * digits. */
static double more_than(int64_t num, int64_t most, double share)
{
    double sum = 0;
    for (int64_t i = most; i > num; i--) {
        sum += binomial(i, most, share);
    }
    return sum;
}

/* Share of the time that one instance is down: it works for width / MTBF on average, and is down
 * for as long as the outage. While it is down nothing of it fails. */
static double down_share(const avail_input *in, avail_regime regime)
{
    const time_law outage = avail_until_whole(in, regime);
    const double per_cycle = in->width / in->mtbf_h * time_law_mean(&outage);
    return per_cycle / (1 + per_cycle);
}

/* Mean number of groups that are down beyond the standby ones, over those that serve; and the share
 * of the time in which a standby group is free. */
static double uncovered_share(const avail_input *in, double down, double *free_out)
{
    const int64_t groups = avail_groups(in), standby = avail_standby(in);
    double uncovered = 0, covered = 0;
    for (int64_t i = 0; i <= groups; i++) {
        const double chance = binomial(i, groups, down);
        uncovered += i > standby ? chance * (double)(i - standby) : 0;
        covered += i < standby ? chance : 0;
    }
    *free_out = covered;
    return uncovered / (double)(groups - standby);
}

/* FIXED, RESTART and FAILOVER: the whole instance is down from the fault until it has started. */
static void compute_whole(const avail_input *in, avail_regime regime, double *value)
{
    const double rate = in->width / in->mtbf_h, down = down_share(in, regime);
    const time_law outage = avail_until_whole(in, regime);
    value[AVAIL_FAULTS] = rate * (1 - down) * AVAIL_HOURS_A_YEAR;
    value[AVAIL_STOPPED] = down * AVAIL_HOURS_A_YEAR;
    if (regime == AVAIL_FAILOVER) {
        double covered = 0;
        value[AVAIL_STOPPED] = uncovered_share(in, down, &covered) * AVAIL_HOURS_A_YEAR;
        value[AVAIL_PAUSED] = rate * covered * in->failover_s * SECOND_H * AVAIL_HOURS_A_YEAR;
    }
    value[AVAIL_LOST_STOPPED] = in->width * down * AVAIL_HOURS_A_YEAR;
    value[AVAIL_MISSING] = down;
    value[AVAIL_SECOND_FAULT] = 1 - time_law_none_within(&outage, (in->width - 1) / in->mtbf_h);
}

/* Each seat is full for MTBF on average, and then empty until its rank is replaced. Seats do not
 * depend on each other, so the number of empty ones is binomial. */
static double empty_share(const avail_input *in)
{
    const time_law empty = avail_until_whole(in, AVAIL_ELASTIC);
    const double mean = time_law_mean(&empty);
    return mean / (in->mtbf_h + mean);
}

static void compute_elastic(const avail_input *in, double *value)
{
    const double empty = empty_share(in), rate = in->width * (1 - empty) / in->mtbf_h;
    const double paused = rate * avail_stop_s(in, AVAIL_ELASTIC) * SECOND_H;
    const double beyond = more_than(in->redundancy, in->width, empty);
    const time_law until = avail_until_whole(in, AVAIL_ELASTIC);
    double degraded = 0;
    for (int64_t i = 1; i <= in->redundancy; i++) {
        degraded += fmin((double)i * in->lost_per_rank, in->width) * binomial(i, in->width, empty);
    }
    value[AVAIL_FAULTS] = rate * AVAIL_HOURS_A_YEAR;
    value[AVAIL_PAUSED] = paused * AVAIL_HOURS_A_YEAR;
    value[AVAIL_STOPPED] = beyond * AVAIL_HOURS_A_YEAR;
    value[AVAIL_LOST_PAUSED] = in->width * paused * AVAIL_HOURS_A_YEAR;
    value[AVAIL_LOST_DEGRADED] = degraded * AVAIL_HOURS_A_YEAR;
    value[AVAIL_LOST_STOPPED] = in->width * beyond * AVAIL_HOURS_A_YEAR;
    value[AVAIL_MISSING] = in->width * empty;
    value[AVAIL_SECOND_FAULT] = 1 - time_law_none_within(&until, (in->width - 1) / in->mtbf_h);
}

double avail_in_repair(const avail_input *in)
{
    const double repair_h = time_law_mean(&in->repair);
    return (double)in->gpus * repair_h / (in->mtbf_h + repair_h);
}

double avail_reserve(const avail_input *in, avail_regime regime)
{
    const bool has_spares = regime != AVAIL_FIXED && in->has_spares;
    const int64_t standby = regime == AVAIL_FAILOVER ? avail_standby(in) * in->width : 0;
    return (has_spares ? avail_in_repair(in) : 0) + (double)standby;
}

void avail_compute(const avail_input *in, avail_regime regime, avail_figures *figures_out)
{
    double *value = figures_out->value;
    *figures_out = (avail_figures){{0}};
    if (regime == AVAIL_ELASTIC) {
        compute_elastic(in, value);
    } else {
        compute_whole(in, regime, value);
    }
    value[AVAIL_DOWNTIME] = value[AVAIL_PAUSED] + value[AVAIL_STOPPED];
    value[AVAIL_LOST] =
        value[AVAIL_LOST_PAUSED] + value[AVAIL_LOST_DEGRADED] + value[AVAIL_LOST_STOPPED];
}

static int32_t divide_up(int64_t a, int64_t b)
{
    return (int32_t)((a + b - 1) / b);
}

avail_redundancy avail_redundancy_of(const avail_input *in, int32_t ranks, int32_t experts)
{
    return (avail_redundancy){
        .ranks = ranks,
        .beyond = more_than(ranks, in->width, empty_share(in)),
        .slots_hold = divide_up(experts, in->width - ranks),
        .slots_apart = divide_up((int64_t)experts * (ranks + 1), in->width),
    };
}

avail_redundancy avail_redundancy_for(const avail_input *in, double target, int32_t experts)
{
    const double empty = empty_share(in);
    double beyond = binomial(in->width, in->width, empty), chance = 0;
    int32_t ranks = in->width - 1;
    if (beyond > target) {
        return (avail_redundancy){.ranks = -1, .beyond = beyond};
    }
    while (ranks > 0 && beyond + (chance = binomial(ranks, in->width, empty)) <= target) {
        beyond += chance;
        ranks--;
    }
    return avail_redundancy_of(in, ranks, experts);
}
