/* SPDX-License-Identifier: Apache-2.0 */
/* The shape of a view document: numbers that never change while an instance lives. */
#ifndef EEPI_SHAPE_H
#define EEPI_SHAPE_H

#include <stdint.h>

enum {
    EEPI_NO_EXPERT = 0xffff,
    EEPI_VIEW_COLOURS = 2, /* of windows: the present view's, and the next fault view's */
};

typedef struct eepi_view_shape {
    int32_t max_ranks, num_layers, num_experts, num_slots;
    int32_t ranks_per_node; /* seat s is on node s / ranks_per_node; 0: all are on one node */
    int32_t spread;         /* least distance of two replicas (repair/spread.h); 0: the default */
    /* Seats s / seats_per_group of one value serve together or not at all; 0: there are no groups,
     * nor with 1. max_ranks is a multiple. */
    int32_t seats_per_group;
    int32_t pad; /* 0 */
} eepi_view_shape;
#endif
