/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel bodies for the C compiler: the names of compiler_macros.h on the host, where a block is
 * one thread and a warp is one lane. What needs system calls is in graphs/host/host_wait.c.
 *
 * A build that plays the threads of a block names, in EEPK_BACKEND_HEADER, the header that has
 * blocks, warps and chunks in the place of those at the end of this file. */
#ifndef EEPK_COMPILER_HOST_H
#define EEPK_COMPILER_HOST_H

#ifndef EEPK_COMPILER_MACROS_H
#error "include graphs/kernels/compiler_macros.h"
#endif

#include <math.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#define EEPK_FN static inline
/* A loop that several kernels share: one function on the host, so that the C compiler makes the
 * same code of it for all of them and a comparison of two kernels does not compare its moods. */
#define EEPK_SHARED_FN static __attribute__((noinline, unused))
/* What few launches need. */
#define EEPK_COLD_FN    static __attribute__((noinline, unused))
#define EEPK_FMUL(a, b) ((a) * (b)) /* -ffp-contract=off: one rounding each */
#define EEPK_FADD(a, b) ((a) + (b))
#define EEPK_FDIV(a, b) ((a) / (b))
#define EEPK_FSQRT(a)   sqrtf(a)
#define EEPK_ALIGNED(n) _Alignas(n)
#define EEPK_UNROLL
#define EEPK_ROLLED

