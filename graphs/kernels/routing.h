/* SPDX-License-Identifier: Apache-2.0 */
/* Where the pairs (token, k) of a batch go: the check of the input, and the route node's work. The
 * elastic step and the baseline without elasticity share it, as rows.h says.
 *
 * An expert's pairs at this rank are numbered in order of token. Its replicas take them in runs, as
 * long as their shares say (repair/split.h). So the numbers of a slot's rows follow at once, and a
 * batch of any size is shared out to less than one row per replica. */
#ifndef EEPK_ROUTING_H
#define EEPK_ROUTING_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/table_layout.h"

/* ------------------------------------------------------------------ input */

EEPK_FN void eepk_bad_input(eepk_status *status, uint32_t kind, uint32_t token, uint32_t k,
                            int32_t value)
{
    if (status->bad_input != EEPK_INPUT_OK) {
        return;
    }
    status->bad_token = token;
    status->bad_k = k;
    status->bad_value = value;
    status->bad_input = kind;
}

/* What ids are checked against. */
typedef struct eepk_known_ids {
    const uint32_t *first;       /* logical: eepk_replica_first */
    const uint16_t *slot_expert; /* physical: eepk_slot_experts, else NULL, */
    const uint64_t *active;      /* and the seats that are in the view, bit by bit */
} eepk_known_ids;

/* A physical id: its slot holds an expert, which contributes to the token once (S9). */
EEPK_FN uint32_t eepk_physical_fault(const eepk_shape *s, const int32_t *topk_idx, uint32_t i,
                                     const eepk_known_ids *known)
{
    const uint32_t id = (uint32_t)topk_idx[i], num_ids = s->max_ranks * s->num_slots;
    uint32_t seat;

    if (topk_idx[i] == -1) {
        return EEPK_INPUT_OK;
    }
    if (id >= num_ids) { /* as are all that are below 0 */
        return EEPK_INPUT_TOPK;
    }
    seat = id / s->num_slots;
    if (!(known->active[seat / 64] >> (seat % 64) & 1u)) {
        return EEPK_INPUT_NO_SEAT;
    }
    if (known->slot_expert[id] == EEPK_NO_EXPERT_HERE) {
        return EEPK_INPUT_NO_EXPERT;
    }
    for (uint32_t j = i - i % s->top_k; j < i; j++) {
        const uint32_t other = (uint32_t)topk_idx[j];
        if (other < num_ids && known->slot_expert[other] == known->slot_expert[id]) {
            return EEPK_INPUT_TWICE;
        }
    }
    return EEPK_INPUT_OK;
}

/* What is wrong with pair i of the batch, EEPK_INPUT_*. */
EEPK_FN uint32_t eepk_pair_fault(const eepk_shape *s, const int32_t *topk_idx, uint32_t i,
                                 const eepk_known_ids *known)
{
    const uint32_t *first = known->first;
    int32_t expert = topk_idx[i];
    int is_twice = 0;

    if (known->slot_expert) {
        return eepk_physical_fault(s, topk_idx, i, known);
    }
    if (expert == -1) {
        return EEPK_INPUT_OK;
    }
    if (expert < -1 || (uint32_t)expert >= s->num_experts) {
        return EEPK_INPUT_TOPK;
    }
    if (first[expert] == first[expert + 1]) {
        return EEPK_INPUT_UNCOVERED;
    }
    for (uint32_t j = i - i % s->top_k; j < i; j++) {
        is_twice |= topk_idx[j] == expert; /* S9: an expert contributes to a token once */
    }
    return is_twice ? EEPK_INPUT_TWICE : EEPK_INPUT_OK;
}

/* Pair i is bad: is it the first bad one of its token? */
EEPK_FN int eepk_is_first_bad(const eepk_shape *s, const int32_t *topk_idx, uint32_t i,
                              const eepk_known_ids *known)
{
    for (uint32_t j = i - i % s->top_k; j < i; j++) {
        if (eepk_pair_fault(s, topk_idx, j, known) != EEPK_INPUT_OK) {
            return 0;
        }
    }
    return 1;
}

/* Nothing of a bad batch is sent, and the first offender is named, whichever thread finds it. One
 * block; its threads meet before they read `status`. */
