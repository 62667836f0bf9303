/* SPDX-License-Identifier: Apache-2.0 */
/* Which experts a fault left with a live replica. */
#include "membership/view/view_reuse.h"

#include <string.h>

enum { WORD_BITS = 64, MAX_WORDS = (EEP_MAX_EXPERTS + WORD_BITS - 1) / WORD_BITS };

typedef struct expert_set {
    uint64_t word[MAX_WORDS];
} expert_set;

static void clear(expert_set *set, int num_experts)
{
    memset(set->word, 0, (size_t)(num_experts + WORD_BITS - 1) / WORD_BITS * sizeof set->word[0]);
}

static uint64_t *word_of(expert_set *set, int expert)
{
    return &set->word[expert / WORD_BITS];
}

static uint64_t bit_of(int expert)
{
    return 1ull << expert % WORD_BITS;
}

/* What processes that are gone held in a layer. */
static void find_lost(const eepi_view *before, const eepi_view *after, int layer, expert_set *lost)
{
    clear(lost, before->shape.num_experts);
    for (int seat = 0; seat < before->shape.max_ranks; seat++) {
        if (!eepi_view_is_member(before, seat) ||
            eepi_view_has(after, seat, eepi_view_seat_at(before, seat)->generation)) {
            continue;
        }
        for (int i = 0; i < before->shape.num_slots; i++) {
            const eepi_view_slot *slot = eepi_view_slot_at(before, layer, seat, i);
            if (slot->state == EEPI_SLOT_HOLDS) {
                *word_of(lost, slot->expert) |= bit_of(slot->expert);
            }
        }
    }
}

/* Take the experts that a seat holds out of the set; how many these are. */
static uint64_t take_held(const eepi_view *view, int layer, int seat, expert_set *lost)
{
    uint64_t num = 0;

    for (int i = 0; i < view->shape.num_slots; i++) {
        const eepi_view_slot *slot = eepi_view_slot_at(view, layer, seat, i);
        if (slot->state == EEPI_SLOT_HOLDS &&
            (*word_of(lost, slot->expert) & bit_of(slot->expert))) {
            *word_of(lost, slot->expert) &= ~bit_of(slot->expert);
            num++;
        }
    }
    return num;
}

uint64_t eepi_view_num_reused(const eepi_view *before, const eepi_view *after, int seat)
{
    expert_set lost;
    uint64_t num = 0;

    if (!eepi_view_is_member(after, seat)) {
        return 0;
    }
    for (int layer = 0; layer < after->shape.num_layers; layer++) {
        find_lost(before, after, layer, &lost);
        for (int lower = 0; lower < seat; lower++) {
            if (eepi_view_is_member(after, lower)) {
                (void)take_held(after, layer, lower, &lost);
            }
        }
        num += take_held(after, layer, seat, &lost);
    }
    return num;
}
