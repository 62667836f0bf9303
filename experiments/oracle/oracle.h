/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle: a sequential reference of the laboratory's model, written from docs/MODEL.md and
 * from nothing else. It shares no code with the engine, its kernels or its weights, so agreement to
 * the bit means that both are right (or that the document is wrong).
 *
 * A list of emitted tokens is checked by induction: token i is right if it is the argmax after the
 * prompt and tokens 0..i-1, so all positions of a request can be computed at once from the list
 * that is to be checked ("teacher forcing"), and the first wrong token is always found. */
#ifndef EEPX_ORACLE_H
#define EEPX_ORACLE_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* docs/MODEL.md, "Shape". */
typedef struct oracle_shape {
    int32_t num_layers, hidden, inner, num_experts, top_k, vocabulary;
    bool bf16; /* rows to and from the experts are rounded to bf16 */
    bool fp8;  /* with bf16: rows to the experts are quantised then */
    int32_t router_skew;
} oracle_shape;

/* One request and what was emitted for it. Borrowed for the call. */
typedef struct oracle_request {
    uint32_t request;        /* the id that seeds the prompt */
    uint32_t input_length;   /* prompt tokens, at least 1 */
    uint32_t num_tokens;     /* [num_tokens] tokens and digests, from emitted position 0 on */
    const uint32_t *tokens;  /* wrong ones are allowed: finding them is the point */
    const uint64_t *digests; /* XXH64 of the logits of the position that emitted the token */
} oracle_request;

/* What is true of one request. */
typedef struct oracle_result {
    uint32_t tokens_checked; /* num_tokens, or less after a token outside the vocabulary */
    uint32_t tokens_wrong;   /* token is not the argmax */
    uint32_t digests_wrong;
    uint32_t first_wrong; /* emitted position of the first token or digest that is wrong; else
                             UINT32_MAX, and the next two are 0 */
    uint32_t right_token; /* what it had to be */
    uint64_t right_digest;
    uint64_t positions; /* computed for it */
} oracle_result;

typedef struct oracle oracle;

/* Generate all weights from the seed (151 MB at the default shape, a fraction of a second). Any
 * thread. EEP_ERR_INVALID: the shape is empty, too large or has top_k > num_experts;
 * EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status oracle_open(uint64_t seed, const oracle_shape *shape,
                                      oracle **oracle_out);
void oracle_close(oracle *oracle);

/* Recompute requests [num_requests] one after the other, in blocks of up to 128 positions that may
 * span requests, and write results_out [num_requests]. `positions_done`, if not NULL, grows
 * (atomic, relaxed) while the call runs. The oracle is only read: many threads may check different
 * requests at the same time; scratch memory (about 4 MB at the default shape) belongs to the call.
 * EEP_ERR_INVALID: an empty prompt; EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status oracle_check_requests(const oracle *oracle,
                                                const oracle_request *requests, size_t num_requests,
                                                uint64_t *positions_done,
                                                oracle_result *results_out);

/* Prompt token j of a request (docs/MODEL.md, "Requests"). Any thread. */
uint32_t oracle_prompt_token(const oracle *oracle, uint32_t request, uint64_t j);
#endif
