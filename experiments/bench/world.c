/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks as threads of one process, their memory and their steps. */
#include "experiments/bench/world.h"

#include "graphs/device/device_ops.h"
#include "membership/context/bank_image.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FINISH_US = 60000000, LEAST_STAGING_BYTES = 1 << 16, POISON = 0xff /* a NaN */ };
static const uint64_t patient_ns = 30000000000u;

void bench_fatal(const char *format, ...)
{
    va_list list;

    fflush(stdout);
    fputs("eep-bench: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    _exit(EXIT_FAILURE); /* other ranks may be waiting for this one in kernels */
}

void bench_ok(const bench_world *w, eep_status status, const char *what)
{
    if (status != EEP_OK) {
        bench_fatal("%s: %s %s", what, eep_strerror(status), eepi_device_failure(w->device));
    }
}

static void *memory(bench_world *w, eep_memory kind, size_t bytes)
{
    void *at = NULL;

    if (eep_device_alloc(w->device, kind, bytes, &at) != EEP_OK) {
        bench_fatal("%zu bytes of %s memory cannot be had: %s", bytes,
                    kind == EEP_MEMORY_DEVICE ? "device" : "pinned",
                    eepi_device_failure(w->device));
    }
    return at;
}

/* ------------------------------------------------------------------ opening */

/* The baseline has tag lines of its own behind the window: its tags have no epoch. */
static void make_shapes(bench_rank *r)
{
    const bench_setup *c = &r->world->setup;
    const eep_shape in_chunks = {c->num_tokens, c->num_chunks};
    const eep_config config = {.struct_bytes = sizeof config,
                               .rank = r->index,
                               .num_ranks = c->num_ranks,
                               .max_ranks = c->num_ranks,
                               .num_layers = c->num_layers,
                               .num_experts = c->num_experts,
                               .num_slots = (c->num_experts + c->num_ranks - 1) / c->num_ranks,
                               .top_k = c->top_k,
                               .hidden = c->hidden,
                               .num_max_tokens_per_rank = c->num_tokens,
                               .dtype = EEP_BF16,
                               .fp8_dispatch = c->fp8,
                               .shapes = &in_chunks,
                               .num_shapes = c->num_chunks != 0};
    const char *why;

    if (eepi_shape_make(&config, &r->shape, &why) != EEP_OK) {
        bench_fatal("bad %s", why);
    }
    if (c->peers && c->peers->network) {
        c->peers->network->plan(&r->shape);
    }
    r->fixed_shape = r->shape;
    r->fixed_shape.off_dispatch_tag = r->shape.window_bytes;
    r->fixed_shape.off_combine_tag =
        r->shape.window_bytes + (uint64_t)r->shape.max_ranks * EEPK_LINE_BYTES;
}

static void open_window(bench_rank *r)
{
    bench_world *w = r->world;
    const bench_peers *peers = w->setup.peers;
    const size_t bytes = r->shape.window_bytes + 2ull * r->shape.max_ranks * EEPK_LINE_BYTES;

    if (peers) {
        peers->open_windows(peers->user, bytes, w->windows);
    } else {
        w->windows[r->index] = memory(w, EEP_MEMORY_DEVICE, bytes);
    }
    r->window = w->windows[r->index];
}

static void open_rank(bench_world *w, int index)
{
    bench_rank *r = &w->rank[index];
    const size_t stamps_bytes =
        (size_t)w->setup.num_layers * BENCH_STAMPS_PER_LAYER * sizeof(uint64_t);

    r->world = w;
    r->index = index;
    make_shapes(r);
    w->inputs = bench_inputs_of(&r->shape);
    open_window(r);
    r->inputs = memory(w, EEP_MEMORY_DEVICE, w->inputs.bytes);
    r->out = memory(w, EEP_MEMORY_DEVICE, (size_t)r->shape.num_max_tokens * r->shape.row_bytes);
    r->slot_begin = memory(w, EEP_MEMORY_DEVICE, (r->shape.num_slots + 1) * sizeof(int32_t));
    r->state = memory(w, EEP_MEMORY_DEVICE, sizeof *r->state);
    r->stamps = memory(w, EEP_MEMORY_DEVICE, stamps_bytes);
    r->stamps_host = memory(w, EEP_MEMORY_PINNED, stamps_bytes);
    r->staging_bytes =
        w->inputs.set_bytes > LEAST_STAGING_BYTES ? w->inputs.set_bytes : LEAST_STAGING_BYTES;
    r->staging = memory(w, EEP_MEMORY_PINNED, r->staging_bytes);
    bench_ok(w, eep_stream_open(w->device, &r->stream), "stream");
    bench_ok(w, eepi_tables_open(w->device, &r->shape, r->window, &r->tables), "tables");
    bench_ok(
        w,
        eep_copy_async(r->stream, r->staging, eepi_tables_world(r->tables), sizeof r->host_world),
        "copy of the tables");
    bench_finish(r);
    memcpy(&r->host_world, r->staging, sizeof r->host_world);
    if (w->setup.peers && w->setup.peers->network) {
        r->network = w->setup.peers->network->open(r);
    }
}

static void fill_inputs(bench_rank *r)
{
    bench_world *w = r->world;
    const bench_inputs *in = &w->inputs;
    const size_t pairs = (size_t)r->shape.num_max_tokens * r->shape.top_k;

    for (int set = 0; set < BENCH_SETS; set++) {
        uint8_t *to = (uint8_t *)r->staging;
        bench_inputs_fill(&r->shape, in, w->setup.seed, r->index, set, to);
        bench_ok(
            w,
            eep_copy_async(r->stream, r->inputs + (size_t)set * in->set_bytes, to, in->set_bytes),
            "copy of inputs");
        r->topk_idx[set] = malloc(pairs * sizeof(int32_t));
        r->topk_weights[set] = malloc(pairs * sizeof(float));
        if (!r->topk_idx[set] || !r->topk_weights[set]) {
            bench_fatal("out of memory");
        }
        memcpy(r->topk_idx[set], to + in->topk_idx, pairs * sizeof(int32_t));
        memcpy(r->topk_weights[set], to + in->topk_weights, pairs * sizeof(float));
        bench_finish(r);
    }
    ((int32_t *)r->staging)[0] = (int32_t)r->shape.num_max_tokens;
    ((int32_t *)r->staging)[1] = (int32_t)r->shape.shapes[r->shape.num_shapes - 1].chunk_tokens;
    bench_ok(w,
             eep_copy_async(r->stream, r->inputs + in->num_tokens, r->staging, 2 * sizeof(int32_t)),
             "copy of num_tokens");
    bench_finish(r);
}

uint32_t bench_slot_rows(const bench_rank *r)
{
    return r->shape.max_ranks * r->shape.num_max_tokens;
}

/* Rows: what these inputs need, not what any inputs could. */
static void open_rows(bench_rank *r)
{
    bench_world *w = r->world;
    const eepk_shape *s = &r->shape;
    const size_t n = w->traffic.max_packed_rows, bytes = n * s->row_bytes;

    r->rows = memory(w, EEP_MEMORY_DEVICE, n * (s->num_scales ? s->hidden : s->row_bytes));
    if (w->setup.pads) {
        r->padded_rows =
            memory(w, EEP_MEMORY_DEVICE, (size_t)s->num_slots * bench_slot_rows(r) * s->row_bytes);
        r->slot_counts = memory(w, EEP_MEMORY_DEVICE, s->num_slots * sizeof(int32_t));
    }
    if (!s->num_scales) {
        return;
    }
    r->row_scales = memory(w, EEP_MEMORY_DEVICE, n * s->num_scales * sizeof(float));
    r->expert_rows = memory(w, EEP_MEMORY_DEVICE, bytes);
    bench_values_fill(w->setup.seed + 77u + (uint64_t)r->index, r->staging,
                      r->staging_bytes / sizeof(uint16_t));
    for (size_t done = 0; done < bytes; done += r->staging_bytes) {
        size_t piece = bytes - done < r->staging_bytes ? bytes - done : r->staging_bytes;
        bench_ok(w, eep_copy_async(r->stream, (uint8_t *)r->expert_rows + done, r->staging, piece),
                 "copy of expert outputs");
    }
    bench_finish(r);
}

/* Each rank's tables and routing, wherever the rank is. */
static void count_traffic(bench_world *w, const eepk_shape *own_shape)
{
    const int n = w->setup.num_ranks;
    eepi_view *view = bench_view_make(own_shape, 1);
    uint8_t *inputs[BENCH_MAX_RANKS * BENCH_SETS], *images[BENCH_MAX_RANKS];
    const int32_t *ids[BENCH_MAX_RANKS * BENCH_SETS];

    if (!view) {
        bench_fatal("out of memory");
    }
    for (int i = 0; i < n; i++) {
        eepk_shape shape = *own_shape;
        shape.self = (uint32_t)i;
        images[i] = malloc(shape.bank_bytes);
        if (!images[i]) {
            bench_fatal("out of memory");
        }
        eepi_bank_image(&shape, view, w->windows, images[i]);
    }
    for (int i = 0; i < n * BENCH_SETS; i++) {
        inputs[i] = malloc(w->inputs.set_bytes);
        if (!inputs[i]) {
            bench_fatal("out of memory");
        }
        bench_inputs_fill(own_shape, &w->inputs, w->setup.seed, i / BENCH_SETS, i % BENCH_SETS,
                          inputs[i]);
        ids[i] = (const int32_t *)(inputs[i] + w->inputs.topk_idx);
    }
    w->traffic = bench_traffic_of(own_shape, (const uint8_t *const *)images, ids);
    w->bytes = bench_bytes_of(own_shape, &w->traffic);
    for (int i = 0; i < n * BENCH_SETS; i++) {
        free(inputs[i]);
    }
    for (int i = 0; i < n; i++) {
        free(images[i]);
    }
    free(view);
}

bench_world *bench_world_open(eep_device *device, bool is_cuda, const bench_setup *setup)
{
    bench_world *w = calloc(1, sizeof *w);
    const bench_peers *peers = setup->peers;
    const int first = peers ? peers->index : 0, end = peers ? first + 1 : setup->num_ranks;

    if (!w) {
        bench_fatal("out of memory");
    }
    if (setup->num_ranks > BENCH_MAX_RANKS) {
        bench_fatal("%d ranks: at most %d", setup->num_ranks, BENCH_MAX_RANKS);
    }
    w->device = device;
    w->is_cuda = is_cuda;
    w->setup = *setup;
    w->meeting = peers ? peers->barrier : &w->barrier;
    for (int i = first; i < end; i++) {
        open_rank(w, i);
    }
    for (int i = first; i < end; i++) {
        eepi_view *view;
        bench_stage_next(&w->rank[i], &view);
        bench_flip(&w->rank[i], view);
        bench_finish(&w->rank[i]);
        fill_inputs(&w->rank[i]);
    }
    count_traffic(w, &w->rank[first].shape);
    for (int i = first; i < end; i++) {
        open_rows(&w->rank[i]);
    }
    return w;
}

static void close_rank(bench_rank *r)
{
    eep_device *device = r->world->device;
    void *const own_window = r->world->setup.peers ? NULL : r->window;
    void *on_device[] = {own_window,     r->inputs,      r->out,        r->slot_begin,
                         r->state,       r->stamps,      r->rows,       r->row_scales,
                         r->expert_rows, r->padded_rows, r->slot_counts};

    for (int kind = 0; kind < BENCH_NUM_KINDS; kind++) {
        eep_graph_close(r->graph[kind]);
    }
    eep_stream_close(r->stream);
    if (r->network) {
        r->world->setup.peers->network->close(r);
    }
    eepi_tables_close(r->tables);
    for (size_t i = 0; i < sizeof on_device / sizeof on_device[0]; i++) {
        eep_device_free(device, EEP_MEMORY_DEVICE, on_device[i]);
    }
    eep_device_free(device, EEP_MEMORY_PINNED, r->stamps_host);
    eep_device_free(device, EEP_MEMORY_PINNED, r->staging);
    for (int set = 0; set < BENCH_SETS; set++) {
        free(r->topk_idx[set]);
        free(r->topk_weights[set]);
    }
}

void bench_world_close(bench_world *w)
{
    for (int i = 0; i < w->setup.num_ranks; i++) {
        if (w->rank[i].world) {
            close_rank(&w->rank[i]);
        }
    }
    free(w);
}

/* ------------------------------------------------------------------ threads */

/* The i-th core that this process may use. Fatal without one. */
static void pin_to_core(void *user)
{
    const bench_rank *r = user;
    cpu_set_t allowed, one;
    int left = r->index;

    CPU_ZERO(&one);
    if (sched_getaffinity(getpid(), sizeof allowed, &allowed) != 0) {
        bench_fatal("the process's cores cannot be read");
    }
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, &allowed) || left-- > 0) {
            continue;
        }
        CPU_SET(core, &one);
        break;
    }
    if (CPU_COUNT(&one) == 0 || sched_setaffinity(0, sizeof one, &one) != 0) {
        bench_fatal("rank %d has no core of its own: too few cores", r->index);
    }
}

