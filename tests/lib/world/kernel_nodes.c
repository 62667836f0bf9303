/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of a step, those of the engine's experts among them: captured, and one by one. */
#include "tests/lib/world/kernel_world.h"

#include "tests/lib/check_or_abort.h"
#include "graphs/kernels/compiler_macros.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ the engine's part */

typedef struct expert_args {
    const kernel_world *world;
    kernel_rank *rank;
    uint32_t layer;
} expert_args;

static void expert_body(const void *args, eep_grid grid)
{
    const expert_args *a = args;
    const moe_shape *s = &a->world->shape;
    const size_t row_bytes = a->world->layout.row_bytes;
    const kernel_layer *l = &a->rank->layer[a->layer];
    const int in_view = kernel_view_layer(s, (int)a->layer);
    const uint64_t until = eepk_now_ns() + 1000u * (uint64_t)a->rank->delay_us;

    (void)grid;
    memcpy(l->origin, a->rank->world->scratch[(int)a->layer % kernel_chains(s)].origin,
           (size_t)kernel_form_num_rows(a->world, l) * sizeof(eepk_origin));
    for (int slot = 0; slot < s->num_slots; slot++) {
        const int expert = a->rank->slot_expert[in_view * s->num_slots + slot];
        for (int i = 0; i < kernel_form_slot_rows(a->world, l, slot); i++) {
            const size_t place = kernel_form_place(a->world, l, slot, i);
            uint8_t *out = (uint8_t *)l->expert_rows + place * row_bytes;
            if (s->fp8_dispatch) {
                float scales[a->world->layout.num_scales];
                kernel_form_scales(a->world, l, slot, i, scales);
                moe_dequantise(s, (uint8_t *)l->rows + place * (size_t)s->hidden, scales, out);
            }
            moe_expert(s, in_view, expert,
                       s->fp8_dispatch ? out : (uint8_t *)l->rows + place * row_bytes, out);
        }
    }
    while (eepk_now_ns() < until) {
        sched_yield();
    }
}
static const eep_kernel expert_kernel = EEP_KERNEL("expert", expert_body, NULL, NULL, 0);

/* ------------------------------------------------------------------ nodes */

typedef union node_args {
    eepk_world_args world;
    eepk_latch_args latch;
    eepk_dispatch_node_args dispatch;
    eepk_combine_node_args combine;
} node_args;

static size_t fill_args(const kernel_world *w, const kernel_rank *r, eepi_kernel_id id,
                        uint32_t layer, node_args *args_out)
{
    const kernel_layer *l = &r->layer[layer];
    const uint32_t in_view = (uint32_t)kernel_view_layer(&w->shape, (int)layer);
    const uint32_t chain = layer % (uint32_t)kernel_chains(&w->shape);

    if (id == EEPI_KERNEL_latch) {
        args_out->latch = (eepk_latch_args){r->world, 0, 0};
        return sizeof args_out->latch;
    }
    if (id == EEPI_KERNEL_finish) {
        args_out->world = (eepk_world_args){r->world};
        return sizeof args_out->world;
    }
    if (id == EEPI_KERNEL_combine_send || id == EEPI_KERNEL_combine_send_formed ||
        id == EEPI_KERNEL_combine_exchange || id == EEPI_KERNEL_reduce) {
        args_out->combine =
            (eepk_combine_node_args){.world = r->world,
                                     .rows = l->expert_rows,
                                     .topk_weights = l->topk_weights,
                                     .num_tokens = &r->num_tokens,
                                     .slot_begin = l->slot_begin,
                                     .out = l->out,
                                     .layer = in_view,
                                     .chain = chain,
                                     .out_dtype = (uint32_t)w->shape.out_dtype,
                                     .has_gaps = w->has_form && kernel_form_has_gaps(&w->form)};
        return sizeof args_out->combine;
    }
    args_out->dispatch = (eepk_dispatch_node_args){.world = r->world,
                                                   .x = l->x,
                                                   .topk_idx = l->topk_idx,
                                                   .num_tokens = &r->num_tokens,
                                                   .rows = l->rows,
                                                   .slot_begin = l->slot_begin,
                                                   .row_scales = l->row_scales,
                                                   .layer = in_view,
                                                   .chain = chain};
    if (w->has_form) {
        kernel_form_node(w, r, layer, &args_out->dispatch);
    }
    return sizeof args_out->dispatch;
}

/* One block where the kernel demands it. */
static uint32_t blocks_of(const kernel_world *w, eepi_kernel_id id)
{
    return id == EEPI_KERNEL_dispatch_send || id == EEPI_KERNEL_unpack ||
                   id == EEPI_KERNEL_unpack_formed || id == EEPI_KERNEL_combine_send ||
                   id == EEPI_KERNEL_combine_send_formed || id == EEPI_KERNEL_reduce
               ? w->num_blocks
               : 1;
}

