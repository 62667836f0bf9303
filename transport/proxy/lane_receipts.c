/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/proxy/lane_receipts.h"

#include <stdlib.h>
#include <string.h>

bool eepi_lane_receipts_open(eepi_lane_receipts *r, uint64_t base, uint32_t num_slots)
{
    *r = (eepi_lane_receipts){.base = base, .end = base, .num_slots = num_slots};
    r->bits = calloc((num_slots + 63) / 64, sizeof *r->bits);
    return r->bits != NULL;
}

void eepi_lane_receipts_close(eepi_lane_receipts *r)
{
    free(r->bits);
    *r = (eepi_lane_receipts){0};
}

static bool has(const eepi_lane_receipts *r, uint64_t claim)
{
    const uint64_t slot = claim % r->num_slots;

    return r->bits[slot / 64] >> slot % 64 & 1u;
}

bool eepi_lane_receipts_add(eepi_lane_receipts *r, uint64_t claim)
{
    const uint64_t slot = claim % r->num_slots;

    if (claim < r->base) {
        return true;
    }
    if (claim - r->base >= r->num_slots) {
        return false;
    }
    r->bits[slot / 64] |= 1ull << slot % 64;
    r->end = claim + 1 > r->end ? claim + 1 : r->end;
    while (r->base < r->end && has(r, r->base)) {
        const uint64_t first = r->base++ % r->num_slots;
        r->bits[first / 64] &= ~(1ull << first % 64);
    }
    return true;
}

size_t eepi_lane_receipts_most(uint32_t num_slots)
{
    return 1 + (num_slots + 63) / 64;
}

size_t eepi_lane_receipts_write(const eepi_lane_receipts *r, uint64_t *words_out)
{
    const size_t num_words = 1 + (size_t)(r->end - r->base + 63) / 64;

    memset(words_out, 0, num_words * sizeof *words_out);
    words_out[0] = r->base;
    for (uint64_t i = 0; i < r->end - r->base; i++) {
        words_out[1 + i / 64] |= (uint64_t)has(r, r->base + i) << i % 64;
    }
    return num_words;
}

bool eepi_lane_receipts_read(const uint64_t *words, size_t num_words, uint64_t base, uint64_t sent,
                             void (*placed)(void *user, uint64_t claim), void *user)
{
    if (num_words == 0 || words[0] > sent) {
        return false;
    }
    for (uint64_t claim = base; claim < words[0]; claim++) {
        placed(user, claim);
    }
    for (uint64_t i = 0; i < 64 * (num_words - 1); i++) {
        if (!(words[1 + i / 64] >> i % 64 & 1u)) {
            continue;
        }
        if (words[0] + i >= sent) {
            return false;
        }
        placed(user, words[0] + i);
    }
    return true;
}
