/* SPDX-License-Identifier: Apache-2.0 */
/* What kernel bodies (graphs/kernels/) are written against, so that one body serves the GPU and the
 * host (must 6). compiler_cuda.h has these names for nvcc, compiler_host.h for the C compiler; this
 * file includes the right one, and has what is written in terms of them.
 *
 * Memory order. A tag is published with eepk_store_release and read with eepk_load_acquire; both
 * are of system scope, since the partner runs on another GPU or in another process. The partner of
 * each use is named where it is used.
 *
 * Lanes. A warp is EEPK_WARP threads that go in step: 32 on the GPU, one on the host.
 *
 * Loops. EEPK_FOR_EACH(i, count, g) begins a loop over i = 0 .. count - 1 that the threads of a
 * block share out among themselves. EEPK_UNROLL stands before a loop of constant length whose array
 * is to lie in registers, EEPK_ROLLED before a loop that is not worth registers. */
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
#include "graphs/kernels/compiler_cuda.h"
#else
#include "graphs/kernels/compiler_host.h"
#endif

/* A grid of warps: what blocks do for large pieces of work, warps do for small ones. */
EEPK_FN eep_grid eepk_warp_grid(eep_grid g)
{
    uint32_t warps = g.num_threads / EEPK_WARP;
    eep_grid w = g;

    if (warps <= 1) {
        return g;
    }
    w.block = g.block * warps + g.thread / EEPK_WARP;
    w.num_blocks = g.num_blocks * warps;
    w.thread = g.thread % EEPK_WARP;
    w.num_threads = EEPK_WARP;
    return w;
}

EEPK_FN uint64_t eepk_warp_read64(uint64_t value, uint32_t lane)
{
    const uint64_t low = eepk_warp_read((uint32_t)value, lane);

    return (uint64_t)eepk_warp_read((uint32_t)(value >> 32), lane) << 32 | low;
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
        for (uint32_t i = g.thread; i < bytes; i += g.num_threads) {
            ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
        }
        return;
    }
    for (uint32_t at = 0; at < bytes; at += eepk_chunk_bytes(g)) {
        uint32_t left = eepk_chunk_left(bytes, at, g);
        eepk_chunk chunk;
        eepk_chunk_load(&chunk, (const uint8_t *)from + at, left, g);
        eepk_chunk_store(&chunk, (uint8_t *)to + at, left, g);
    }
}

/* Copies of rows, which have been made when eepk_copies_end returns. All zero at first. A row
 * without a place to go to stays where it is. */
#ifdef EEPK_WHOLE_ROWS
typedef struct eepk_copies { /* the host collects them */
    uint32_t num, bytes;
    void *to[EEPK_ROWS_AT_ONCE];
    const void *from[EEPK_ROWS_AT_ONCE];
} eepk_copies;
EEPK_FN void eepk_copies_end(eepk_copies *copies)
{
    if (copies->num != 0) {
        eepk_rows_copy(copies->to, copies->from, copies->num, copies->bytes);
        copies->num = 0;
    }
}
EEPK_FN void eepk_copies_add(eepk_copies *copies, void *to, const void *from, uint32_t bytes,
                             eep_grid g)
{
    (void)g;
    if (!to) {
        return;
    }
    if (copies->num == EEPK_ROWS_AT_ONCE || bytes != copies->bytes) {
        eepk_copies_end(copies);
        copies->bytes = bytes;
    }
    copies->to[copies->num] = to;
    copies->from[copies->num++] = from;
}
#else
typedef struct eepk_copies {
    uint32_t none;
} eepk_copies;
EEPK_FN void eepk_copies_end(eepk_copies *copies)
{
    (void)copies;
}
EEPK_FN void eepk_copies_add(eepk_copies *copies, void *to, const void *from, uint32_t bytes,
                             eep_grid g)
{
    (void)copies;
    if (to) {
        eepk_copy_row(to, from, bytes, g);
    }
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
    if ((u.bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)((u.bits >> 16) | 0x40u);
    }
    return (uint16_t)((u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16);
}
#endif
