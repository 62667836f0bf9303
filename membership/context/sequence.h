/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a step's nodes: latch, then the halves of each chain's exchanges, then finish, all
 * in one stream. A chain's halves come in their order: per layer 0 .. num_layers-1, and in it per
 * chunk of the step's shape, a dispatch's send and receive and a combine's send and receive. How
 * two chains mix is the caller's choice, made with the first whole step of each shape, and the same
 * from then on (rule P5): ranks that mixed them differently would wait for each other for ever.
 * Each node that a caller puts into a stream, captured or not, is checked against this order. So no
 * graph lacks a layer or its end. A pure state machine. */
#ifndef EEPI_SEQUENCE_H
#define EEPI_SEQUENCE_H

#include "eep/device.h"
#include "eep/status.h"
#include "graphs/kernels/table_layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum eepi_sequence_node {
    EEPI_NODE_LATCH,
    EEPI_NODE_HALF, /* of an exchange */
    EEPI_NODE_FINISH,
} eepi_sequence_node;

/* What is put. */
typedef struct eepi_sequence_part {
    eepi_sequence_node node;
    int32_t layer, chain, half; /* half: EEPK_NODE_*, the first one of a call for both */
    bool is_both;               /* the receive follows in the same call */
    int32_t chunk, shape;       /* shape: of a latch */
} eepi_sequence_part;

/* Where a node is put. */
typedef struct eepi_sequence_place {
    const void *stream;
    uint64_t capture; /* which of libeep's captures of it; 0: none of them */
    bool is_captured; /* by libeep or by others */
    uint64_t step;    /* the running step; 0: none runs */
} eepi_sequence_place;

/* What is fixed for a shape. */
typedef struct eepi_sequence_order {
    int32_t num_chunks;
    uint8_t *chain_of; /* [4 x num_layers x num_chunks x num_chains]: whose half comes when */
    bool is_fixed;     /* all of it */
} eepi_sequence_order;

typedef struct eepi_sequence {
    int32_t num_layers, num_chains, num_shapes;
    eepi_sequence_order order[EEPK_MAX_SHAPES];
    int32_t shape;                 /* of the latch that was put last */
    bool is_open;                  /* a latch was put, and no finish */
    bool broken;                   /* a node could be put in part only: a latch must follow */
    int32_t done[EEPK_MAX_CHAINS]; /* halves of each chain since the latch */
    int32_t num_done;              /* of all chains */
    eepi_sequence_place place;     /* of the latch that was put last */
    /* of the latch that was put last without a capture; 0: outside of a step, or none was */
    const void *loose_stream;
    uint64_t loose_step;
    bool by_others; /* a latch was captured by other means than libeep's: it sees no replay of it */
} eepi_sequence;

/* With one shape, of one chunk. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_sequence_open(eepi_sequence *sequence, int32_t num_layers,
                                             int32_t num_chains);
/* One more shape. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_sequence_add_shape(eepi_sequence *sequence, int32_t num_chunks);
void eepi_sequence_close(eepi_sequence *sequence);
/* Of the order in which the chains' halves come in steps of that shape; 0: no whole step of it was
 * put yet. With one chain there is one order. */
uint64_t eepi_sequence_digest(const eepi_sequence *sequence, int32_t shape);
/* The chunk that the chain is in, of the step that was begun last. */
int32_t eepi_sequence_chunk(const eepi_sequence *sequence, int32_t chain);
/* May the part come now? If not, the text names what came and what was expected. A latch that comes
 * while a sequence is open is refused, and drops that sequence. A sequence that libeep still
 * captures is kept: its capture must end first. */
bool eepi_sequence_may(eepi_sequence *sequence, const eepi_sequence_part *part,
                       const eepi_sequence_place *place, char *why_out, size_t why_bytes);
/* It was put. */
void eepi_sequence_put(eepi_sequence *sequence, const eepi_sequence_part *part,
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
