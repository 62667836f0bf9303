/* SPDX-License-Identifier: Apache-2.0 */
/* Weights drawn from the seed, by their place in the model. */
#include "experiments/model/model_weights.h"
#include "experiments/base/clones.h"

#include <assert.h>

static const uint64_t golden = 0x9e3779b97f4a7c15u;

static const float scales[] = {
    [WEIGHTS_EMBEDDING] = 1.0f,     [WEIGHTS_DECAY] = 1.0f, [WEIGHTS_ROUTER] = 0.25f,
    [WEIGHTS_GATE] = 0.0625f,       [WEIGHTS_UP] = 0.0625f, [WEIGHTS_DOWN] = 0.125f,
    [WEIGHTS_UNEMBEDDING] = 0.125f,
};

static inline uint64_t mix(uint64_t z)
{
    z ^= z >> 30;
    z *= 0xbf58476d1ce4e5b9u;
    z ^= z >> 27;
    z *= 0x94d049bb133111ebu;
    z ^= z >> 31;
    return z;
}

uint64_t weights_mix(uint64_t z)
{
    return mix(z);
}

/* 24 random bits each: the conversion and both products by a power of two are exact. */
CLONES_INTEGER
static void fill(uint64_t key, float scale, size_t first, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        int32_t integer = (int32_t)(mix(key + (first + i) * golden) >> 40) - 8388608;
        out[i] = (float)integer * 0x1p-23f * scale;
    }
}

void weights_generate_from(uint64_t seed, weights_kind kind, uint32_t layer, uint32_t expert,
                           size_t first, size_t count, float *out)
{
    assert((size_t)kind < sizeof scales / sizeof scales[0]);
    uint64_t place = 1 + (uint64_t)kind + 16 * (layer + 256 * (uint64_t)expert);
    fill(mix(seed + golden * place), scales[kind], first, count, out);
    if (kind == WEIGHTS_DECAY) {
        for (size_t i = 0; i < count; i++) {
            out[i] = 0.5f + 0.375f * out[i];
        }
    }
}

void weights_generate(uint64_t seed, weights_kind kind, uint32_t layer, uint32_t expert,
                      size_t count, float *out)
{
    weights_generate_from(seed, kind, layer, expert, 0, count, out);
}

void weights_skew(uint32_t skew, uint32_t layer, uint32_t num_experts, size_t first, size_t count,
                  float *numbers)
{
    for (size_t i = 0; i < count && skew != 0; i++) {
        const uint32_t expert = (uint32_t)((first + i) % num_experts);
        const float more = (float)skew / (float)(1 + (expert + 7 * layer) % num_experts);
        numbers[i] *= 1.0f + more;
    }
}

uint32_t weights_prompt_token(uint64_t seed, uint32_t request, uint32_t j, uint32_t vocabulary)
{
    uint64_t start = seed ^ 0x5eed0000u;
    return (uint32_t)(mix(start + request * golden + j * 0xd1b54a32d192ed03u) % vocabulary);
}
