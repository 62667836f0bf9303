/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes: steps of several sizes in one context, as a prefill of 4,096 tokens per rank and a decode
 * of 128. All shapes use one window, the same slots and the same experts. A shape has a graph of
 * its own, captured once.
 *
 * A shape of many tokens goes in chunks: within each layer, the dispatch and the combine of chunk
 * 0, then those of chunk 1, and so on. A chunk is an exchange of its own with at most
 * max_tokens / num_chunks tokens of each rank. The window has room for the largest chunk of all
 * shapes, so chunks buy window memory with time. The price is kept in experiments/results.
 *
 *   eep_config.shapes              more shapes than the one of num_max_tokens_per_rank
 *   eep_step_latch_shape           the first node of the shape's graph; then per layer 0 ..
 *                                  num_layers-1, per chunk 0 .. num_chunks-1 one dispatch and one
 *                                  combine (`chunk` of their arguments), then eep_step_finish
 *   eep_step_begin_shape           begins a step and says which shape it has
 *
 * All ranks of a step run the same shape (docs/PROTOCOL.md, P6). A rank says which shape it would
 * like; libeep says which one the step has. The rank replays that shape's graph, with the tokens
 * that it has for it, or with none. docs/INTEGRATION.md, "Prefill and decode", has an example. */
#ifndef EEP_SHAPES_H
#define EEP_SHAPES_H

#include <stdint.h>

#include "eep/eep.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EEP_MAX_SHAPES = 4,  /* of a context, with shape 0 */
    EEP_MAX_CHUNKS = 16, /* of a shape */
};

/* An element of eep_config.shapes, which are shapes 1, 2 and so on. Shape 0 is there without it:
 * num_max_tokens_per_rank tokens in one chunk. It is frozen, since it lies in arrays. The chunks of
 * all shapes together, times num_layers and num_chains, are at most EEP_MAX_EXCHANGES. */
typedef struct eep_shape {
    int32_t
        max_tokens; /* most tokens of a rank in a step, in each chain: 1 to 65535 x num_chunks */
    int32_t num_chunks; /* 1 to EEP_MAX_CHUNKS, at most max_tokens */
} eep_shape;
enum { EEP_MAX_EXCHANGES = 4095 }; /* a tag has 12 bits for which exchange it is of */

/* Shapes of the context, shape 0 among them; 0 for NULL. Any thread. */
EEP_API int32_t eep_num_shapes(const eep_context *context);

typedef struct eep_shape_info {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    int32_t max_tokens, num_chunks;
    int32_t
        chunk_tokens; /* most tokens of a rank in a chunk: max_tokens / num_chunks, rounded up */
    /* Most rows that a dispatch of a chunk can deliver to this rank; that of the largest chunk is
     * eep_rows_capacity. */
    uint64_t rows_capacity;
} eep_shape_info;
/* EEP_ERR_INVALID: there is no such shape. Any thread. */
EEP_API EEP_MUST_CHECK eep_status eep_shape_get(eep_context *context, int32_t shape,
                                                eep_shape_info *info_out);

/* eep_step_latch for a graph of that shape; eep_step_latch is that of shape 0. The chains of each
 * shape mix as in the first whole step of that shape, on all ranks (P5). With two chains a whole
 * step of every shape is put before eep_join. EEP_ERR_INVALID: there is no such shape. Thread,
 * capture and the other errors as eep_step_latch. */
EEP_API EEP_MUST_CHECK eep_status eep_step_latch_shape(eep_context *context, int32_t shape,
                                                       eep_stream *stream);

/* eep_step_begin for a context with several shapes. `wanted` is the shape that this rank would like
 * its steps to have. The largest number that a member wants is the shape of the step after this one
 * (so give the shapes of more tokens the higher numbers); all members learn it with this step. This
 * step's shape was found in the same way by the step before, and is in *shape_out: replay a graph
 * of that shape. A rank that has nothing for it has num_tokens 0. Where no step before tells, as
 * behind a fault, ranks may begin with different shapes. Such a step ends with EEP_ERR_ABORTED,
 * nobody is accused of it, and one of the next EEP_MAX_SHAPES - 1 steps has one shape again.
 * EEP_ERR_INVALID: there is no such shape. Otherwise as eep_step_begin, which is EEP_ERR_STATE with
 * several shapes. Rank thread. */
EEP_API EEP_MUST_CHECK eep_status eep_step_begin_shape(eep_context *context, uint64_t timeout_us,
                                                       int32_t wanted, eep_step *step_out,
                                                       int32_t *shape_out);

#ifdef __cplusplus
}
#endif
#endif
