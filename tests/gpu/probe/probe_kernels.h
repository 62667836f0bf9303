/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of the GPU probes: one body each for both backends. All of them end by themselves after
 * `limit_ns`, whatever else happens. One block; what is said to the host goes to pinned memory. */
#ifndef PROBE_KERNELS_H
#define PROBE_KERNELS_H

#include "graphs/kernels/compiler_macros.h"
#include "tests/gpu/probe/probe_micro.h"

#include <stddef.h>

typedef enum probe_kernel_id {
    PROBE_STORE,
    PROBE_FILL,
    PROBE_COUNT,
    PROBE_RING,
    PROBE_GAPS,
    PROBE_FENCE,
    PROBE_LOAD,
    PROBE_PASS,
    PROBE_STAMP,
    PROBE_NUM_KERNELS
} probe_kernel_id;

enum { PROBE_THREADS = 64, PROBE_LOOK_EVERY = 256 };

/* Store all over a window, again and again. Threads do not wait for each other. */
typedef struct probe_store_args {
    uint64_t *words;      /* [num_words], in the window */
    uint64_t *rounds;     /* of thread 0 so far; pinned */
    const uint64_t *stop; /* pinned: not 0 ends it */
    uint64_t num_words, limit_ns;
} probe_store_args;

/* words[i] = first + i, once. */
typedef struct probe_fill_args {
    uint64_t *words;
    uint64_t num_words, first;
} probe_fill_args;

/* Count up in one word of a window, as fast as stores go. */
typedef struct probe_count_args {
    uint64_t *counter;  /* in the window */
    uint64_t *progress; /* pinned: not 0 once it counts */
    uint64_t limit_ns;
} probe_count_args;

/* A word goes round: each rank waits for it in its own window, and stores it into the next one's.
 * What a graph replays begins where the replay before it ended: at `done`. */
typedef struct probe_ring_args {
    uint64_t *own, *next;
    uint32_t *own_bell, *next_bell; /* the host backend's waiters sleep on these */
    uint64_t *done;                 /* rounds completed; pinned */
    uint64_t *began;                /* launches that began; pinned */
    uint64_t num_rounds, limit_ns;
    uint32_t is_first, pad;
} probe_ring_args;

/* Spin, and note when time went on without this kernel. */
typedef struct probe_gaps_args {
    uint64_t *log;   /* [most][2]: since the kernel's start, gap began, gap ended; pinned */
    uint64_t *count; /* of them; pinned, written last */
    uint64_t most, threshold_ns, limit_ns;
} probe_gaps_args;

EEPK_FN void probe_store_body(const probe_store_args *a, eep_grid g)
{
    uint64_t begin = eepk_now_ns();

    for (uint64_t round = 1;; round++) {
        for (uint64_t i = g.thread; i < a->num_words; i += g.num_threads) {
            *(volatile uint64_t *)&a->words[i] = round;
        }
        if (g.thread == 0) {
            eepk_store_release(a->rounds, round);
        }
        if (eepk_load_acquire(a->stop) != 0 || eepk_now_ns() - begin >= a->limit_ns) {
            return;
        }
    }
}

EEPK_FN void probe_fill_body(const probe_fill_args *a, eep_grid g)
{
    for (uint64_t i = g.thread; i < a->num_words; i += g.num_threads) {
        a->words[i] = a->first + i;
    }
}

EEPK_FN void probe_count_body(const probe_count_args *a, eep_grid g)
{
    uint64_t begin = eepk_now_ns(), n = 0;

    if (g.thread != 0) {
        return;
    }
    while (eepk_now_ns() - begin < a->limit_ns) {
        for (uint32_t i = 0; i < PROBE_LOOK_EVERY; i++) {
            eepk_store_release(a->counter, ++n);
        }
        eepk_store_release(a->progress, n);
    }
}

EEPK_FN void probe_ring_body(const probe_ring_args *a, eep_grid g)
{
    uint64_t begin = eepk_now_ns(), first = eepk_load_acquire(a->done) + 1;

    if (g.thread != 0) {
        return;
    }
    eepk_store_release(a->began, eepk_load_acquire(a->began) + 1);
    for (uint64_t round = first; round < first + a->num_rounds; round++) {
        uint32_t polls = 0;
        if (a->is_first) {
            eepk_store_release(a->next, round);
            eepk_doorbell_ring(a->next_bell);
        }
        for (;; polls++) {
            uint32_t seen = eepk_doorbell_read(a->own_bell);
            if (eepk_load_acquire(a->own) >= round) {
                break;
            }
            if (eepk_now_ns() - begin >= a->limit_ns) {
                return;
            }
            eepk_poll_pause(polls, a->own_bell, seen);
        }
        if (!a->is_first) {
            eepk_store_release(a->next, round);
            eepk_doorbell_ring(a->next_bell);
        }
        eepk_store_release(a->done, round);
    }
}

EEPK_FN void probe_gaps_body(const probe_gaps_args *a, eep_grid g)
{
    uint64_t begin = eepk_now_ns(), last = begin, now = begin, n = 0;

    if (g.thread != 0) {
        return;
    }
    while (now - begin < a->limit_ns) {
        now = eepk_now_ns();
        if (now - last >= a->threshold_ns && n < a->most) {
            a->log[2 * n] = last - begin;
            a->log[2 * n + 1] = now - begin;
            n++;
        }
        last = now;
    }
    eepk_store_release(a->count, n);
}

#ifdef __cplusplus
extern "C" {
#endif

/* Load the CUDA bodies before anything waits, and write the device's name. NULL, or why not. */
const char *probe_kernels_load(int ordinal, char *name_out, size_t name_bytes);
/* Put a CUDA body into a cudaStream_t, one block. NULL, or why not. Any thread. */
const char *probe_kernel_launch(void *native_stream, probe_kernel_id id, uint32_t num_threads,
                                const void *args);
/* The stamp, so that it may begin before what is in front of it in the stream has ended, and the
 * one behind it likewise (programmatic dependent launch). NULL, or why not. Any thread. */
const char *probe_stamp_launch_early(void *native_stream, uint32_t num_threads,
                                     const probe_stamp_args *args);

/* The runtime's calls, as they are. `take` makes something and `give` takes it back. NULL, or why
 * not. Any thread. */
enum { PROBE_CALL_MALLOC, PROBE_CALL_HOST_ALLOC, PROBE_CALL_MALLOC_ASYNC, PROBE_CALL_STREAM };
const char *probe_call_take(int call, void *native_stream, size_t bytes, void **thing_out);
const char *probe_call_give(int call, void *native_stream, void *thing);

#ifdef __cplusplus
}
#endif
#endif
