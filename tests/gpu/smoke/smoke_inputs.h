/* SPDX-License-Identifier: Apache-2.0 */
/* What the GPU check feeds into its steps: tokens and routing from a seed, and placements. Pure
 * functions: the same bytes on every call and for every backend. */
#ifndef SMOKE_INPUTS_H
#define SMOKE_INPUTS_H

#include "tests/gpu/smoke/smoke_run.h"
#include "graphs/kernels/table_layout.h"
#include "membership/view/view.h"

/* Where inputs lie in a rank's input buffer: x [SMOKE_TOKENS, hidden], then topk_idx and
 * topk_weights [num_layers, SMOKE_TOKENS, SMOKE_TOPK], then num_tokens. */
typedef struct smoke_inputs {
    size_t x, topk_idx, topk_weights, num_tokens, bytes;
} smoke_inputs;

smoke_inputs smoke_inputs_of(const eepk_shape *shape);
/* Write a rank's inputs of a step (0-based) to `to` (layout->bytes, 128-byte aligned). */
void smoke_inputs_fill(const smoke_case *test, const eepk_shape *shape, const smoke_inputs *layout,
                       int step, int rank, uint8_t *to);
/* Rank 0 has seat 0, the others follow from seat 2: seats need not be dense. */
int smoke_seat_of(int rank);
/* The view of an epoch: the planner's placement; in even epochs replicas have moved, and the copy
 * of the combine windows changes with each. Sealed. NULL: no memory, or no placement. free(). */
eepi_view *smoke_view_make(const smoke_case *test, const eepk_shape *shape, int epoch);
#endif
