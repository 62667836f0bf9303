/* SPDX-License-Identifier: Apache-2.0 */
/* The two halves of an exchange. The last block of a send publishes this rank's tags, and nobody
 * waits for it. A receive waits for the tags of all members: one block, a lane per seat; on the
 * host one thread does all lanes. Nothing else in libeep's kernels waits. */
#ifndef EEPK_EXCHANGE_H
#define EEPK_EXCHANGE_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/kernel_args.h"
#include "graphs/kernels/peer_puts.h"
#include "graphs/kernels/rows.h"

/* Set once per step, by the first reason; the flag is raised last. `jump_step`: 0, or where a peer
 * is. */
EEPK_FN void eepk_abort_for(eepk_latch *latch, uint32_t result, eepk_exchange_at at,
                            uint64_t jump_step)
{
    if (eepk_claim(&latch->status.result, EEPK_STEP_OK, result)) {
        latch->status.layer = at.layer;
        latch->status.phase = at.phase;
        latch->status.chain = at.chain;
        latch->status.chunk = at.chunk;
        latch->status.jump_step = jump_step;
    }
    eepk_flag_raise(&latch->aborted);
}
EEPK_FN void eepk_abort(eepk_latch *latch, uint32_t result, eepk_exchange_at at)
{
    eepk_abort_for(latch, result, at, 0);
}

/* A rank has begun this step, or a later one, with that shape: this rank's next one has no smaller
 * shape (rule P6). */
EEPK_FN void eepk_note_shape(const eepk_world *w, eepk_latch *latch, uint32_t shape)
{
    if (shape < w->shape.num_shapes) {
        eepk_keep_largest(&latch->status.seen_shape, shape);
    }
}

/* The word by which `source` gave up a step of this epoch, from ours on: how many steps later; -1:
 * there is none. The word says which shape its source knows of (rule P6). */
EEPK_FN int64_t eepk_peer_gave_up(const eepk_world *w, eepk_latch *latch, uint32_t source)
{
    uint64_t word = eepk_load_acquire(eepk_abort_word(&w->shape, w->window, source));
    int64_t after;

    if (word == 0 || eepk_tag_epoch_after(word, latch->epoch) != 0) {
        return -1;
    }
    after = eepk_abort_step_after(word, latch->step);
    if (after >= 0 && w->shape.num_shapes > 1) {
        eepk_note_shape(w, latch, eepk_abort_shape(word));
    }
    return after < 0 ? -1 : after;
}

/* Which word of a source that gave up a step condemns what was read of it. */
typedef enum eepk_condemns {
    EEPK_CONDEMNS_THIS_STEP,     /* its word for this step: it may have gone on since */
    EEPK_CONDEMNS_THIS_OR_LATER, /* any from this step on: it cannot have gone on */
} eepk_condemns;

/* Rules D2 and P1: what this rank has read of the sources in an exchange counts only if each tag
 * still stands, and its source has not given up the step. The second look is ours: a rank that
 * aborted may store its next step's rows into the buffer under an old tag, but it posts its abort
 * word before (eepk_post_abort ends with the fence that pairs with the one here).
 *
 * The block that stores the chain's next tags comes here first, in a kernel behind that of the
 * readers, so one look covers all reads: a living source overwrites what we read only after that
 * next tag, or after its abort word. One block; all its threads meet behind it before the first
 * tag. */
EEPK_FN void eepk_recheck_sources(const eepk_world *w, eepk_latch *latch, eepk_exchange_at read,
                                  eepk_condemns condemns, eep_grid g)
{
    const eepk_shape *s = &w->shape;
    const uint8_t *bank = w->bank[latch->bank];
    uint64_t tag = eepk_tag_at(s, latch->epoch, latch->step, latch->shape, read);

    eepk_fence_reads();
    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        uint64_t stands;
        int64_t gave_up;
        if (!eepk_is_active(bank, seat) || seat == s->self) {
            continue;
        }
        stands = eepk_load_acquire(eepk_phase_tag(s, w->window, read.phase, read.chain, seat));
        gave_up = eepk_peer_gave_up(w, latch, seat); /* behind the tag: it is stored before one */
        if (gave_up == 0 || (gave_up > 0 && condemns == EEPK_CONDEMNS_THIS_OR_LATER)) {
            eepk_abort(latch, EEPK_STEP_PEER_ABORT, read);
        } else if (stands != tag) {
            eepk_count_add(&latch->status.stale_dropped, 1);
            eepk_abort(latch, EEPK_STEP_STALE, read);
        }
    }
}

