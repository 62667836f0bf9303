/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the fake share. One lock, one condition: nothing here is fast. */
#ifndef FAKE_GPU_INTERNAL_H
#define FAKE_GPU_INTERNAL_H

#include "tests/fake_gpu/fake_gpu.h"
#include "graphs/base/clock.h"

#include <stdbool.h>
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------ process.c */

typedef struct fake_process {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* whatever somebody may wait for */
    uint32_t bound_ms, deal_seed;
    fake_gpu_counters count;
} fake_process;
extern fake_process fake;

/* First line of every call. The first one of the process reads the environment. FAKE_WORKS: the
 * call works on the device, so it gives the thread a context. */
typedef enum fake_need { FAKE_ASKS, FAKE_WORKS } fake_need;
cudaError_t fake_enter(fake_need need);
/* Sleep on `changed`; 0 once `until_us` has passed. */
int fake_sleep(uint64_t until_us);
uint64_t fake_bound_us(void); /* from now */
/* A bug of the fake's user: say so and end. */
void fake_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* The same, with the lock held and what stands in the queues. */
void fake_hang(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
#define FAKE_REQUIRE(condition)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fake_die("%s: not so: %s", __func__, #condition);                                      \
    } while (0)
void fake_report(void); /* a rare counter has changed */

/* ------------------------------------------------------------------ fake_kernels.c */

typedef struct fake_kernel {
    struct fake_kernel *next;
    const void *function; /* as it is launched */
    const char *name;
    const fake_gpu_body *body; /* NULL: looked for at the first launch */
    int is_loaded;
} fake_kernel;

/* ------------------------------------------------------------------ fake_work.c: nodes and queues
 */

typedef enum fake_kind {
    FAKE_KERNEL,
    FAKE_COPY,
    FAKE_MEMSET,
    FAKE_GRAPH,
    FAKE_RECORD, /* of an event */
    FAKE_WAIT,   /* for an event's record */
    FAKE_FREE,
    FAKE_NOTHING /* a graph's upload */
} fake_kind;

/* An event's place in a stream. */
typedef struct fake_record {
    uint32_t refs;
    int is_done;
} fake_record;

typedef struct fake_work {
    fake_kind kind;
    const fake_kernel *kernel;
    uint32_t num_blocks;
    void *to;
    const void *from;
    size_t bytes;
    int value;
    struct CUgraphExec_st *exec; /* a reference */
    fake_record *record;         /* a reference */
    _Alignas(16) uint8_t args[EEP_KERNEL_ARGS_MAX_BYTES];
} fake_work;

typedef struct fake_entry {
    struct fake_entry *next;
    struct CUstream_st *stream;
    fake_work work;
} fake_entry;

struct CUstream_st {
    struct CUstream_st *next;
    uint32_t number, queue;
    int priority, is_destroyed;
    uint32_t pending; /* entries not done */
    /* fake_graph.c; under the lock */
    enum cudaStreamCaptureStatus capture;
    enum cudaStreamCaptureMode mode;
    pthread_t capturer;
    struct CUgraph_st *graph;
};

/* Run a kernel, copy or memset. */
void fake_work_run(const fake_work *work);
const char *fake_work_name(const fake_work *work);
/* Put it into the stream's queue, or into its graph. The call's name is for messages. */
cudaError_t fake_put(cudaStream_t stream, const fake_work *work, const char *call);
/* The rest is called with the lock held. */
bool fake_stream_is_known(cudaStream_t stream);
void fake_queue_append(cudaStream_t stream, const fake_work *work);
uint32_t fake_kernels_pending(void); /* kernels and graphs that are queued or run */
uint32_t fake_entries_pending(void);
void fake_stream_wait_empty(cudaStream_t stream, const char *call);

/* ------------------------------------------------------------------ device.c: device-wide calls */

/* Wait until nothing is queued, and keep launches away until the end. Not with the lock held.
 * cudaErrorStreamCaptureUnsupported while a capture forbids it. */
cudaError_t fake_device_wide_begin(const char *call);
void fake_device_wide_end(void);
/* A launch waits for the end of a device-wide call. With the lock held. */
void fake_launch_may_go(const char *call);

/* ------------------------------------------------------------------ fake_stream.c, fake_graph.c */

extern cudaStream_t fake_streams; /* open ones, the latest first; under the lock */

/* With the lock held: may this thread make a call that captures forbid? Otherwise those captures
 * are spoiled. */
cudaError_t fake_capture_allows(void);
/* The stream is captured and was asked something that a capture cannot answer. */
cudaError_t fake_capture_spoil(cudaStream_t stream);
cudaError_t fake_graph_add(cudaStream_t stream, const fake_work *work);
void fake_capture_drop(cudaStream_t stream);
void fake_exec_keep(struct CUgraphExec_st *exec);
void fake_exec_release(struct CUgraphExec_st *exec);
void fake_exec_run(struct CUgraphExec_st *exec);             /* not with the lock held */
const char *fake_exec_at(const struct CUgraphExec_st *exec); /* the node that runs */

/* ------------------------------------------------------------------ fake_memory.c, fake_driver.c
 */

int fake_memory_knows(const void *memory, size_t bytes); /* not with the lock held */
void fake_memory_release(void *memory);                  /* of a pool; not with the lock held */
int fake_driver_knows(const void *memory, size_t bytes);
#endif
