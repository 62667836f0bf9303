/* SPDX-License-Identifier: Apache-2.0 */
/* A run of the GPU check: opens its ranks, lets them run as threads, closes them. */
#include "tests/gpu/smoke/smoke_rank.h"

#include <stdbool.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POISON = 0xff /* NaN in both types, no row number */ };

int smoke_fail(smoke_rank *r, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(r->why, sizeof r->why, format, list);
    va_end(list);
    __atomic_store_n(&r->run->failed, 1, __ATOMIC_RELEASE);
    return -1;
}

int smoke_check(smoke_rank *r, eep_status status, const char *what)
{
    if (status == EEP_OK) {
        return 0;
    }
    if (r->why[0]) { /* already told, with more detail */
        return -1;
    }
    return smoke_fail(r, "rank %d: %s: %s %.120s", r->index, what, eep_strerror(status),
                      eepi_device_failure(r->run->device));
}

bool smoke_is_failed(const smoke_group *run)
{
    return __atomic_load_n(&run->failed, __ATOMIC_ACQUIRE);
}

static size_t line_up(size_t bytes)
{
    return (bytes + EEPK_LINE_BYTES - 1) / EEPK_LINE_BYTES * EEPK_LINE_BYTES;
}

/* ------------------------------------------------------------------ memory */

static void make_layouts(smoke_group *run)
{
    const eepk_shape *s = &run->ranks[0].shape;
    smoke_layout *out = &run->result->layout;

    run->in = smoke_inputs_of(s);
    out->rows_bytes = (size_t)s->rows_capacity * (run->test->fp8 ? s->hidden : s->row_bytes);
    out->scales_bytes = (size_t)s->rows_capacity * s->num_scales * sizeof(float);
    out->slot_begin_bytes = (s->num_slots + 1) * sizeof(int32_t);
    out->out_bytes = (size_t)SMOKE_TOKENS * s->row_bytes;
    out->bytes = 0;
    for (uint32_t layer = 0; layer < s->num_layers; layer++) {
        out->rows[layer] = out->bytes;
        out->scales[layer] = out->rows[layer] + line_up(out->rows_bytes);
        out->slot_begin[layer] = out->scales[layer] + line_up(out->scales_bytes);
        out->out[layer] = out->slot_begin[layer] + line_up(out->slot_begin_bytes);
        out->bytes = out->out[layer] + line_up(out->out_bytes);
    }
}

static int make_shape(smoke_rank *r)
{
    const smoke_case *test = r->run->test;
    int num_experts = test->num_ranks * (r->run->num_slots - SMOKE_SPARE_SLOTS);
    eep_config config = {.struct_bytes = sizeof config,
                         .rank = r->seat,
                         .num_ranks = test->num_ranks,
                         .max_ranks = r->run->max_ranks,
                         .num_layers = test->num_layers,
                         .num_experts = num_experts,
                         .num_slots = r->run->num_slots,
                         .top_k = SMOKE_TOPK,
                         .hidden = test->hidden,
                         .num_max_tokens_per_rank = SMOKE_TOKENS,
                         .dtype = test->dtype,
                         .fp8_dispatch = test->fp8};
    const char *why;

    if (eepi_shape_make(&config, &r->shape, &why) != EEP_OK) {
        return smoke_fail(r, "bad case: %s", why);
    }
    return 0;
}

static int rank_open(smoke_rank *r)
{
    const smoke_group *run = r->run;
    size_t out_bytes = run->result->layout.bytes;
    struct {
        eep_memory kind;
        size_t bytes;
        void **to;
    } wanted[] = {
        {EEP_MEMORY_DEVICE, r->shape.window_bytes, &r->window},
        {EEP_MEMORY_DEVICE, run->in.bytes, (void **)&r->inputs},
        {EEP_MEMORY_DEVICE, out_bytes, (void **)&r->outputs},
        {EEP_MEMORY_DEVICE, (size_t)r->shape.rows_capacity * r->shape.row_bytes,
         (void **)&r->expert_out},
        {EEP_MEMORY_PINNED, run->in.bytes, (void **)&r->inputs_host},
        {EEP_MEMORY_PINNED, out_bytes, (void **)&r->poison},
        {EEP_MEMORY_PINNED, out_bytes, (void **)&r->outputs_host},
        {EEP_MEMORY_PINNED, sizeof *r->never_last, (void **)&r->never_last},
    };

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (smoke_check(
                r, eep_device_alloc(run->device, wanted[i].kind, wanted[i].bytes, wanted[i].to),
                "alloc")) {
            return -1;
        }
    }
    memset(r->poison, POISON, out_bytes);
    *r->never_last = UINT32_MAX / 2;
    if (smoke_check(r, eep_stream_open(run->device, &r->stream), "stream")) {
        return -1;
    }
    return smoke_check(r, eepi_tables_open(run->device, &r->shape, r->window, &r->tables),
                       "tables");
}

