/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of the laboratory's model, from a seed: docs/MODEL.md, "Seeded numbers". Any element
 * of any tensor is a function of its index, so nothing is stored and any thread may call these. */
#ifndef EEPX_WEIGHTS_H
#define EEPX_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

typedef enum weights_kind {
    WEIGHTS_EMBEDDING,   /* [vocabulary, hidden] */
    WEIGHTS_DECAY,       /* [hidden] of one layer */
    WEIGHTS_ROUTER,      /* [hidden, num_experts] of one layer */
    WEIGHTS_GATE,        /* [hidden, inner] of one layer's expert */
    WEIGHTS_UP,          /* [hidden, inner] of one layer's expert */
    WEIGHTS_DOWN,        /* [inner, hidden] of one layer's expert */
    WEIGHTS_UNEMBEDDING, /* [hidden, vocabulary] */
} weights_kind;

/* splitmix64's finaliser. */
uint64_t weights_mix(uint64_t z);

/* Write the first `count` numbers of a tensor (row-major) to out[count]; `layer` and `expert` are 0
 * where the kind has none. About 1 ns per number. */
void weights_generate(uint64_t seed, weights_kind kind, uint32_t layer, uint32_t expert,
                      size_t count, float *out);
/* The same from number `first` on: out[i] is number first + i. */
void weights_generate_from(uint64_t seed, weights_kind kind, uint32_t layer, uint32_t expert,
                           size_t first, size_t count, float *out);

/* Multiply numbers `first` to `first + count - 1` of a router by their columns' factors:
 * docs/MODEL.md. Skew 0 changes no bit. */
void weights_skew(uint32_t skew, uint32_t layer, uint32_t num_experts, size_t first, size_t count,
                  float *numbers);

/* Prompt token `j` of a request, < vocabulary. */
uint32_t weights_prompt_token(uint64_t seed, uint32_t request, uint32_t j, uint32_t vocabulary);
#endif
