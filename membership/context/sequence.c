/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a step's nodes, and what a step that is not whole lacks. */
#include "membership/context/sequence.h"

#include <stdio.h>
#include <stdlib.h>

#define CALLS_TEXT                                                                                 \
    "a step is eep_step_latch, per layer 0 to %d%s eep_dispatch and eep_combine, then "            \
    "eep_step_finish"

enum { NAME_BYTES = 80 };

/* Of the shape of the step that was begun last. */
static const eepi_sequence_order *order_of(const eepi_sequence *s)
{
    return &s->order[s->shape];
}

static int32_t halves_of_layer(const eepi_sequence_order *order)
{
    return EEPK_NODES_PER_LAYER * order->num_chunks;
}

static int32_t halves_of_chain(const eepi_sequence *s, const eepi_sequence_order *order)
{
    return halves_of_layer(order) * s->num_layers;
}

static int32_t halves_of_all(const eepi_sequence *s, const eepi_sequence_order *order)
{
    return halves_of_chain(s, order) * s->num_chains;
}

eep_status eepi_sequence_open(eepi_sequence *s, int32_t num_layers, int32_t num_chains)
{
    *s = (eepi_sequence){.num_layers = num_layers, .num_chains = num_chains};
    return eepi_sequence_add_shape(s, 1);
}

