/* SPDX-License-Identifier: Apache-2.0 */
/* The same fleet by chance: one long seeded history of faults and returns, cut into draws. It
 * shares no formula with avail_model.c, and knows faults that take a node or a rack at once. */
#ifndef EEPX_AVAIL_DRAWS_H
#define EEPX_AVAIL_DRAWS_H

#include "experiments/avail/avail_model.h"

#include "eep/status.h"

/* Of all faults, those that take all GPUs of a node, or of a rack. The others take one GPU. */
typedef struct avail_shares {
    double node, rack;
    int32_t node_gpus, rack_gpus;
} avail_shares;

typedef struct avail_drawn {
    double mean, error; /* the standard error of the mean */
    int64_t events;     /* that the figure comes from */
} avail_drawn;

enum { AVAIL_LEAST_EVENTS = 30 }; /* with fewer the standard error says nothing */

typedef struct avail_drawn_figures {
    avail_drawn figure[AVAIL_NUM_FIGURES]; /* SECOND_FAULT: of ELASTIC alone, since nothing of an
                                              instance that is down fails */
    int32_t redundancy; /* ELASTIC: the least k with which more than k ranks were missing for at
                           most `target` of the time */
} avail_drawn_figures;

/* Each regime and width has a history of its own under one seed. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status avail_draw(const avail_input *in, avail_regime regime,
                                     const avail_shares *shares, int64_t draws, uint64_t seed,
                                     double target, avail_drawn_figures *drawn_out);
/* Events that a figure comes from. A sum is as well known as the least known of its parts that
 * count in the formula's. */
int64_t avail_drawn_events(const avail_drawn_figures *drawn, avail_figure figure,
                           const avail_figures *formula);
/* How many standard errors the drawn mean is from the formula's figure; NAN: too few events. */
double avail_drawn_distance(const avail_drawn_figures *drawn, avail_figure figure,
                            const avail_figures *formula);
#endif
