/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/fake_gpu_fixture.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>

static void gate_host(const void *args, eep_grid grid)
{
    gate *g = *(gate *const *)args;

    (void)grid;
    __atomic_store_n(&g->entered, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&g->open, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
}

typedef struct add_args {
    uint32_t *to, value;
} add_args;

static void add_host(const void *args, eep_grid grid)
{
    const add_args *a = args;

    (void)grid;
    __atomic_fetch_add(a->to, a->value, __ATOMIC_RELEASE);
}

static const fake_gpu_body gate_kernel = {"gate", gate_host, sizeof(gate *), FAKE_GPU_MARK};
static const fake_gpu_body add_kernel = {"add", add_host, sizeof(add_args), FAKE_GPU_MARK};

/* The arguments are the caller's again when this returns. */
static cudaError_t launch(cudaStream_t stream, const fake_gpu_body *kernel, void *args)
{
    const struct dim3 one = {1, 1, 1}, warp = {32, 1, 1};
    void *parameters[1] = {args};

    return cudaLaunchKernel(kernel, one, warp, parameters, 0, stream);
}

cudaError_t launch_gate(cudaStream_t stream, gate *g)
{
    return launch(stream, &gate_kernel, &g);
}

void let_go(gate *g)
{
    __atomic_store_n(&g->open, 1, __ATOMIC_RELEASE);
}

cudaError_t launch_add(cudaStream_t stream, uint32_t *to, uint32_t value)
{
    add_args args = {to, value};
    cudaError_t error = launch(stream, &add_kernel, &args);

    args.value = 1000000; /* too late to count */
    return error;
}

int becomes(const uint32_t *word, uint32_t value, int ms)
{
    const struct timespec nap = {0, 1000000};

    for (; ms > 0 && __atomic_load_n(word, __ATOMIC_ACQUIRE) != value; ms--) {
        nanosleep(&nap, NULL);
    }
    return __atomic_load_n(word, __ATOMIC_ACQUIRE) == value;
}

void make_streams(cudaStream_t *streams, int num)
{
    for (int i = 0; i < num; i++) {
        OK(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
    }
}

void choose_queues(const char *num_queues)
{
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", num_queues, 1);
    setenv("CUDA_MODULE_LOADING", "EAGER", 1);
}
