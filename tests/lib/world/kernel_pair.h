/* SPDX-License-Identifier: Apache-2.0 */
/* Two ranks of three seats, of which seat 0 is real. Seat 1 is played by the test, which writes
 * into seat 0's window what a peer would. */
#ifndef TESTS_KERNEL_PAIR_H
#define TESTS_KERNEL_PAIR_H

#include "tests/lib/world/kernel_world.h"

enum { KERNEL_PAIR_EPOCH = 50 };

extern const moe_shape kernel_pair_shape;
/* EEP_TEST_SEED, or one that is always the same. */
uint64_t kernel_pair_seed(void);
/* Seats 0 and 1, epoch KERNEL_PAIR_EPOCH, with inputs. */
kernel_world *kernel_pair_open(void);
/* Seat 1's in seat 0's window. */
uint64_t *kernel_pair_tag(kernel_world *w, uint32_t phase);
void kernel_pair_publish(kernel_world *w, uint64_t epoch, uint64_t step, uint32_t layer,
                         uint32_t phase);
/* Seat 1's rows, lists and tag of a layer's dispatch, through its own nodes. */
void kernel_pair_peer_sends(kernel_world *w, uint64_t step, uint32_t layer);
/* Seat 0's. */
eepk_latch *kernel_pair_latch(kernel_world *w);
/* Seat 0's latch node. */
void kernel_pair_begin(kernel_world *w, uint64_t step, uint64_t wait_ns);
#endif
