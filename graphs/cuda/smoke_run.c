#include "graphs/cuda/smoke_run.h"

#include "graphs/cuda/smoke_expert.h"
#include "graphs/cuda/smoke_inputs.h"
#include "graphs/device_ops.h"
#include "graphs/tables.h"
#include "membership/bank_image.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCKS = EEPI_COPY_BLOCKS,
    THREADS = EEPI_COPY_THREADS,
    POISON = 0xff, /* NaN in both types, no row number */
    SYNC_US = 20000000,
    LOOK_US = 2000,
};
static const uint64_t patient_ns = 5000000000u;

typedef struct smoke_group smoke_group;
typedef struct smoke_rank {
    smoke_group *run;
    int index, seat;
    eepk_shape shape;
    eepi_tables *tables;
    eep_stream *stream;
    eep_graph *graph;
    void *window;
    uint8_t *inputs, *outputs, *expert_out;       /* device memory */
    uint8_t *inputs_host, *poison, *outputs_host; /* pinned: sources and target of copies */
    pthread_t thread;
    char why[256];
} smoke_rank;

struct smoke_group {
    eep_device *device;
    const smoke_case *test;
    smoke_result *result;
    int is_cuda, max_ranks, num_slots;
    smoke_inputs in;
    eepi_view **views; /* [num_flips], of epochs 1, 2, ... */
    int num_flips;
    void *windows[SMOKE_MAX_RANKS + 1];
    smoke_rank ranks[SMOKE_MAX_RANKS];
    pthread_barrier_t barrier;
    int failed;
};

__attribute__((format(printf, 2, 3))) static int fail(smoke_rank *r, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(r->why, sizeof(r->why), format, list);
    va_end(list);
    __atomic_store_n(&r->run->failed, 1, __ATOMIC_RELEASE);
    return -1;
}

static int check(smoke_rank *r, eep_status status, const char *what)
{
    if (status == EEP_OK)
        return 0;
    if (r->why[0]) /* already told, with more detail */
        return -1;
    return fail(r, "rank %d: %s: %s %.120s", r->index, what, eep_strerror(status),
                eepi_device_failure(r->run->device));
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
    eep_config config = {.rank = r->seat,
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

    if (eepi_shape_make(&config, &r->shape, &why) != EEP_OK)
        return fail(r, "bad case: %s", why);
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
    };

    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (check(r, eep_device_alloc(run->device, wanted[i].kind, wanted[i].bytes, wanted[i].to),
                  "alloc"))
            return -1;
    }
    memset(r->poison, POISON, out_bytes);
    if (check(r, eep_stream_open(run->device, &r->stream), "stream"))
        return -1;
    return check(r, eepi_tables_open(run->device, &r->shape, r->window, &r->tables), "tables");
}

static void rank_close(smoke_rank *r)
{
    eep_device *device = r->run->device;

    eep_graph_close(r->graph);
    eep_stream_close(r->stream);
    eepi_tables_close(r->tables);
    eep_device_free(device, EEP_MEMORY_DEVICE, r->window);
    eep_device_free(device, EEP_MEMORY_DEVICE, r->inputs);
    eep_device_free(device, EEP_MEMORY_DEVICE, r->outputs);
    eep_device_free(device, EEP_MEMORY_DEVICE, r->expert_out);
    eep_device_free(device, EEP_MEMORY_PINNED, r->inputs_host);
    eep_device_free(device, EEP_MEMORY_PINNED, r->poison);
    eep_device_free(device, EEP_MEMORY_PINNED, r->outputs_host);
}

/* ------------------------------------------------------------------ capture */

static eep_status put(const smoke_rank *r, eepi_kernel_id id, uint32_t blocks, uint32_t threads,
                      const void *args, size_t bytes)
{
    return eep_launch(r->stream, eepi_tables_kernel(r->tables, id), blocks, threads, args, bytes);
}