/* Rule D1: the payload was stored by this kernel's blocks, which have counted themselves out; the
 * fence and the release store make it visible before the tag (partner: the acquire load in
 * eepk_seat_look). */
EEPK_FN void eepk_store_tags(const eepk_world *w, const eepk_latch *latch, eepk_exchange_at at,
                             eep_grid g)
{
    const eepk_shape *s = &w->shape;
    const eepk_sender p = {w, latch, w->bank[latch->bank], at};
    const uint64_t offset = eepk_phase_tag_offset(s, at.phase, at.chain, s->self);
    uint64_t tag = eepk_tag_at(s, latch->epoch, latch->step, latch->shape, at);

    eepk_fence_system();
    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        if (eepk_is_reached(&p, seat)) {
            eepk_put_tag(&p, seat, offset, tag);
        }
    }
}

/* Rule D3: tell every member that this rank gave up the step, so that none waits in vain. The
 * fence after it keeps the next step's payload stores behind it. A bank that is not the agreed one
 * may name windows that are gone, and a step that has run ended as it did: then nothing is said. */
EEPK_FN void eepk_post_abort(const eepk_world *w, const eepk_latch *latch, eepk_exchange_at at,
                             eep_grid g)
{
    const eepk_shape *s = &w->shape;
    const eepk_sender p = {w, latch, w->bank[latch->bank], at};
    uint64_t word =
        eepk_abort_word_of(latch->epoch, latch->step, (uint32_t)latch->status.seen_shape);

    if (latch->status.result == EEPK_STEP_WRONG_BANK || latch->status.result == EEPK_STEP_AGAIN) {
        return;
    }
    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        if (seat != s->self && eepk_is_reached(&p, seat)) {
            eepk_put_abort(&p, seat, eepk_abort_offset(s, s->self), word);
        }
    }
    eepk_fence_system();
}

/* ------------------------------------------------------------------ order within a chain */

/* Which of its chain's halves a node is. */
EEPK_FN uint32_t eepk_half_number(const eepk_world *w, const eepk_latch *latch, eepk_exchange_at at,
                                  int is_receive)
{
    return eepk_turn(&w->shape, latch->shape, at) * EEPK_NODES_PER_LAYER +
           (at.phase == EEPK_PHASE_DISPATCH ? 0u : (uint32_t)EEPK_NODE_COMBINE_SEND) +
           (is_receive ? 1u : 0u);
}
/* A half that is not its chain's next one stores nothing and waits for nothing: what it would
 * overwrite may be a live result (rule P4). */
EEPK_FN int eepk_is_next(const eepk_world *w, const eepk_latch *latch, eepk_exchange_at at,
                         int is_receive)
{
    return latch->chain[at.chain].num_nodes == eepk_half_number(w, latch, at, is_receive);
}
EEPK_FN int eepk_may_send(const eepk_world *w, eepk_exchange_at at)
{
    const eepk_latch *latch = &w->control->latch;

    return !latch->aborted && eepk_is_next(w, latch, at, 0);
}
/* The chain's first of the step: nothing was read before it. */
EEPK_FN int eepk_is_first(eepk_exchange_at at)
{
    return at.layer == 0 && at.chunk == 0 && at.phase == EEPK_PHASE_DISPATCH;
}

/* ------------------------------------------------------------------ publish: the end of a send */

/* 1, on all threads of the last block of the grid to come here, for which all stores of the others
 * are made. Nobody waits. */
EEPK_FN int eepk_is_last_block(uint32_t *blocks_out, eep_grid g)
{
    int is_last = 0;

    eepk_block_sync();
    if (g.thread == 0) {
        is_last = eepk_count_out(blocks_out, g.num_blocks);
    }
    return eepk_block_any(is_last);
}

