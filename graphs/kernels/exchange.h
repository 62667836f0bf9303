/* SPDX-License-Identifier: Apache-2.0 */
/* The only bodies that wait: publish this rank's tags, then wait for those of all members.
 * One block, a lane per seat; on the host one thread does all lanes. */
#ifndef EEPK_EXCHANGE_H
#define EEPK_EXCHANGE_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/kernel_args.h"
#include "graphs/kernels/rows.h"

/* Set once per step, by the first reason; the flag is raised last. `jump_step`: 0, or where a peer
 * is. */
EEPK_FN void eepk_abort_for(eepk_latch *latch, uint32_t result, uint32_t layer, uint32_t phase,
                            uint64_t jump_step)
{
    if (eepk_claim(&latch->status.result, EEPK_STEP_OK, result)) {
        latch->status.layer = layer;
        latch->status.phase = phase;
        latch->status.jump_step = jump_step;
    }
    eepk_flag_raise(&latch->aborted);
}
EEPK_FN void eepk_abort(eepk_latch *latch, uint32_t result, uint32_t layer, uint32_t phase)
{
    eepk_abort_for(latch, result, layer, phase, 0);
}

/* A member's window as this rank reaches it; 0: the seat is no member, or it is not mapped here. */
EEPK_FN uint8_t *eepk_member_window(const eepk_shape *s, const uint8_t *bank, uint32_t seat)
{
    return eepk_is_active(bank, seat) ? eepk_peer_window(s, bank, seat) : 0;
}

EEPK_FN uint64_t *eepk_phase_tag(const eepk_shape *s, uint8_t *window, uint32_t phase,
                                 uint32_t parity, uint32_t source)
{
    return phase == EEPK_PHASE_DISPATCH ? eepk_dispatch_tag(s, window, parity, source)
                                        : eepk_combine_tag(s, window, parity, source);
}

/* Has `source` aborted this step or a later one of this epoch? */
EEPK_FN int eepk_peer_aborted(const eepk_world *w, const eepk_latch *latch, uint32_t source)
{
    uint64_t word = eepk_load_acquire(eepk_abort_word(&w->shape, w->window, source));

    return word != 0 && eepk_tag_epoch_after(word, latch->epoch) == 0 &&
           eepk_tag_step_after(word, latch->step) >= 0;
}

/* Rule D2, second half, run by a block after its last read of the sources' payload: each tag must
 * still stand, and its source must not have given up the step. The second look is ours: a rank that
 * aborted may store its next step's rows into the buffer under an old tag, but it posts its abort
 * word before (eepk_post_abort ends with the fence that pairs with the one here). */
EEPK_FN void eepk_recheck_sources(const eepk_world *w, eepk_latch *latch, uint32_t layer,
                                  uint32_t phase, eep_grid g)
{
    const eepk_shape *s = &w->shape;
    const uint8_t *bank = w->bank[latch->bank];
    uint32_t parity = eepk_parity(s, latch->step, layer);
    uint64_t tag = eepk_tag(latch->epoch, latch->step, layer, phase);

    eepk_fence_reads();
    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        if (!eepk_is_active(bank, seat) || seat == s->self) {
            continue;
        }
        if (eepk_load_acquire(eepk_phase_tag(s, w->window, phase, parity, seat)) != tag) {
            eepk_count_add(&latch->status.stale_dropped, 1);
            eepk_abort(latch, EEPK_STEP_STALE, layer, phase);
        } else if (eepk_peer_aborted(w, latch, seat)) {
            eepk_abort(latch, EEPK_STEP_PEER_ABORT, layer, phase);
        }
    }
}

/* Has this block anything to read, and so to look at again? Units of work are dealt to the blocks
 * of `u`, which are blocks of `g` or warps of them. The first block looks in any case. */
EEPK_FN int eepk_block_reads(uint32_t num_units, eep_grid u, eep_grid g)
{
    return g.block == 0 || g.block * (u.num_blocks / g.num_blocks) < num_units;
}

/* Rule D1: the payload was stored by the node before; the fence and the release store make it
 * visible before the tag (partner: the acquire load in eepk_seat_look). */
EEPK_FN void eepk_publish(const eepk_world *w, const eepk_latch *latch, uint32_t layer,
                          uint32_t phase, eep_grid g)
{
    const eepk_shape *s = &w->shape;
    const uint8_t *bank = w->bank[latch->bank];
    uint32_t parity = eepk_parity(s, latch->step, layer);
    uint64_t tag = eepk_tag(latch->epoch, latch->step, layer, phase);

    eepk_fence_system();
    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        uint8_t *window = eepk_member_window(s, bank, seat);
        if (!window) {
            continue;
        }
        eepk_store_release(eepk_phase_tag(s, window, phase, parity, s->self), tag);
        if (seat != s->self) {
            eepk_doorbell_ring(&((eepk_window_header *)window)->doorbell);
        }
    }
}