EEPK_SHARED_FN void eepk_check_input(const eepk_shape *s, const int32_t *topk_idx, int32_t n,
                                     const eepk_known_ids *known, uint64_t *first_bad,
                                     eepk_status *status, eep_grid g)
{
    int fits = n >= 0 && (uint32_t)n <= status->max_tokens;
    uint64_t bad;

    if (g.thread == 0) {
        *first_bad = UINT64_MAX;
    }
    eepk_block_sync();
    for (uint32_t i = g.thread; fits && i < (uint32_t)n * s->top_k; i += g.num_threads) {
        uint32_t fault = eepk_pair_fault(s, topk_idx, i, known);
        if (fault == EEPK_INPUT_OK) {
            continue;
        }
        eepk_keep_least(first_bad, (uint64_t)i << EEPK_INPUT_BITS | fault);
        if (eepk_is_first_bad(s, topk_idx, i, known)) {
            eepk_count_add(&status->num_bad, 1);
        }
    }
    eepk_block_sync();
    if (g.thread != 0) {
        return;
    }
    bad = *first_bad;
    if (!fits) {
        eepk_bad_input(status, EEPK_INPUT_TOKENS, 0, 0, n);
    } else if (bad != UINT64_MAX) {
        eepk_bad_input(status, (uint32_t)bad & ((1u << EEPK_INPUT_BITS) - 1u),
                       (uint32_t)(bad >> EEPK_INPUT_BITS) / s->top_k,
                       (uint32_t)(bad >> EEPK_INPUT_BITS) % s->top_k,
                       topk_idx[bad >> EEPK_INPUT_BITS]);
    }
}

/* This rank's tokens of the chunk: none once its input was found bad, so that peers go on. */
EEPK_FN uint32_t eepk_count_tokens(const eepk_status *status, const int32_t *num_tokens)
{
    uint32_t n = (uint32_t)*num_tokens;

    return status->bad_input ? 0u : n < status->max_tokens ? n : status->max_tokens;
}

/* ------------------------------------------------------------------ route */

enum {
    EEPK_NO_EXPERT = 0x7fffffff,
    EEPK_FEW_PER_EXPERT = 8, /* pairs: a batch of more is better shared out by expert (measured) */
};

typedef struct eepk_routing { /* of one layer */
    const uint32_t *first;    /* [num_experts + 1] */
    const eepk_replica *replicas;
    eepk_route *route;      /* out: [num_tokens][top_k] */
    uint32_t *send_count;   /* out: [max_ranks][num_slots] */
    uint32_t *begin;        /* scratch [max_ranks * num_slots]: which pair is a replica's first */
    uint32_t *expert_count; /* scratch [EEPK_ROUTE_WARPS][num_experts] */
    uint64_t *first_bad;    /* scratch */
    uint64_t *loads;        /* [num_experts], added to; NULL: nothing is counted */
    uint64_t *loads_out;    /* [num_experts] pinned, what `loads` says then; NULL: not wanted */
} eepk_routing;

EEPK_FN uint32_t eepk_pair_expert(int32_t topk_idx)
{
    return topk_idx < 0 ? (uint32_t)EEPK_NO_EXPERT : (uint32_t)topk_idx;
}

/* One warp goes over pairs begin .. end in order and counts those of each expert, from
 * count[expert] on. The lanes go in step, so a pair's number among those of its expert is the one
 * that one thread alone would give. The pairs of no expert take part. */
EEPK_FN uint32_t eepk_number_pair(uint32_t expert, uint32_t *count)
{
    eepk_equals equals = eepk_warp_equals(expert);
    uint32_t before = 0;

    if (expert != EEPK_NO_EXPERT && equals.ordinal == 0) {
        before = count[expert];
        count[expert] = before + equals.num;
    }
    before = eepk_warp_read(before, equals.first_lane);
    eepk_warp_sync(); /* the next lane that counts for this expert reads what this one wrote */
    return before + equals.ordinal;
}

/* What an expert's pairs at this rank are offset by before they are shared out, of 65536. By the
 * golden ratio from seat to seat: where each rank has few tokens for an expert, all of them
 * together still give each replica its share. */
