/* SPDX-License-Identifier: Apache-2.0 */
/* Capture the graphs that are timed: steps, parts of steps, the baseline. */
#include "experiments/bench/graphs.h"

typedef union any_args {
    eepk_world_args world;
    eepk_dispatch_node_args dispatch;
    eepk_combine_node_args combine;
    eepk_fixed_dispatch_args fixed_dispatch;
    eepk_fixed_combine_args fixed_combine;
} any_args;

static void stamp_host(const void *args, eep_grid g)
{
    bench_stamp_body(args, g);
}

/* A kernel of this program's own, not of the device's backend. */
static void put_own(bench_rank *r, int id, uint32_t blocks, uint32_t threads, const void *args,
                    size_t bytes)
{
    const eep_kernel stamp = EEP_KERNEL("stamp", stamp_host, NULL, NULL, 0);
    const eep_kernel *on_host = id == BENCH_KERNEL_STAMP ? &stamp : &eepi_fixed_host_kernels[id];
    const char *why = NULL;

    if (!r->world->is_cuda) {
        bench_ok(r->world, eep_launch(r->stream, on_host, blocks, threads, args, bytes),
                 on_host->name);
    } else {
        why = bench_native_launch(eep_stream_native(r->stream), id, blocks, threads, args);
    }
    if (why) {
        bench_fatal("rank %d: launch of %s: %s", r->index, on_host->name, why);
    }
}

static void put_stamp(bench_rank *r, uint64_t *to)
{
    const bench_stamp_args args = {to};

    put_own(r, BENCH_KERNEL_STAMP, 1, 1, &args, sizeof args);
}

/* The address of what is met at. */
typedef struct meet_args {
    pthread_barrier_t *at;
} meet_args;

static void meet_host(const void *args, eep_grid g)
{
    (void)g;
    pthread_barrier_wait(((const meet_args *)args)->at);
}

/* A node at which all ranks meet, then a stamp; if it is asked for. */
static void put_meeting(bench_rank *r, uint64_t *stamp)
{
    const eep_kernel kernel = EEP_KERNEL("meet", meet_host, NULL, NULL, 0);
    const meet_args args = {r->world->meeting};

    if (r->world->setup.meets) {
        bench_ok(r->world, eep_launch(r->stream, &kernel, 1, 1, &args, sizeof args), "meet");
        put_stamp(r, stamp);
    }
}

/* After node `position` of a layer, if it is asked for. */
static void put_layer_stamp(bench_rank *r, uint32_t layer, uint32_t position)
{
    const bench_stamps stamps = r->world->setup.stamps;
    const bool ends_phase =
        position == 0 || position == BENCH_AFTER_UNPACK || position == BENCH_AFTER_REDUCE;

    if (stamps == BENCH_STAMP_NODES || (stamps == BENCH_STAMP_PHASES && ends_phase)) {
        put_stamp(r, r->stamps + layer * BENCH_STAMPS_PER_LAYER + position);
    }
}

/* ------------------------------------------------------------------ arguments */

typedef struct layer_buffers {
    const uint8_t *set; /* the layer's inputs */
    const int32_t *num_tokens;
    const void *expert_rows;
} layer_buffers;

static layer_buffers buffers_of(const bench_rank *r, uint32_t layer)
{
    const bench_inputs *in = &r->world->inputs;

    return (layer_buffers){r->inputs + (layer % BENCH_SETS) * in->set_bytes,
                           (const int32_t *)(r->inputs + in->num_tokens),
                           r->expert_rows ? r->expert_rows : r->rows};
}

static void elastic_args(const bench_rank *r, uint32_t layer, any_args *dispatch_out,
                         any_args *combine_out)
{
    const bench_inputs *in = &r->world->inputs;
    const layer_buffers b = buffers_of(r, layer);
    const eepk_world *world = eepi_tables_world(r->tables);

    dispatch_out->dispatch = (eepk_dispatch_node_args){
        .world = world,
        .x = b.set + in->x,
        .topk_idx = (const int32_t *)(b.set + in->topk_idx),
        .num_tokens = b.num_tokens,
        .rows = r->rows,
        .slot_begin = r->slot_begin,
        .row_scales = r->row_scales,
        .layer = layer,
    };
    combine_out->combine = (eepk_combine_node_args){
        .world = world,
        .rows = b.expert_rows,
        .topk_weights = (const float *)(b.set + in->topk_weights),
        .num_tokens = b.num_tokens,
        .slot_begin = r->slot_begin,
        .out = r->out,
        .layer = layer,
        .out_dtype = EEP_BF16,
    };
}