/* Rule D3: tell every member that this rank gave up the step, so that none waits in vain. The
 * fence after it keeps the next step's payload stores behind it. */
EEPK_FN void eepk_post_abort(const eepk_world *w, const eepk_latch *latch, uint32_t layer,
                             uint32_t phase, eep_grid g)
{
    const eepk_shape *s = &w->shape;
    const uint8_t *bank = w->bank[latch->bank];
    uint64_t word = eepk_tag(latch->epoch, latch->step, layer, phase);

    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        uint8_t *window = eepk_member_window(s, bank, seat);
        if (!window || seat == s->self) {
            continue;
        }
        eepk_store_release(eepk_abort_word(s, window, s->self), word);
        eepk_doorbell_ring(&((eepk_window_header *)window)->doorbell);
    }
    eepk_fence_system();
}

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
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t phase = i < 2 ? EEPK_PHASE_DISPATCH : EEPK_PHASE_COMBINE;
            uint64_t *last = &seen->tag[phase - 1][i % 2];
            uint64_t tag = eepk_load_acquire(eepk_phase_tag(s, w->window, phase, i % 2, seat));
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

EEPK_FN int eepk_has_arrived(const eepk_world *w, const eepk_latch *latch, uint32_t layer,
                             uint32_t phase, uint32_t seat)
{
    uint32_t parity = eepk_parity(&w->shape, latch->step, layer);
    uint64_t tag = eepk_tag(latch->epoch, latch->step, layer, phase);

    return eepk_load_acquire(eepk_phase_tag(&w->shape, w->window, phase, parity, seat)) == tag;
}

/* One look at what a seat has published. ENDED: the step cannot complete, the reason is recorded.
 *
 * Several words are read, one after the other, and a peer may go on in between: publish the tag
 * that we wait for, complete the step, and begin or give up the next one. So a word of a later
 * step is no reason before the tag was looked at once more. The peer stored the tag before that
 * word, both with release, so the second look sees it; and nothing overwrites it before this rank
 * has taken part in the step after. */
EEPK_FN int eepk_seat_look(const eepk_world *w, eepk_latch *latch, uint32_t layer, uint32_t phase,
                           uint32_t seat)
{
    const eepk_shape *s = &w->shape;

    if (eepk_has_arrived(w, latch, layer, phase, seat)) {
        return EEPK_SEAT_ARRIVED;
    }
    if (eepk_peer_aborted(w, latch, seat)) {
        if (eepk_has_arrived(w, latch, layer, phase, seat)) {
            return EEPK_SEAT_ARRIVED;
        }
        eepk_abort(latch, EEPK_STEP_PEER_ABORT, layer, phase);
        return EEPK_SEAT_ENDED;
    }
    for (uint32_t p = 0; p < 2; p++) {
        uint64_t seen = eepk_load_acquire(eepk_dispatch_tag(s, w->window, p, seat));
        int64_t newer = eepk_tag_epoch_after(seen, latch->epoch);
        int64_t ahead = eepk_tag_step_after(seen, latch->step);
        /* Rules D5, M3: a higher step of this epoch, or this step or a higher one of a newer. */
        if (seen == 0 || newer < 0 || ahead < (newer > 0 ? 0 : 1)) {
            continue;
        }
        if (eepk_has_arrived(w, latch, layer, phase, seat)) {
            return EEPK_SEAT_ARRIVED;
        }
        eepk_abort_for(latch, newer > 0 ? EEPK_STEP_NEWER_EPOCH : EEPK_STEP_JUMP, layer, phase,
                       eepk_tag_step_near(seen, latch->step));
        return EEPK_SEAT_ENDED;
    }
    return EEPK_SEAT_PENDING;
}

/* Wait for one lane's seats (lane, lane + lanes, ...). Every wait ends: by the tags, by an abort
 * word (ours or a peer's), by another lane's abort, or by the deadline with one last look, which
 * leaves suspects: they are accused only if no lane saw another reason (eepk_exchange).
 *
 * The first look is at everything. Those that follow at once are at tags alone, and without the
 * clock: they end after microseconds. */