static void *rank_main(void *argument)
{
    bench_rank *r = argument;

    if (r->world->setup.pin) {
        bench_ok(r->world, eepi_stream_run_on_worker(r->stream, pin_to_core, r),
                 "binding a stream's worker");
        pin_to_core(r);
    }
    r->world->body(r, r->world->user);
    return NULL;
}

/* Times of a baseline that gave up waiting are none. */
static void expect_no_hang(bench_rank *r)
{
    const eepk_fixed_state *state = (const eepk_fixed_state *)r->staging;

    if (!r->graph[BENCH_FIXED]) {
        return;
    }
    bench_ok(r->world, eep_copy_async(r->stream, r->staging, r->state, sizeof *state),
             "copy of the baseline's state");
    bench_finish(r);
    if (state->gave_up) {
        bench_fatal("rank %d: the baseline waited %llu s in its step %llu, and gave up", r->index,
                    EEPK_FIXED_LIMIT_NS / 1000000000ull, (unsigned long long)state->gave_up);
    }
}

void bench_world_run(bench_world *w, void (*body)(bench_rank *rank, void *user), void *user)
{
    w->body = body;
    w->user = user;
    pthread_barrier_init(&w->barrier, NULL, (unsigned)w->setup.num_ranks);
    for (int i = 0; i < w->setup.num_ranks; i++) {
        int error = pthread_create(&w->rank[i].thread, NULL, rank_main, &w->rank[i]);
        if (error != 0) {
            bench_fatal("no thread for rank %d: pthread_create: %s", i, strerror(error));
        }
    }
    for (int i = 0; i < w->setup.num_ranks; i++) {
        pthread_join(w->rank[i].thread, NULL);
    }
    pthread_barrier_destroy(&w->barrier);
    for (int i = 0; i < w->setup.num_ranks; i++) {
        expect_no_hang(&w->rank[i]);
    }
}

