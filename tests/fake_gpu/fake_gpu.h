/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU made of host threads: the functions of the CUDA runtime that the plugins call, and the
 * driver's functions for virtual memory, so that graphs/cuda runs as it is where there is no GPU.
 * Kernels run as their host bodies, one block after the other.
 *
 *     stream ─┐
 *     stream ─┴─> hardware queue 0 ── one thread: first in, first out
 *     stream ───> hardware queue 1 ── one thread
 *                 ...                 as many as CUDA_DEVICE_MAX_CONNECTIONS said at the first call
 *
 * What it imitates, since bugs hide there:
 *   queues     Streams are dealt to queues in the order of their creation. What is in one queue
 *              runs in order, so a kernel that waits holds up other streams.
 *   the device Calls that wait for the whole device (cudaMalloc, cudaFree, cudaHostAlloc,
 *              cudaFreeHost, cudaMemPoolTrimTo, cudaMemPoolDestroy, cuMemUnmap,
 *              cudaDeviceSynchronize, the first use of a kernel unless loading is eager) wait until
 *              nothing is queued; meanwhile launches and other such calls of all threads wait.
 *   contexts   A thread has none until it calls cudaSetDevice or something that works on the
 *              device; cudaGetDevice says 0 all the same. The driver's cuMem functions are refused
 *              without one.
 *   captures   Modes and what they forbid; a captured argument is kept by value.
 * A wait that does not end within a bound ends the program, and says who waited for what.
 *
 * Environment, read at the first call, with CUDA_DEVICE_MAX_CONNECTIONS and CUDA_MODULE_LOADING:
 *   EEP_FAKE_GPU_BOUND_MS            the bound; 20000
 *   EEP_FAKE_GPU_REFUSE_OWN_IMPORT   1: a process cannot import memory that it exported itself
 *   EEP_FAKE_GPU_ALLOW_NO_CONTEXT    1: cuMem functions without a context are counted and served
 *   EEP_FAKE_GPU_GPU_DIRECT          1: network cards can reach its memory, by a memfd
 *   EEP_FAKE_GPU_DEAL_SEED           not 0: streams are dealt to queues by chance, not in turn
 *   EEP_FAKE_GPU_REPORT              "stderr": the counters, at exit; else a path: they are in
 *                                    PATH.PID, rewritten whenever one of them that is rare changes
 *
 * One device. Everything may be called by any thread. More in tests/fake_gpu/README.md. */
#ifndef FAKE_GPU_H
#define FAKE_GPU_H

#include "eep/device.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { FAKE_GPU_MULTIPROCESSORS = 132, FAKE_GPU_MOST_QUEUES = 32 };

/* ------------------------------------------------------------------ counters of this process */

/* X(name): in the order in which they are printed, as "name=value". */
#define FAKE_GPU_COUNTERS(X)                                                                       \
    X(queues)        /* as the first call found them; 0: none was made yet */                      \
    X(loads_eagerly) /* CUDA_MODULE_LOADING was EAGER then */                                      \
    X(streams_open)                                                                                \
    X(most_streams)                 /* open at once */                                             \
    X(launches)                     /* kernels, graphs, copies, memsets that were queued */        \
    X(most_kernels_at_once)         /* kernels or graphs that ran at the same moment */            \
    X(shared_queue_waits)           /* work queued behind another stream's kernel or graph */      \
    X(device_wide_calls)            /* calls that wait for the whole device */                     \
    X(device_wide_calls_while_busy) /* those made while a kernel or graph was queued or ran */     \
    X(longest_device_wide_us)                                                                      \
    X(launches_held) /* launches that waited for a device-wide call */                             \
    X(longest_launch_held_us)                                                                      \
    X(calls_without_context) /* of the driver's cuMem functions, refused or not */                 \
    X(imports_of_own_memory) /* descriptors that this process exported itself */                   \
    X(pageable_copies)       /* an end of them is in memory that CUDA does not know */             \
    X(captures)              /* begun */                                                           \
    X(captures_spoiled)      /* by a call that is forbidden meanwhile */                           \
    X(allocations_open)      /* cudaMalloc, cudaHostAlloc, pools */                                \
    X(pool_bytes_reserved)                                                                         \
    X(calls_after_fork) /* in a child of a process that had called CUDA; refused */

typedef struct fake_gpu_counters {
#define FAKE_GPU_COUNTER(name) uint64_t name;
    FAKE_GPU_COUNTERS(FAKE_GPU_COUNTER)
#undef FAKE_GPU_COUNTER
} fake_gpu_counters;

fake_gpu_counters fake_gpu_count(void);
void fake_gpu_print(FILE *to); /* one line */

/* The queue of a cudaStream_t. */
uint32_t fake_gpu_queue_of(const void *native_stream);
/* Has this thread a current context? */
bool fake_gpu_has_context(void);
/* What stands in the queues, one line each: what runs, what stands behind it. */
void fake_gpu_print_queues(FILE *to);

/* ------------------------------------------------------------------ what a test chooses */

void fake_gpu_set_bound_ms(uint32_t bound_ms);
/* A function that is called, instead of abort(), with the message that was printed. It must not
 * return. NULL: abort(). */
void fake_gpu_set_end(void (*end)(const char *message));

/* A kernel whose one parameter is args_bytes long. A test's own kernel needs no more than the
 * address of this as `.cuda` of an eep_kernel, or as cudaLaunchKernel's function: with the mark it
 * is known by itself, without it once it was added. */
#define FAKE_GPU_MARK "fake kernel"
typedef struct fake_gpu_body {
    const char *name; /* of the __global__ function */
    void (*host)(const void *args, eep_grid grid);
    uint32_t args_bytes;
    char mark[12];
} fake_gpu_body;
/* The address to launch. The body lives on. */
const void *fake_gpu_add_kernel(const fake_gpu_body *body);
/* Host bodies for __global__ functions that nvcc compiled, found by name. */
void fake_gpu_add_bodies(const fake_gpu_body *bodies, uint32_t num_bodies);

/* The driver's virtual memory: what it says of the machine, and what is open. Plain words, for
 * tests of one thread. */
typedef struct fake_gpu_driver {
    int handles, addresses, mappings; /* open */
    int calls, fail_at;               /* the call with that number fails; -1: none does */
    int owner;                        /* the device on which all memory lies */
    int reaches_others, has_descriptors, refuses_own_import, allows_no_context;
    /* GPUDirect RDMA: what the attributes say (the order is CU_GPU_DIRECT_RDMA_WRITES_ORDERING_*),
     * whether memory for it is refused all the same, and how much of it was made */
    int has_gpu_direct, has_dmabuf, writes_ordering, refuses_gpu_direct, made_for_nics;
    const char *missing; /* a function that the driver does not have */
} fake_gpu_driver;
extern fake_gpu_driver fake_driver;
/* Counts as one of the driver's calls; is it the one that fails? */
int fake_driver_fails(void);
#endif