static void rank_close(smoke_rank *r)
{
    eep_device *device = r->run->device;

    eep_graph_close(r->graph);
    for (int i = 0; i < SMOKE_STOPS; i++) {
        eep_graph_close(r->until[i]);
    }
    eep_stream_close(r->stream);
    eepi_tables_close(r->tables);
    eep_device_free(device, EEP_MEMORY_DEVICE, r->window);
    eep_device_free(device, EEP_MEMORY_DEVICE, r->inputs);
    eep_device_free(device, EEP_MEMORY_DEVICE, r->outputs);
    eep_device_free(device, EEP_MEMORY_DEVICE, r->expert_out);
    eep_device_free(device, EEP_MEMORY_PINNED, r->inputs_host);
    eep_device_free(device, EEP_MEMORY_PINNED, r->poison);
    eep_device_free(device, EEP_MEMORY_PINNED, r->outputs_host);
    eep_device_free(device, EEP_MEMORY_PINNED, r->never_last);
}

/* Everybody has captured before anybody waits, and nobody allocates after that. */
static void *rank_main(void *argument)
{
    smoke_rank *r = argument;
    smoke_group *run = r->run;

    (void)smoke_capture(r); /* a failure is in run->failed */
    pthread_barrier_wait(&run->barrier);
    if (r->index == 0) {
        run->result->captures = eep_device_captures(run->device);
    }
    pthread_barrier_wait(&run->barrier);
    smoke_steps(r);
    return NULL;
}

/* ------------------------------------------------------------------ the run */

static int run_open(smoke_group *run)
{
    const smoke_case *test = run->test;
    size_t cells = (size_t)(test->num_steps + SMOKE_STOPS) * (size_t)test->num_ranks;

    for (int i = 0; i < test->num_ranks; i++) {
        run->ranks[i].run = run;
        run->ranks[i].index = i;
        run->ranks[i].seat = smoke_seat_of(i);
        if (make_shape(&run->ranks[i])) {
            return -1;
        }
    }
    make_layouts(run);
    run->num_flips = (test->num_steps + SMOKE_FLIP_EVERY - 1) / SMOKE_FLIP_EVERY;
    run->views = calloc((size_t)run->num_flips, sizeof *run->views);
    run->result->outputs = calloc(cells, run->result->layout.bytes);
    run->result->step_ns = calloc(cells, sizeof(uint64_t));
    if (!run->views || !run->result->outputs || !run->result->step_ns) {
        return smoke_fail(&run->ranks[0], "out of memory");
    }
    for (int i = 0; i < run->num_flips; i++) {
        run->views[i] = smoke_view_make(run->test, &run->ranks[0].shape, i + 1);
        if (!run->views[i]) {
            return smoke_fail(&run->ranks[0], "no placement");
        }
    }
    for (int i = 0; i < test->num_ranks; i++) {
        if (rank_open(&run->ranks[i])) {
            return -1;
        }
        run->windows[run->ranks[i].seat] = run->ranks[i].window;
    }
    return 0;
}

static void run_threads(smoke_group *run)
{
    int num_ranks = run->test->num_ranks;

    pthread_barrier_init(&run->barrier, NULL, (unsigned)num_ranks);
    pthread_mutex_init(&run->lock, NULL);
    for (int i = 0; i < num_ranks; i++) {
        if (pthread_create(&run->ranks[i].thread, NULL, rank_main, &run->ranks[i]) != 0) {
            perror("gpu_smoke: pthread_create"); /* the others stand at the barrier for good */
            exit(1);
        }
    }
    for (int i = 0; i < num_ranks; i++) {
        pthread_join(run->ranks[i].thread, NULL);
    }
    pthread_mutex_destroy(&run->lock);
    pthread_barrier_destroy(&run->barrier);
}

int smoke_run(eep_device *device, int is_cuda, const smoke_case *test, smoke_result *result_out)
{
    smoke_group *run = calloc(1, sizeof *run);
    uint64_t before = eep_device_captures(device);
    int failed;

    memset(result_out, 0, sizeof *result_out);
    if (!run) {
        snprintf(result_out->why, sizeof result_out->why, "out of memory");
        return -1;
    }
    run->device = device;
    run->is_cuda = is_cuda;
    run->test = test;
    run->result = result_out;
    run->max_ranks = test->num_ranks + 1;
    run->num_slots = SMOKE_TOPK + SMOKE_SPARE_SLOTS;
    if (run_open(run) == 0) {
        run_threads(run);
        result_out->captures_after_start = eep_device_captures(device) - result_out->captures;
        result_out->captures -= before;
        result_out->num_nodes = run->ranks[0].graph ? eep_graph_num_nodes(run->ranks[0].graph) : 0;
    }
    for (int i = 0; i < test->num_ranks; i++) {
        size_t length = strlen(result_out->why);
        snprintf(result_out->why + length, sizeof result_out->why - length, "%s%s",
                 run->ranks[i].why[0] && length ? "; " : "", run->ranks[i].why);
        rank_close(&run->ranks[i]);
    }
    for (int i = 0; run->views && i < run->num_flips; i++) {
        free(run->views[i]);
    }
    free(run->views);
    failed = run->failed;
    free(run);
    return failed ? -1 : 0;
}

void smoke_result_free(smoke_result *result)
{
    free(result->outputs);
    free(result->step_ns);
    memset(result, 0, sizeof *result);
}
