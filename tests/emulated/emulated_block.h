/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of a block without a GPU: fibers of the thread that runs the block, switched where a
 * GPU's threads would meet. Between two meetings a thread runs alone, in an order that changes from
 * block to block: where a meeting is missing, some order shows it. The EEPK_BACKEND_HEADER of
 * graphs/kernels/compiler_host.h; the widths are the GPU's. */
#ifndef EMULATED_BLOCK_H
#define EMULATED_BLOCK_H

#include "graphs/kernels/compiler_macros.h"

#include <stdint.h>
#include <string.h>

enum { EEPK_WARP = 32, EEPK_GROUP_LANES = 16, EEPK_CHUNK_VECTORS = 4 };

/* Run one block of `num_threads` threads, 1 or a multiple of EEPK_WARP. Any thread. */
void emulated_block_run(void (*body)(const void *args, eep_grid grid), const void *args,
                        uint32_t block, uint32_t num_blocks, uint32_t num_threads);

/* Inside it: meet all threads of the block, or of the warp. */
void emulated_block_meet(void);
/* The same; 1 for all if one came with a value that is not 0. */
int emulated_block_any(int value);
void emulated_warp_meet(void);
/* Give `value` to the warp; the values of all lanes, valid until the lane's next call. */
const uint32_t *emulated_warp_share(uint32_t value);
uint32_t emulated_lane(void);
/* Let the other threads of the block go on; partner of what they wait for in peers. */
void emulated_pause(uint32_t polls, uint32_t *doorbell, uint32_t seen);
#define eepk_poll_pause emulated_pause

#define EEPK_FOR_EACH(i, count, g)                                                                 \
    for (uint32_t i = (g).thread; i < (uint32_t)(count); i += (g).num_threads)

static inline void eepk_block_sync(void)
{
    emulated_block_meet();
}
static inline int eepk_block_any(int value)
{
    return emulated_block_any(value);
}
static inline void eepk_warp_sync(void)
{
    emulated_warp_meet();
}
static inline uint32_t eepk_warp_read(uint32_t value, uint32_t lane)
{
    return emulated_warp_share(value)[lane];
}
static inline eepk_equals eepk_warp_equals(uint32_t key)
{
    const uint32_t *keys = emulated_warp_share(key);
    eepk_equals equals = {0, 0, EEPK_WARP};

    for (uint32_t lane = 0; lane < EEPK_WARP; lane++) {
        if (keys[lane] != key) {
            continue;
        }
        equals.first_lane = lane < equals.first_lane ? lane : equals.first_lane;
        equals.ordinal += lane < emulated_lane();
        equals.num++;
    }
    return equals;
}
static inline float eepk_group_largest(float value)
{
    uint32_t bits, first = emulated_lane() / EEPK_GROUP_LANES * EEPK_GROUP_LANES;
    const uint32_t *all;

    memcpy(&bits, &value, sizeof bits);
    all = emulated_warp_share(bits);
    for (uint32_t lane = first; lane < first + EEPK_GROUP_LANES; lane++) {
        float other;
        memcpy(&other, &all[lane], sizeof other);
        value = other > value ? other : value;
    }
    return value;
}

typedef struct eepk_chunk {
    uint8_t vector[EEPK_CHUNK_VECTORS][16];
} eepk_chunk;
static inline uint32_t eepk_chunk_bytes(eep_grid g)
{
    return g.num_threads * (uint32_t)sizeof(eepk_chunk);
}
static inline void eepk_chunk_load(eepk_chunk *chunk, const void *from, uint32_t bytes, eep_grid g)
{
    for (uint32_t i = 0; i < EEPK_CHUNK_VECTORS; i++) {
        uint32_t at = (i * g.num_threads + g.thread) * 16u;
        if (at < bytes) {
            memcpy(chunk->vector[i], (const uint8_t *)from + at, 16);
        }
    }
}
static inline void eepk_chunk_store(const eepk_chunk *chunk, void *to, uint32_t bytes, eep_grid g)
{
    for (uint32_t i = 0; i < EEPK_CHUNK_VECTORS; i++) {
        uint32_t at = (i * g.num_threads + g.thread) * 16u;
        if (at < bytes) {
            memcpy((uint8_t *)to + at, chunk->vector[i], 16);
        }
    }
}
#endif
