/* SPDX-License-Identifier: Apache-2.0 */
/* XXH64 of a row of numbers, from the algorithm's specification (Collet, xxHash fast digest
 * algorithm, 0.1.1), written once for the C compiler and nvcc. The oracle takes the library's. */
#ifndef EEPX_MODEL_DIGEST_H
#define EEPX_MODEL_DIGEST_H

#include "graphs/kernels/compiler_macros.h"

#define MODEL_XXH_1 0x9e3779b185ebca87ull
#define MODEL_XXH_2 0xc2b2ae3d27d4eb4full
#define MODEL_XXH_3 0x165667b19e3779f9ull
#define MODEL_XXH_4 0x85ebca77c2b2ae63ull
#define MODEL_XXH_5 0x27d4eb2f165667c5ull

EEPK_FN uint64_t model_rotate(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

EEPK_FN uint64_t model_xxh_round(uint64_t lane, uint64_t input)
{
    return model_rotate(lane + input * MODEL_XXH_2, 31) * MODEL_XXH_1;
}

EEPK_FN uint32_t model_xxh_word(const float *number)
{
    union {
        float value;
        uint32_t bits;
    } u;
    u.value = *number;
    return u.bits;
}

/* Eight bytes, the lowest first. */
EEPK_FN uint64_t model_xxh_pair(const float *numbers)
{
    return model_xxh_word(numbers) | (uint64_t)model_xxh_word(numbers + 1) << 32;
}

/* The whole stripes, of 32 bytes each, of `count` numbers. */
EEPK_FN uint64_t model_xxh_stripes(const float *row, uint32_t count)
{
    uint64_t lane[4] = {MODEL_XXH_1 + MODEL_XXH_2, MODEL_XXH_2, 0, 0ull - MODEL_XXH_1}, hash;

    for (uint32_t at = 0; at + 8 <= count; at += 8) {
        for (int i = 0; i < 4; i++) {
            lane[i] = model_xxh_round(lane[i], model_xxh_pair(row + at + 2 * i));
        }
    }
    hash = model_rotate(lane[0], 1) + model_rotate(lane[1], 7) + model_rotate(lane[2], 12) +
           model_rotate(lane[3], 18);
    for (int i = 0; i < 4; i++) {
        hash = (hash ^ model_xxh_round(0, lane[i])) * MODEL_XXH_1 + MODEL_XXH_4;
    }
    return hash;
}

/* XXH64, seed 0, over row[count]. */
EEPK_FN uint64_t model_digest(const float *row, uint32_t count)
{
    uint64_t hash = count >= 8 ? model_xxh_stripes(row, count) : MODEL_XXH_5;
    uint32_t at = count / 8 * 8;

    hash += 4ull * count;
    for (; at + 2 <= count; at += 2) {
        hash ^= model_xxh_round(0, model_xxh_pair(row + at));
        hash = model_rotate(hash, 27) * MODEL_XXH_1 + MODEL_XXH_4;
    }
    if (at < count) {
        hash ^= model_xxh_word(row + at) * MODEL_XXH_1;
        hash = model_rotate(hash, 23) * MODEL_XXH_2 + MODEL_XXH_3;
    }
    hash = (hash ^ hash >> 33) * MODEL_XXH_2;
    hash = (hash ^ hash >> 29) * MODEL_XXH_3;
    return hash ^ hash >> 32;
}
#endif
