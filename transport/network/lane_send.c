/* SPDX-License-Identifier: Apache-2.0 */
/* What a lane sends, from where it lies in the ring: a batch per system call. A batch that the
 * connection has taken in part stays as it is until all of it is taken. */
#include "transport/network/network_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static uint32_t number_of(const eepk_put *word)
{
    return word->kind == EEPK_PUT_BEGIN ? EEPK_RING_BEGIN : word->chain;
}

typedef struct eepi_lane_bytes { /* of the messages of a batch, without their puts */
    int num;
    struct iovec part[EEPI_LANE_BATCH];
} eepi_lane_bytes;

static void add(eepi_lane_batch *b, const void *bytes, size_t num_bytes)
{
    b->part[b->num++] = (struct iovec){(void *)(uintptr_t)bytes, num_bytes};
    b->bytes += num_bytes;
}

/* Words first; a slot is looked at before the words that were put before it are (rule N3,
 * eepi_ring_lane_take). */
bool eepi_lane_take(eepi_lane *lane)
{
    eepi_lane_message message;

    if (!eepi_ring_lane_take(lane->ring_lane, &message)) {
        return false;
    }
    if (message.claim == EEPI_LANE_NO_CLAIM) {
        lane->word[number_of(&message.put)] = message.put;
        lane->word_waits[number_of(&message.put)] = true;
    } else {
        lane->taken = message.claim + 1;
    }
    return true;
}

static void add_words(eepi_lane *lane, eepi_lane_batch *b)
{
    for (uint32_t i = 0; i < EEPK_RING_WORDS; i++) {
        if (lane->word_waits[i]) {
            eepk_put *word = &b->word[b->num_words++];
            *word = lane->word[i];
            lane->word_waits[i] = false;
            add(b, word, sizeof *word);
        }
    }
}

/* A turn of the loop adds each word once at most, and a slot. */
static_assert(EEPI_LANE_BATCH_WORDS >= 2 * EEPK_RING_WORDS, "words have room behind the last look");
static_assert(EEPI_LANE_BATCH > 2 * (int)EEPK_RING_WORDS, "a batch has a slot, too");

/* It is not acknowledged: whoever says it says it anew on the next connection. */
size_t eepi_lane_take_talk(const eepi_network *network, eepi_lane *lane)
{
    const eepi_network_talk *talk = &network->config.talk;
    eepk_put *put = (eepk_put *)lane->talk;
    size_t bytes;

    if (!talk->say || !__atomic_exchange_n(&lane->has_talk, false, __ATOMIC_ACQ_REL)) {
        return 0;
    }
    if (!lane->talk) {
        put = aligned_alloc(EEPK_LINE_BYTES, EEPI_LANE_TALK_BYTES);
        lane->talk = (uint8_t *)put;
    }
    bytes = put ? talk->say(talk->user, lane->seat, lane->generation, lane->is_anew, put + 1) : 0;
    if (!put || bytes > 0) { /* there may be more; without memory, it is tried in the next round */
        __atomic_store_n(&lane->has_talk, true, __ATOMIC_RELEASE);
    }
    if (bytes == 0) {
        return 0;
    }
    lane->is_anew = false;
    *put = (eepk_put){.kind = EEPK_PUT_TALK,
                      .bytes = (uint32_t)bytes,
                      .source = (uint16_t)network->shape.self,
                      .target = (uint16_t)lane->seat,
                      .source_generation = network->config.generation,
                      .target_generation = lane->generation};
    return sizeof *put + bytes;
}

static void add_slot(eepi_lane_batch *b, const eepk_put *slot, eepi_lane_bytes *apart)
{
    add(b, slot, apart ? sizeof *slot : sizeof *slot + slot->bytes);
    if (apart && slot->bytes > 0) {
        apart->part[apart->num++] = (struct iovec){(void *)(uintptr_t)(slot + 1), slot->bytes};
    }
}