/* The exchange that its chain received before; none is before the first one. */
EEPK_FN eepk_exchange_at eepk_exchange_before(const eepk_world *w, const eepk_latch *latch,
                                              eepk_exchange_at at)
{
    if (at.phase == EEPK_PHASE_COMBINE) {
        return (eepk_exchange_at){at.layer, at.chain, EEPK_PHASE_DISPATCH, at.chunk};
    }
    if (at.chunk > 0) {
        return (eepk_exchange_at){at.layer, at.chain, EEPK_PHASE_COMBINE, at.chunk - 1};
    }
    return (eepk_exchange_at){at.layer - 1, at.chain, EEPK_PHASE_COMBINE,
                              w->shape.shapes[latch->shape].num_chunks - 1};
}

/* All blocks of a send end here; the last one publishes. It looks at what the chain's receive
 * before has read, and at the host's word: an engine's kernel that saw the word may have left rows
 * out, and no tag may speak for them (eep_step_words_get). */
EEPK_FN void eepk_publish(const eepk_world *w, eepk_exchange_at at, eep_grid g)
{
    eepk_latch *latch = &w->control->latch;
    eepk_chain_state *chain = &latch->chain[at.chain];
    int is_good;

    if (!eepk_is_last_block(&chain->blocks_out, g)) {
        return;
    }
    is_good = eepk_may_send(w, at);
    eepk_block_sync();
    if (g.thread == 0 && !eepk_is_next(w, latch, at, 0)) {
        eepk_abort(latch, EEPK_STEP_PART, at);
    }
    if (g.thread == 0 && eepk_load_acquire(w->abort_step) >= latch->step) {
        eepk_abort(latch, EEPK_STEP_HOST_ABORT, at);
    }
    if (is_good && !eepk_is_first(at)) {
        eepk_recheck_sources(w, latch, eepk_exchange_before(w, latch, at),
                             EEPK_CONDEMNS_THIS_OR_LATER, g);
    }
    eepk_block_sync(); /* all lanes have looked before the first tag */
    if (latch->aborted) {
        eepk_post_abort(w, latch, at, g);
        return;
    }
    eepk_store_tags(w, latch, at, g);
    if (g.thread == 0) {
        chain->num_nodes++;
    }
}

/* ------------------------------------------------------------------ wait: a receive */

/* Rule D6: count what came too late, a tag of an older epoch than this step's that was not there at
 * the look before. The first look under an epoch only remembers: that is history. So are tags of
 * this epoch, whatever their step (a peer that aborted, or is ahead). All seats' lines, since an
 * expelled process stores into those of the seat that it had. Each seat is one lane's, and nothing
 * is read on the strength of these loads, so no order is needed between lanes. */
EEPK_FN void eepk_count_stale(const eepk_world *w, eepk_latch *latch, eep_grid g)
{
    const eepk_shape *s = &w->shape;

    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        eepk_seen *seen = &w->seen[seat];
        uint64_t stale = 0;
        for (uint32_t i = 0; i < 2 * s->num_chains; i++) {
            uint32_t phase = i % 2 == 0 ? EEPK_PHASE_DISPATCH : EEPK_PHASE_COMBINE;
            uint64_t *last = &seen->tag[phase - 1][i / 2];
            uint64_t tag = eepk_load_acquire(eepk_phase_tag(s, w->window, phase, i / 2, seat));
            if (tag != *last && tag != 0 && seen->epoch == latch->epoch &&
                eepk_tag_epoch_after(tag, latch->epoch) < 0) {
                stale++;
            }
            *last = tag;
        }
        seen->epoch = latch->epoch;
        if (stale) {
            eepk_count_add(&latch->status.stale_dropped, stale);
        }
    }
}

enum { EEPK_SEAT_ARRIVED, EEPK_SEAT_PENDING, EEPK_SEAT_ENDED };

EEPK_FN int eepk_has_arrived(const eepk_world *w, const eepk_latch *latch, eepk_exchange_at at,
                             uint32_t seat)
{
    uint64_t tag = eepk_tag_at(&w->shape, latch->epoch, latch->step, latch->shape, at);

    return eepk_load_acquire(eepk_phase_tag(&w->shape, w->window, at.phase, at.chain, seat)) == tag;
}

/* One look at what a seat has published. ENDED: the step cannot complete, the reason is recorded.
 *
 * Several words are read, one after the other, and a peer may go on in between: publish the tag
 * that we wait for, complete the step, and begin or give up the next one. So a word of a later
 * step is no reason before the tag was looked at once more. The peer stored the tag before that
 * word, both with release, so the second look sees it; and nothing overwrites it before this rank
 * has taken part in the step after. */
