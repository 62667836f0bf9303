/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks, their graphs, views, inputs and steps. */
#include "tests/lib/world/kernel_world.h"

#include "tests/lib/check_or_abort.h"
#include "graphs/device/rings.h"
#include "graphs/kernels/compiler_macros.h"
#include "membership/context/bank_image.h"
#include "experiments/base/random.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_US = 60000000 };

uint64_t kernel_random(uint64_t *state)
{
    return random_next(state);
}

int kernel_below(uint64_t *state, int limit)
{
    return (int)(kernel_random(state) % (uint64_t)limit);
}

uint64_t kernel_now_ns(void)
{
    return eepk_now_ns();
}

int kernel_chains(const moe_shape *shape)
{
    return shape->num_chains ? shape->num_chains : 1;
}

int kernel_view_layer(const moe_shape *shape, int layer)
{
    return layer / kernel_chains(shape);
}

/* ------------------------------------------------------------------ life */

void *kernel_buffer(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);

    CHECK(memory);
    memset(memory, KERNEL_POISON, bytes);
    return memory;
}

/* For graphs; not of eep_device_alloc, so that sanitizers see its bounds. */
static void *fixed_buffer(const kernel_world *w, size_t bytes)
{
    void *memory = kernel_buffer(bytes);

    OK(eep_memory_register(w->device, memory, bytes ? bytes : 1));
    return memory;
}

size_t kernel_out_bytes(const kernel_world *w)
{
    return (size_t)w->shape.max_tokens * (size_t)w->shape.hidden *
           eep_dtype_bytes(w->shape.out_dtype);
}

size_t kernel_scales_bytes(const kernel_world *w)
{
    return w->has_form ? kernel_form_sizes(w).scales_bytes
                       : (size_t)w->layout.rows_capacity * w->layout.num_scales * sizeof(float);
}

size_t kernel_rows(const kernel_world *w)
{
    return w->has_form ? kernel_form_sizes(w).rows : w->layout.rows_capacity;
}

static void layer_open(const kernel_world *w, kernel_layer *l)
{
    const eepk_shape *s = &w->layout;
    const size_t tokens = (size_t)w->shape.max_tokens, pairs = tokens * s->top_k;

    l->x = fixed_buffer(w, tokens * s->row_bytes);
    l->rows = fixed_buffer(w, kernel_rows(w) * s->row_bytes);
    l->row_scales = s->num_scales ? fixed_buffer(w, kernel_scales_bytes(w)) : NULL;
    l->expert_rows = fixed_buffer(w, kernel_rows(w) * s->row_bytes);
    l->out = fixed_buffer(w, kernel_out_bytes(w));
    l->topk_idx = fixed_buffer(w, pairs * sizeof(int32_t));
    l->slot_begin = fixed_buffer(w, (s->num_slots + 1) * sizeof(int32_t));
    l->topk_weights = fixed_buffer(w, pairs * sizeof(float));
    l->origin = fixed_buffer(w, s->rows_capacity * sizeof(eepk_origin));
    l->physical_idx = fixed_buffer(w, pairs * sizeof(int32_t));
    l->wide_idx = fixed_buffer(w, pairs * sizeof(int64_t));
    l->slot_counts = fixed_buffer(w, s->num_slots * sizeof(int32_t));
    l->source_tokens = fixed_buffer(w, kernel_rows(w) * sizeof(int32_t));
    l->layout_range = fixed_buffer(w, (size_t)s->num_slots * s->max_ranks * sizeof(int64_t));
}

static void layer_close(kernel_layer *l)
{
    free(l->x);
    free(l->rows);
    free(l->row_scales);
    free(l->expert_rows);
    free(l->out);
    free(l->topk_idx);
    free(l->slot_begin);
    free(l->topk_weights);
    free(l->origin);
    free(l->physical_idx);
    free(l->wide_idx);
    free(l->slot_counts);
    free(l->source_tokens);
    free(l->layout_range);
}

static void rank_open(kernel_world *w, int seat, const eepk_shape *layout)
{
    kernel_rank *r = &w->rank[seat];

    for (int colour = 0; colour < EEPK_COLOURS; colour++) {
        uint8_t *window = aligned_alloc(EEPK_LINE_BYTES, layout->window_bytes);
        CHECK(window);
        memset(window, 0, layout->window_bytes);
        memset(window + layout->off_header, KERNEL_POISON,
               layout->window_bytes - layout->off_header);
        w->windows[colour][seat] = r->coloured[colour] = window;
    }
    r->window = r->coloured[0];
    OK(eepi_tables_open(w->device, layout, r->window, &r->tables));
    r->world = eepi_tables_world(r->tables);
    OK(eep_stream_open(w->device, &r->stream));
    r->slot_expert =
        kernel_buffer((size_t)w->shape.num_layers * (size_t)w->shape.num_slots * sizeof(int32_t));
    for (int layer = 0; layer < w->shape.num_layers; layer++) {
        layer_open(w, &r->layer[layer]);
    }
    OK(eep_memory_register(w->device, &r->num_tokens, sizeof r->num_tokens));
    OK(eep_memory_register(w->device, &r->placement, sizeof r->placement));
    kernel_rank_capture(w, seat);
}