/* The same step with padded rows. */
static void padded_args(const bench_rank *r, uint32_t layer, any_args *dispatch_out,
                        any_args *combine_out)
{
    eepk_dispatch_node_args *dispatch = &dispatch_out->dispatch;
    eepk_combine_node_args *combine = &combine_out->combine;

    elastic_args(r, layer, dispatch_out, combine_out);
    dispatch->rows = r->padded_rows;
    dispatch->slot_counts = r->slot_counts;
    dispatch->slot_align = 1;
    dispatch->slot_rows = bench_slot_rows(r);
    combine->rows = r->padded_rows;
    combine->has_gaps = 1;
}

/* The bank that epoch 1 went live in is the second. */
static void fixed_args(const bench_rank *r, uint32_t layer, any_args *dispatch_out,
                       any_args *combine_out)
{
    const bench_inputs *in = &r->world->inputs;
    const layer_buffers b = buffers_of(r, layer);
    eepk_world world = r->host_world;
    eepk_fixed_tables tables;

    world.shape = r->fixed_shape;
    bench_ok(
        r->world,
        eepi_fixed_tables_make(&world, world.bank[1], layer, r->world->windows, r->state, &tables),
        "the baseline's tables");
    dispatch_out->fixed_dispatch = (eepk_fixed_dispatch_args){
        .tables = tables,
        .x = b.set + in->x,
        .topk_idx = (const int32_t *)(b.set + in->topk_idx),
        .num_tokens = b.num_tokens,
        .rows = r->rows,
        .slot_begin = r->slot_begin,
        .row_scales = r->row_scales,
        .layer = layer,
    };
    combine_out->fixed_combine = (eepk_fixed_combine_args){
        .tables = tables,
        .rows = b.expert_rows,
        .topk_weights = (const float *)(b.set + in->topk_weights),
        .num_tokens = b.num_tokens,
        .slot_begin = r->slot_begin,
        .out = r->out,
        .layer = layer,
        .out_dtype = EEP_BF16,
    };
}

/* ------------------------------------------------------------------ nodes */

/* A layer's nodes in order, with the same grids for both kinds. */
static const struct {
    eepi_kernel_id elastic, padded;
    eepi_fixed_kernel_id fixed;
    bool any_grid;
    uint32_t threads;
} nodes[BENCH_STAMPS_PER_LAYER - 1] = {
    {EEPI_KERNEL_route, EEPI_KERNEL_route, EEPI_KERNEL_fixed_route, false, EEPI_ROUTE_THREADS},
    {EEPI_KERNEL_dispatch_send, EEPI_KERNEL_dispatch_send, EEPI_KERNEL_fixed_dispatch_send, true,
     EEPI_COPY_THREADS},
    {EEPI_KERNEL_dispatch_exchange, EEPI_KERNEL_dispatch_exchange_formed,
     EEPI_KERNEL_fixed_dispatch_exchange, false, EEPI_EXCHANGE_THREADS},
    {EEPI_KERNEL_unpack, EEPI_KERNEL_unpack_formed, EEPI_KERNEL_fixed_unpack, true,
     EEPI_COPY_THREADS},
    {EEPI_KERNEL_combine_send, EEPI_KERNEL_combine_send_formed, EEPI_KERNEL_fixed_combine_send,
     true, EEPI_COPY_THREADS},
    {EEPI_KERNEL_combine_exchange, EEPI_KERNEL_combine_exchange, EEPI_KERNEL_fixed_combine_exchange,
     false, EEPI_EXCHANGE_THREADS},
    {EEPI_KERNEL_reduce, EEPI_KERNEL_reduce, EEPI_KERNEL_fixed_reduce, true, EEPI_COPY_THREADS},
};

static void put_elastic(bench_rank *r, eepi_kernel_id id, uint32_t blocks, uint32_t threads,
                        const void *args, size_t bytes)
{
    const eep_kernel *kernel =
        r->world->is_cuda ? eepi_tables_kernel(r->tables, id) : &eepi_elastic_host_twins[id];

    bench_ok(r->world, eep_launch(r->stream, kernel, blocks, threads, args, bytes), kernel->name);
}

