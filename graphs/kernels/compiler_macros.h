/* The one file that tells nvcc and the C compiler apart. Kernel bodies (graphs/kernels/) are
 * written once against these names (must 6).
 *
 * Memory order. A tag is published with eepk_store_release and read with eepk_load_acquire; both
 * are of system scope, since the partner runs on another GPU or in another process. The partner of
 * each use is named where it is used.
 *
 * Lanes. A warp is EEPK_WARP threads that go in step: 32 on the GPU, one on the host. With
 * EEPK_EMULATED (tests only) host threads play the threads of a block, so that what blocks and
 * warps share is tried without a GPU. */
#ifndef EEPK_COMPILER_MACROS_H
#define EEPK_COMPILER_MACROS_H

#include <stdint.h>

#include "eep/device.h"

/* Among the lanes of a warp that have the same key. */
typedef struct eepk_equals {
    uint32_t ordinal; /* lanes before this one */
    uint32_t num, first_lane;
} eepk_equals;

#if defined(__CUDACC__)

/* EEPK_UNROLL stands before a loop of constant length, whose array is to lie in registers. */
#define EEPK_FN         __device__ __forceinline__ static
#define EEPK_SHARED_FN  EEPK_FN
#define EEPK_FMUL(a, b) __fmul_rn((a), (b))
#define EEPK_FADD(a, b) __fadd_rn((a), (b))
#define EEPK_FDIV(a, b) __fdiv_rn((a), (b))
#define EEPK_FSQRT(a)   __fsqrt_rn(a)
#define EEPK_ALIGNED(n) __align__(n)
#define EEPK_UNROLL     _Pragma("unroll")
#define EEPK_ROLLED     _Pragma("unroll 1") /* a loop that is not worth registers */

EEPK_FN uint64_t eepk_load_acquire(const uint64_t *word)
{
    unsigned long long value;
    asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
    return value;
}
EEPK_FN void eepk_store_release(uint64_t *word, uint64_t value)
{
    asm volatile("st.release.sys.global.u64 [%0], %1;"
                 :
                 : "l"(word), "l"((unsigned long long)value)
                 : "memory");
}
EEPK_FN void eepk_fence_system(void)
{
    __threadfence_system();
}
EEPK_FN uint64_t eepk_now_ns(void)
{
    unsigned long long now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}
/* Where this thread is; the device's counterpart of the host backend's loop over blocks. */
EEPK_FN eep_grid eepk_here(void)
{
    eep_grid g;

    g.block = blockIdx.x;
    g.num_blocks = gridDim.x;
    g.thread = threadIdx.x;
    g.num_threads = blockDim.x;
    return g;
}
/* All threads of a block meet here; on the host a block has one thread. */
EEPK_FN void eepk_block_sync(void)
{
    __syncthreads();
}
/* The same, and 1 on all of them if one came with a value that is not 0. */
EEPK_FN int eepk_block_any(int value)
{
    return __syncthreads_or(value);
}
EEPK_FN void eepk_flag_raise(uint32_t *flag)
{
    atomicExch(flag, 1u);
}
/* Write `value` where `free` stood; 1 for the one thread that did. */
EEPK_FN int eepk_claim(uint32_t *word, uint32_t free, uint32_t value)
{
    return atomicCAS(word, free, value) == free;
}
EEPK_FN uint32_t eepk_flag_read(const uint32_t *flag)
{
    return *(const volatile uint32_t *)flag;
}
EEPK_FN void eepk_count_add(uint64_t *counter, uint64_t n)
{
    atomicAdd((unsigned long long *)counter, (unsigned long long)n);
}
EEPK_FN void eepk_bits_set(uint64_t *word, uint64_t bits)
{
    atomicOr((unsigned long long *)word, (unsigned long long)bits);
}
EEPK_FN void eepk_doorbell_ring(uint32_t *doorbell)
{
    (void)doorbell; /* GPU waiters poll */
}
EEPK_FN void eepk_poll_pause(uint32_t polls, uint32_t *doorbell, uint32_t seen)
{
    (void)doorbell;
    (void)seen;
    if (polls > 32)
        __nanosleep(100);
}
EEPK_FN uint32_t eepk_doorbell_read(const uint32_t *doorbell)
{
    (void)doorbell;
    return 0;
}
EEPK_FN void eepk_keep_least(uint64_t *word, uint64_t value)
{
    atomicMin((unsigned long long *)word, (unsigned long long)value);
}
EEPK_FN void eepk_keep_largest(uint64_t *word, uint64_t value)
{
    atomicMax((unsigned long long *)word, (unsigned long long)value);
}
EEPK_FN void eepk_copy16(void *to, const void *from)
{
    *(uint4 *)to = *(const uint4 *)from;
}
EEPK_FN void eepk_copy8(void *to, const void *from)
{
    *(uint2 *)to = *(const uint2 *)from;
}

