/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's graphs in the GPU check. */
#include "tests/gpu/smoke/smoke_expert.h"
#include "tests/gpu/smoke/smoke_rank.h"

static void expert_on_host(const void *args, eep_grid g)
{
    smoke_expert_body(args, g);
}

static eep_status put_expert(smoke_rank *r, const smoke_expert_args *args)
{
    const eep_kernel on_host = EEP_KERNEL("smoke_expert", expert_on_host, NULL, NULL, 0);
    const char *why;

    if (!r->run->is_cuda) {
        return eep_launch(r->stream, &on_host, EEPI_COPY_BLOCKS, 1, args, sizeof *args);
    }
    why = smoke_expert_launch(eep_stream_native(r->stream), EEPI_COPY_BLOCKS, EEPI_COPY_THREADS,
                              args);
    if (why) {
        (void)smoke_fail(r, "rank %d: launch of the expert kernel: %s", r->index, why);
    }
    return why ? EEP_ERR_DEVICE : EEP_OK;
}

/* The send that comes next never counts its last block out: its rows go, no tag follows, as if the
 * rank died within it. The next step's latch sets the count back. */
static eep_status put_death_in_send(smoke_rank *r)
{
    const eepk_latch *latch = eepi_tables_latch(r->tables);

    return eep_copy_async(r->stream, (void *)&latch->chain[0].blocks_out, r->never_last,
                          sizeof *r->never_last);
}

/* A layer's nodes, up to `last` where that is one of them. */
static eep_status put_layer(smoke_rank *r, uint32_t layer, eepi_kernel_id last)
{
    const smoke_layout *at = &r->run->result->layout;
    const smoke_inputs *in = &r->run->in;
    size_t first = (size_t)layer * SMOKE_TOKENS * SMOKE_TOPK;
    uint8_t *rows = r->outputs + at->rows[layer];
    float *scales = r->shape.num_scales ? (float *)(r->outputs + at->scales[layer]) : NULL;
    int32_t *slot_begin = (int32_t *)(r->outputs + at->slot_begin[layer]);
    const int32_t *num_tokens = (const int32_t *)(r->inputs + in->num_tokens);
    const eepk_world *world = eepi_tables_world(r->tables);
    eepk_dispatch_node_args d = {.world = world,
                                 .x = layer == 0 ? r->inputs + in->x
                                                 : r->outputs + at->out[layer - 1],
                                 .topk_idx = (const int32_t *)(r->inputs + in->topk_idx) + first,
                                 .num_tokens = num_tokens,
                                 .rows = rows,
                                 .slot_begin = slot_begin,
                                 .row_scales = scales,
                                 .layer = layer};
    smoke_expert_args e = {.rows = rows,
                           .row_scales = scales,
                           .num_scales = r->shape.num_scales,
                           .out = r->expert_out,
                           .slot_begin = slot_begin,
                           .num_slots = r->shape.num_slots,
                           .hidden = r->shape.hidden,
                           .dtype = r->shape.dtype,
                           .seat = (uint32_t)r->seat};
    eepk_combine_node_args c = {.world = world,
                                .rows = r->expert_out,
                                .topk_weights =
                                    (const float *)(r->inputs + in->topk_weights) + first,
                                .num_tokens = num_tokens,
                                .slot_begin = slot_begin,
                                .out = r->outputs + at->out[layer],
                                .layer = layer,
                                .out_dtype = r->shape.dtype};
    const struct {
        eepi_kernel_id id;
        uint32_t blocks, threads;
    } nodes[] = {
        {EEPI_KERNEL_route, 1, EEPI_ROUTE_THREADS},
        {EEPI_KERNEL_dispatch_send, EEPI_COPY_BLOCKS, EEPI_COPY_THREADS},
        {EEPI_KERNEL_dispatch_exchange, 1, EEPI_EXCHANGE_THREADS},
        {EEPI_KERNEL_unpack, EEPI_COPY_BLOCKS, EEPI_COPY_THREADS},
        {EEPI_KERNEL_combine_send, EEPI_COPY_BLOCKS, EEPI_COPY_THREADS},
        {EEPI_KERNEL_combine_exchange, 1, EEPI_EXCHANGE_THREADS},
        {EEPI_KERNEL_reduce, EEPI_COPY_BLOCKS, EEPI_COPY_THREADS},
    };
    eep_status status = EEP_OK;

    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0] && status == EEP_OK; i++) {
        int is_combine = nodes[i].id >= EEPI_KERNEL_combine_send;
        if (nodes[i].id == EEPI_KERNEL_combine_send) {
            status = put_expert(r, &e);
        }
        if (status == EEP_OK && nodes[i].id == last && last != EEPI_KERNEL_unpack) {
            status = put_death_in_send(r);
        }
        if (status == EEP_OK) {
            status =
                eep_launch(r->stream, eepi_tables_kernel(r->tables, nodes[i].id), nodes[i].blocks,
                           nodes[i].threads, is_combine ? (const void *)&c : (const void *)&d,
                           is_combine ? sizeof c : sizeof d);
        }
        if (nodes[i].id == last) {
            break;
        }
    }
    return status;
}

/* A step, or as much of its first layer as comes up to `last`. */
static eep_graph *capture_until(smoke_rank *r, eepi_kernel_id last)
{
    const eepk_world_args world = {eepi_tables_world(r->tables)};
    const eepk_latch_args latch = {world.world, 0, 0};
    const int is_whole = last == EEPI_KERNEL_finish;
    eep_graph *graph = NULL;
    eep_status status = eep_capture_begin(r->stream);

    if (status == EEP_OK) {
        status = eep_launch(r->stream, eepi_tables_kernel(r->tables, EEPI_KERNEL_latch), 1, 1,
                            &latch, sizeof latch);
    }
    for (uint32_t layer = 0; layer < (is_whole ? r->shape.num_layers : 1) && status == EEP_OK;
         layer++) {
        status = put_layer(r, layer, last);
    }
    if (status == EEP_OK && is_whole) {
        status = eep_launch(r->stream, eepi_tables_kernel(r->tables, EEPI_KERNEL_finish), 1, 1,
                            &world, sizeof world);
    }
    if (status == EEP_OK) {
        status = eep_capture_end(r->stream, &graph);
    }
    (void)smoke_check(r, status, "capture");
    return graph;
}

int smoke_capture(smoke_rank *r)
{
    static const eepi_kernel_id stops[SMOKE_STOPS] = {
        [SMOKE_STOP_IN_DISPATCH] = EEPI_KERNEL_dispatch_send,
        [SMOKE_STOP_BETWEEN] = EEPI_KERNEL_unpack,
        [SMOKE_STOP_IN_COMBINE] = EEPI_KERNEL_combine_send};

    r->graph = capture_until(r, EEPI_KERNEL_finish);
    for (int i = 0; i < SMOKE_STOPS && r->graph && smoke_stopper(r->run->test) == r->index &&
                    r->run->test->num_ranks > 1;
         i++) {
        r->until[i] = capture_until(r, stops[i]);
    }
    return smoke_is_failed(r->run) ? -1 : 0;
}