eep_status eepi_sequence_add_shape(eepi_sequence *s, int32_t num_chunks)
{
    eepi_sequence_order *order = &s->order[s->num_shapes++];

    order->num_chunks = num_chunks;
    order->is_fixed = s->num_chains == 1; /* all of them are its */
    order->chain_of = calloc((size_t)halves_of_all(s, order), 1);
    return order->chain_of ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_sequence_close(eepi_sequence *s)
{
    for (int32_t shape = 0; shape < s->num_shapes; shape++) {
        free(s->order[shape].chain_of);
    }
    s->num_shapes = 0;
}

/* FNV-1a. */
uint64_t eepi_sequence_digest(const eepi_sequence *s, int32_t shape)
{
    const eepi_sequence_order *order = &s->order[shape];
    uint64_t digest =
        0xcbf29ce484222325ull ^ (uint64_t)s->num_chains ^ (uint64_t)(order->num_chunks - 1) << 8;

    for (int32_t i = 0; order->is_fixed && i < halves_of_all(s, order); i++) {
        digest = (digest ^ (order->chain_of[i] + 1u)) * 0x100000001b3ull;
    }
    return order->is_fixed ? digest : 0;
}

/* ---------------------------------------------------------------- names */

static const char *name_of_half(const eepi_sequence *s, const eepi_sequence_part *part,
                                const char *send, char text[NAME_BYTES])
{
    const bool is_combine = part->half >= EEPK_NODE_COMBINE_SEND;
    const char *suffix = part->half % 2 == 0 ? send : "_receive";
    char chunk[24] = "", chain[24] = "";

    if (order_of(s)->num_chunks > 1) {
        snprintf(chunk, sizeof chunk, ", chunk %d", part->chunk);
    }
    if (s->num_chains > 1) {
        snprintf(chain, sizeof chain, ", chain %d", part->chain);
    }
    snprintf(text, NAME_BYTES, "eep_%s%s of layer %d%s%s", is_combine ? "combine" : "dispatch",
             suffix, part->layer, chunk, chain);
    return text;
}

static const char *name_of(const eepi_sequence *s, const eepi_sequence_part *part,
                           char text[NAME_BYTES])
{
    switch (part->node) {
    case EEPI_NODE_LATCH:
        return "eep_step_latch";
    case EEPI_NODE_FINISH:
        return "eep_step_finish";
    default:
        return name_of_half(s, part, part->is_both ? "" : "_send", text);
    }
}

int32_t eepi_sequence_chunk(const eepi_sequence *s, int32_t chain)
{
    return s->done[chain] / EEPK_NODES_PER_LAYER % order_of(s)->num_chunks;
}

/* The chain whose half is to come next; -1: any that has one, or none has. */
static int32_t chain_of_next(const eepi_sequence *s)
{
    const eepi_sequence_order *order = order_of(s);

    if (order->is_fixed && s->num_done < halves_of_all(s, order)) {
        return order->chain_of[s->num_done];
    }
    for (int32_t chain = 0; chain < s->num_chains; chain++) {
        if (s->done[chain] < halves_of_chain(s, order)) {
            return chain;
        }
    }
    return -1;
}

static const char *name_of_next(const eepi_sequence *s, char text[NAME_BYTES])
{
    const int32_t chain = chain_of_next(s), chunks = order_of(s)->num_chunks;
    eepi_sequence_part part = {.node = EEPI_NODE_HALF, .chain = chain};

    if (!s->is_open) {
        return "eep_step_latch";
    }
    if (chain < 0) {
        return "eep_step_finish";
    }
    part.half = s->done[chain] % EEPK_NODES_PER_LAYER;
    part.chunk = s->done[chain] / EEPK_NODES_PER_LAYER % chunks;
    part.layer = s->done[chain] / EEPK_NODES_PER_LAYER / chunks;
    return name_of_half(s, &part, "", text);
}

bool eepi_sequence_lacks(const eepi_sequence *s, char *what_out, size_t what_bytes)
{
    char next[NAME_BYTES];

    if (s->broken) {
        snprintf(what_out, what_bytes, "the step was broken off by a node that failed");
    } else if (s->is_open) {
        snprintf(what_out, what_bytes,
                 "the step was begun with eep_step_latch and lacks what follows from %s on, of %d "
                 "layers",
                 name_of_next(s, next), s->num_layers);
    }
    return s->broken || s->is_open;
}

/* ---------------------------------------------------------------- what may come */

static void begin(eepi_sequence *s, bool is_open)
{
    s->is_open = is_open;
    s->num_done = 0;
    for (int32_t chain = 0; chain < EEPK_MAX_CHAINS; chain++) {
        s->done[chain] = 0;
    }
}

void eepi_sequence_drop(eepi_sequence *s)
{
    begin(s, false);
    s->broken = false;
}

/* Is what was begun still to be finished, or did its capture end without that? */
static bool is_abandoned(const eepi_sequence *s, const eepi_sequence_place *place)
{
    if (s->place.stream != place->stream) {
        return false;
    }
    if (s->place.capture != 0) {
        return s->place.capture != place->capture;
    }
    return s->place.is_captured && !place->is_captured;
}

static bool may_latch(eepi_sequence *s, const eepi_sequence_place *place, char *why, size_t bytes)
{
    bool is_open = s->is_open || s->broken;
    char next[NAME_BYTES];

    if (place->capture != 0 && place->stream == s->place.stream &&
        place->capture == s->place.capture) {
        snprintf(
            why, bytes,
            "a second eep_step_latch came in one capture, where %s was expected: a graph holds "
            "one step; end this capture and begin another",
            is_open ? name_of_next(s, next) : "the end of the capture");
        return false;
    }
    if (place->step != 0 && !place->is_captured && place->step == s->place.step && !is_open) {
        snprintf(why, bytes, "a second eep_step_latch came in step %llu: end it first",
                 (unsigned long long)place->step);
        return false;
    }
    if (!is_open || s->broken || is_abandoned(s, place)) {
        return true;
    }
    snprintf(
        why, bytes,
        "a second eep_step_latch came where %s was expected, of a step of %d layers: that step "
        "is dropped; begin another with eep_step_latch",
        name_of_next(s, next), s->num_layers);
    eepi_sequence_drop(s);
    return false;
}

/* Is it a half's turn, within its chain and between the chains? */
static bool is_turn(const eepi_sequence *s, const eepi_sequence_part *part)
{
    const eepi_sequence_order *order = order_of(s);
    const int32_t turn = part->layer * order->num_chunks + part->chunk;

    if (!s->is_open) {
        return false;
    }
    if (part->node == EEPI_NODE_FINISH) {
        return s->num_done == halves_of_all(s, order);
    }
    if (part->chunk >= order->num_chunks ||
        s->done[part->chain] != turn * EEPK_NODES_PER_LAYER + part->half) {
        return false;
    }
    for (int32_t i = s->num_done; i < s->num_done + 1 + part->is_both && order->is_fixed; i++) {
        if (order->chain_of[i] != part->chain) {
            return false;
        }
    }
    return true;
}

bool eepi_sequence_may(eepi_sequence *s, const eepi_sequence_part *part,
                       const eepi_sequence_place *place, char *why, size_t bytes)
{
    char came[NAME_BYTES], expected[NAME_BYTES], chunks[48] = "";

    if (part->node == EEPI_NODE_LATCH) {
        return may_latch(s, place, why, bytes);
    }
    if (order_of(s)->num_chunks > 1) {
        snprintf(chunks, sizeof chunks, ", chunk 0 to %d", order_of(s)->num_chunks - 1);
    }
    if (s->broken) {
        snprintf(why, bytes, "%s came after a node that failed: begin again with eep_step_latch",
                 name_of(s, part, came));
    } else if (!is_turn(s, part)) {
        snprintf(why, bytes, "%s came where %s was expected: " CALLS_TEXT "%s",
                 name_of(s, part, came), name_of_next(s, expected), s->num_layers - 1, chunks,
                 s->num_chains > 1 && order_of(s)->is_fixed
                     ? "; chains mix as in the first whole step, on all ranks"
                     : "");
    } else if (place->stream != s->place.stream) {
        snprintf(why, bytes,
                 "%s came in another stream than its eep_step_latch: all nodes of a step are put "
                 "into one stream",
                 name_of(s, part, came));
    } else if (place->capture != s->place.capture || place->is_captured != s->place.is_captured) {
        snprintf(why, bytes,
                 "%s came in another capture than its eep_step_latch: a graph holds a whole step",
                 name_of(s, part, came));
    } else {
        return true;
    }
    return false;
}

static void put_half(eepi_sequence *s, int32_t chain)
{
    if (!order_of(s)->is_fixed) {
        order_of(s)->chain_of[s->num_done] = (uint8_t)chain;
    }
    s->done[chain]++;
    s->num_done++;
}

void eepi_sequence_put(eepi_sequence *s, const eepi_sequence_part *part,
                       const eepi_sequence_place *place)
{
    s->broken = false;
    if (part->node == EEPI_NODE_HALF) {
        put_half(s, part->chain);
        if (part->is_both) {
            put_half(s, part->chain);
        }
        return;
    }
    if (part->node == EEPI_NODE_FINISH) {
        s->order[s->shape].is_fixed = true;
        begin(s, false);
        return;
    }
    begin(s, true);
    s->shape = part->shape;
    s->place = *place;
    s->by_others |= place->is_captured && place->capture == 0;
    if (!place->is_captured) {
        s->loose_stream = place->stream;
        s->loose_step = place->step;
    }
}

bool eepi_sequence_is_loose(const eepi_sequence *s, const void *stream, uint64_t step)
{
    return step != 0 && s->loose_step == step && s->loose_stream == stream;
}

void eepi_sequence_break(eepi_sequence *s)
{
    s->broken = true;
}
