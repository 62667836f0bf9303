/* SPDX-License-Identifier: Apache-2.0 */
/* XXH64, for building the GPU check where the xxHash headers are not installed: the few names that
 * libeep uses there, with the same results as libxxhash. Written from the specification
 * (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md). Little-endian machines only. */
#ifndef EEPI_FALLBACK_XXHASH_H
#define EEPI_FALLBACK_XXHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t XXH64_hash_t;
typedef enum { XXH_OK = 0, XXH_ERROR } XXH_errorcode;
typedef struct XXH64_state_t {
    uint64_t total, lane[4], seed;
    unsigned char rest[32]; /* of a stripe that is not full */
} XXH64_state_t;

#define EEPI_XXH_PRIME1 0x9E3779B185EBCA87ull
#define EEPI_XXH_PRIME2 0xC2B2AE3D27D4EB4Full
#define EEPI_XXH_PRIME3 0x165667B19E3779F9ull
#define EEPI_XXH_PRIME4 0x85EBCA77C2B2AE63ull
#define EEPI_XXH_PRIME5 0x27D4EB2F165667C5ull

static inline uint64_t eepi_xxh_rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline uint64_t eepi_xxh_round(uint64_t lane, uint64_t input)
{
    return eepi_xxh_rotate(lane + input * EEPI_XXH_PRIME2, 31) * EEPI_XXH_PRIME1;
}

static inline uint64_t eepi_xxh_merge(uint64_t sum, uint64_t lane)
{
    return (sum ^ eepi_xxh_round(0, lane)) * EEPI_XXH_PRIME1 + EEPI_XXH_PRIME4;
}

static inline XXH_errorcode XXH64_reset(XXH64_state_t *s, XXH64_hash_t seed)
{
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->lane[0] = seed + EEPI_XXH_PRIME1 + EEPI_XXH_PRIME2;
    s->lane[1] = seed + EEPI_XXH_PRIME2;
    s->lane[2] = seed;
    s->lane[3] = seed - EEPI_XXH_PRIME1;
    return XXH_OK;
}

static inline void eepi_xxh_stripe(XXH64_state_t *s, const unsigned char *at)
{
    for (int i = 0; i < 4; i++) {
        uint64_t word;
        memcpy(&word, at + 8 * i, sizeof word);
        s->lane[i] = eepi_xxh_round(s->lane[i], word);
    }
}

static inline XXH_errorcode XXH64_update(XXH64_state_t *s, const void *bytes, size_t size)
{
    const unsigned char *at = (const unsigned char *)bytes;
    size_t have = (size_t)(s->total % 32);

    s->total += size;
    if (have && have + size >= 32) {
        memcpy(s->rest + have, at, 32 - have);
        eepi_xxh_stripe(s, s->rest);
        at += 32 - have;
        size -= 32 - have;
        have = 0;
    }
    for (; have == 0 && size >= 32; at += 32, size -= 32)
        eepi_xxh_stripe(s, at);
    if (size)
        memcpy(s->rest + have, at, size);
    return XXH_OK;
}

static inline XXH64_hash_t XXH64_digest(const XXH64_state_t *s)
{
    size_t have = (size_t)(s->total % 32), i = 0;
    uint64_t sum = s->seed + EEPI_XXH_PRIME5;

    if (s->total >= 32) {
        sum = eepi_xxh_rotate(s->lane[0], 1) + eepi_xxh_rotate(s->lane[1], 7) +
              eepi_xxh_rotate(s->lane[2], 12) + eepi_xxh_rotate(s->lane[3], 18);
        for (int lane = 0; lane < 4; lane++)
            sum = eepi_xxh_merge(sum, s->lane[lane]);
    }
    sum += s->total;
    for (; i + 8 <= have; i += 8) {
        uint64_t word;
        memcpy(&word, s->rest + i, sizeof word);
        sum =
            eepi_xxh_rotate(sum ^ eepi_xxh_round(0, word), 27) * EEPI_XXH_PRIME1 + EEPI_XXH_PRIME4;
    }
    if (i + 4 <= have) {
        uint32_t word;
        memcpy(&word, s->rest + i, sizeof word);
        sum = eepi_xxh_rotate(sum ^ word * EEPI_XXH_PRIME1, 23) * EEPI_XXH_PRIME2 + EEPI_XXH_PRIME3;
        i += 4;
    }
    for (; i < have; i++)
        sum = eepi_xxh_rotate(sum ^ s->rest[i] * EEPI_XXH_PRIME5, 11) * EEPI_XXH_PRIME1;
    sum = (sum ^ sum >> 33) * EEPI_XXH_PRIME2;
    sum = (sum ^ sum >> 29) * EEPI_XXH_PRIME3;
    return sum ^ sum >> 32;
}

static inline XXH64_hash_t XXH64(const void *bytes, size_t size, XXH64_hash_t seed)
{
    XXH64_state_t state;

    (void)XXH64_reset(&state, seed);
    (void)XXH64_update(&state, bytes, size);
    return XXH64_digest(&state);
}
#endif
