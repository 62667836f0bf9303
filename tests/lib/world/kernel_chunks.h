/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of shape 1 of a kernel_world (kernel_world_open_chunks): a batch of shape.max_tokens in
 * chunks, each an exchange of its own. Inputs and outputs lie as those of one exchange would. */
#ifndef KERNEL_CHUNKS_H
#define KERNEL_CHUNKS_H

#include "tests/lib/world/kernel_world.h"

/* Capture the graphs of shape 1 of all ranks. */
void kernel_chunks_capture(kernel_world *world);
/* The ranks' next launches have that shape; with shape 1 their tokens are dealt to the chunks. */
void kernel_chunks_choose(kernel_world *world, uint32_t shape);
/* The same for one rank. */
void kernel_rank_choose(kernel_world *world, int seat, uint32_t shape);
#endif
