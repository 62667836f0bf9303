/* The one file that tells nvcc and the C compiler apart. Kernel bodies (graphs/kernels/) are
 * written once against these names (must 6).
 *
 * Memory order. A tag is published with eepk_store_release and read with eepk_load_acquire; both
 * are of system scope, since the partner runs on another GPU or in another process. The partner of
 * each use is named where it is used. */
#ifndef EEPK_COMPILER_MACROS_H
#define EEPK_COMPILER_MACROS_H

#include <stdint.h>

#include "eep/device.h"

#if defined(__CUDACC__)

#define EEPK_FN         __device__ __forceinline__ static
#define EEPK_SHARED_FN  EEPK_FN
#define EEPK_ROLLED     _Pragma("unroll 1") /* a loop that is not worth registers */
#define EEPK_FMUL(a, b) __fmul_rn((a), (b))
#define EEPK_FADD(a, b) __fadd_rn((a), (b))
#define EEPK_FDIV(a, b) __fdiv_rn((a), (b))

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
/* All threads of a block meet here; on the host a block has one thread. */
EEPK_FN void eepk_block_sync(void)
{
    __syncthreads();
}
EEPK_FN void eepk_flag_raise(uint32_t *flag)
{
    atomicExch(flag, 1u);
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
/* Copy by all threads of the block; both sides 16-byte aligned when bytes is a multiple of 16. */
EEPK_FN void eepk_copy_row(void *to, const void *from, uint32_t bytes, eep_grid g)
{
    if ((bytes & 15u) == 0) {
        uint4 *t = (uint4 *)to;
        const uint4 *f = (const uint4 *)from;
        for (uint32_t i = g.thread; i < bytes / 16; i += g.num_threads)
            t[i] = f[i];
    } else {
        for (uint32_t i = g.thread; i < bytes; i += g.num_threads)
            ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    }
}

#else /* the C compiler: graphs/host_wait.c has what needs system calls */

#include <string.h>
#include <time.h>

#define EEPK_FN        static inline
/* A loop that several kernels share: one function on the host, so that the C compiler makes the
 * same code of it for all of them and a comparison of two kernels does not compare its moods. */
#define EEPK_SHARED_FN static __attribute__((noinline, unused))
#define EEPK_ROLLED
#define EEPK_FMUL(a, b) ((a) * (b)) /* -ffp-contract=off: one rounding each */
#define EEPK_FADD(a, b) ((a) + (b))
#define EEPK_FDIV(a, b) ((a) / (b))

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
EEPK_FN void eepk_block_sync(void)
{
}
EEPK_FN void eepk_flag_raise(uint32_t *flag)
{
    __atomic_store_n(flag, 1u, __ATOMIC_RELAXED);
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
EEPK_FN void eepk_copy_row(void *to, const void *from, uint32_t bytes, eep_grid g)
{
    (void)g;
    memcpy(to, from, bytes);
}

#endif

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