/* The kernel that takes the node's part where rows or ids have another form. */
static eepi_kernel_id kernel_of(const kernel_world *w, eepi_kernel_id id)
{
    if (!w->has_form) {
        return id;
    }
    switch (id) {
    case EEPI_KERNEL_route:
        return EEPI_KERNEL_route_formed;
    case EEPI_KERNEL_dispatch_exchange:
        return EEPI_KERNEL_dispatch_exchange_formed;
    case EEPI_KERNEL_unpack:
        return EEPI_KERNEL_unpack_formed;
    case EEPI_KERNEL_combine_send:
        return kernel_form_has_gaps(&w->form) ? EEPI_KERNEL_combine_send_formed : id;
    default:
        return id;
    }
}

static void put(kernel_world *w, kernel_rank *r, eepi_kernel_id plain, uint32_t layer)
{
    const eepi_kernel_id id = kernel_of(w, plain);
    node_args args;
    size_t bytes = fill_args(w, r, id, layer, &args);

    OK(eep_launch(r->stream, eepi_tables_kernel(r->tables, id), blocks_of(w, id), 32, &args,
                  bytes));
}

static void put_experts(kernel_world *w, kernel_rank *r, uint32_t layer)
{
    const expert_args args = {w, r, layer};

    OK(eep_launch(r->stream, &expert_kernel, 1, 1, &args, sizeof args));
}

void kernel_rank_put_experts(kernel_world *w, int seat, uint32_t layer)
{
    put_experts(w, &w->rank[seat], layer);
}

/* The nodes of a layer from one of them to another, experts behind unpack. */
static void put_nodes(kernel_world *w, kernel_rank *r, uint32_t layer, eepi_kernel_id first,
                      eepi_kernel_id last)
{
    for (int id = first; id <= (int)last; id++) {
        put(w, r, (eepi_kernel_id)id, layer);
        if (id == EEPI_KERNEL_unpack) {
            put_experts(w, r, layer);
        }
    }
}

/* Two chains: a half of one, then a half of the other. */
static void put_pair(kernel_world *w, kernel_rank *r, uint32_t layer)
{
    static const eepi_kernel_id halves[][2] = {
        {EEPI_KERNEL_route, EEPI_KERNEL_dispatch_send},
        {EEPI_KERNEL_dispatch_exchange, EEPI_KERNEL_unpack},
        {EEPI_KERNEL_combine_send, EEPI_KERNEL_combine_send},
        {EEPI_KERNEL_combine_exchange, EEPI_KERNEL_reduce},
    };

    for (int half = 0; half < 4; half++) {
        put_nodes(w, r, layer, halves[half][0], halves[half][1]);
        put_nodes(w, r, layer + 1, halves[half][0], halves[half][1]);
    }
}

void kernel_rank_capture(kernel_world *w, int seat)
{
    kernel_rank *r = &w->rank[seat];

    eep_graph_close(r->graph);
    OK(eep_capture_begin(r->stream));
    put(w, r, EEPI_KERNEL_latch, 0);
    for (uint32_t layer = 0; layer < (uint32_t)w->shape.num_layers; layer++) {
        if (kernel_chains(&w->shape) == 1) {
            put_nodes(w, r, layer, EEPI_KERNEL_route, EEPI_KERNEL_reduce);
        } else {
            put_pair(w, r, layer++);
        }
    }
    put(w, r, EEPI_KERNEL_finish, 0);
    OK(eep_capture_end(r->stream, &r->graph));
}

void kernel_rank_run(kernel_world *w, int seat, eepi_kernel_id plain, uint32_t layer)
{
    const eepi_kernel_id id = kernel_of(w, plain);
    uint32_t blocks = blocks_of(w, id);
    node_args args;

    (void)fill_args(w, &w->rank[seat], id, layer, &args);
    for (uint32_t block = 0; block < blocks; block++) {
        eepi_host_kernels[id].host(&args, (eep_grid){block, blocks, 0, 1});
    }
}

void kernel_rank_run_to(kernel_world *w, int seat, eepi_kernel_id last, uint32_t layer)
{
    const expert_args args = {w, &w->rank[seat], layer};

    for (int id = EEPI_KERNEL_route; id <= (int)last; id++) {
        if (id == EEPI_KERNEL_combine_send) {
            expert_body(&args, (eep_grid){0, 1, 0, 1});
        }
        kernel_rank_run(w, seat, (eepi_kernel_id)id, layer);
    }
}

const eepk_status *kernel_rank_finish(kernel_world *w, int seat)
{
    kernel_rank_run(w, seat, EEPI_KERNEL_finish, 0);
    return eepi_tables_status(w->rank[seat].tables);
}
