/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs and tables of the smoke steps. */
#include "tests/gpu/smoke/smoke_inputs.h"

#include "graphs/kernels/compiler_macros.h"
#include "repair/placement.h"
#include "experiments/base/random.h"

#include <stdbool.h>
#include <stdlib.h>

enum { NO_EXPERT_ONE_IN = 8 };

static size_t line_up(size_t bytes)
{
    return (bytes + EEPK_LINE_BYTES - 1) / EEPK_LINE_BYTES * EEPK_LINE_BYTES;
}

static float next_float(uint64_t *state)
{
    return (float)(random_next(state) >> 40) * 0x1p-24f;
}

int smoke_epoch_of(int step)
{
    return 1 + step / SMOKE_FLIP_EVERY;
}

bool smoke_is_member(const smoke_case *test, int epoch, int rank)
{
    return !test->changes || rank != test->num_ranks - 1 || epoch % SMOKE_OUT_ONE_IN != 3;
}

int smoke_stopper(const smoke_case *test)
{
    return test->num_ranks / 2;
}

static int input_key(int step)
{
    return step > 0 && step % SMOKE_FLIP_EVERY == 0 ? step - 1 : step;
}

uint32_t smoke_num_tokens(const smoke_case *test, int step, int rank)
{
    int key = input_key(step);

    if (key % SMOKE_FLIP_EVERY == SMOKE_FLIP_EVERY - 1) {
        return SMOKE_TOKENS;
    }
    if (key % SMOKE_FLIP_EVERY == 1 && rank == key % test->num_ranks) {
        return 0;
    }
    return (uint32_t)((key * 7 + rank * 5 + 3) % (SMOKE_TOKENS + 1));
}

/* SMOKE_TOPK distinct experts, some of them none. */
static void choose_experts(uint32_t num_experts, uint64_t *state, int32_t *topk_idx)
{
    for (int k = 0; k < SMOKE_TOPK; k++) {
        int32_t expert = (int32_t)(random_next(state) % num_experts);
        for (int j = 0; j < k; j++) {
            if (topk_idx[j] == expert) {
                expert = (expert + 1) % (int32_t)num_experts;
                j = -1;
            }
        }
        topk_idx[k] = expert;
    }
    for (int k = 0; k < SMOKE_TOPK; k++) {
        if (random_next(state) % NO_EXPERT_ONE_IN == 0) {
            topk_idx[k] = -1;
        }
    }
}

smoke_inputs smoke_inputs_of(const eepk_shape *s)
{
    size_t entries = (size_t)s->num_layers * SMOKE_TOKENS * SMOKE_TOPK;
    smoke_inputs at = {.x = 0};

    at.topk_idx = line_up((size_t)SMOKE_TOKENS * s->row_bytes);
    at.topk_weights = at.topk_idx + line_up(entries * sizeof(int32_t));
    at.num_tokens = at.topk_weights + line_up(entries * sizeof(float));
    at.bytes = at.num_tokens + EEPK_LINE_BYTES;
    return at;
}

void smoke_inputs_fill(const smoke_case *test, const eepk_shape *s, const smoke_inputs *layout,
                       int step, int rank, uint8_t *to)
{
    uint64_t state =
        test->seed * 1000003u + (uint64_t)input_key(step) * 1009u + (uint64_t)rank * 17u;
    int32_t *topk_idx = (int32_t *)(to + layout->topk_idx);
    float *topk_weights = (float *)(to + layout->topk_weights);
    size_t entries = (size_t)s->num_layers * SMOKE_TOKENS * SMOKE_TOPK;

    for (size_t i = 0; i < (size_t)SMOKE_TOKENS * s->hidden; i++) {
        float value = 2.0f * next_float(&state) - 1.0f;
        if (test->dtype == EEP_FP32) {
            ((float *)(to + layout->x))[i] = value;
        } else {
            ((uint16_t *)(to + layout->x))[i] = eepk_float_to_bf16(value);
        }
    }
    for (size_t i = 0; i < entries; i += SMOKE_TOPK) {
        choose_experts(s->num_experts, &state, topk_idx + i);
    }
    for (size_t i = 0; i < entries; i++) {
        topk_weights[i] = next_float(&state);
    }
    *(int32_t *)(to + layout->num_tokens) = (int32_t)smoke_num_tokens(test, step, rank);
}

int smoke_seat_of(int rank)
{
    return rank == 0 ? 0 : rank + 1;
}

/* Two ranks' last slots that hold different experts change places. */
static void exchange_experts(eepi_view *view, int layer)
{
    for (int slot = view->shape.num_slots - 1; slot >= 0; slot--) {
        eepi_view_slot *a = eepi_view_slot_at(view, layer, smoke_seat_of(0), slot);
        eepi_view_slot *b = eepi_view_slot_at(view, layer, smoke_seat_of(1), slot);
        eepi_view_slot kept = *a;

        if (a->expert == b->expert) {
            continue;
        }
        *a = *b;
        *b = kept;
        return;
    }
}

eepi_view *smoke_view_make(const smoke_case *test, const eepk_shape *s, int epoch)
{
    eepi_view_shape shape = {(int32_t)s->max_ranks, (int32_t)s->num_layers, (int32_t)s->num_experts,
                             (int32_t)s->num_slots};
    eepi_view *view = eepi_view_new(&shape);

    if (!view) {
        return NULL;
    }
    for (int i = 0; i < test->num_ranks; i++) {
        eepi_view_seat *seat = eepi_view_seat_at(view, smoke_seat_of(i));
        if (!smoke_is_member(test, epoch, i)) {
            continue;
        }
        seat->generation = 1;
        seat->state = EEP_SEAT_ACTIVE;
    }
    view->epoch = (uint64_t)epoch;
    if (eepi_plan_initial(view) != EEP_OK) {
        free(view);
        return NULL;
    }
    for (int layer = 0; layer < test->num_layers && epoch % 2 == 0 && test->num_ranks > 1;
         layer++) {
        exchange_experts(view, layer);
    }
    eepi_view_seal(view);
    return view;
}