static kernel_world *new_world(const moe_shape *shape, uint32_t num_blocks)
{
    kernel_world *w = calloc(1, sizeof *w);

    CHECK(w && shape->max_ranks <= KERNEL_MAX_SEATS && shape->num_layers <= KERNEL_MAX_LAYERS);
    w->shape = *shape;
    w->num_blocks = num_blocks;
    OK(eep_device_open("host", 0, &w->device));
    return w;
}

/* `num_chunks` of shape 1; 0: there is none. */
static void open_ranks(kernel_world *w, uint32_t num_queues, uint32_t extra_slots, int num_chunks)
{
    const moe_shape *shape = &w->shape;
    const eep_shape chunked = {shape->max_tokens, num_chunks};
    const int parts = num_chunks ? num_chunks : 1;

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        const eep_config config = {.struct_bytes = sizeof config,
                                   .rank = seat,
                                   .num_ranks = shape->max_ranks,
                                   .max_ranks = shape->max_ranks,
                                   .num_layers = kernel_view_layer(shape, shape->num_layers),
                                   .num_experts = shape->num_experts,
                                   .num_slots = shape->num_slots,
                                   .top_k = shape->top_k,
                                   .hidden = shape->hidden,
                                   .num_max_tokens_per_rank =
                                       (shape->max_tokens + parts - 1) / parts,
                                   .shapes = &chunked,
                                   .num_shapes = num_chunks != 0,
                                   .dtype = shape->dtype,
                                   .fp8_dispatch = shape->fp8_dispatch,
                                   .num_chains = kernel_chains(shape)};
        eepk_shape layout;
        const char *why;
        OK(eepi_shape_make(&config, &layout, &why));
        layout.num_queues = num_queues;
        layout.ring_slots =
            num_queues ? layout.num_chains * eepi_ring_least_slots(&layout) + extra_slots : 0;
        if (seat == 0) {
            w->layout = layout;
        }
        rank_open(w, seat, &layout);
    }
}

kernel_world *kernel_world_open(const moe_shape *shape, uint32_t num_blocks)
{
    return kernel_world_open_with(shape, num_blocks, 0, 0, NULL);
}

kernel_world *kernel_world_open_with(const moe_shape *shape, uint32_t num_blocks,
                                     uint32_t num_queues, uint32_t extra_slots,
                                     const kernel_form *form)
{
    kernel_world *w = new_world(shape, num_blocks);

    w->has_form = form != NULL;
    w->form = form ? *form : (kernel_form){0};
    open_ranks(w, num_queues, extra_slots, 0);
    return w;
}

kernel_world *kernel_world_open_chunks(const moe_shape *shape, uint32_t num_blocks, int num_chunks)
{
    kernel_world *w = new_world(shape, num_blocks);

    open_ranks(w, 0, 0, num_chunks);
    return w;
}

void kernel_world_close(kernel_world *w)
{
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        kernel_rank *r = &w->rank[seat];
        eep_stream_close(r->stream);
        eep_graph_close(r->graph);
        eep_graph_close(r->chunked);
        eepi_tables_close(r->tables);
        for (int layer = 0; layer < w->shape.num_layers; layer++) {
            layer_close(&r->layer[layer]);
        }
        free(r->slot_expert);
        for (int colour = 0; colour < EEPK_COLOURS; colour++) {
            free(r->coloured[colour]);
        }
    }
    free(w->view);
    eep_device_close(w->device);
    free(w);
}

/* ------------------------------------------------------------------ views */

void kernel_rank_switch(kernel_world *w, int seat, const eepi_view *view)
{
    kernel_rank *r = &w->rank[seat];
    eepk_peer peers[KERNEL_MAX_SEATS];
    eepk_shape layout = w->layout;

    layout.self = (uint32_t)seat;
    r->window = r->coloured[view->colour];
    for (int peer = 0; peer < w->shape.max_ranks; peer++) {
        peers[peer] = (eepk_peer){.address = (uint64_t)(uintptr_t)w->windows[view->colour][peer],
                                  .kind = EEPK_PEER_LOCAL};
    }
    if (w->hooks.switched) {
        w->hooks.switched(w->hooks.user, seat, view, peers);
    }
    eepi_bank_image_of(&layout, view, peers, eepi_tables_image(r->tables));
    OK(eepi_tables_stage(r->tables, LONG_US));
    OK(eepi_tables_flip(r->tables, r->stream, view->epoch, view->digest));
    OK(eep_stream_synchronize(r->stream, LONG_US));
    r->epoch = view->epoch;
    for (int i = 0; i < view->shape.num_layers * w->shape.num_slots; i++) {
        const eepi_view_slot *at =
            eepi_view_slot_at(view, i / w->shape.num_slots, seat, i % w->shape.num_slots);
        r->slot_expert[i] = at->state == EEPI_SLOT_HOLDS ? at->expert : -1;
    }
}

void kernel_world_switch(kernel_world *w, eepi_view *view)
{
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        if (eepi_view_is_member(view, seat)) {
            kernel_rank_switch(w, seat, view);
        }
    }
    free(w->view);
    w->view = view;
}