enum { EEPK_WARP = 32, EEPK_GROUP_LANES = 16, EEPK_LOADS_AT_ONCE = 4 };
EEPK_FN void eepk_warp_sync(void)
{
    __syncwarp();
}
EEPK_FN uint32_t eepk_warp_read(uint32_t value, uint32_t lane)
{
    return __shfl_sync(0xffffffffu, value, (int)lane);
}
EEPK_FN eepk_equals eepk_warp_equals(uint32_t key)
{
    uint32_t same = __match_any_sync(0xffffffffu, key), below;
    eepk_equals equals;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(below));
    equals.ordinal = (uint32_t)__popc(same & below);
    equals.num = (uint32_t)__popc(same);
    equals.first_lane = (uint32_t)__ffs((int)same) - 1u;
    return equals;
}
EEPK_FN float eepk_group_largest(float value)
{
    for (int distance = EEPK_GROUP_LANES / 2; distance > 0; distance /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, value, distance);
        value = other > value ? other : value;
    }
    return value;
}

/* Eight values of a row: on the GPU in registers once they were loaded. 16-byte aligned. */
typedef struct eepk_columns {
    uint4 vector[2]; /* BF16 needs one */
} eepk_columns;
EEPK_FN void eepk_columns_load(eepk_columns *columns, const void *from, uint32_t bytes)
{
    columns->vector[0] = *(const uint4 *)from;
    if (bytes > 16)
        columns->vector[1] = ((const uint4 *)from)[1];
}
EEPK_FN uint32_t eepk_vector_word(uint4 v, uint32_t i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}
EEPK_FN float eepk_columns_fp32(const eepk_columns *columns, uint32_t i)
{
    return __uint_as_float(eepk_vector_word(columns->vector[i / 4], i % 4));
}
EEPK_FN uint16_t eepk_columns_bf16(const eepk_columns *columns, uint32_t i)
{
    return (uint16_t)(eepk_vector_word(columns->vector[0], i / 2) >> i % 2 * 16);
}

/* Several loads in flight before the first store: 64 bytes per lane. */
enum { EEPK_CHUNK_VECTORS = 4 };
typedef struct eepk_chunk {
    uint4 vector[EEPK_CHUNK_VECTORS];
} eepk_chunk;
EEPK_FN uint32_t eepk_chunk_bytes(eep_grid g)
{
    return g.num_threads * (uint32_t)sizeof(eepk_chunk);
}
EEPK_FN void eepk_chunk_load(eepk_chunk *chunk, const void *from, uint32_t bytes, eep_grid g)
{
#pragma unroll
    for (uint32_t i = 0; i < EEPK_CHUNK_VECTORS; i++) {
        uint32_t at = (i * g.num_threads + g.thread) * 16u;
        if (at < bytes)
            chunk->vector[i] = *(const uint4 *)((const uint8_t *)from + at);
    }
}
EEPK_FN void eepk_chunk_store(const eepk_chunk *chunk, void *to, uint32_t bytes, eep_grid g)
{
#pragma unroll
    for (uint32_t i = 0; i < EEPK_CHUNK_VECTORS; i++) {
        uint32_t at = (i * g.num_threads + g.thread) * 16u;
        if (at < bytes)
            *(uint4 *)((uint8_t *)to + at) = chunk->vector[i];
    }
}