/* A chunk of it: the inputs and outputs of some of its tokens. */
static void chunked_args(const bench_rank *r, uint32_t layer, uint32_t chunk,
                         any_args *dispatch_out, any_args *combine_out)
{
    const eepk_shape *s = &r->shape;
    const size_t first = (size_t)chunk * s->shapes[1].chunk_tokens;
    eepk_dispatch_node_args *dispatch = &dispatch_out->dispatch;
    eepk_combine_node_args *combine = &combine_out->combine;

    elastic_args(r, layer, dispatch_out, combine_out);
    dispatch->x = (const uint8_t *)dispatch->x + first * s->row_bytes;
    dispatch->topk_idx += first * s->top_k;
    dispatch->num_tokens++; /* a chunk's stand behind those of all (fill_inputs) */
    dispatch->chunk = chunk;
    combine->topk_weights += first * s->top_k;
    combine->num_tokens++;
    combine->out = (uint8_t *)combine->out + first * s->row_bytes;
    combine->chunk = chunk;
}

static void put_layer(bench_rank *r, bench_kind kind, uint32_t layer, uint32_t chunk)
{
    any_args dispatch, combine;

    if (kind == BENCH_CHUNKED) {
        chunked_args(r, layer, chunk, &dispatch, &combine);
    } else if (kind == BENCH_ELASTIC) {
        elastic_args(r, layer, &dispatch, &combine);
    } else if (kind == BENCH_PADDED) {
        padded_args(r, layer, &dispatch, &combine);
    } else {
        fixed_args(r, layer, &dispatch, &combine);
    }
    put_layer_stamp(r, layer, 0);
    put_meeting(r, r->stamps + layer * BENCH_STAMPS_PER_LAYER);
    for (uint32_t i = 0; i < BENCH_STAMPS_PER_LAYER - 1; i++) {
        const bool is_dispatch = i < BENCH_AFTER_UNPACK;
        const uint32_t blocks = nodes[i].any_grid ? r->world->setup.num_blocks : 1;
        const void *args = is_dispatch ? &dispatch : &combine;
        if (kind != BENCH_FIXED) {
            put_elastic(r, kind == BENCH_PADDED ? nodes[i].padded : nodes[i].elastic, blocks,
                        nodes[i].threads, args,
                        is_dispatch ? sizeof dispatch.dispatch : sizeof combine.combine);
        } else {
            put_own(r, nodes[i].fixed, blocks, nodes[i].threads, args,
                    is_dispatch ? sizeof dispatch.fixed_dispatch : sizeof combine.fixed_combine);
        }
        put_layer_stamp(r, layer, i + 1);
        if (i + 1 == BENCH_AFTER_UNPACK) {
            put_meeting(r, r->stamps + layer * BENCH_STAMPS_PER_LAYER + BENCH_BEFORE_COMBINE);
        }
    }
}

void bench_capture_step(bench_rank *r, bench_kind kind)
{
    const eepk_world_args world = {eepi_tables_world(r->tables)};
    const uint32_t shape = kind == BENCH_CHUNKED, chunks = r->shape.shapes[shape].num_chunks;
    const eepk_latch_args latch = {world.world, shape, 0};

    bench_ok(r->world, eep_capture_begin(r->stream), "capture");
    if (kind != BENCH_FIXED) {
        put_elastic(r, EEPI_KERNEL_latch, 1, 1, &latch, sizeof latch);
    }
    for (uint32_t i = 0; i < r->shape.num_layers * chunks; i++) {
        put_layer(r, kind, i / chunks, i % chunks);
    }
    if (kind != BENCH_FIXED) {
        put_elastic(r, EEPI_KERNEL_finish, 1, 1, &world, sizeof world);
    }
    bench_ok(r->world, eep_capture_end(r->stream, &r->graph[kind]), "capture");
}

eep_graph *bench_capture_copy(bench_rank *r, void *to, const void *from, size_t bytes,
                              size_t piece_bytes)
{
    eep_graph *graph = NULL;

    bench_ok(r->world, eep_capture_begin(r->stream), "capture of a copy");
    put_stamp(r, r->stamps);
    for (size_t done = 0; done < bytes; done += piece_bytes) {
        size_t piece = bytes - done < piece_bytes ? bytes - done : piece_bytes;
        bench_ok(r->world, eep_copy_async(r->stream, to, from, piece), "copy");
    }
    put_stamp(r, r->stamps + 1);
    bench_ok(r->world, eep_capture_end(r->stream, &graph), "capture of a copy");
    return graph;
}
