/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel bodies for nvcc: the names of compiler_macros.h as a GPU has them, with 32 threads a warp.
 */
#ifndef EEPK_COMPILER_CUDA_H
#define EEPK_COMPILER_CUDA_H

#ifndef EEPK_COMPILER_MACROS_H
#error "include graphs/kernels/compiler_macros.h"
#endif

#define EEPK_FN        __device__ __forceinline__ static
#define EEPK_SHARED_FN EEPK_FN
/* A call would take more registers than it saves (combine_send 106, else 68). */
#define EEPK_COLD_FN    EEPK_FN
#define EEPK_FMUL(a, b) __fmul_rn((a), (b))
#define EEPK_FADD(a, b) __fadd_rn((a), (b))
#define EEPK_FDIV(a, b) __fdiv_rn((a), (b))
#define EEPK_FSQRT(a)   __fsqrt_rn(a)
#define EEPK_ALIGNED(n) __align__(n)
#define EEPK_UNROLL     _Pragma("unroll")
#define EEPK_ROLLED     _Pragma("unroll 1")

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
EEPK_FN void eepk_fence_reads(void)
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
/* A block is done, called by one of its threads behind eepk_block_sync: 1 for the last of them,
 * which then sees what all have stored. Counts anew. The fences are of system scope, since the
 * stores went to peers. */
EEPK_FN int eepk_count_out(uint32_t *blocks_out, uint32_t num_blocks)
{
    __threadfence_system();
    if (atomicAdd(blocks_out, 1u) != num_blocks - 1u)
        return 0;
    *blocks_out = 0;
    __threadfence_system();
    return 1;
}
EEPK_FN uint64_t eepk_take(uint64_t *counter, uint64_t n)
{
    return atomicAdd((unsigned long long *)counter, (unsigned long long)n);
}
EEPK_FN void eepk_bits_set(uint64_t *word, uint64_t bits)
{
    atomicOr((unsigned long long *)word, (unsigned long long)bits);
}
EEPK_FN void eepk_doorbell_ring(uint32_t *doorbell)
{
    (void)doorbell; /* GPU waiters poll */
}
EEPK_FN uint32_t eepk_looks_at_once(uint32_t num_ranks)
{
    (void)num_ranks;
    return 16;
}
EEPK_FN void eepk_poll_pause(uint32_t polls, uint32_t *doorbell, uint32_t seen)
{
    (void)doorbell;
    (void)seen;
    if (polls > 16)
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

#define EEPK_FOR_EACH(i, count, g)                                                                 \
    for (uint32_t i = (g).thread; i < (uint32_t)(count); i += (g).num_threads)
#endif
