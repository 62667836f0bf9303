/* SPDX-License-Identifier: Apache-2.0 */
/* What eep-avail tells, as JSON: each width and regime by formulas, by chance, and by chance with
 * faults that take a node or a rack. */
#ifndef EEPX_AVAIL_REPORT_H
#define EEPX_AVAIL_REPORT_H

#include "experiments/avail/avail_draws.h"
#include "experiments/avail/avail_rows.h"

#include <cjson/cJSON.h>

enum { AVAIL_MAX_WIDTHS = 32 };

typedef struct avail_widths {
    int32_t width[AVAIL_MAX_WIDTHS];
    int num;
} avail_widths;

typedef struct avail_report_options {
    avail_widths widths;
    avail_shares shares; /* of the correlated draws */
    int64_t draws;       /* 0: formulas alone */
    uint64_t seed;
    double target;      /* of the time, more than k ranks are missing for less */
    int32_t redundancy; /* k; -1: the least that meets the target */
    int32_t experts;    /* of a layer */
    avail_rows curve;   /* num 0: there is none */
    double plateau;     /* share of the most that is on the plateau nevertheless */
    const char *pauses; /* where they come from */
} avail_report_options;

/* The caller deletes it. NULL: no memory. */
cJSON *avail_report(const avail_input *fleet, const avail_report_options *options);
/* All constants with their sources. */
cJSON *avail_report_constants(void);
#endif