#else /* the C compiler: graphs/host/host_wait.c has what needs system calls */

#include <math.h>
#include <string.h>
#include <time.h>

#define EEPK_FN         static inline
/* A loop that several kernels share: one function on the host, so that the C compiler makes the
 * same code of it for all of them and a comparison of two kernels does not compare its moods. */
#define EEPK_SHARED_FN  static __attribute__((noinline, unused))
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
EEPK_FN void eepk_bits_set(uint64_t *word, uint64_t bits)
{
    __atomic_fetch_or(word, bits, __ATOMIC_RELAXED);
}
/* Wake a rank that sleeps on its doorbell; partner: eepk_poll_pause. */
void eepk_doorbell_ring(uint32_t *doorbell);
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
    while (value < least &&
           !__atomic_compare_exchange_n(word, &least, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}
EEPK_FN void eepk_keep_largest(uint64_t *word, uint64_t value)
{
    uint64_t largest = __atomic_load_n(word, __ATOMIC_RELAXED);
    while (value > largest && !__atomic_compare_exchange_n(word, &largest, value, 0,
                                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
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

#if defined(EEPK_EMULATED)
#include "tests/emulated/emulated_block.h"
#else
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
#endif
#endif

/* Begins a loop over i = 0 .. count - 1, shared out among the threads of a block; on the host its
 * one thread has them all, which the compiler can see. */
#if defined(__CUDACC__) || defined(EEPK_EMULATED)
#define EEPK_FOR_EACH(i, count, g)                                                                 \
    for (uint32_t i = (g).thread; i < (uint32_t)(count); i += (g).num_threads)
#else
#define EEPK_FOR_EACH(i, count, g)                                                                 \
    for (size_t i = ((void)(g), 0), i##_end = (size_t)(count); i < i##_end; i++)
#endif

/* A grid of warps: what blocks do for large pieces of work, warps do for small ones. */
EEPK_FN eep_grid eepk_warp_grid(eep_grid g)
{
    uint32_t warps = g.num_threads / EEPK_WARP;
    eep_grid w = g;

    if (warps <= 1)
        return g;
    w.block = g.block * warps + g.thread / EEPK_WARP;
    w.num_blocks = g.num_blocks * warps;
    w.thread = g.thread % EEPK_WARP;
    w.num_threads = EEPK_WARP;
    return w;
}

/* Bytes that a chunk beginning `at` of `bytes` still has. */
EEPK_FN uint32_t eepk_chunk_left(uint32_t bytes, uint32_t at, eep_grid g)
{
    uint32_t most = eepk_chunk_bytes(g);

    return bytes - at < most ? bytes - at : most;
}

/* Copy by all threads of the grid's block. Both sides are 16-byte aligned where bytes is a multiple
 * of 16. */
EEPK_FN void eepk_copy_row(void *to, const void *from, uint32_t bytes, eep_grid g)
{
    if (EEPK_WARP > 1 && (bytes & 15u) != 0) {
        for (uint32_t i = g.thread; i < bytes; i += g.num_threads)
            ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
        return;
    }
    for (uint32_t at = 0; at < bytes; at += eepk_chunk_bytes(g)) {
        uint32_t left = eepk_chunk_left(bytes, at, g);
        eepk_chunk chunk;
        eepk_chunk_load(&chunk, (const uint8_t *)from + at, left, g);
        eepk_chunk_store(&chunk, (uint8_t *)to + at, left, g);
    }
}

/* bf16 is the upper half of binary32; round to nearest even, NaN stays NaN. */
EEPK_FN float eepk_bf16_to_float(uint16_t half)
{
    union {
        uint32_t bits;
        float value;
    } u;
    u.bits = (uint32_t)half << 16;
    return u.value;
}
EEPK_FN uint16_t eepk_float_to_bf16(float value)
{
    union {
        float value;
        uint32_t bits;
    } u;
    u.value = value;
    if ((u.bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u.bits >> 16) | 0x40u);
    return (uint16_t)((u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16);
}
#endif