EEPK_FN uint64_t eepk_load_acquire(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
EEPK_FN void eepk_store_release(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
EEPK_FN void eepk_fence_system(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
/* The block's reads before it come before those after it; no store waits. */
EEPK_FN void eepk_fence_reads(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}
EEPK_FN uint64_t eepk_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
EEPK_FN void eepk_flag_raise(uint32_t *flag)
{
    __atomic_store_n(flag, 1u, __ATOMIC_RELAXED);
}
EEPK_FN int eepk_claim(uint32_t *word, uint32_t free, uint32_t value)
{
    return __atomic_compare_exchange_n(word, &free, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
EEPK_FN uint32_t eepk_flag_read(const uint32_t *flag)
{
    return __atomic_load_n(flag, __ATOMIC_RELAXED);
}
EEPK_FN void eepk_count_add(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}
/* A block is done: 1 for the last of them, which then sees what all have stored. Counts anew. */
EEPK_FN int eepk_count_out(uint32_t *blocks_out, uint32_t num_blocks)
{
    if (num_blocks > 1 && __atomic_add_fetch(blocks_out, 1, __ATOMIC_ACQ_REL) != num_blocks) {
        return 0;
    }
    *blocks_out = 0;
    return 1;
}
/* Add, and return what was there before. */
EEPK_FN uint64_t eepk_take(uint64_t *counter, uint64_t n)
{
    return __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}
EEPK_FN void eepk_bits_set(uint64_t *word, uint64_t bits)
{
    __atomic_fetch_or(word, bits, __ATOMIC_RELAXED);
}
/* Wake a rank that sleeps on its doorbell; partner: eepk_poll_pause. */
void eepk_doorbell_ring(uint32_t *doorbell);
/* How often to look before giving way at all; all ranks are on this machine. */
uint32_t eepk_looks_at_once(uint32_t num_ranks);
/* Yield, and after a while sleep until the doorbell no longer reads `seen`, at most a millisecond,
 * so that the caller looks at abort words and deadlines again. */
void eepk_poll_pause(uint32_t polls, uint32_t *doorbell, uint32_t seen);
EEPK_FN uint32_t eepk_doorbell_read(const uint32_t *doorbell)
{
    return __atomic_load_n(doorbell, __ATOMIC_ACQUIRE);
}
EEPK_FN void eepk_keep_least(uint64_t *word, uint64_t value)
{
    uint64_t least = __atomic_load_n(word, __ATOMIC_RELAXED);
    while (value < least && !__atomic_compare_exchange_n(word, &least, value, 0, __ATOMIC_RELAXED,
                                                         __ATOMIC_RELAXED)) {
        ;
    }
}
EEPK_FN void eepk_keep_largest(uint64_t *word, uint64_t value)
{
    uint64_t largest = __atomic_load_n(word, __ATOMIC_RELAXED);
    while (value > largest && !__atomic_compare_exchange_n(word, &largest, value, 0,
                                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        ;
    }
}
EEPK_FN void eepk_copy16(void *to, const void *from)
{
    memcpy(to, from, 16);
}
EEPK_FN void eepk_copy8(void *to, const void *from)
{
    memcpy(to, from, 8);
}

/* Read where they lie. */
enum { EEPK_LOADS_AT_ONCE = 1 };
typedef struct eepk_columns {
    const void *from;
} eepk_columns;
EEPK_FN void eepk_columns_load(eepk_columns *columns, const void *from, uint32_t bytes)
{
    (void)bytes;
    columns->from = from;
}
EEPK_FN float eepk_columns_fp32(const eepk_columns *columns, uint32_t i)
{
    return ((const float *)columns->from)[i];
}
EEPK_FN uint16_t eepk_columns_bf16(const eepk_columns *columns, uint32_t i)
{
    return ((const uint16_t *)columns->from)[i];
}

#ifdef EEPK_BACKEND_HEADER
#include EEPK_BACKEND_HEADER
#else
/* The block's one thread has whole rows: loops over them are in graphs/vector, one for each width
 * of vector registers. Stores of a call are ordered before what the caller stores after it. */
#define EEPK_WHOLE_ROWS 1

/* `num` rows, each to its place. A core reads several at once twice as fast as one after the other:
 * the processor fetches ahead within a page only. */
void eepk_rows_copy(void *const *to, const void *const *from, uint32_t num, size_t bytes);
enum { EEPK_ROWS_AT_ONCE = 8 };

/* A row in e4m3, with a scale per EEPK_FP8_GROUP channels, to each place. dtype: eep_dtype. */
typedef struct eepk_rows_quantise_args {
    void *const *to;
    uint64_t scales_at; /* behind a place's beginning */
    const void *x;      /* [hidden] */
    uint32_t num_to, hidden, dtype;
    uint32_t powers; /* scales are powers of two */
} eepk_rows_quantise_args;
void eepk_rows_quantise(const eepk_rows_quantise_args *a);

/* out[h] = the sum over rows, in order, of weight x row[h]; products and sums rounded once each. */
typedef struct eepk_rows_sum_args {
    const void *const *rows; /* [num_rows] of [hidden] */
    const float *weights;    /* [num_rows] */
    void *out;               /* [hidden] */
    uint32_t num_rows, hidden, dtype, out_dtype;
} eepk_rows_sum_args;
void eepk_rows_sum(const eepk_rows_sum_args *a);

enum { EEPK_WARP = 1, EEPK_GROUP_LANES = 1 };
EEPK_FN void eepk_block_sync(void)
{
}
EEPK_FN int eepk_block_any(int value)
{
    return value != 0;
}
EEPK_FN void eepk_warp_sync(void)
{
}
EEPK_FN uint32_t eepk_warp_read(uint32_t value, uint32_t lane)
{
    (void)lane;
    return value;
}
EEPK_FN eepk_equals eepk_warp_equals(uint32_t key)
{
    (void)key;
    return (eepk_equals){0, 1, 0};
}
EEPK_FN float eepk_group_largest(float value)
{
    return value;
}

/* One thread: a chunk is all there is, and is copied straight from where it lies. */
typedef struct eepk_chunk {
    const void *from;
} eepk_chunk;
EEPK_FN uint32_t eepk_chunk_bytes(eep_grid g)
{
    (void)g;
    return 0x40000000u;
}
EEPK_FN void eepk_chunk_load(eepk_chunk *chunk, const void *from, uint32_t bytes, eep_grid g)
{
    (void)bytes;
    (void)g;
    chunk->from = from;
}
EEPK_FN void eepk_chunk_store(const eepk_chunk *chunk, void *to, uint32_t bytes, eep_grid g)
{
    (void)g;
    memcpy(to, chunk->from, bytes);
}

/* The block's one thread has the whole loop, which the compiler can see. */
#define EEPK_FOR_EACH(i, count, g)                                                                 \
    for (size_t i = ((void)(g), 0), i##_end = (size_t)(count); i < i##_end; i++)
#endif
#endif