EEPK_FN int eepk_seat_look(const eepk_world *w, eepk_latch *latch, eepk_exchange_at at,
                           uint32_t seat)
{
    const eepk_shape *s = &w->shape;

    if (eepk_has_arrived(w, latch, at, seat)) {
        return EEPK_SEAT_ARRIVED;
    }
    if (eepk_peer_gave_up(w, latch, seat) >= 0) {
        if (eepk_has_arrived(w, latch, at, seat)) {
            return EEPK_SEAT_ARRIVED;
        }
        eepk_abort(latch, EEPK_STEP_PEER_ABORT, at);
        return EEPK_SEAT_ENDED;
    }
    for (uint32_t chain = 0; chain < s->num_chains; chain++) {
        uint64_t seen = eepk_load_acquire(eepk_dispatch_tag(s, w->window, chain, seat));
        int64_t newer = eepk_tag_epoch_after(seen, latch->epoch);
        int64_t ahead = eepk_tag_step_after(seen, latch->step);
        /* Rule P6: it runs this step with another shape, and never stores the tag waited for. */
        if (seen != 0 && newer == 0 && ahead == 0 && eepk_tag_shape(s, seen) != latch->shape) {
            eepk_note_shape(w, latch, eepk_tag_shape(s, seen));
            eepk_abort(latch, EEPK_STEP_SHAPE, at);
            return EEPK_SEAT_ENDED;
        }
        /* Rules D5, M3: a higher step of this epoch, or this step or a higher one of a newer. */
        if (seen == 0 || newer < 0 || ahead < (newer > 0 ? 0 : 1)) {
            continue;
        }
        if (eepk_has_arrived(w, latch, at, seat)) {
            return EEPK_SEAT_ARRIVED;
        }
        eepk_note_shape(w, latch, eepk_tag_shape(s, seen));
        eepk_abort_for(latch, newer > 0 ? EEPK_STEP_NEWER_EPOCH : EEPK_STEP_JUMP, at,
                       eepk_tag_step_near(seen, latch->step));
        return EEPK_SEAT_ENDED;
    }
    return EEPK_SEAT_PENDING;
}

/* The same of the tag alone, which is `tag` when it has come. */
EEPK_FN int eepk_tag_look(const eepk_world *w, eepk_exchange_at at, uint32_t seat, uint64_t tag)
{
    const uint64_t *word = eepk_phase_tag(&w->shape, w->window, at.phase, at.chain, seat);

    return eepk_load_acquire(word) == tag ? EEPK_SEAT_ARRIVED : EEPK_SEAT_PENDING;
}

/* Count the running wait's time for each of the lane's sources; the host reads the sums. */
EEPK_FN void eepk_count_waits(const eepk_world *w, uint64_t since_ns, eep_grid g)
{
    for (uint32_t seat = g.thread; seat < w->shape.max_ranks; seat += g.num_threads) {
        if (w->waiting_ns[seat] > since_ns && w->waiting_ns[seat] != UINT64_MAX) {
            w->waited_ns[seat] += w->waiting_ns[seat] - since_ns;
            w->waited_out[seat] = w->waited_ns[seat];
        }
        w->waiting_ns[seat] = 0;
    }
}

/* Wait for one lane's seats (lane, lane + lanes, ...). Every wait ends: by the tags, by an abort
 * word (ours or a peer's), by another lane's abort, or by the deadline with one last look, which
 * leaves suspects: they are accused only if no lane saw another reason (eepk_receive).
 *
 * The first look is at everything. Those that follow at once are at tags alone, and without the
 * clock: they end after microseconds. */
