/* SPDX-License-Identifier: Apache-2.0 */
/* A turn of a lane, whatever carries it: whom it serves, and what it does next. */
#include "transport/network/network_state.h"

#include <errno.h>
#include <string.h>

eepi_lane_hello eepi_lane_hello_of(const eepi_network *network, const eepi_lane *lane)
{
    return (eepi_lane_hello){.magic = EEPI_LANE_MAGIC,
                             .version = EEPI_LANE_VERSION,
                             .instance = network->config.instance,
                             .source = network->shape.self,
                             .source_generation = network->config.generation,
                             .target = lane->seat,
                             .target_generation = lane->generation,
                             .slot_bytes = network->slot_bytes,
                             .ring_slots = network->shape.ring_slots,
                             .base = lane->base};
}

eepi_lane_verdict eepi_lane_judge(const eepi_network *network, const eepi_lane_hello *hello)
{
    if (hello->magic != EEPI_LANE_MAGIC) {
        return EEPI_LANE_OTHER;
    }
    if (hello->version != EEPI_LANE_VERSION || hello->slot_bytes != network->slot_bytes ||
        hello->ring_slots != network->shape.ring_slots) {
        return EEPI_LANE_REFUSED;
    }
    if (hello->instance != network->config.instance || hello->target != network->shape.self ||
        hello->target_generation != network->config.generation ||
        hello->source >= network->shape.max_ranks || hello->source == network->shape.self) {
        return EEPI_LANE_OTHER;
    }
    return EEPI_LANE_WELCOME;
}

const char *eepi_lane_answer_text(const eepi_lane_answer *answer)
{
    return answer->magic == EEPI_LANE_MAGIC && answer->verdict == EEPI_LANE_REFUSED
               ? "it has another version of libeep, or other shapes"
               : "somebody else answers there";
}

/* ------------------------------------------------------------------ its slots */

static uint64_t *done_word(const eepi_lane *lane, uint64_t claim, uint64_t *bit_out)
{
    const uint64_t slot = claim % lane->num_slots;

    *bit_out = 1ull << slot % 64;
    return &lane->done[slot / 64];
}

bool eepi_lane_is_done(const eepi_lane *lane, uint64_t claim)
{
    uint64_t bit;
    const uint64_t *word = done_word(lane, claim, &bit);

    return claim < lane->base || *word & bit;
}

void eepi_lane_complete(eepi_lane *lane, uint64_t claim)
{
    uint64_t bit, *word = done_word(lane, claim, &bit);

    if (eepi_lane_is_done(lane, claim)) {
        return;
    }
    eepi_ring_lane_complete(lane->ring_lane, claim);
    *word |= bit;
    while (lane->base < lane->taken && *(word = done_word(lane, lane->base, &bit)) & bit) {
        *word &= ~bit;
        lane->base++;
    }
}

void eepi_lane_complete_below(eepi_lane *lane, uint64_t claim)
{
    while (lane->base < claim) {
        eepi_lane_complete(lane, lane->base);
    }
}

/* Nobody is to have it. */
static bool throw_away(eepi_lane *lane)
{
    eepi_lane_message message;
    bool any = false;

    while (eepi_ring_lane_take(lane->ring_lane, &message)) {
        if (message.claim != EEPI_LANE_NO_CLAIM) {
            lane->sent = lane->taken = message.claim + 1;
            eepi_lane_complete(lane, message.claim);
        }
        any = true;
    }
    return any;
}

static void note_blocked(eepi_lane *lane)
{
    const bool is_blocked = lane->base < lane->taken && lane->lacks_since_us == 0;

    __atomic_store_n(&lane->blocked_since_us, is_blocked ? lane->waits_since_us : 0,
                     __ATOMIC_RELAXED);
}

void eepi_lane_abandon(eepi_network *network, eepi_lane *lane)
{
    network->carrier->drop(network, lane);
    eepi_lane_complete_below(lane, lane->taken);
    lane->sent = lane->taken;
    memset(lane->word, 0, sizeof lane->word);
    eepi_lane_rewind(lane);
    lane->generation = 0;
    lane->state = EEPI_LANE_TO_NOBODY;
    lane->num_failures = lane->num_unanswered = lane->num_refused = 0;
    lane->num_overs = lane->way = 0;
    lane->leaves_way = false;
    lane->waits_since_us = lane->lacks_since_us = 0;
    note_blocked(lane);
    lane->is_heard = lane->is_silent = lane->is_reset = false;
}

/* What it is to do, as the context wants it now. */
static void follow(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    const uint32_t wanted = __atomic_load_n(&lane->wanted, __ATOMIC_ACQUIRE);

    if (wanted == lane->generation) {
        return;
    }
    eepi_lane_abandon(network, lane);
    if (wanted != 0) {
        lane->generation = wanted;
        lane->state = EEPI_LANE_DOWN;
        lane->retry_at_us = now_us;
        lane->waits_since_us = now_us;
    }
}

static void begin(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    eepi_lane_take_way(network, lane, now_us);
    network->carrier->begin(network, lane, now_us);
}

/* ------------------------------------------------------------------ a turn */

/* Most acknowledgements can wait until there is more to send. True: what was to be heard of came
 * meanwhile. */
static bool wait_for_events(const eepi_network *network, eepi_lane *lane)
{
    const bool wants = lane->state != EEPI_LANE_UP || lane->is_full ||
                       lane->sent - lane->base > network->shape.ring_slots / 2;

    __atomic_store_n(&lane->wants_wake, wants, __ATOMIC_SEQ_CST);
    return wants && __atomic_load_n(&lane->events, __ATOMIC_SEQ_CST) != 0;
}

bool eepi_lane_turn(eepi_network *network, eepi_lane *lane, uint64_t now_us, uint64_t *next_us)
{
    const uint32_t events = __atomic_exchange_n(&lane->events, 0, __ATOMIC_ACQ_REL);
    bool any = false;

    follow(network, lane, now_us);
    if (lane->state == EEPI_LANE_TO_NOBODY) {
        return throw_away(lane);
    }
    if (lane->state == EEPI_LANE_DOWN) {
        if (now_us >= lane->retry_at_us) {
            begin(network, lane, now_us);
        }
    } else if (lane->state < EEPI_LANE_UP) {
        network->carrier->go_on(network, lane, events, now_us);
        if (lane->state > EEPI_LANE_DOWN && lane->state < EEPI_LANE_UP &&
            now_us >= lane->retry_at_us) {
            lane->num_unanswered += lane->state == EEPI_LANE_CONNECTING;
            eepi_lane_fail_again(network, lane, strerror(ETIMEDOUT), false, now_us);
        }
    } else {
        any = network->carrier->carry(network, lane, events, now_us, next_us);
        if (lane->waits_since_us == 0 && lane->base < lane->sent) {
            lane->waits_since_us = now_us;
        }
    }
    if (lane->state != EEPI_LANE_UP) {
        eepi_lane_by(next_us, lane->retry_at_us);
    }
    any |= eepi_lane_look_at_way(network, lane, now_us, next_us);
    eepi_lane_look_at_silence(network, lane, now_us, next_us);
    note_blocked(lane);
    return wait_for_events(network, lane) || any;
}
