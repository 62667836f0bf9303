/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of a kernel_world under Criterion, and the seed of tests that draw by chance. */
#ifndef KERNEL_CHECK_H
#define KERNEL_CHECK_H

#include "tests/lib/world/kernel_world.h"

#define KERNEL_REPLAY     "seed %llu (replay: EEP_TEST_SEED=%llu and this test)"
#define KERNEL_SEED(seed) (unsigned long long)(seed), (unsigned long long)(seed)

/* EEP_TEST_SEED, or the usual one. */
uint64_t kernel_first_seed(void);
/* Run a step: every member ends it well, and agrees with the reference. */
void kernel_check_step(kernel_world *w, uint64_t step, uint64_t seed);
#endif
