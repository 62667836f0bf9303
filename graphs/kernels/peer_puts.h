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
#ifndef EEPK_PEER_PUTS_H
#define EEPK_PEER_PUTS_H

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
/* LOCAL: the peer's window; else 0. `windows` are addresses that lie `words` apart. */
EEPK_FN uint8_t *eepk_window_in(const uint64_t *windows, uint32_t words, uint32_t seat)
{
    return (uint8_t *)(uintptr_t)windows[(uint64_t)seat * words];
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

enum { EEPK_ROWS_TO_WAKE = 32 }; /* of a ring: then its thread is woken, tag or not */

/* The network's thread may sleep (a GPU's kernels cannot wake it, and it does not). */
EEPK_FN void eepk_ring_doorbell(const eepk_sender *p)
{
    eepk_doorbell_ring(&((eepk_ring_limit *)p->world->queue[0].ring)->doorbell);
}

typedef struct eepk_slot { /* lane 0's, or a thread's; all zero: none */
    eepk_put *put;
    uint64_t ready; /* what eepk_put.ready becomes; kept here, since a ring is slow to read back */
} eepk_slot;

EEPK_FN eepk_sender eepk_sender_at(const eepk_world *w, eepk_exchange_at at)
{
    const eepk_latch *latch = &w->control->latch;

    return (eepk_sender){w, latch, w->bank[latch->bank], at};
}

/* The next slot of the peer's ring, all but `ready` filled in. One thread. */
EEPK_COLD_FN eepk_slot eepk_claim_slot(const eepk_world *w, eepk_exchange_at at, uint32_t seat,
                                       uint32_t kind, uint64_t offset, uint32_t bytes)
{
    const eepk_sender p = eepk_sender_at(w, at);
    const eepk_shape *s = &w->shape;
    const uint32_t *generation = (const uint32_t *)(p.bank + s->bank_off_generation);
    eepk_queue *queue = &w->queue[eepk_peer_of(&p, seat)->queue];
    const uint64_t claim = eepk_take(&queue->claimed, 1);
    eepk_put *put = eepk_ring_slot(queue->ring, claim, s->ring_slots, eepk_slot_bytes(s));

    put->epoch = p.latch->epoch;
    put->step = p.latch->step;
    put->offset = offset;
    put->bytes = bytes;
    put->pieces = (uint32_t)(kind == EEPK_PUT_ROWS ? eepk_take(&queue->pieces[at.chain], 1)
                                                   : queue->pieces[at.chain]);
    put->source_generation = generation[s->self];
    put->target_generation = generation[seat];
    put->source = (uint16_t)s->self;
    put->target = (uint16_t)seat;
    put->layer = (uint16_t)at.layer;
    put->phase = (uint8_t)at.phase;
    put->chain = (uint8_t)at.chain;
    put->chunk = (uint8_t)at.chunk;
    put->shape = (uint8_t)p.latch->shape;
    put->kind = kind;
    return (eepk_slot){put, claim + 1};
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

/* Where one thread's row for the peer's window at `offset` goes; 0: the peer is not reached. With a
 * slot, eepk_row_end follows the stores. */
EEPK_FN uint8_t *eepk_put_place(const eepk_sender *p, uint32_t seat, uint64_t offset,
                                uint32_t bytes, eepk_slot *slot_out)
{
    const eepk_peer *peer = eepk_peer_of(p, seat);

    if (peer->kind != EEPK_PEER_PROXY) {
        return peer->address ? (uint8_t *)(uintptr_t)peer->address + offset : 0;
    }
    *slot_out = eepk_claim_slot(p->world, p->at, seat, EEPK_PUT_ROWS, offset, bytes);
    return (uint8_t *)(slot_out->put + 1);
}
/* All is stored: the slot may be sent. */
EEPK_FN void eepk_slot_end(const eepk_slot *slot)
{
    eepk_store_release(&slot->put->ready, slot->ready); /* partner: eepi_ring_lane_take */
}
/* The same of a row. The network sends it while others are still put. A LOCAL peer's rows have no
 * slot: they are complete with their tag. */
EEPK_FN void eepk_row_end(const eepk_sender *p, const eepk_slot *slot)
{
    if (!slot->put) {
        return;
    }
    eepk_slot_end(slot);
    if (slot->ready % EEPK_ROWS_TO_WAKE == 0) {
        eepk_ring_doorbell(p);
    }
}

/* The same for a warp, whose lanes come here together and get one address; the slot is lane 0's. */
EEPK_FN uint8_t *eepk_put_begin(const eepk_sender *p, uint32_t seat, uint64_t offset,
                                uint32_t bytes, eepk_slot *slot_out, eep_grid g)
{
    uint64_t to = 0;

    *slot_out = (eepk_slot){0, 0};
    if (g.thread == 0) {
        to = (uint64_t)(uintptr_t)eepk_put_place(p, seat, offset, bytes, slot_out);
    }
    return (uint8_t *)(uintptr_t)eepk_warp_read64(to, 0);
}
EEPK_FN void eepk_put_end(const eepk_sender *p, const eepk_slot *slot, eep_grid g)
{
    (void)g;
    eepk_warp_sync(); /* the stores of all lanes come before lane 0's release */
    eepk_row_end(p, slot);
}

/* The whole of it, by a warp. */
EEPK_COLD_FN void eepk_put_rows(const eepk_world *w, eepk_exchange_at at, uint32_t seat,
                                uint64_t offset, const void *from, uint32_t bytes, eep_grid g)
{
    const eepk_sender p = eepk_sender_at(w, at);
    eepk_slot slot;
    uint8_t *to = eepk_put_begin(&p, seat, offset, bytes, &slot, g);

    if (to) {
        eepk_copy_row(to, from, bytes, g);
        eepk_put_end(&p, &slot, g);
    }
}

/* A row that goes home to a LOCAL peer; such rows are collected (eepk_copies). One of this rank's
 * own tokens stays where it is, and a PROXY peer's goes by its ring. 0: the peer is not reached. */
EEPK_FN int eepk_put_home(const eepk_sender *p, eepk_copies *copies, uint32_t seat, uint64_t offset,
                          const void *from, uint32_t bytes, eep_grid g)
{
    uint8_t *window = (uint8_t *)(uintptr_t)eepk_peer_of(p, seat)->address;

    if (!window) {
        return eepk_is_proxy(p, seat);
    }
    eepk_copies_add(copies, seat == p->world->shape.self ? 0 : window + offset, from, bytes, g);
    return 1;
}
EEPK_FN void eepk_put_home_by_ring(const eepk_sender *p, uint32_t seat, uint64_t offset,
                                   const void *from, uint32_t bytes, eep_grid g)
{
    if (eepk_is_proxy(p, seat)) {
        eepk_put_rows(p->world, p->at, seat, offset, from, bytes, g);
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
    eepk_slot slot;

    if (window) {
        eepk_store_release((uint64_t *)(window + offset), tag); /* partner: eepk_seat_look */
        if (seat != p->world->shape.self) {
            eepk_doorbell_ring(&((eepk_window_header *)window)->doorbell);
        }
        return;
    }
    queue = &p->world->queue[peer->queue];
    slot = eepk_claim_slot(p->world, p->at, seat, EEPK_PUT_TAG, offset, 0);
    slot.put->value = tag;
    eepk_slot_end(&slot);
    eepk_ring_doorbell(p);
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
    eepk_store_release(&word->completed, p->latch->completed);
    eepk_store_release(&word->turn, turn + 2);
}

/* This rank gave up its step. One thread per seat. */
EEPK_FN void eepk_put_abort(const eepk_sender *p, uint32_t seat, uint64_t offset, uint64_t value)
{
    uint8_t *window = (uint8_t *)(uintptr_t)eepk_peer_of(p, seat)->address;

    if (!window) {
        eepk_put_ring_word(p, seat, offset, value);
        eepk_ring_doorbell(p);
        return;
    }
    eepk_store_release((uint64_t *)(window + offset), value); /* partner: eepk_peer_gave_up */
    eepk_doorbell_ring(&((eepk_window_header *)window)->doorbell);
}
#endif
