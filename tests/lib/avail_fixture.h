/* SPDX-License-Identifier: Apache-2.0 */
/* A fleet whose availability is asked for: the times of a fault, and what is kept against one. */
#ifndef EEPT_AVAIL_FIXTURE_H
#define EEPT_AVAIL_FIXTURE_H

#include "experiments/avail/avail_model.h"

/* 10,000 GPUs in instances of `width`, each expert twice. */
static inline avail_input fleet(int32_t width, double mtbf_h)
{
    return (avail_input){.gpus = 10000,
                         .width = width,
                         .standby = 1,
                         .mtbf_h = mtbf_h,
                         .detect_s = 1,
                         .recovery_s = 10,
                         .reintegration_s = 8,
                         .restart_s = 348,
                         .failover_s = 30,
                         .repair = {.fixed_h = 20.4},
                         .return_s = 900,
                         .has_spares = true,
                         .redundancy = 2,
                         .lost_per_rank = 1};
}

/* One that is drawn by chance in little time: a tenth of it, each expert once. */
static inline avail_input small_fleet(int32_t width, double mtbf_h)
{
    avail_input in = fleet(width, mtbf_h);
    in.gpus = 1000;
    in.redundancy = 1;
    return in;
}
#endif
