/* SPDX-License-Identifier: Apache-2.0 */
/* Slots are taken in order of their claims, and completed in any order. */
#include "transport/proxy/ring_lane.h"

#include <assert.h>
#include <stdlib.h>

enum { SLOTS_AHEAD = 4 };

struct eepi_ring_lane {
    uint8_t *ring;
    uint32_t num_slots, slot_bytes;
    uint16_t source, target;
    uint64_t taken, completed; /* claims below `completed` have given back their slots */
    uint64_t turn[EEPK_RING_WORDS];
    bool is_done[]; /* [num_slots]: of the claims from `completed` on */
};

static void set_limit(eepi_ring_lane *lane)
{
    eepk_ring_limit *limit = (eepk_ring_limit *)lane->ring;

    /* partner: the acquire of eepk_reserve, so that no kernel writes into memory that is read */
    __atomic_store_n(&limit->claims, lane->completed + lane->num_slots, __ATOMIC_RELEASE);
}

eepi_ring_lane *eepi_ring_lane_open(uint8_t *ring, uint32_t num_slots, uint32_t slot_bytes,
                                    uint32_t source, uint32_t target)
{
    eepi_ring_lane *lane = calloc(1, sizeof *lane + num_slots * sizeof(bool));

    if (!lane) {
        return NULL;
    }
    lane->ring = ring;
    lane->num_slots = num_slots;
    lane->slot_bytes = slot_bytes;
    lane->source = (uint16_t)source;
    lane->target = (uint16_t)target;
    set_limit(lane);
    return lane;
}

void eepi_ring_lane_close(eepi_ring_lane *lane)
{
    free(lane);
}

/* A word that changes just now is left for the next look: nothing that was put after it is ready
 * yet. */
static bool take_word(eepi_ring_lane *lane, uint32_t word, eepi_lane_message *message_out)
{
    const eepk_ring_word *from = eepk_ring_word_at(lane->ring, word);
    const uint64_t turn = __atomic_load_n(&from->turn, __ATOMIC_ACQUIRE);
    eepk_put put = {.kind = word == EEPK_RING_BEGIN ? EEPK_PUT_BEGIN : EEPK_PUT_ABORT,
                    .source = lane->source,
                    .target = lane->target,
                    .chain = (uint8_t)(word == EEPK_RING_BEGIN ? 0 : word)};
    uint64_t generations;

    if (turn == lane->turn[word] || turn % 2 != 0) {
        return false;
    }
    put.epoch = __atomic_load_n(&from->epoch, __ATOMIC_RELAXED);
    put.step = __atomic_load_n(&from->step, __ATOMIC_RELAXED);
    put.offset = __atomic_load_n(&from->offset, __ATOMIC_RELAXED);
    put.value = __atomic_load_n(&from->value, __ATOMIC_RELAXED);
    generations = __atomic_load_n(&from->generations, __ATOMIC_RELAXED);
    put.completed = __atomic_load_n(&from->completed, __ATOMIC_RELAXED);
    put.shape = (uint8_t)(word == EEPK_RING_BEGIN ? put.value : eepk_abort_shape(put.value));
    put.source_generation = (uint32_t)(generations >> 32);
    put.target_generation = (uint32_t)generations;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&from->turn, __ATOMIC_RELAXED) != turn) {
        return false;
    }
    lane->turn[word] = turn;
    *message_out = (eepi_lane_message){put, NULL, EEPI_LANE_NO_CLAIM};
    return true;
}

static bool take_any_word(eepi_ring_lane *lane, eepi_lane_message *message_out)
{
    for (uint32_t word = 0; word < EEPK_RING_WORDS; word++) {
        if (take_word(lane, word, message_out)) {
            return true;
        }
    }
    return false;
}

bool eepi_ring_lane_take(eepi_ring_lane *lane, eepi_lane_message *message_out)
{
    const eepk_put *slot =
        eepk_ring_slot(lane->ring, lane->taken, lane->num_slots, lane->slot_bytes);
    const bool is_ready = __atomic_load_n(&slot->ready, __ATOMIC_ACQUIRE) == lane->taken + 1;

    /* after the acquire: a word that was put before that row is seen now */
    if (take_any_word(lane, message_out)) {
        return true;
    }
    if (!is_ready) {
        return false;
    }
    *message_out = (eepi_lane_message){*slot, slot->bytes ? slot + 1 : NULL, lane->taken};
    lane->taken++;
    /* another core has written them, and they are looked at soon */
    __builtin_prefetch(
        eepk_ring_slot(lane->ring, lane->taken + SLOTS_AHEAD, lane->num_slots, lane->slot_bytes));
    return true;
}

void eepi_ring_lane_complete(eepi_ring_lane *lane, uint64_t claim)
{
    assert(claim >= lane->completed && claim < lane->taken);
    assert(!lane->is_done[claim % lane->num_slots]);
    lane->is_done[claim % lane->num_slots] = true;
    while (lane->completed < lane->taken && lane->is_done[lane->completed % lane->num_slots]) {
        lane->is_done[lane->completed % lane->num_slots] = false;
        lane->completed++;
    }
    set_limit(lane);
}

bool eepi_ring_lane_is_idle(const eepi_ring_lane *lane)
{
    return lane->completed == lane->taken;
}

void eepi_ring_put_begin(uint8_t *ring, uint64_t epoch, uint64_t step, uint32_t shape,
                         uint64_t completed, uint32_t source_generation, uint32_t target_generation)
{
    eepk_ring_word *word = eepk_ring_word_at(ring, EEPK_RING_BEGIN);
    const uint64_t turn = word->turn;

    __atomic_store_n(&word->turn, turn + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&word->epoch, epoch, __ATOMIC_RELAXED);
    __atomic_store_n(&word->step, step, __ATOMIC_RELAXED);
    __atomic_store_n(&word->generations, eepk_generations(source_generation, target_generation),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&word->completed, completed, __ATOMIC_RELAXED);
    __atomic_store_n(&word->value, shape, __ATOMIC_RELAXED);
    __atomic_store_n(&word->turn, turn + 2, __ATOMIC_RELEASE);
}