EEPK_FN void eepk_wait_lane(const eepk_world *w, eepk_latch *latch, eepk_exchange_at at, eep_grid g)
{
    const eepk_shape *s = &w->shape;
    const uint8_t *bank = w->bank[latch->bank];
    uint32_t *doorbell = &((eepk_window_header *)w->window)->doorbell;
    const uint32_t at_once = eepk_looks_at_once(((const eepk_bank_header *)bank)->num_active);
    const uint64_t tag = eepk_tag_at(s, latch->epoch, latch->step, latch->shape, at);
    uint64_t begin = 0, now = 0;
    uint32_t waited_for = s->self;

    for (uint32_t polls = 0;; polls++) {
        uint32_t seen = eepk_doorbell_read(doorbell);
        uint32_t pending = 0, last = s->self;
        const int tags_alone = polls > 0 && polls < at_once;
        int late = now - begin >= latch->wait_ns;

        for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
            int look;
            if (!eepk_is_active(bank, seat)) {
                continue;
            }
            look =
                tags_alone ? eepk_tag_look(w, at, seat, tag) : eepk_seat_look(w, latch, at, seat);
            if (look == EEPK_SEAT_ENDED) {
                return;
            }
            if (polls > 0 && look == EEPK_SEAT_ARRIVED && w->waiting_ns[seat] == UINT64_MAX) {
                w->waiting_ns[seat] = now;
            }
            if (look == EEPK_SEAT_PENDING) {
                pending++;
                last = seat;
                w->waiting_ns[seat] = UINT64_MAX;
                if (late) {
                    eepk_bits_set(&latch->status.suspects[seat / 64], 1ull << (seat % 64));
                }
            }
        }
        if (pending == 0) {
            if (polls > 0) {
                eepk_keep_largest(&latch->longest_wait, (now - begin) << 10 | waited_for);
                eepk_count_waits(w, begin, g);
            }
            return;
        }
        waited_for = last;
        if (tags_alone) {
            continue;
        }
        if (eepk_load_acquire(w->abort_step) >= latch->step) {
            eepk_abort(latch, EEPK_STEP_HOST_ABORT, at);
            return;
        }
        if (late) {
            return;
        }
        if (eepk_flag_read(&latch->aborted)) { /* another lane's decision */
            return;
        }
        if (polls == 0) { /* no wait, no clock */
            begin = now = eepk_now_ns();
        }
        if (polls >= at_once) {
            eepk_poll_pause(polls - at_once, doorbell, seen);
            now = eepk_now_ns();
        }
    }
}

EEPK_FN int eepk_has_suspects(const eepk_latch *latch)
{
    uint64_t any = 0;

    for (uint32_t i = 0; i < EEPK_SEAT_WORDS; i++) {
        any |= latch->status.suspects[i];
    }
    return any != 0;
}

/* One block: wait for all members' tags of the exchange. */
EEPK_FN void eepk_receive(const eepk_world *w, eepk_exchange_at at, eep_grid g)
{
    eepk_latch *latch = &w->control->latch;
    int is_next = eepk_is_next(w, latch, at, 1);
    int goes_on = !latch->aborted && is_next;

    eepk_block_sync(); /* before a lane that waits already may end the step for all */
    if (g.thread == 0 && is_next) {
        latch->chain[at.chain].num_nodes++;
    }
    if (g.thread == 0 && !is_next) {
        eepk_abort(latch, EEPK_STEP_PART, at);
    }
    if (at.chain == 0 && eepk_is_first(at)) { /* once per step */
        eepk_count_stale(w, latch, g);
    }
    if (goes_on) {
        eepk_wait_lane(w, latch, at, g);
    }
    eepk_block_sync();
    if (g.thread == 0 && !latch->aborted && eepk_has_suspects(latch)) {
        eepk_abort(latch, EEPK_STEP_DEADLINE, at);
    }
    eepk_block_sync();
    if (latch->aborted) {
        eepk_post_abort(w, latch, at, g);
    }
}

/* The sum does not wrap, whatever a peer has written. Two sums, of which neither waits for the
 * other. */
EEPK_FN uint64_t eepk_sum_counts(const uint32_t *counts, uint32_t n)
{
    uint64_t even = 0, odd = 0;
    uint32_t i = 0;

    for (; i + 4 <= n; i += 4) {
        even += (uint64_t)counts[i] + counts[i + 2];
        odd += (uint64_t)counts[i + 1] + counts[i + 3];
    }
    for (; i < n; i++) {
        even += counts[i];
    }
    return even + odd;
}