/* The messages so far become puts and then bytes. */
static void announce(const eepi_network *network, eepi_lane *lane, const eepi_lane_bytes *apart)
{
    eepi_lane_batch *b = &lane->batch;

    b->several = (eepk_put){.kind = EEPK_PUT_SEVERAL,
                            .pieces = (uint32_t)b->num - 1,
                            .source = (uint16_t)network->shape.self,
                            .target = (uint16_t)lane->seat,
                            .source_generation = network->config.generation,
                            .target_generation = lane->generation};
    b->part[0] = (struct iovec){&b->several, sizeof b->several};
    b->bytes += sizeof b->several;
    b->at = 0;
    for (int i = 0; i < apart->num; i++) {
        add(b, apart->part[i].iov_base, apart->part[i].iov_len);
    }
}

/* One piece of talk a batch, behind its rows: neither waits for the other. */
static void fill(const eepi_network *network, eepi_lane *lane)
{
    eepi_lane_batch *b = &lane->batch;
    const size_t most = network->has_key ? EEPI_LANE_SEALED_BYTES : SIZE_MAX;
    eepi_lane_bytes apart;
    bool any = true;
    size_t talk;

    apart.num = 0;
    b->num = 1; /* the place of the channel's head, or of b->several */
    b->at = network->has_key ? 0 : 1;
    b->num_words = 0;
    b->bytes = 0;
    while (any && b->bytes < most && b->num < EEPI_LANE_BATCH - (int)EEPK_RING_WORDS &&
           b->num_words <= EEPI_LANE_BATCH_WORDS - (int)EEPK_RING_WORDS) {
        any = eepi_lane_take(lane);
        add_words(lane, b);
        if (lane->sent < lane->taken) {
            const eepk_put *slot = eepk_ring_slot(lane->ring, lane->sent++,
                                                  network->shape.ring_slots, network->slot_bytes);
            add_slot(b, slot, network->has_key ? NULL : &apart);
            any = true;
        }
    }
    if (!network->has_key && b->num > 1) {
        announce(network, lane, &apart);
    }
    talk = eepi_lane_take_talk(network, lane);
    if (talk > 0) {
        add(b, lane->talk, talk);
    }
}

/* A batch becomes a message of the channel. False: the channel is of no use. */
static bool seal(eepi_lane *lane)
{
    eepi_lane_batch *b = &lane->batch;
    size_t tail_bytes;

    if (eepi_secure_seal(&lane->channel, b->part + 1, b->num - 1, b->head, b->tail, &tail_bytes) !=
        EEP_OK) {
        return false;
    }
    b->part[0] = (struct iovec){b->head, sizeof b->head};
    b->part[b->num++] = (struct iovec){b->tail, tail_bytes};
    return true;
}

/* So many bytes of the batch have left. */
static void settle(eepi_lane_batch *b, size_t left)
{
    while (b->at < b->num && left >= b->part[b->at].iov_len) {
        left -= b->part[b->at++].iov_len;
    }
    if (left > 0) {
        b->part[b->at].iov_base = (uint8_t *)b->part[b->at].iov_base + left;
        b->part[b->at].iov_len -= left;
    }
}

static bool send_batch(eepi_lane *lane)
{
    eepi_lane_batch *b = &lane->batch;
    const struct msghdr message = {.msg_iov = b->part + b->at,
                                   .msg_iovlen = (size_t)(b->num - b->at)};
    ssize_t sent;

    do {
        sent = sendmsg(lane->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent > 0) {
        settle(b, (size_t)sent);
    }
    lane->is_full = b->at < b->num;
    return sent >= 0 || errno == EAGAIN || errno == ENOBUFS;
}

bool eepi_lane_send(eepi_network *network, eepi_lane *lane, bool *any_out)
{
    eepi_lane_batch *b = &lane->batch;

    while (!lane->is_full) {
        if (b->at == b->num) {
            fill(network, lane);
            if (b->bytes == 0) {
                b->num = b->at = 0;
                return true;
            }
            if (network->has_key && !seal(lane)) {
                return false;
            }
        }
        if (!send_batch(lane)) {
            return false;
        }
        *any_out = true;
    }
    return true;
}

void eepi_lane_rewind(eepi_lane *lane)
{
    lane->sent = lane->base;
    lane->batch.num = lane->batch.at = 0;
    lane->answer_bytes = 0;
    lane->is_full = false;
    lane->is_anew = true;
    __atomic_store_n(&lane->has_talk, true, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < EEPK_RING_WORDS; i++) {
        lane->word_waits[i] = lane->word[i].kind != 0;
    }
}
