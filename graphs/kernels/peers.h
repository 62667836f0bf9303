/* SPDX-License-Identifier: Apache-2.0 */
/* The primitives that carry everything to a peer (must 11), and the only file of the kernels that
 * stores through a peer's address:
 *
 *   put_rows   bytes into the peer's window; or put_begin, stores to where it says, put_end
 *   put_tag    a word that becomes visible after all rows of its exchange (rule D1)
 *   put_abort  a word that may overtake rows (rules D3, N3)
 *
 * A LOCAL peer's rows go where they belong by plain stores. A PROXY peer's are copied into a slot
 * of its ring (ring_layout.h), since the buffers that they come from are used again at once,
 * whatever the network does (rule N5). Room is reserved for a whole exchange before its first row:
 * then a claim is one addition that cannot fail, and no exchange stops in its middle for want of
 * room. */
#ifndef EEPK_PEERS_H
#define EEPK_PEERS_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/ring_layout.h"
#include "graphs/kernels/table_layout.h"

typedef struct eepk_sender { /* what all puts of one exchange have in common */
    const eepk_world *world;
    const eepk_latch *latch;
    const uint8_t *bank;
    eepk_exchange_at at;
} eepk_sender;

EEPK_FN uint32_t eepk_num_proxies(const uint8_t *bank)
{
    return ((const eepk_bank_header *)bank)->num_proxies;
}
EEPK_FN const eepk_peer *eepk_peer_of(const eepk_sender *p, uint32_t seat)
{
    return &eepk_peers(&p->world->shape, p->bank)[seat];
}
EEPK_FN int eepk_is_proxy(const eepk_sender *p, uint32_t seat)
{
    return eepk_peer_of(p, seat)->kind == EEPK_PEER_PROXY;
}
/* A member that this rank sends to; its own seat is one, by its own window. */
EEPK_FN int eepk_is_reached(const eepk_sender *p, uint32_t seat)
{
    return eepk_is_active(p->bank, seat) && eepk_peer_of(p, seat)->kind != EEPK_PEER_NONE;
}

/* ------------------------------------------------------------------ slots */

/* The next slot of the peer's ring, all but `ready` filled in. One thread. */
EEPK_FN eepk_put *eepk_claim_slot(const eepk_sender *p, uint32_t seat, uint32_t kind,
                                  uint64_t offset, uint32_t bytes, uint64_t *ready_out)
{
    const eepk_shape *s = &p->world->shape;
    const uint32_t *generation = (const uint32_t *)(p->bank + s->bank_off_generation);
    eepk_queue *queue = &p->world->queue[eepk_peer_of(p, seat)->queue];
    const uint64_t claim = eepk_take(&queue->claimed, 1);
    eepk_put *slot = eepk_ring_slot(queue->ring, claim, s->ring_slots, eepk_slot_bytes(s));

    slot->epoch = p->latch->epoch;
    slot->step = p->latch->step;
    slot->offset = offset;
    slot->bytes = bytes;
    slot->pieces = (uint32_t)(kind == EEPK_PUT_ROWS ? eepk_take(&queue->pieces[p->at.chain], 1)
                                                    : queue->pieces[p->at.chain]);
    slot->source_generation = generation[s->self];
    slot->target_generation = generation[seat];
    slot->source = (uint16_t)s->self;
    slot->target = (uint16_t)seat;
    slot->layer = (uint16_t)p->at.layer;
    slot->phase = (uint8_t)p->at.phase;
    slot->chain = (uint8_t)p->at.chain;
    slot->kind = kind;
    *ready_out = claim + 1;
    return slot;
}

/* At the begin of a step nothing is under way. One thread. */
EEPK_FN void eepk_rings_begin(const eepk_world *w)
{
    for (uint32_t i = 0; i < w->shape.num_queues; i++) {
        w->queue[i].reserved = w->queue[i].claimed;
        for (uint32_t chain = 0; chain < EEPK_MAX_CHAINS; chain++) {
            w->queue[i].room[chain] = 0;
        }
    }
}

/* Before an exchange's first row: may it put `most` rows and a tag? 0: the step must abort. A send
 * never waits for room (rule N5). One thread per seat; no other one of the chain. */
EEPK_FN int eepk_reserve(const eepk_sender *p, uint32_t seat, uint64_t most)
{
    eepk_queue *queue = &p->world->queue[eepk_peer_of(p, seat)->queue];
    const uint64_t room = most + 1;
    uint64_t *limit = &((eepk_ring_limit *)queue->ring)->claims;

    queue->pieces[p->at.chain] = 0;
    queue->room[p->at.chain] = room;
    /* partner: the lane's release, after the network has read what was in those slots before */
    if (eepk_take(&queue->reserved, room) + room <= eepk_load_acquire(limit)) {
        return 1;
    }
    (void)eepk_take(&queue->reserved, 0 - room);
    queue->room[p->at.chain] = 0;
    return 0;
}