static void expert_on_host(const void *args, eep_grid g)
{
    smoke_expert_body(args, g);
}

static eep_status put_expert(smoke_rank *r, const smoke_expert_args *args)
{
    const eep_kernel on_host = {"smoke_expert", expert_on_host, NULL};
    const char *why;

    if (!r->run->is_cuda)
        return eep_launch(r->stream, &on_host, BLOCKS, 1, args, sizeof(*args));
    why = smoke_expert_launch(eep_stream_native(r->stream), BLOCKS, THREADS, args);
    if (why)
        (void)fail(r, "rank %d: launch of the expert kernel: %s", r->index, why);
    return why ? EEP_ERR_DEVICE : EEP_OK;
}

static eep_status put_layer(smoke_rank *r, uint32_t layer)
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
    eep_status status = put(r, EEPI_KERNEL_route, 1, EEPI_ROUTE_THREADS, &d, sizeof(d));

    if (status == EEP_OK)
        status = put(r, EEPI_KERNEL_dispatch_send, BLOCKS, THREADS, &d, sizeof(d));
    if (status == EEP_OK)
        status = put(r, EEPI_KERNEL_dispatch_exchange, 1, EEPI_EXCHANGE_THREADS, &d, sizeof(d));
    if (status == EEP_OK)
        status = put(r, EEPI_KERNEL_unpack, BLOCKS, THREADS, &d, sizeof(d));
    if (status == EEP_OK)
        status = put_expert(r, &e);
    if (status == EEP_OK)
        status = put(r, EEPI_KERNEL_combine_send, BLOCKS, THREADS, &c, sizeof(c));
    if (status == EEP_OK)
        status = put(r, EEPI_KERNEL_combine_exchange, 1, EEPI_EXCHANGE_THREADS, &c, sizeof(c));
    if (status == EEP_OK)
        status = put(r, EEPI_KERNEL_reduce, BLOCKS, THREADS, &c, sizeof(c));
    return status;
}

static int capture_step(smoke_rank *r)
{
    eepk_world_args world = {eepi_tables_world(r->tables)};
    eep_status status = eep_capture_begin(r->stream);

    if (status == EEP_OK)
        status = put(r, EEPI_KERNEL_latch, 1, 1, &world, sizeof(world));
    for (uint32_t layer = 0; layer < r->shape.num_layers && status == EEP_OK; layer++)
        status = put_layer(r, layer);
    if (status == EEP_OK)
        status = put(r, EEPI_KERNEL_finish, 1, 1, &world, sizeof(world));
    if (status == EEP_OK)
        status = eep_capture_end(r->stream, &r->graph);
    return check(r, status, "capture");
}

/* ------------------------------------------------------------------ steps */

/* Stage the view into the idle bank and make it live before the next replay. */
static int flip_to(smoke_rank *r, const eepi_view *view)
{
    eepi_bank_image(&r->shape, view, r->run->windows, eepi_tables_image(r->tables));
    if (check(r, eepi_tables_stage(r->tables, SYNC_US), "stage"))
        return -1;
    return check(r, eepi_tables_flip(r->tables, r->stream, view->epoch, view->digest), "flip");
}

static void set_step(smoke_rank *r, uint64_t step, uint64_t epoch, uint64_t wait_ns)
{
    eepk_launch *launch = eepi_tables_launch(r->tables);

    launch->step = step;
    launch->epoch = epoch;
    launch->announce_digest = 0;
    launch->wait_ns = wait_ns;
}

/* Replay, wait for the end, and look whether the last node reported the step as ended so. */
static int replay(smoke_rank *r, uint64_t step, uint32_t wanted)
{
    const eepk_status *status = eepi_tables_status(r->tables);

    if (check(r, eep_graph_replay(r->graph, r->stream), "replay") ||
        check(r, eep_stream_synchronize(r->stream, SYNC_US), "synchronize"))
        return -1;
    if (eepk_load_acquire(&status->done_step) != step || status->result != wanted)
        return fail(r, "rank %d step %llu: done_step %llu, result %u instead of %u, bad input %u",
                    r->index, (unsigned long long)step, (unsigned long long)status->done_step,
                    status->result, wanted, status->bad_input);
    return 0;
}

