/* SPDX-License-Identifier: Apache-2.0 */
/* A ring: rows and words on their way to a peer whose window this rank's kernels cannot store into.
 * Kernels put them into pinned memory, a host thread takes them out and sends them (the lane,
 * transport/proxy/ring_lane.h). One ring per queue, and one queue per peer and generation, so that
 * a slow peer holds up no other one.
 *
 *   +0     eepk_ring_limit            how far the slots are free
 *   +128   eepk_ring_word[NUM_WORDS]  abort words of each chain, begin word: they overtake rows
 *   +512   slot[num_slots]            eepk_put, then the bytes of the rows
 *
 * A claim is the number of a slot's use, counted from 0 for the life of the queue; its slot is
 * claim mod num_slots. Memory of a slot belongs to the lane from the moment it is ready until the
 * lane has completed it, across aborts and views (rule N5). So a claim may only be made below the
 * limit, and the lane raises the limit. */
#ifndef EEPK_RING_LAYOUT_H
#define EEPK_RING_LAYOUT_H

#include "graphs/kernels/table_layout.h"

enum {
    EEPK_RING_BEGIN = EEPK_MAX_CHAINS, /* the host's word: a step begins */
    EEPK_RING_WORDS,
    EEPK_RING_OFF_WORDS = EEPK_LINE_BYTES,
    EEPK_RING_OFF_SLOTS = EEPK_RING_OFF_WORDS + EEPK_RING_WORDS * EEPK_LINE_BYTES,
};

/* What is put. */
enum {
    EEPK_PUT_ROWS = 1, /* bytes for the window: rows, lists, a header */
    EEPK_PUT_TAG,      /* stored when all the pieces that it speaks for are there */
    EEPK_PUT_ABORT,    /* stored at once */
    EEPK_PUT_BEGIN,    /* told at once: the source begins that step */
    EEPK_PUT_TALK,     /* in no ring: between the hosts of two ranks, beside their rows */
    EEPK_PUT_SEVERAL,  /* in no ring: `pieces` puts follow, and then the bytes of each */
};

/* What a message says of itself (rule N2); on the wire as in a slot. */
typedef struct eepk_put {
    uint64_t ready; /* 1 + the claim; stored last, with release (partner: the lane's acquire) */
    uint64_t epoch, step;
    uint64_t offset; /* in the receiver's window */
    uint64_t value;  /* a word's */
    uint32_t bytes;  /* behind this struct; 0: a word */
    uint32_t pieces; /* rows: which piece of its exchange, from 0. A tag: of how many it speaks */
    uint32_t source_generation, target_generation;
    uint16_t source, target, layer;
    uint8_t phase, chain;
    uint32_t kind;
    uint8_t chunk, shape; /* of the source's step (rule P6); of a begin word too */
    uint16_t pad0;
    uint64_t completed; /* a word beside the slots: the last step that the source ended well */
    uint64_t pad1[6];
} eepk_put;
static_assert(sizeof(eepk_put) == EEPK_LINE_BYTES, "rows behind it are aligned as in a window");

typedef struct eepk_ring_limit {
    uint64_t claims; /* below it, slots are free. Stored by the lane with release */
    uint64_t pad[7];
    /* ring 0's alone; on the host, kernels ring it behind a tag or an abort word to any queue, and
     * now and then behind a row */
    uint32_t doorbell, waiters;
    uint64_t pad1[7];
} eepk_ring_limit;
static_assert(sizeof(eepk_ring_limit) == EEPK_LINE_BYTES, "a line of its own");

/* Only the newest word counts. Its writer makes `turn` odd, writes, and makes it even. */
typedef struct eepk_ring_word {
    uint64_t turn;
    uint64_t epoch, step, offset, value;
    uint64_t generations; /* eepk_generations */
    uint64_t completed;
    uint64_t pad[9];
} eepk_ring_word;
static_assert(sizeof(eepk_ring_word) == EEPK_LINE_BYTES, "a line of its own");

/* The kernels' side of a ring; device memory. */
typedef struct eepk_queue {
    uint8_t *ring;     /* its pinned memory; fixed for the context's life */
    uint64_t claimed;  /* claims ever made */
    uint64_t reserved; /* what they may have become when all exchanges under way have ended */
    uint64_t pieces[EEPK_MAX_CHAINS]; /* of each chain's exchange, so far */
    uint64_t room[EEPK_MAX_CHAINS];   /* claims reserved for it */
    uint64_t pad;
} eepk_queue;
static_assert(sizeof(eepk_queue) == 64, "half a line");

EEPK_LAYOUT_FN eepk_exchange_at eepk_put_at(const eepk_put *put)
{
    return (eepk_exchange_at){put->layer, put->chain, put->phase, put->chunk};
}
EEPK_LAYOUT_FN uint64_t eepk_generations(uint32_t source, uint32_t target)
{
    return (uint64_t)source << 32 | target;
}
EEPK_LAYOUT_FN uint64_t eepk_ring_bytes(uint32_t num_slots, uint32_t slot_bytes)
{
    return EEPK_RING_OFF_SLOTS + (uint64_t)num_slots * slot_bytes;
}
EEPK_LAYOUT_FN eepk_ring_word *eepk_ring_word_at(uint8_t *ring, uint32_t word)
{
    return (eepk_ring_word *)(ring + EEPK_RING_OFF_WORDS) + word;
}
EEPK_LAYOUT_FN eepk_put *eepk_ring_slot(uint8_t *ring, uint64_t claim, uint32_t num_slots,
                                        uint32_t slot_bytes)
{
    return (eepk_put *)(ring + EEPK_RING_OFF_SLOTS + claim % num_slots * slot_bytes);
}
/* A slot has room for any piece of a shape: a row of either phase, a header, a stretch of a list.
 */
EEPK_LAYOUT_FN uint32_t eepk_slot_bytes(const eepk_shape *s)
{
    uint32_t most = s->row_bytes > s->dispatch_row_bytes ? s->row_bytes : s->dispatch_row_bytes;

    most = s->header_bytes > most ? s->header_bytes : most;
    return (uint32_t)sizeof(eepk_put) +
           (most + EEPK_LINE_BYTES - 1) / EEPK_LINE_BYTES * EEPK_LINE_BYTES;
}
#endif
