/* SPDX-License-Identifier: Apache-2.0 */
/* What an order gives the slots, as bytes. */
#include "membership/view/wishes.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static size_t num_slots_of(const eepi_view_shape *shape)
{
    return (size_t)shape->num_layers * (size_t)shape->max_ranks * (size_t)shape->num_slots;
}

static size_t pinned_words(const eepi_view_shape *shape)
{
    return (num_slots_of(shape) + 63) / 64;
}

uint16_t *eepi_wishes_list(const void *wishes, const eepi_view_shape *shape)
{
    return (uint16_t *)((uint64_t *)(uintptr_t)wishes + pinned_words(shape));
}

size_t eepi_wishes_index(const eepi_view_shape *shape, int layer, int seat, int slot)
{
    assert(layer >= 0 && layer < shape->num_layers && seat >= 0 && seat < shape->max_ranks);
    assert(slot >= 0 && slot < shape->num_slots);
    return ((size_t)layer * (size_t)shape->max_ranks + (size_t)seat) * (size_t)shape->num_slots +
           (size_t)slot;
}

bool eepi_wishes_is_pinned(const void *wishes, size_t at)
{
    return ((const uint64_t *)wishes)[at / 64] >> (at % 64) & 1u;
}

size_t eepi_wishes_bytes(const eepi_view_shape *shape)
{
    const size_t list = num_slots_of(shape) * sizeof(uint16_t);

    return pinned_words(shape) * sizeof(uint64_t) + (list + 7) / 8 * 8;
}

void eepi_wishes_clear(void *wishes, const eepi_view_shape *shape)
{
    memset(wishes, 0, eepi_wishes_bytes(shape));
    memset(eepi_wishes_list(wishes, shape), 0xff, num_slots_of(shape) * sizeof(uint16_t));
}

void eepi_wishes_set(void *wishes, const eepi_view_shape *shape, int layer, int seat, int slot,
                     int expert, bool pinned)
{
    const size_t at = eepi_wishes_index(shape, layer, seat, slot);
    const uint64_t bit = UINT64_C(1) << (at % 64);
    uint64_t *word = (uint64_t *)wishes + at / 64;

    assert(expert >= -1 && expert < shape->num_experts);
    eepi_wishes_list(wishes, shape)[at] = expert < 0 ? EEPI_NO_EXPERT : (uint16_t)expert;
    *word = pinned && expert >= 0 ? *word | bit : *word & ~bit;
}

const char *eepi_wishes_check(const void *wishes, const eepi_view_shape *shape)
{
    const size_t num = num_slots_of(shape);
    const uint64_t *words = wishes;
    const uint16_t *list = eepi_wishes_list(wishes, shape);
    const uint8_t *end = (const uint8_t *)wishes + eepi_wishes_bytes(shape);

    for (size_t at = 0; at < num; at++) {
        if (list[at] != EEPI_NO_EXPERT && list[at] >= shape->num_experts) {
            return "a wish's expert is out of range";
        }
        if (list[at] == EEPI_NO_EXPERT && eepi_wishes_is_pinned(wishes, at)) {
            return "a slot without a wish is pinned";
        }
    }
    if (num % 64 != 0 && words[num / 64] >> (num % 64)) {
        return "a slot out of range is pinned";
    }
    for (const uint8_t *byte = (const uint8_t *)(list + num); byte < end; byte++) {
        if (*byte != 0) {
            return "the padding behind the wishes is not zero";
        }
    }
    return NULL;
}

uint64_t eepi_wishes_digest(const void *wishes, const eepi_view_shape *shape)
{
    return XXH64(wishes, eepi_wishes_bytes(shape), 0);
}
