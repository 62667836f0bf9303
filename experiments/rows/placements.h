/* SPDX-License-Identifier: Apache-2.0 */
/* What came of each placement that ranks were told to order. Pure but for printing. */
#ifndef EEPX_PLACEMENTS_H
#define EEPX_PLACEMENTS_H

#include "experiments/rows/record.h"
#include "experiments/wire/wire.h"

#include <cjson/cJSON.h>

/* What a rank's message has changed; several may be. */
enum {
    PLACEMENTS_REACHED = 1,     /* the one in force is reached, or is so again */
    PLACEMENTS_UNREACHABLE = 2, /* it cannot be reached with the members that there are */
    PLACEMENTS_REFUSED = 4,     /* the one that the rank ordered is refused */
};

/* The seat's rank (-1: each of the first view) was told to order a placement of that number; time
 * 0: before serving started. False: no memory. */
bool placements_give(record *run, uint64_t number, int seat, uint64_t time_ns);
/* The seat's rank says how far it has come. Of older views than another rank has told of, only what
 * is said of the rank's own order counts. */
int placements_hear(record *run, int seat, const wire_placement *told);
/* Add `placements` of summary.json. */
void placements_add(cJSON *root, const record_placement *placements, size_t num, uint64_t start_ns);
/* A line for each. */
void placements_print(const record_placement *placements, size_t num, uint64_t start_ns);
#endif