static int run_step(smoke_rank *r, int step)
{
    smoke_group *run = r->run;
    size_t bytes = run->result->layout.bytes;
    size_t cell = (size_t)step * (size_t)run->test->num_ranks + (size_t)r->index;
    int epoch = 1 + step / SMOKE_FLIP_EVERY;
    uint64_t begin;

    smoke_inputs_fill(run->test, &r->shape, &run->in, step, r->index, r->inputs_host);
    if (check(r, eep_copy_async(r->stream, r->inputs, r->inputs_host, run->in.bytes), "copy in") ||
        check(r, eep_copy_async(r->stream, r->outputs, r->poison, bytes), "poison"))
        return -1;
    if (step % SMOKE_FLIP_EVERY == 0 && flip_to(r, run->views[epoch - 1]))
        return -1;
    if (check(r, eep_stream_synchronize(r->stream, SYNC_US), "synchronize"))
        return -1;
    set_step(r, (uint64_t)step + 1, (uint64_t)epoch, patient_ns);
    begin = eepk_now_ns();
    if (replay(r, (uint64_t)step + 1, EEPK_STEP_OK))
        return -1;
    run->result->step_ns[cell] = eepk_now_ns() - begin;
    if (check(r, eep_copy_async(r->stream, r->outputs_host, r->outputs, bytes), "copy out") ||
        check(r, eep_stream_synchronize(r->stream, SYNC_US), "synchronize"))
        return -1;
    memcpy(run->result->outputs + cell * bytes, r->outputs_host, bytes);
    return 0;
}

/* Nobody else runs this step: it must end by itself and name the others, and only them. */
static int step_alone_deadline(smoke_rank *r, uint64_t step)
{
    smoke_group *run = r->run;
    uint64_t begin, others = 0;

    for (int i = 0; i < run->test->num_ranks; i++) {
        if (i != r->index)
            others |= 1ull << smoke_seat_of(i);
    }
    set_step(r, step, (uint64_t)run->num_flips, (uint64_t)SMOKE_WAIT_MS * 1000000u);
    begin = eepk_now_ns();
    if (replay(r, step, EEPK_STEP_DEADLINE))
        return -1;
    run->result->deadline_ns = eepk_now_ns() - begin;
    run->result->deadline_right = eepi_tables_status(r->tables)->suspects[0] == others;
    return 0;
}

/* Nor this one: once it is seen to wait, the abort word must end it. */
static int step_alone_abort(smoke_rank *r, uint64_t step)
{
    const eepk_status *status = eepi_tables_status(r->tables);
    uint64_t begin;

    set_step(r, step, (uint64_t)r->run->num_flips, patient_ns);
    if (check(r, eep_graph_replay(r->graph, r->stream), "replay"))
        return -1;
    if (eep_stream_synchronize(r->stream, LOOK_US) != EEP_ERR_TIMEOUT)
        return fail(r, "rank %d step %llu did not wait for its peers", r->index,
                    (unsigned long long)step);
    begin = eepk_now_ns();
    eepk_store_release(eepi_tables_abort_step(r->tables), step);
    if (check(r, eep_stream_synchronize(r->stream, SYNC_US), "synchronize after abort"))
        return -1;
    r->run->result->abort_ns = eepk_now_ns() - begin;
    r->run->result->abort_right =
        eepk_load_acquire(&status->done_step) == step && status->result == EEPK_STEP_HOST_ABORT;
    return 0;
}

static int is_failed(const smoke_group *run)
{
    return __atomic_load_n(&run->failed, __ATOMIC_ACQUIRE);
}