void bench_meet(bench_rank *r)
{
    pthread_barrier_wait(r->world->meeting);
}

/* ------------------------------------------------------------------ steps */

void bench_stage_next(bench_rank *r, eepi_view **view_out)
{
    eepi_view *view = bench_view_make(&r->shape, r->epoch + 1);
    uint8_t *image = eepi_tables_image(r->tables);

    if (!view) {
        bench_fatal("%u experts do not fit into %u x %u slots", r->shape.num_experts,
                    r->shape.max_ranks, r->shape.num_slots);
    }
    eepi_bank_image(&r->shape, view, r->world->windows, image);
    if (r->network) {
        r->world->setup.peers->network->name_peers(r, image);
    }
    bench_ok(r->world, eepi_tables_stage(r->tables, FINISH_US), "staging");
    r->image = image;
    *view_out = view;
}

void bench_flip(bench_rank *r, eepi_view *view)
{
    bench_ok(r->world, eepi_tables_flip(r->tables, r->stream, view->epoch, view->digest), "flip");
    r->epoch = view->epoch;
    free(view);
}

void bench_replay(bench_rank *r, bench_kind kind)
{
    if (kind != BENCH_FIXED) {
        *eepi_tables_launch(r->tables) = (eepk_launch){.step = ++r->step,
                                                       .epoch = r->epoch,
                                                       .wait_ns = patient_ns,
                                                       .shape = kind == BENCH_CHUNKED};
    }
    if (r->network) {
        r->world->setup.peers->network->begin_step(r);
    }
    bench_ok(r->world, eep_graph_replay(r->graph[kind], r->stream), "replay");
}

