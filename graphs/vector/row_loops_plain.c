/* SPDX-License-Identifier: Apache-2.0 */
/* The loops over rows in plain C: what the wide ones must give, to the bit. */
#include "graphs/kernels/fp8.h"
#include "graphs/vector/row_loops.h"

#include <string.h>

static float value_at(const void *values, uint32_t dtype, size_t i)
{
    return dtype == 0 ? ((const float *)values)[i]
                      : eepk_bf16_to_float(((const uint16_t *)values)[i]);
}

static void copy(void *const *to, const void *const *from, uint32_t num, size_t bytes)
{
    for (uint32_t i = 0; i < num; i++) {
        memcpy(to[i], from[i], bytes);
    }
}

static void quantise_group(const eepk_rows_quantise_args *a, uint32_t group)
{
    const uint32_t first = group * EEPK_FP8_GROUP, left = a->hidden - first;
    const uint32_t n = left < EEPK_FP8_GROUP ? left : (uint32_t)EEPK_FP8_GROUP;
    float largest = EEPK_FP8_LEAST;
    eepk_group_scale scale;
    uint8_t codes[EEPK_FP8_GROUP];

    for (uint32_t i = 0; i < n; i++) {
        float value = value_at(a->x, a->dtype, first + i);
        value = value < 0.0f ? -value : value;
        largest = value > largest ? value : largest;
    }
    scale = eepk_scale_group(largest, a->powers);
    for (uint32_t i = 0; i < n; i++) {
        codes[i] =
            eepk_float_to_e4m3(EEPK_FMUL(value_at(a->x, a->dtype, first + i), scale.inverse));
    }
    for (uint32_t i = 0; i < a->num_to; i++) {
        uint8_t *row = a->to[i];
        memcpy(row + first, codes, n);
        memcpy(row + a->scales_at + group * sizeof(float), &scale.scale, sizeof(float));
    }
}

static void quantise(const eepk_rows_quantise_args *a)
{
    for (uint32_t group = 0; group * EEPK_FP8_GROUP < a->hidden; group++) {
        quantise_group(a, group);
    }
}

void eepi_row_sum_columns(const eepk_rows_sum_args *a, uint32_t first)
{
    for (uint32_t h = first; h < a->hidden; h++) {
        float sum = 0.0f;
        for (uint32_t k = 0; k < a->num_rows; k++) {
            sum = EEPK_FADD(sum, EEPK_FMUL(a->weights[k], value_at(a->rows[k], a->dtype, h)));
        }
        if (a->out_dtype == 0) {
            ((float *)a->out)[h] = sum;
        } else {
            ((uint16_t *)a->out)[h] = eepk_float_to_bf16(sum);
        }
    }
}

static void sum(const eepk_rows_sum_args *a)
{
    eepi_row_sum_columns(a, 0);
}

const eepi_row_loops eepi_row_loops_plain = {"plain", copy, quantise, sum};