bool kernel_is_member(const kernel_world *w, int seat)
{
    return eepi_view_is_member(w->view, seat);
}

/* ------------------------------------------------------------------ inputs */

static void fill_layer(const kernel_world *w, kernel_layer *l, int n, uint64_t *random)
{
    const moe_shape *s = &w->shape;

    for (int i = 0; i < n * s->hidden; i++) {
        moe_store(s->dtype, l->x, (size_t)i,
                  (float)(int32_t)kernel_random(random) / (float)(1u << (20 + i % 12)));
    }
    for (int i = 0; i < n * s->top_k; i++) {
        const int first = i - i % s->top_k;
        bool again = true;
        l->topk_weights[i] = (float)kernel_below(random, 1 << 20) / (float)(1 << 20);
        l->topk_idx[i] = -1;
        while (again && kernel_below(random, 8) != 0) {
            l->topk_idx[i] = kernel_below(random, s->num_experts);
            again = false;
            for (int j = first; j < i; j++) {
                again |= l->topk_idx[j] == l->topk_idx[i];
            }
            if (again) {
                l->topk_idx[i] = -1;
            }
        }
    }
}

void kernel_rank_fill(kernel_world *w, int seat, int max_tokens, uint64_t seed)
{
    kernel_rank *r = &w->rank[seat];

    switch (kernel_below(&seed, 4)) {
    case 0:
        r->num_tokens = max_tokens;
        break;
    case 1:
        r->num_tokens = 0;
        break;
    default:
        r->num_tokens = kernel_below(&seed, max_tokens + 1);
    }
    for (int layer = 0; layer < w->shape.num_layers; layer++) {
        fill_layer(w, &r->layer[layer], r->num_tokens, &seed);
    }
    if (w->has_form) {
        kernel_form_ids(w, seat, seed);
    }
}

void kernel_world_fill(kernel_world *w, uint64_t seed)
{
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        kernel_rank_fill(w, seat, w->shape.max_tokens, kernel_random(&seed));
    }
}

moe_input kernel_rank_input(const kernel_world *w, int seat, int layer)
{
    const kernel_rank *r = &w->rank[seat];
    const kernel_layer *l = &r->layer[layer];

    return (moe_input){r->num_tokens, l->x, l->topk_idx, l->topk_weights};
}

/* ------------------------------------------------------------------ steps */

void kernel_rank_prepare(kernel_world *w, int seat, uint64_t step, uint64_t wait_ns)
{
    kernel_rank *r = &w->rank[seat];
    const eepk_shape *s = &w->layout;

    *eepi_tables_launch(r->tables) = (eepk_launch){
        step, r->epoch, r->announce, wait_ns, r->wants_loads, r->shape, r->wanted_shape};
    r->world->control->latch.step = 0; /* tests use a number again, which a step never does */
    for (int layer = 0; layer < w->shape.num_layers; layer++) {
        memset(r->layer[layer].rows, KERNEL_POISON, kernel_rows(w) * s->row_bytes);
        kernel_form_poison(w, &r->layer[layer]);
        if (s->num_scales) {
            memset(r->layer[layer].row_scales, KERNEL_POISON, kernel_scales_bytes(w));
        }
        memset(r->layer[layer].slot_begin, KERNEL_POISON, (s->num_slots + 1) * sizeof(int32_t));
        memset(r->layer[layer].out, KERNEL_POISON, kernel_out_bytes(w));
    }
}

void kernel_rank_launch(kernel_world *w, int seat, uint64_t step, uint64_t wait_ns)
{
    kernel_rank_prepare(w, seat, step, wait_ns);
    if (w->hooks.before_step) {
        w->hooks.before_step(w->hooks.user, seat, w->rank[seat].epoch, step);
    }
    OK(eep_graph_replay(w->rank[seat].shape ? w->rank[seat].chunked : w->rank[seat].graph,
                        w->rank[seat].stream));
}

const eepk_status *kernel_rank_end(kernel_world *w, int seat)
{
    const kernel_rank *r = &w->rank[seat];
    const eepk_status *status = eepi_tables_status(r->tables);

    OK(eep_stream_synchronize(r->stream, LONG_US));
    CHECK(eepk_load_acquire(&status->done_step) == eepi_tables_launch(r->tables)->step);
    if (w->hooks.behind_step) {
        w->hooks.behind_step(w->hooks.user, seat, r->epoch, status);
    }
    return status;
}

void kernel_world_step(kernel_world *w, uint64_t step)
{
    const eepk_shape *s = &w->layout;

    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        for (int colour = 0; colour < EEPK_COLOURS; colour++) {
            memset(w->rank[seat].coloured[colour] + s->off_header, KERNEL_POISON,
                   s->window_bytes - s->off_header);
        }
    }
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        if (kernel_is_member(w, seat)) {
            kernel_rank_launch(w, seat, step, kernel_long_ns);
        }
    }
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        if (kernel_is_member(w, seat)) {
            (void)kernel_rank_end(w, seat);
        }
    }
}