EEPK_FN void eepk_wait_lane(const eepk_world *w, eepk_latch *latch, uint32_t layer, uint32_t phase,
                            eep_grid g)
{
    const eepk_shape *s = &w->shape;
    const uint8_t *bank = w->bank[latch->bank];
    uint32_t *doorbell = &((eepk_window_header *)w->window)->doorbell;
    const uint32_t at_once = eepk_looks_at_once(((const eepk_bank_header *)bank)->num_active);
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
            look = tags_alone && !eepk_has_arrived(w, latch, layer, phase, seat)
                       ? EEPK_SEAT_PENDING
                       : eepk_seat_look(w, latch, layer, phase, seat);
            if (look == EEPK_SEAT_ENDED) {
                return;
            }
            if (look == EEPK_SEAT_PENDING) {
                pending++;
                last = seat;
                if (late) {
                    eepk_bits_set(&latch->status.suspects[seat / 64], 1ull << (seat % 64));
                }
            }
        }
        if (pending == 0) {
            if (polls > 0) {
                eepk_keep_largest(&latch->longest_wait, (now - begin) << 10 | waited_for);
            }
            return;
        }
        waited_for = last;
        if (tags_alone) {
            continue;
        }
        if (eepk_load_acquire(w->abort_step) >= latch->step) {
            eepk_abort(latch, EEPK_STEP_HOST_ABORT, layer, phase);
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

EEPK_FN void eepk_exchange(const eepk_world *w, uint32_t layer, uint32_t phase, eep_grid g)
{
    eepk_latch *latch = &w->control->latch;
    int is_next = latch->num_exchanges == 2 * layer + phase - EEPK_PHASE_DISPATCH;
    int goes_on = !latch->aborted && is_next;

    eepk_block_sync(); /* before a lane that waits already may end the step for all */
    if (g.thread == 0 && is_next) {
        latch->num_exchanges++;
    }
    if (g.thread == 0 && !is_next) {
        eepk_abort(latch, EEPK_STEP_PART, layer, phase);
    }
    if (goes_on) {
        eepk_publish(w, latch, layer, phase, g);
    }
    if (layer == 0 && phase == EEPK_PHASE_DISPATCH) { /* once per step, while peers' tags travel */
        eepk_count_stale(w, latch, g);
    }
    if (goes_on) {
        eepk_wait_lane(w, latch, layer, phase, g);
    }
    eepk_block_sync();
    if (g.thread == 0 && !latch->aborted && eepk_has_suspects(latch)) {
        eepk_abort(latch, EEPK_STEP_DEADLINE, layer, phase);
    }
    eepk_block_sync();
    /* A bank that is not the agreed one may name windows that are gone; a step that has run ended
     * as it did. */
    if (latch->aborted && latch->status.result != EEPK_STEP_WRONG_BANK &&
        latch->status.result != EEPK_STEP_AGAIN) {
        eepk_post_abort(w, latch, layer, phase, g);
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

/* What a source says of itself, beside its counts: `copy` has them, read once (D2). */
EEPK_FN void eepk_check_source(const eepk_dispatch_node_args *a, eepk_latch *latch, uint32_t seat,
                               const uint32_t *copy)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    uint32_t parity = eepk_parity(s, latch->step, a->layer);
    const eepk_source_header *header = eepk_header(s, w->window, parity, seat);
    int active = eepk_is_active(w->bank[latch->bank], seat);
    uint64_t most = (uint64_t)s->num_max_tokens * eepk_rows_per_token(s);
    uint64_t sum, announced = active ? header->flip_digest : 0;

    w->receive_tokens[seat] = active ? header->num_tokens : 0;
    sum = eepk_sum_counts(copy, s->num_slots);
    if (a->layer == 0 && announced) {
        eepk_bits_set(&latch->status.flip_digest, announced);
    }
    if (sum > most || w->receive_tokens[seat] > s->num_max_tokens) {
        eepk_count_add(&latch->status.stale_dropped, 1);
        eepk_abort(latch, EEPK_STEP_STALE, a->layer, EEPK_PHASE_DISPATCH);
    }
}

/* After the tags: copy each source's counts once, check them, and lay out the packed rows. On an
 * abort no slot has rows. Ends with slot_begin filled. */
EEPK_FN void eepk_layout_rows(const eepk_dispatch_node_args *a, eepk_latch *latch, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const uint8_t *bank = w->bank[latch->bank];
    uint32_t parity = eepk_parity(s, latch->step, a->layer);
    int came = !latch->aborted;

    if (came) {
        eepk_read_counts(s, w->window, parity, ((const eepk_bank_header *)bank)->active,
                         w->receive_count, g);
    }
    eepk_block_sync();
    for (uint32_t seat = g.thread; came && seat < s->max_ranks; seat += g.num_threads) {
        eepk_check_source(a, latch, seat, w->receive_count + (uint64_t)seat * s->num_slots);
    }
    eepk_block_sync();
    eepk_prefix_rows(s, w->receive_count, !latch->aborted, w->receive_base, a->slot_begin, g);
    if (g.thread == 0) {
        latch->placed = 0;
    }
}

EEPK_FN void eepk_dispatch_exchange_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    if (g.block != 0) {
        return;
    }
    eepk_exchange(a->world, a->layer, EEPK_PHASE_DISPATCH, g);
    eepk_layout_rows(a, &a->world->control->latch, g);
}

EEPK_FN void eepk_combine_exchange_body(const eepk_combine_node_args *a, eep_grid g)
{
    if (g.block != 0) {
        return;
    }
    eepk_exchange(a->world, a->layer, EEPK_PHASE_COMBINE, g);
}
#endif
