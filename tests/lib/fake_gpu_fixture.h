/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels and waits that the tests of the fake GPU share. */
#ifndef FAKE_GPU_FIXTURE_H
#define FAKE_GPU_FIXTURE_H

#include "tests/fake_gpu/fake_gpu.h"

#include <criterion/criterion.h>
#include <cuda_runtime_api.h>

enum { LONG_MS = 10000, SHORT_MS = 30 };

#define OK(call)           cr_assert_eq((call), cudaSuccess)
#define FAILS(call, error) cr_assert_eq((call), (error))

/* A kernel that says that it runs and waits until it is let go. */
typedef struct gate {
    uint32_t entered, open;
} gate;
cudaError_t launch_gate(cudaStream_t stream, gate *g);
void let_go(gate *g);

/* A kernel that adds `value` to a word. */
cudaError_t launch_add(cudaStream_t stream, uint32_t *to, uint32_t value);

/* The word has that value within `ms`. */
int becomes(const uint32_t *word, uint32_t value, int ms);
void make_streams(cudaStream_t *streams, int num);
/* Eager loading, so that no launch waits for the device; and as many queues. */
void choose_queues(const char *num_queues);
#endif