/* On a GPU the library's wait naps; a measurement looks without a pause. */
void bench_finish(bench_rank *r)
{
    const uint64_t end = eepk_now_ns() + 1000u * (uint64_t)FINISH_US;
    eep_status status = EEP_ERR_TIMEOUT;

    if (!r->world->is_cuda) {
        bench_ok(r->world, eep_stream_synchronize(r->stream, FINISH_US), "end of a step");
        return;
    }
    while (status == EEP_ERR_TIMEOUT && eepk_now_ns() < end) {
        status = eep_stream_synchronize(r->stream, 0);
        sched_yield(); /* other ranks want the driver's lock */
    }
    bench_ok(r->world, status, "end of a step");
}

void bench_expect(bench_rank *r, uint32_t result, uint32_t or_result)
{
    const eepk_status *status = eepi_tables_status(r->tables);

    if (eepk_load_acquire(&status->done_step) != r->step || status->bad_input ||
        (status->result != result && status->result != or_result)) {
        bench_fatal("rank %d, step %llu: done step %llu, result %u instead of %u, bad input %u",
                    r->index, (unsigned long long)r->step, (unsigned long long)status->done_step,
                    status->result, result, status->bad_input);
    }
}

uint64_t bench_step(bench_rank *r, bench_kind kind)
{
    const uint64_t begin = eepk_now_ns();
    uint64_t end;

    bench_replay(r, kind);
    bench_finish(r);
    end = eepk_now_ns();
    if (kind != BENCH_FIXED) {
        bench_expect(r, EEPK_STEP_OK, EEPK_STEP_OK);
    }
    return end - begin;
}