EEPK_FN uint32_t eepk_share_offset(uint32_t seat, uint32_t expert)
{
    return (seat * 40503u + expert * 37345u) & 0xffffu;
}

/* The first of an expert's `num` pairs that goes to a replica before which `from` of 65536 go
 * elsewhere: `num` x shares, rounded so that every replica gets less than one pair more or less
 * than its share. */
EEPK_FN uint32_t eepk_share_begin(uint32_t from, uint32_t num, uint32_t offset)
{
    return (from * num + offset) >> 16;
}

/* Share out an expert's pairs: its first ones go to its first replica, and so on. Their number is
 * what the expert's load grows by. One thread. */
EEPK_FN void eepk_share_out(const eepk_shape *s, const eepk_routing *r, uint32_t expert,
                            uint32_t num)
{
    const uint32_t offset = eepk_share_offset(s->self, expert), end = r->first[expert + 1];
    uint32_t begin = 0;

    for (uint32_t i = r->first[expert]; i < end; i++) {
        const eepk_replica *replica = &r->replicas[i];
        uint32_t next = i + 1 < end ? eepk_share_begin(r->replicas[i + 1].from, num, offset) : num;
        r->begin[i] = begin;
        r->send_count[(uint32_t)replica->seat * s->num_slots + replica->slot] = next - begin;
        begin = next;
    }
    if (r->loads) {
        r->loads[expert] += num;
    }
}

/* Where each warp's pairs begin among those of each expert, how many there are in all, and where
 * they go. */
EEPK_FN void eepk_share_all(const eepk_shape *s, const eepk_routing *r, uint32_t warps, eep_grid g)
{
    for (uint32_t expert = g.thread; expert < s->num_experts; expert += g.num_threads) {
        uint32_t num = 0;
        for (uint32_t warp = 0; warp < warps; warp++) {
            uint32_t *count = &r->expert_count[(uint64_t)warp * s->num_experts + expert];
            uint32_t own = *count;
            *count = num;
            num += own;
        }
        if (num != 0) {
            eepk_share_out(s, r, expert, num);
        }
        if (r->loads_out) {
            r->loads_out[expert] = r->loads[expert];
        }
    }
}

/* Pair `number` of its expert goes to the replica whose pairs it is among. */
EEPK_FN eepk_route eepk_choose_replica(const eepk_routing *r, uint32_t expert, uint32_t number)
{
    const uint32_t end = r->first[expert + 1];
    uint32_t i = r->first[expert];
    eepk_route route = {0};

    while (i + 1 < end && number >= r->begin[i + 1]) {
        i++;
    }
    route.seat = r->replicas[i].seat;
    route.slot = r->replicas[i].slot;
    route.ordinal = (uint16_t)(number - r->begin[i]);
    return route;
}

/* What eepk_share_out and eepk_choose_replica say, for one pair: of the expert's `num` pairs its
 * number is `number`. */
EEPK_FN const eepk_replica *eepk_find_replica(const eepk_routing *r, uint32_t self, uint32_t expert,
                                              uint32_t num, uint32_t number)
{
    const eepk_replica *found = &r->replicas[r->first[expert]];
    const eepk_replica *end = &r->replicas[r->first[expert + 1]];
    const uint32_t offset = eepk_share_offset(self, expert);

    for (const eepk_replica *next = found + 1; next < end; next++) {
        found = number >= eepk_share_begin(next->from, num, offset) ? next : found;
    }
    return found;
}

/* A batch of few pairs by one thread, which looks at no expert that has none. An expert's count
 * says how many pairs it has, times 65536, and how many of these have a replica: it has no more
 * than a step has tokens. A slot has one expert, so the slot's rows number themselves. They do in a
 * loop of their own: where a row is counted depends on what was just read, and the reads for the
 * next pair would wait for it. */
