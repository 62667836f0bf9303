/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a step's nodes: latch, then per layer 0 .. num_layers-1 one dispatch and one
 * combine, then finish, all in one stream. Each node that a caller puts into a stream, captured or
 * not, is checked against this order. So no graph lacks a layer or its end. A pure state machine.
 */
#ifndef EEPI_SEQUENCE_H
#define EEPI_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum eepi_sequence_node {
    EEPI_NODE_LATCH,
    EEPI_NODE_DISPATCH,
    EEPI_NODE_COMBINE,
    EEPI_NODE_FINISH,
} eepi_sequence_node;

/* Where a node is put. */
typedef struct eepi_sequence_place {
    const void *stream;
    uint64_t capture; /* which of libeep's captures of it; 0: none of them */
    bool is_captured; /* by libeep or by others */
    uint64_t step;    /* the running step; 0: none runs */
} eepi_sequence_place;

typedef struct eepi_sequence {
    int32_t num_layers;
    int32_t next; /* 0: a latch; then 1 + 2 x layer a dispatch, one more its combine; the finish */
    bool broken;  /* a node could be put in part only: nothing but a latch may follow */
    eepi_sequence_place place; /* of the latch that was put last */
    /* of the latch that was put last without a capture; 0: outside of a step, or none was */
    const void *loose_stream;
    uint64_t loose_step;
    bool by_others; /* a latch was captured by other means than libeep's: it sees no replay of it */
} eepi_sequence;

/* May the node come now? If not, the text names what came and what was expected. A latch that comes
 * while a sequence is open is refused, and drops that sequence. A sequence that libeep still
 * captures is kept: its capture must end first. */
bool eepi_sequence_may(eepi_sequence *sequence, eepi_sequence_node node, int32_t layer,
                       const eepi_sequence_place *place, char *why_out, size_t why_bytes);
/* It was put. */
void eepi_sequence_put(eepi_sequence *sequence, eepi_sequence_node node, int32_t layer,
                       const eepi_sequence_place *place);
/* It was put in part. */
void eepi_sequence_break(eepi_sequence *sequence);
/* What is open is given up. */
void eepi_sequence_drop(eepi_sequence *sequence);
/* Were nodes of that step put into the stream one by one? */
bool eepi_sequence_is_loose(const eepi_sequence *sequence, const void *stream, uint64_t step);
/* A sequence was begun and not finished: true, and what it lacks. */
bool eepi_sequence_lacks(const eepi_sequence *sequence, char *what_out, size_t what_bytes);
#endif
