/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs of chunks. */
#include "tests/lib/world/kernel_chunks.h"

#include <stdio.h>
#include <stdlib.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != EEP_OK) {                                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #call);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void put(kernel_world *w, kernel_rank *r, eepi_kernel_id id, const void *args, size_t bytes)
{
    const bool any_grid = id == EEPI_KERNEL_dispatch_send || id == EEPI_KERNEL_unpack ||
                          id == EEPI_KERNEL_combine_send || id == EEPI_KERNEL_reduce;

    OK(eep_launch(r->stream, eepi_tables_kernel(r->tables, id), any_grid ? w->num_blocks : 1, 32,
                  args, bytes));
}

/* Where the chunk's tokens begin in the batch. */
static size_t first_of(const kernel_world *w, uint32_t chunk)
{
    return (size_t)chunk * w->layout.shapes[1].chunk_tokens;
}

/* Of a chunk behind the batch's end nothing is read, and its address is one of the batch all the
 * same. */
static size_t place_of(const kernel_world *w, uint32_t chunk)
{
    const size_t first = first_of(w, chunk), end = (size_t)w->shape.max_tokens;

    return first < end ? first : 0;
}

static void put_chunk(kernel_world *w, int seat, uint32_t layer, uint32_t chunk)
{
    kernel_rank *r = &w->rank[seat];
    kernel_layer *l = &r->layer[layer];
    const size_t first = place_of(w, chunk), pairs = first * w->layout.top_k;
    const size_t out_row = (size_t)w->shape.hidden * eep_dtype_bytes(w->shape.out_dtype);
    const eepk_dispatch_node_args dispatch = {.world = r->world,
                                              .x = (uint8_t *)l->x + first * w->layout.row_bytes,
                                              .topk_idx = l->topk_idx + pairs,
                                              .num_tokens = &r->chunk_tokens[chunk],
                                              .rows = l->rows,
                                              .slot_begin = l->slot_begin,
                                              .row_scales = l->row_scales,
                                              .layer = layer,
                                              .chunk = chunk};
    const eepk_combine_node_args combine = {.world = r->world,
                                            .rows = l->expert_rows,
                                            .topk_weights = l->topk_weights + pairs,
                                            .num_tokens = &r->chunk_tokens[chunk],
                                            .slot_begin = l->slot_begin,
                                            .out = (uint8_t *)l->out + first * out_row,
                                            .layer = layer,
                                            .out_dtype = (uint32_t)w->shape.out_dtype,
                                            .chunk = chunk};

    for (int id = EEPI_KERNEL_route; id <= (int)EEPI_KERNEL_unpack; id++) {
        put(w, r, (eepi_kernel_id)id, &dispatch, sizeof dispatch);
    }
    kernel_rank_put_experts(w, seat, layer);
    for (int id = EEPI_KERNEL_combine_send; id <= (int)EEPI_KERNEL_reduce; id++) {
        put(w, r, (eepi_kernel_id)id, &combine, sizeof combine);
    }
}

static void capture(kernel_world *w, int seat)
{
    kernel_rank *r = &w->rank[seat];
    const eepk_latch_args latch = {r->world, 1, 0};
    const eepk_world_args finish = {r->world};

    OK(eep_memory_register(w->device, r->chunk_tokens, sizeof r->chunk_tokens));
    OK(eep_capture_begin(r->stream));
    put(w, r, EEPI_KERNEL_latch, &latch, sizeof latch);
    for (uint32_t layer = 0; layer < w->layout.num_layers; layer++) {
        for (uint32_t chunk = 0; chunk < w->layout.shapes[1].num_chunks; chunk++) {
            put_chunk(w, seat, layer, chunk);
        }
    }
    put(w, r, EEPI_KERNEL_finish, &finish, sizeof finish);
    OK(eep_capture_end(r->stream, &r->chunked));
}

void kernel_chunks_capture(kernel_world *w)
{
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        capture(w, seat);
    }
}

void kernel_rank_choose(kernel_world *w, int seat, uint32_t shape)
{
    kernel_rank *r = &w->rank[seat];
    const int most = (int)w->layout.shapes[1].chunk_tokens;

    r->shape = shape;
    for (uint32_t chunk = 0; chunk < w->layout.shapes[1].num_chunks; chunk++) {
        const int left = r->num_tokens - (int)first_of(w, chunk);
        r->chunk_tokens[chunk] = left < 0 ? 0 : left < most ? left : most;
    }
}

void kernel_chunks_choose(kernel_world *w, uint32_t shape)
{
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        kernel_rank_choose(w, seat, shape);
    }
}
