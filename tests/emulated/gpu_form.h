/* SPDX-License-Identifier: Apache-2.0 */
/* The words of graphs/kernels/compiler_macros.h as nvcc would take them, for the C compiler: bodies
 * compile in their GPU form, and a block is as many CPU threads. Included before anything else. */
#ifndef GPU_FORM_H
#define GPU_FORM_H

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "eep/device.h"

#define EEPK_COMPILER_MACROS_H   /* these are in its place */
#define __CUDACC__             1 /* behind the system's headers */
#define __host__
#define __device__
#define __forceinline__ inline

#define EEPK_FN         static inline
#define EEPK_FMUL(a, b) ((a) * (b)) /* -ffp-contract=off: one rounding each */
#define EEPK_FADD(a, b) ((a) + (b))
#define EEPK_FDIV(a, b) ((a) / (b))
#define EEPK_FSQRT(a)   sqrtf(a)
#define EEPK_UNROLL
#define EEPK_FOR_EACH(i, count, g)                                                                 \
    for (uint32_t i = (g).thread; i < (uint32_t)(count); i += (g).num_threads)

/* All threads of the calling thread's block meet here. */
void eepk_block_sync(void);
/* The same; 1 for all if one came with a value that is not 0. */
int eepk_block_any(int value);

EEPK_FN uint64_t eepk_load_acquire(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
EEPK_FN float eepk_bf16_to_float(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
EEPK_FN uint16_t eepk_float_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)((bits >> 16) | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
#endif