void bench_fetch_stamps(bench_rank *r)
{
    bench_ok(
        r->world,
        eep_copy_async(r->stream, r->stamps_host, r->stamps,
                       (size_t)r->shape.num_layers * BENCH_STAMPS_PER_LAYER * sizeof(uint64_t)),
        "copy of stamps");
    bench_finish(r);
}

/* ------------------------------------------------------------------ checks */

static size_t fetch_out(bench_rank *r)
{
    const size_t bytes = (size_t)r->shape.num_max_tokens * r->shape.row_bytes;

    bench_ok(r->world, eep_copy_async(r->stream, r->staging, r->out, bytes), "copy of outputs");
    bench_finish(r);
    return bytes / sizeof(uint16_t);
}

uint64_t bench_digest_out(bench_rank *r)
{
    const size_t n = fetch_out(r);
    uint64_t digest = 0;

    for (size_t i = 0; i < n; i++) {
        digest = (digest ^ r->staging[i]) * 0x100000001b3u;
    }
    return digest;
}

/* With BF16 an "expert" gives back its input, so the output is known from the inputs alone. */
static uint64_t count_wrong(bench_rank *r)
{
    const eepk_shape *s = &r->shape;
    const int set = (int)((s->num_layers - 1) % BENCH_SETS);
    uint8_t *inputs = malloc(r->world->inputs.set_bytes);
    const uint16_t *x = (const uint16_t *)inputs;
    uint64_t wrong = 0;

    if (!inputs) {
        bench_fatal("out of memory");
    }
    bench_inputs_fill(s, &r->world->inputs, r->world->setup.seed, r->index, set, inputs);
    for (size_t i = 0; i < (size_t)s->num_max_tokens * s->hidden; i++) {
        const float *weights = r->topk_weights[set] + i / s->hidden * s->top_k;
        const float value = eepk_bf16_to_float(x[i]);
        float sum = 0.0f;
        for (uint32_t k = 0; k < s->top_k; k++) {
            sum = EEPK_FADD(sum, EEPK_FMUL(weights[k], value));
        }
        wrong += r->staging[i] != eepk_float_to_bf16(sum);
    }
    free(inputs);
    return wrong;
}

uint64_t bench_check_step(bench_rank *r, bench_kind kind)
{
    const size_t bytes = (size_t)r->shape.num_max_tokens * r->shape.row_bytes;
    uint64_t unwritten = 0;
    size_t n;

    memset(r->staging, POISON, bytes);
    bench_ok(r->world, eep_copy_async(r->stream, r->out, r->staging, bytes), "poisoning");
    bench_finish(r);
    bench_meet(r);
    (void)bench_step(r, kind);
    n = fetch_out(r);
    for (size_t i = 0; i < n; i++) {
        const float value = eepk_bf16_to_float(r->staging[i]);
        unwritten += value != value;
    }
    return unwritten + (r->shape.num_scales ? 0 : count_wrong(r));
}
