/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in for an engine's expert computation in the GPU check: a row times a constant of its
 * slot. One body for both backends; the CUDA body is launched the way an engine launches its own
 * kernels: by the program's own CUDA runtime, into the native stream that is being captured. */
#ifndef SMOKE_EXPERT_H
#define SMOKE_EXPERT_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/fp8.h"

#include <stddef.h>

typedef struct smoke_expert_args {
    const void *rows;          /* [rows_capacity, hidden], packed by slot */
    const float *row_scales;   /* [rows_capacity, num_scales], with FP8 */
    void *out;                 /* [rows_capacity, hidden], dtype */
    const int32_t *slot_begin; /* [num_slots + 1] */
    uint32_t num_slots, hidden, dtype, seat;
    uint32_t num_scales, pad; /* 0: rows are in dtype */
} smoke_expert_args;

/* Differs between any two slots of an instance, and is exact in both types. */
EEPK_FN float smoke_factor(const smoke_expert_args *a, uint32_t slot)
{
    return 1.0f + 0.015625f * (float)(a->seat * a->num_slots + slot);
}

EEPK_FN float smoke_value(const smoke_expert_args *a, uint32_t row, uint32_t h)
{
    uint64_t i = (uint64_t)row * a->hidden + h;

    if (a->num_scales) {
        return EEPK_FMUL(eepk_e4m3_to_float(((const uint8_t *)a->rows)[i]),
                         a->row_scales[(uint64_t)row * a->num_scales + h / EEPK_FP8_GROUP]);
    }
    return a->dtype == 0 ? ((const float *)a->rows)[i]
                         : eepk_bf16_to_float(((const uint16_t *)a->rows)[i]);
}

EEPK_FN void smoke_expert_body(const smoke_expert_args *a, eep_grid g)
{
    for (uint32_t slot = 0; slot < a->num_slots; slot++) {
        float factor = smoke_factor(a, slot);
        uint32_t end = (uint32_t)a->slot_begin[slot + 1];

        for (uint32_t row = (uint32_t)a->slot_begin[slot] + g.block; row < end;
             row += g.num_blocks) {
            for (uint32_t h = g.thread; h < a->hidden; h += g.num_threads) {
                uint64_t i = (uint64_t)row * a->hidden + h;
                float value = EEPK_FMUL(smoke_value(a, row, h), factor);
                if (a->dtype == 0) {
                    ((float *)a->out)[i] = value;
                } else {
                    ((uint16_t *)a->out)[i] = eepk_float_to_bf16(value);
                }
            }
        }
    }
}

#ifdef __cplusplus
extern "C" {
#endif

/* Load the CUDA body before any rank waits, and write the device's name. NULL, or why not. Main
 * thread. */
const char *smoke_expert_load(int ordinal, char *name_out, size_t name_bytes);
/* Put the CUDA body into a cudaStream_t. NULL, or why not. Capture-safe; any thread. */
const char *smoke_expert_launch(void *native_stream, uint32_t num_blocks, uint32_t num_threads,
                                const smoke_expert_args *args);

#ifdef __cplusplus
}
#endif
#endif
