/* SPDX-License-Identifier: Apache-2.0 */
/* Devices: memory, streams, events, kernels, and graphs that are captured once and replayed.
 *
 * One table of operations, two backends: "host" (always there; kernels are C functions run by a
 * stream's worker thread) and "cuda" (the plugin libeep_cuda.so, loaded on demand). "guarded" is
 * the host backend with memory as strict as a GPU's: EEP_MEMORY_DEVICE can be touched by kernels
 * and copies of that device only, and any other access faults while none of them runs; for tests of
 * what is to run on "cuda". The host backend records a captured launch with its arguments *by
 * value* and replays exactly those bytes: what would be stale in a CUDA graph is stale there too.
 */
#ifndef EEP_DEVICE_H
#define EEP_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "eep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct eep_device eep_device;
typedef struct eep_stream eep_stream;
typedef struct eep_event eep_event;
typedef struct eep_graph eep_graph;

/* Where a block runs in its launch. On the host a block has one thread. */
typedef struct eep_grid {
    uint32_t block, num_blocks;
    uint32_t thread, num_threads;
} eep_grid;

/* What a range of a kernel's argument bytes is. A graph replays these bytes for ever, so what
 * changes between replays must lie in memory, never here. */
typedef enum eep_arg_kind {
    EEP_ARG_ADDRESS,  /* a pointer to memory that stays, or NULL */
    EEP_ARG_CONSTANT, /* the same at every capture: a layer, a type */
} eep_arg_kind;
typedef struct eep_kernel_arg {
    const char *name;
    uint32_t offset, bytes;
    eep_arg_kind kind;
} eep_kernel_arg;

/* A kernel: `host` runs one block of it on the host backend; `cuda` is the address of the
 * __global__ function that takes the same argument struct by value (NULL where there is none).
 * Neither may block on another block of the same launch. `host` runs in the stream's own thread:
 * what waits for a stream, puts work into one or belongs to the rank thread is EEP_ERR_STATE there.
 */
typedef struct eep_kernel {
    uint32_t struct_bytes; /* sizeof(eep_kernel), set by the caller (EEP_KERNEL) */
    uint32_t num_args;
    const char *name;
    void (*host)(const void *args, eep_grid grid);
    const void *cuda;
    /* All argument bytes, in order: eep_launch checks them while the stream is captured. NULL: they
     * are not checked (libeep's own always are). */
    const eep_kernel_arg *args;
} eep_kernel;
/* Its initializer; `args` NULL with `num_args` 0, or an array. */
#define EEP_KERNEL(name, host, cuda, args, num_args)                                               \
    {                                                                                              \
        sizeof(eep_kernel), (num_args), (name), (host), (cuda), (args)                             \
    }

enum { EEP_KERNEL_ARGS_MAX_BYTES = 1024 };

typedef enum eep_memory {
    EEP_MEMORY_DEVICE, /* what kernels read fastest; not for the CPU, except on "host" */
    EEP_MEMORY_PINNED, /* host memory that kernels can reach at the same address */
} eep_memory;

/* Open a device. `backend` is "host", "guarded" or "cuda"; `ordinal` counts its devices from 0.
 * EEP_ERR_UNSUPPORTED where the plugin or the hardware is missing (eep_device_error_text says
 * which), EEP_ERR_INVALID for another name, or an EEP_CUDA_PINNED_MB that is no number,
 * EEP_ERR_STATE while this thread captures a stream. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_device_open(const char *backend, int ordinal,
                                                  eep_device **device_out);
/* Devices of a backend on this machine: 1 of the host's; 0 where the plugin or the hardware is
 * missing (eep_device_error_text says which), or for another name. Any thread. */
EEP_API int eep_device_count(const char *backend);
EEP_API int eep_device_ordinal(const eep_device *device);
/* Close. Streams, events, graphs, memory and contexts of the device may be closed or freed later:
 * it goes with the last of them. NULL is ignored. */
EEP_API void eep_device_close(eep_device *device);
EEP_API const char *eep_device_backend(const eep_device *device);
/* eep_error_text, under its older name: "" after an eep_device_open that succeeded. */
EEP_API const char *eep_device_error_text(void);
/* Captures ended so far on this device: what a healthy rank must not add to after its start. */
EEP_API uint64_t eep_device_captures(const eep_device *device);

/* Zeroed memory, 128-byte aligned, valid until freed. EEP_ERR_STATE while this thread captures a
 * stream, and on a GPU in a rank's thread between its first step and eep_close (it may wait for the
 * whole device); EEP_ERR_INVALID for 0 bytes. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_device_alloc(eep_device *device, eep_memory kind,
                                                   size_t bytes, void **memory_out);
/* At once, whatever runs: nothing that uses the memory may be in flight. But what a context has for
 * slots or backups goes with that context, or once the slot has other memory. NULL is ignored, and
 * so is what is no memory of this device: eep_error_text says so. */
EEP_API void eep_device_free(eep_device *device, eep_memory kind, void *memory);