EEPK_FN void eepk_route_few(const eepk_shape *s, const eepk_routing *r, const int32_t *topk_idx,
                            uint32_t pairs)
{
    const eepk_routing to = *r; /* whose pointers nothing that is written here changes */
    const uint32_t cells = s->max_ranks * s->num_slots, num_slots = s->num_slots, self = s->self;
    const uint32_t num_experts = s->num_experts;

    for (uint32_t i = 0; i < cells; i++) {
        to.send_count[i] = 0;
    }
    for (uint32_t i = 0; i < num_experts; i++) {
        to.expert_count[i] = 0;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        if (topk_idx[i] >= 0) {
            to.expert_count[topk_idx[i]] += 1u << 16;
        }
    }
    for (uint32_t i = 0; i < pairs; i++) {
        if (topk_idx[i] < 0) {
            to.route[i].slot = EEPK_NO_SLOT;
            continue;
        }
        const uint32_t expert = (uint32_t)topk_idx[i], count = to.expert_count[expert]++;
        const eepk_replica *replica =
            eepk_find_replica(&to, self, expert, count >> 16, count & 0xffffu);
        to.route[i] = (eepk_route){replica->seat, replica->slot, 0, 0};
        if (to.loads) {
            to.loads[expert]++;
        }
    }
    for (uint32_t i = 0; i < pairs; i++) {
        eepk_route *route = &to.route[i];
        if (route->slot != EEPK_NO_SLOT) {
            const uint32_t cell = (uint32_t)route->seat * num_slots + route->slot;
            route->ordinal = (uint16_t)to.send_count[cell]++;
        }
    }
    for (uint32_t expert = 0; to.loads_out && expert < num_experts; expert++) {
        to.loads_out[expert] = to.loads[expert];
    }
}

/* For each (token, k): replica, and its ordinal among this rank's rows for that slot, in token
 * order. One block of at most EEPK_ROUTE_WARPS warps; `status` gets what is wrong with the batch.
 */
EEPK_SHARED_FN void eepk_route_batch(const eepk_shape *s, const eepk_routing *r,
                                     const int32_t *topk_idx, const int32_t *num_tokens,
                                     eepk_status *status, eep_grid g)
{
    const uint32_t cells = s->max_ranks * s->num_slots;
    const uint32_t warps = g.num_threads < EEPK_WARP ? 1 : g.num_threads / EEPK_WARP;
    const uint32_t warp = g.thread / EEPK_WARP, lane = g.thread % EEPK_WARP;
    uint32_t *count = r->expert_count + (uint64_t)warp * s->num_experts;
    uint32_t pairs, span, begin, end;

    if (status->bad_input == EEPK_INPUT_OK) {
        const eepk_known_ids known = {r->first, 0, 0};
        eepk_check_input(s, topk_idx, *num_tokens, &known, r->first_bad, status, g);
    }
    if (EEPK_WARP == 1) {
        pairs = eepk_count_tokens(status, num_tokens) * s->top_k;
        if (pairs <= EEPK_FEW_PER_EXPERT * s->num_experts) {
            eepk_route_few(s, r, topk_idx, pairs);
            return;
        }
    }
    for (uint32_t i = lane; i < s->num_experts; i += EEPK_WARP) {
        count[i] = 0;
    }
    for (uint32_t i = g.thread; i < cells; i += g.num_threads) {
        r->send_count[i] = 0;
    }
    eepk_block_sync();
    pairs = eepk_count_tokens(status, num_tokens) * s->top_k;
    span = (pairs + warps * EEPK_WARP - 1) / (warps * EEPK_WARP) * EEPK_WARP;
    begin = warp * span < pairs ? warp * span : pairs;
    end = begin + span < pairs ? begin + span : pairs;
    for (uint32_t base = begin; base < end; base += EEPK_WARP) {
        uint32_t i = base + lane;
        (void)eepk_number_pair(i < end ? eepk_pair_expert(topk_idx[i]) : EEPK_NO_EXPERT, count);
    }
    eepk_block_sync();
    eepk_share_all(s, r, warps, g);
    eepk_block_sync();
    for (uint32_t base = begin; base < end; base += EEPK_WARP) {
        uint32_t i = base + lane;
        uint32_t expert = i < end ? eepk_pair_expert(topk_idx[i]) : EEPK_NO_EXPERT;
        uint32_t number = eepk_number_pair(expert, count);
        if (expert != EEPK_NO_EXPERT) {
            r->route[i] = eepk_choose_replica(r, expert, number);
        } else if (i < end) {
            r->route[i].slot = EEPK_NO_SLOT;
        }
    }
}
#endif