EEPK_FN eepk_exchange_at eepk_dispatch_at(const eepk_dispatch_node_args *a)
{
    return (eepk_exchange_at){a->layer, a->chain, EEPK_PHASE_DISPATCH, a->chunk};
}
EEPK_FN eepk_exchange_at eepk_combine_at(const eepk_combine_node_args *a)
{
    return (eepk_exchange_at){a->layer, a->chain, EEPK_PHASE_COMBINE, a->chunk};
}

/* What a source says of itself, beside its counts: `copy` has them, read once (D2). */
EEPK_FN void eepk_check_source(const eepk_dispatch_node_args *a, eepk_latch *latch, uint32_t seat,
                               const uint32_t *copy)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    uint32_t *receive_tokens = w->scratch[a->chain].receive_tokens;
    const eepk_source_header *header = eepk_header(s, w->window, a->chain, seat);
    int active = eepk_is_active(w->bank[latch->bank], seat);
    uint32_t max_tokens = latch->status.max_tokens;
    uint64_t most = (uint64_t)max_tokens * eepk_rows_per_token(s);
    uint64_t sum, announced = active ? header->flip_digest : 0;
    uint32_t wanted = active ? header->wanted_shape : 0;

    receive_tokens[seat] = active ? header->num_tokens : 0;
    sum = eepk_sum_counts(copy, s->num_slots);
    if (eepk_is_first(eepk_dispatch_at(a)) && announced) {
        eepk_bits_set(&latch->status.flip_digest, announced);
    }
    if (eepk_is_first(eepk_dispatch_at(a)) && wanted > 0 && wanted < s->num_shapes) {
        eepk_keep_largest(&latch->status.wanted_shape, wanted); /* rule P6 */
    }
    if (sum > most || receive_tokens[seat] > max_tokens || wanted >= s->num_shapes) {
        eepk_count_add(&latch->status.stale_dropped, 1);
        eepk_abort(latch, EEPK_STEP_STALE, eepk_dispatch_at(a));
    }
}

/* Room in the peer's ring for the outputs of its rows, or the step aborts (rule N5). */
EEPK_FN void eepk_reserve_combine(const eepk_dispatch_node_args *a, eepk_latch *latch,
                                  uint32_t seat, const uint32_t *copy)
{
    const eepk_world *w = a->world;
    const eepk_sender p = {
        w, latch, w->bank[latch->bank], {a->layer, a->chain, EEPK_PHASE_COMBINE, a->chunk}};

    if (eepk_is_reached(&p, seat) && eepk_is_proxy(&p, seat) &&
        !eepk_reserve(&p, seat, eepk_sum_counts(copy, w->shape.num_slots))) {
        eepk_abort(latch, EEPK_STEP_NO_ROOM, p.at);
    }
}

/* After the tags: copy each source's counts once, check them, and lay out the packed rows. On an
 * abort no slot has rows. Ends with slot_begin filled. */
EEPK_FN void eepk_layout_rows(const eepk_dispatch_node_args *a, eepk_latch *latch, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const eepk_scratch *own = &w->scratch[a->chain];
    const uint8_t *bank = w->bank[latch->bank];
    int came = !latch->aborted;

    if (came) {
        eepk_read_counts(s, w->window, a->chain, ((const eepk_bank_header *)bank)->active,
                         own->receive_count, g);
    }
    eepk_block_sync();
    for (uint32_t seat = g.thread; came && seat < s->max_ranks; seat += g.num_threads) {
        const uint32_t *copy = own->receive_count + (uint64_t)seat * s->num_slots;
        eepk_check_source(a, latch, seat, copy);
        if (eepk_num_proxies(bank)) {
            eepk_reserve_combine(a, latch, seat, copy);
        }
    }
    eepk_block_sync();
    eepk_prefix_rows(s, own->receive_count, !latch->aborted, own->receive_base, a->slot_begin, g);
    if (g.thread == 0) {
        latch->chain[a->chain].placed = 0;
    }
}

EEPK_FN void eepk_dispatch_exchange_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    if (g.block != 0) {
        return;
    }
    eepk_receive(a->world, eepk_dispatch_at(a), g);
    eepk_layout_rows(a, &a->world->control->latch, g);
}

EEPK_FN void eepk_combine_exchange_body(const eepk_combine_node_args *a, eep_grid g)
{
    if (g.block != 0) {
        return;
    }
    eepk_receive(a->world, eepk_combine_at(a), g);
}
#endif