/* Say that the caller's own memory (of another allocator) stays where it is until it is
 * unregistered, so that graphs may hold addresses in it; memory of eep_device_alloc needs no word.
 * A replay of a graph that holds an address in memory freed or unregistered since is refused. Any
 * thread; EEP_ERR_NOT_FOUND for a begin that is not registered. */
EEP_API EEP_MUST_CHECK eep_status eep_memory_register(eep_device *device, const void *memory,
                                                      size_t bytes);
EEP_API eep_status eep_memory_unregister(eep_device *device, const void *memory);

/* A stream runs what is put into it in order, beside other streams and beside the caller.
 * Any thread may put work into it. Closing finishes what is in it and drops an open capture (then
 * the capturing thread closes); no other call on it may be under way. A context that replays in it
 * is told (EEP_ERR_STATE) until eep_step_stream names another one. What waits for a device (open,
 * close, synchronize, allocate, capture) is EEP_ERR_STATE in a log or event callback. */
EEP_API EEP_MUST_CHECK eep_status eep_stream_open(eep_device *device, eep_stream **stream_out);
EEP_API void eep_stream_close(eep_stream *stream);
/* Wait until the stream is empty, at most `timeout_us`: EEP_ERR_TIMEOUT after that;
 * EEP_ERR_STATE while it is captured. EEP_ERR_DEVICE, here and from all that puts work into the
 * stream: it has failed and runs nothing more. */
EEP_API EEP_MUST_CHECK eep_status eep_stream_synchronize(eep_stream *stream, uint64_t timeout_us);
/* The backend's own stream: a cudaStream_t; on the host something for eep_stream_adopt only. */
EEP_API void *eep_stream_native(eep_stream *stream);
/* A stream of the caller's (cudaStream_t), as an eep_stream to put nodes into, also while the
 * caller captures it by its own means. Borrowed: eep_stream_close leaves it alone, and it must live
 * until then. EEP_ERR_INVALID for NULL. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_stream_adopt(eep_device *device, void *native,
                                                   eep_stream **stream_out);

EEP_API EEP_MUST_CHECK eep_status eep_event_open(eep_device *device, eep_event **event_out);
EEP_API void eep_event_close(eep_event *event);
/* The event happens when all that is now in the stream is done. An event orders streams of one
 * device (else EEP_ERR_INVALID), not nodes of a graph: EEP_ERR_UNSUPPORTED, here and from
 * eep_stream_wait_event, while the stream is captured. */
EEP_API EEP_MUST_CHECK eep_status eep_event_record(eep_event *event, eep_stream *stream);
/* What follows in the stream waits for the event's last record (at once if never recorded). */
EEP_API EEP_MUST_CHECK eep_status eep_stream_wait_event(eep_stream *stream, eep_event *event);
EEP_API EEP_MUST_CHECK eep_status eep_event_synchronize(eep_event *event, uint64_t timeout_us);

/* Copy `bytes`, in stream order. Both ranges must stay valid until it is done. */
EEP_API EEP_MUST_CHECK eep_status eep_copy_async(eep_stream *stream, void *to, const void *from,
                                                 size_t bytes);
/* Launch `num_blocks` blocks of `num_threads` threads (the host ignores the latter). `args` is
 * copied now, at most EEP_KERNEL_ARGS_MAX_BYTES. EEP_ERR_STATE while another thread captures the
 * stream, EEP_ERR_UNSUPPORTED if the kernel has no body for this backend. Capture-safe; while the
 * stream is captured EEP_ERR_INVALID for an argument that is neither the address of memory that
 * stays nor a declared constant (eep_device_error_text names it), and the capture yields no graph.
 */
EEP_API EEP_MUST_CHECK eep_status eep_launch(eep_stream *stream, const eep_kernel *kernel,
                                             uint32_t num_blocks, uint32_t num_threads,
                                             const void *args, size_t args_bytes);

/* Record what is launched and copied into the stream from now on, instead of running it. One
 * thread captures a stream, from begin to end. EEP_ERR_STATE if the stream is already captured. */
EEP_API EEP_MUST_CHECK eep_status eep_capture_begin(eep_stream *stream);
/* EEP_ERR_STATE unless this thread captures the stream; after any other error the capture has ended
 * without a graph. EEP_ERR_INVALID: it holds a part of a step only (eep_device_error_text says what
 * it lacks), or an argument that may not be in a graph. */
EEP_API EEP_MUST_CHECK eep_status eep_capture_end(eep_stream *stream, eep_graph **graph_out);
/* By whomever, the caller's own means included. */
EEP_API int eep_stream_is_capturing(const eep_stream *stream);
/* Run a captured graph in the stream, with the argument bytes that capture saw. Allocates nothing.
 * EEP_ERR_STATE while the stream is captured, or if memory that the graph refers to was freed. */
EEP_API EEP_MUST_CHECK eep_status eep_graph_replay(eep_graph *graph, eep_stream *stream);
EEP_API uint32_t eep_graph_num_nodes(const eep_graph *graph);
/* On a GPU no replay of it may be in flight; on the host one that is ends as it would. NULL is
 * ignored. */
EEP_API void eep_graph_close(eep_graph *graph);

#ifdef __cplusplus
}
#endif
#endif
