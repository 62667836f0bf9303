/* SPDX-License-Identifier: Apache-2.0 */
/* What no placement of a layer is below, whoever makes it. */
#ifndef PLACEMENT_BOUNDS_H
#define PLACEMENT_BOUNDS_H

#include <stdint.h>

typedef struct bounds_layer {
    int num_ranks, num_slots, num_experts;
    const uint32_t *loads; /* [num_experts] */
    /* Experts with two copies that two ranks may share at most; -1: as many as they like. */
    int pair_limit;
} bounds_layer;

/* The ratio, in means, if each expert has two copies, or the coldest one where slots are fewer. It
 * is 1, which is no help, where slots are more than two per expert. < 0: no memory. */
double bounds_coverage(const bounds_layer *layer);

/* Ranks of two slots: how many experts have one copy if the ratio is to stay within `ratio` means.
 * < 0: no memory. */
double bounds_singles(const bounds_layer *layer, double ratio);
#endif