/* ------------------------------------------------------------------ rows */

/* Where the calling warp may store `bytes` for the peer's window at `offset`; 0: it is not reached.
 * All lanes come here together and get the same address. The caller stores, then calls put_end. */
EEPK_FN uint8_t *eepk_put_begin(const eepk_sender *p, uint32_t seat, uint64_t offset,
                                uint32_t bytes, eep_grid g)
{
    const eepk_peer *peer = eepk_peer_of(p, seat);
    uint64_t slot = 0, ready;

    if (peer->kind != EEPK_PEER_PROXY) {
        return peer->address ? (uint8_t *)(uintptr_t)peer->address + offset : 0;
    }
    if (g.thread == 0) {
        eepk_put *put = eepk_claim_slot(p, seat, EEPK_PUT_ROWS, offset, bytes, &ready);
        put->value = ready; /* a row has no word: the claim waits here for put_end */
        slot = (uint64_t)(uintptr_t)(put + 1);
    }
    return (uint8_t *)(uintptr_t)eepk_warp_read64(slot, 0);
}

/* The warp has stored all: a slot may be sent. A LOCAL peer's rows are complete with their tag. */
EEPK_FN void eepk_put_end(const eepk_sender *p, uint32_t seat, uint8_t *to, eep_grid g)
{
    eepk_put *put = (eepk_put *)to - 1;

    if (!eepk_is_proxy(p, seat)) {
        return;
    }
    eepk_warp_sync(); /* the stores of all lanes come before lane 0's release */
    if (g.thread == 0) {
        eepk_store_release(&put->ready, put->value); /* partner: eepi_ring_lane_take */
    }
}

/* The whole of it, by a warp. */
EEPK_FN void eepk_put_rows(const eepk_sender *p, uint32_t seat, uint64_t offset, const void *from,
                           uint32_t bytes, eep_grid g)
{
    uint8_t *to = eepk_put_begin(p, seat, offset, bytes, g);

    if (to) {
        eepk_copy_row(to, from, bytes, g);
        eepk_put_end(p, seat, to, g);
    }
}

/* ------------------------------------------------------------------ words */

/* Publish: after all rows that this rank has put to the peer in this exchange. One thread per seat,
 * once every block has put its rows. */
EEPK_FN void eepk_put_tag(const eepk_sender *p, uint32_t seat, uint64_t offset, uint64_t tag)
{
    const eepk_peer *peer = eepk_peer_of(p, seat);
    uint8_t *window = (uint8_t *)(uintptr_t)peer->address;
    eepk_queue *queue;
    eepk_put *put;
    uint64_t ready;

    if (window) {
        eepk_store_release((uint64_t *)(window + offset), tag); /* partner: eepk_seat_look */
        if (seat != p->world->shape.self) {
            eepk_doorbell_ring(&((eepk_window_header *)window)->doorbell);
        }
        return;
    }
    queue = &p->world->queue[peer->queue];
    put = eepk_claim_slot(p, seat, EEPK_PUT_TAG, offset, 0, &ready);
    put->value = tag;
    eepk_store_release(&put->ready, ready);
    /* what was reserved and not used */
    (void)eepk_take(&queue->reserved, queue->pieces[p->at.chain] + 1 - queue->room[p->at.chain]);
}

/* One line per chain and peer, which only the newest word counts in. */
EEPK_FN void eepk_put_ring_word(const eepk_sender *p, uint32_t seat, uint64_t offset,
                                uint64_t value)
{
    const uint32_t *generation = (const uint32_t *)(p->bank + p->world->shape.bank_off_generation);
    uint8_t *ring = p->world->queue[eepk_peer_of(p, seat)->queue].ring;
    eepk_ring_word *word = eepk_ring_word_at(ring, p->at.chain);
    const uint64_t turn = word->turn;

    /* each release keeps the odd turn before it; partner: the lane's take_word */
    eepk_store_release(&word->turn, turn + 1);
    eepk_store_release(&word->epoch, p->latch->epoch);
    eepk_store_release(&word->step, p->latch->step);
    eepk_store_release(&word->offset, offset);
    eepk_store_release(&word->value, value);
    eepk_store_release(&word->generations,
                       eepk_generations(generation[p->world->shape.self], generation[seat]));
    eepk_store_release(&word->turn, turn + 2);
}

/* This rank gave up its step. One thread per seat. */
EEPK_FN void eepk_put_abort(const eepk_sender *p, uint32_t seat, uint64_t offset, uint64_t value)
{
    uint8_t *window = (uint8_t *)(uintptr_t)eepk_peer_of(p, seat)->address;

    if (!window) {
        eepk_put_ring_word(p, seat, offset, value);
        return;
    }
    eepk_store_release((uint64_t *)(window + offset), value); /* partner: eepk_peer_aborted */
    eepk_doorbell_ring(&((eepk_window_header *)window)->doorbell);
}
#endif
