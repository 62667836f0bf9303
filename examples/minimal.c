/* SPDX-License-Identifier: Apache-2.0 */
/* A whole engine: two ranks share two experts; one of them is killed, and the other goes on.
 *
 *     cc minimal.c -o minimal $(pkg-config --cflags --libs eep)   # see docs/INTEGRATION.md
 */
#define _GNU_SOURCE
#include <eep/eep.h>
#include <eep/store.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HIDDEN = 8, EXPERTS = 2, TOP_K = 2 };
#define OK(call) ((call) == EEP_OK ? (void)0 : fail(#call))
static void fail(const char *call)
{
    fprintf(stderr, "process %d: %s: %s\n", (int)getpid(), call, eep_error_text());
    exit(1);
}

/* The engine's own kernel: expert e multiplies its rows by its weights. */
typedef struct expert_args {
    const float *weights[EXPERTS], *rows; /* weights of each slot */
    const int32_t *slot_begin;
    float *results;
} expert_args;
static void run_experts(const void *args, eep_grid grid)
{
    const expert_args *a = args;
    for (uint32_t slot = grid.block; slot < EXPERTS; slot += grid.num_blocks) {
        for (int32_t i = a->slot_begin[slot] * HIDDEN; i < a->slot_begin[slot + 1] * HIDDEN; i++) {
            a->results[i] = a->rows[i] * a->weights[slot][i % HIDDEN];
        }
    }
}

static const eep_kernel experts = EEP_KERNEL("experts", run_experts, NULL, NULL, 0);

static void *pinned(eep_device *device, size_t bytes)
{
    void *memory;
    OK(eep_device_alloc(device, EEP_MEMORY_PINNED, bytes, &memory));
    return memory;
}

static void run_rank(int32_t rank, const char *store, int tell_fd)
{
    eep_device *device;
    eep_stream *stream;
    eep_graph *graph;
    eep_context *context;
    eep_config config;
    expert_args e;
    OK(eep_device_open("host", 0, &device));
    OK(eep_stream_open(device, &stream));
    eep_config_init(&config);
    config.rank = rank, config.num_ranks = 2, config.store_path = store, config.device = device;
    config.num_layers = 1, config.num_experts = config.num_slots = EXPERTS, config.top_k = TOP_K;
    config.hidden = HIDDEN, config.num_max_tokens_per_rank = 1;
    OK(eep_open(&config, NULL, 0, &context));        /* waits up to 5 s for the store */
    for (int32_t slot = 0; slot < EXPERTS; slot++) { /* load what libeep asks for */
        eep_tensor tensor = {pinned(device, HIDDEN * sizeof(float)), HIDDEN * sizeof(float)};
        for (int i = 0; i < HIDDEN; i++) {
            ((float *)tensor.data)[i] = (float)eep_slot_expert(context, 0, slot) + 1;
        }
        e.weights[slot] = tensor.data;
        OK(eep_slot_set(context, 0, slot, &tensor, 1));
    }
    size_t rows_bytes = eep_rows_capacity(context) * HIDDEN * sizeof(float);
    float *x = pinned(device, HIDDEN * sizeof(float)),
          *out = pinned(device, HIDDEN * sizeof(float));
    float *rows = pinned(device, rows_bytes), *weights = pinned(device, TOP_K * sizeof(float));
    int32_t *slot_begin = pinned(device, (EXPERTS + 1) * sizeof(int32_t));
    int32_t *topk = pinned(device, TOP_K * sizeof(int32_t)), *num = pinned(device, sizeof(int32_t));
    e.rows = rows, e.slot_begin = slot_begin, e.results = pinned(device, rows_bytes);
    eep_dispatch_args d = {.struct_bytes = sizeof d};
    eep_combine_args c = {.struct_bytes = sizeof c, .out_dtype = EEP_FP32};
    d.x = x, d.topk_idx = topk, d.num_tokens = num, d.rows = rows, d.slot_begin = slot_begin;
    c.rows = e.results, c.topk_weights = weights, c.num_tokens = num, c.out = out;
    OK(eep_capture_begin(stream)); /* the step, captured once */
    OK(eep_step_latch(context, stream));
    OK(eep_dispatch(context, 0, stream, &d));
    OK(eep_launch(stream, &experts, EXPERTS, 1, &e, sizeof e));
    OK(eep_combine(context, 0, stream, &c));
    OK(eep_step_finish(context, stream));
    OK(eep_capture_end(stream, &graph));
    OK(eep_join(context));
    for (int with[3] = {0}; with[1] < 10;) { /* [ranks in the view] steps that ended OK */
        eep_step step;
        eep_status status = eep_step_begin(context, 50000, EEP_SIZED(&step));
        if (status == EEP_ERR_TIMEOUT) {
            continue; /* the view is being changed */
        }
        OK(status);
        *num = 1, topk[0] = 0, topk[1] = 1, weights[0] = weights[1] = 0.5f;
        for (int i = 0; i < HIDDEN; i++) {
            x[i] = (float)step.step;
        }
        OK(eep_graph_replay(graph, stream));
        status = eep_step_end(context);
        if (status == EEP_ERR_ABORTED) {
            continue; /* a peer is gone: the same input again, in the next step */
        }
        OK(status);
        if (out[0] != 1.5f * (float)step.step || out[HIDDEN - 1] != out[0]) {
            fail("a wrong result");
        }
        if (++with[step.num_active] == 10 && write(tell_fd, "s", 1) == 1) {
            printf("rank %d: 10 steps, ranks in the view: %d, epoch %llu\n", rank, step.num_active,
                   (unsigned long long)step.epoch);
        }
    }
    fflush(stdout);
    eep_close(context);
    exit(0);
}

int main(void)
{
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    char folder[80], path[100], seat[120], text[256], told[2]; /* a socket's path has 107 bytes */
    eep_store *store;
    pid_t rank[2];
    int status = 1, tell[2];
    signal(SIGCHLD, SIG_DFL); /* whatever our parent ignores: we wait for children */
    if (snprintf(folder, sizeof folder, "%s/eep-minimal-XXXXXX", base) >= (int)sizeof folder) {
        fail("TMPDIR is too long");
    }
    if (!mkdtemp(folder) || pipe(tell) != 0) {
        fail(folder);
    }
    snprintf(path, sizeof path, "%s/store", folder);
    for (int32_t r = 0; r < 2; r++) { /* before this process opens anything of libeep's */
        if ((rank[r] = fork()) == 0) {
            run_rank(r, path, tell[1]);
        }
    }
    close(tell[1]); /* if a rank fails, the reads below end */
    if (eep_store_open(path, text, sizeof(text), &store) != EEP_OK) {
        fail(text);
    }
    if (read(tell[0], told, 1) == 1 && read(tell[0], told + 1, 1) == 1) { /* both serve */
        kill(rank[1], SIGKILL);
    }
    waitpid(rank[0], &status, 0);
    kill(rank[1], SIGKILL);
    waitpid(rank[1], NULL, 0);
    eep_store_close(store);
    for (int r = 0; r < 2; r++) {
        snprintf(seat, sizeof seat, "%s.seat%d", path, r);
        unlink(seat);
    }
    rmdir(folder);
    return status != 0;
}