/* Everybody has captured before anybody waits, and nobody allocates after that. */
static void *rank_main(void *argument)
{
    smoke_rank *r = argument;
    smoke_group *run = r->run;

    (void)capture_step(r); /* a failure is in run->failed */
    pthread_barrier_wait(&run->barrier);
    if (r->index == 0)
        run->result->captures = eep_device_captures(run->device);
    pthread_barrier_wait(&run->barrier);
    for (int step = 0; step < run->test->num_steps && !is_failed(run); step++) {
        if (run_step(r, step))
            break;
    }
    pthread_barrier_wait(&run->barrier);
    if (r->index == 0 && !is_failed(run)) {
        uint64_t next = (uint64_t)run->test->num_steps + 1;
        if (step_alone_deadline(r, next) == 0)
            (void)step_alone_abort(r, next + 1);
    }
    return NULL;
}

/* ------------------------------------------------------------------ the run */

static int run_open(smoke_group *run)
{
    const smoke_case *test = run->test;
    size_t cells = (size_t)test->num_steps * (size_t)test->num_ranks;

    for (int i = 0; i < test->num_ranks; i++) {
        run->ranks[i].run = run;
        run->ranks[i].index = i;
        run->ranks[i].seat = smoke_seat_of(i);
        if (make_shape(&run->ranks[i]))
            return -1;
    }
    make_layouts(run);
    run->num_flips = (test->num_steps + SMOKE_FLIP_EVERY - 1) / SMOKE_FLIP_EVERY;
    run->views = calloc((size_t)run->num_flips, sizeof(*run->views));
    run->result->outputs = calloc(cells, run->result->layout.bytes);
    run->result->step_ns = calloc(cells, sizeof(uint64_t));
    if (!run->views || !run->result->outputs || !run->result->step_ns)
        return fail(&run->ranks[0], "out of memory");
    for (int i = 0; i < run->num_flips; i++) {
        run->views[i] = smoke_view_make(run->test, &run->ranks[0].shape, i + 1);
        if (!run->views[i])
            return fail(&run->ranks[0], "no placement");
    }
    for (int i = 0; i < test->num_ranks; i++) {
        if (rank_open(&run->ranks[i]))
            return -1;
        run->windows[run->ranks[i].seat] = run->ranks[i].window;
    }
    return 0;
}

static void run_threads(smoke_group *run)
{
    int num_ranks = run->test->num_ranks;

    pthread_barrier_init(&run->barrier, NULL, (unsigned)num_ranks);
    for (int i = 0; i < num_ranks; i++) {
        if (pthread_create(&run->ranks[i].thread, NULL, rank_main, &run->ranks[i]) != 0) {
            perror("gpu_smoke: pthread_create"); /* the others stand at the barrier for good */
            exit(1);
        }
    }
    for (int i = 0; i < num_ranks; i++)
        pthread_join(run->ranks[i].thread, NULL);
    pthread_barrier_destroy(&run->barrier);
}

int smoke_run(eep_device *device, int is_cuda, const smoke_case *test, smoke_result *result_out)
{
    smoke_group *run = calloc(1, sizeof(*run));
    uint64_t before = eep_device_captures(device);
    int failed;

    memset(result_out, 0, sizeof(*result_out));
    if (!run) {
        snprintf(result_out->why, sizeof(result_out->why), "out of memory");
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
        snprintf(result_out->why + length, sizeof(result_out->why) - length, "%s%s",
                 run->ranks[i].why[0] && length ? "; " : "", run->ranks[i].why);
        rank_close(&run->ranks[i]);
    }
    for (int i = 0; run->views && i < run->num_flips; i++)
        free(run->views[i]);
    free(run->views);
    failed = run->failed;
    free(run);
    return failed ? -1 : 0;
}

void smoke_result_free(smoke_result *result)
{
    free(result->outputs);
    free(result->step_ns);
    memset(result, 0, sizeof(*result));
}
