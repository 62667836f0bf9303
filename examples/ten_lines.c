/* SPDX-License-Identifier: Apache-2.0 */
/* README's "API in ten lines" as a program: one rank that is alone in its instance. Between its
 * marks stand the lines of README; the rest is what an engine has anyway: buffers, weights, inputs.
 *
 *     cc ten_lines.c -o ten_lines $(pkg-config --cflags --libs eep)
 */
#define _GNU_SOURCE
#include <eep/eep.h>
#include <eep/store.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HIDDEN = 8, EXPERTS = 2, TOP_K = 2, STEPS = 3 };
#define OK(call) ((call) == EEP_OK ? (void)0 : fail(#call))

typedef struct batch {
    float *x, *out, *topk_weights;
    int32_t *topk_idx, *num_tokens;
    int committed;
} batch;

static void fail(const char *call)
{
    fprintf(stderr, "%s: %s\n", call, eep_error_text());
    exit(1);
}

static void *pinned(eep_device *device, size_t bytes)
{
    void *memory = NULL;
    OK(eep_device_alloc(device, EEP_MEMORY_PINNED, bytes, &memory));
    return memory;
}

/* One token, which both experts share equally. */
static void fill(batch *b)
{
    *b->num_tokens = 1;
    b->topk_idx[0] = 0;
    b->topk_idx[1] = 1;
    b->topk_weights[0] = b->topk_weights[1] = 0.5f;
    for (int i = 0; i < HIDDEN; i++) {
        b->x[i] = (float)(b->committed + i);
    }
}

/* The experts of this program give back what they get, so a token comes back as it left. */
static void commit(batch *b)
{
    if (memcmp(b->x, b->out, HIDDEN * sizeof(float)) != 0) {
        fail("a wrong result");
    }
    b->committed++;
}

static void roll_back(batch *b)
{
    (void)b; /* nothing was made current: the same batch is filled again */
}

static void run(eep_device *device, const char *store_path)
{
    eep_config config;
    eep_context *ctx = NULL;
    eep_stream *stream = NULL;
    eep_graph *graph = NULL;
    eep_step step;
    char error[256] = "";
    const int32_t layer = 0;

    // README begins
    eep_config_init(&config); /* rank, size, store from EEP_RANK, EEP_SIZE, EEP_STORE */
    // README ends
    config.rank = 0;
    config.num_ranks = 1;
    config.store_path = store_path;
    config.device = device;
    config.num_layers = 1;
    config.num_experts = config.num_slots = EXPERTS;
    config.top_k = TOP_K;
    config.hidden = HIDDEN;
    config.num_max_tokens_per_rank = 1;
    config.log_level = EEP_LOG_WARN;
    OK(eep_stream_open(device, &stream));
    // README begins
    OK(eep_open(&config, error, sizeof error, &ctx)); /* takes the seat with a new generation */
    // README ends
    for (int32_t slot = 0; slot < EXPERTS; slot++) {
        eep_tensor tensors[1] = {{pinned(device, sizeof(float)), sizeof(float)}};
        *(float *)tensors[0].data = (float)eep_slot_expert(ctx, layer, slot);
        // README begins
        OK(eep_slot_set(ctx, layer, slot, tensors, 1)); /* weights of eep_slot_expert(...) */
        // README ends
    }
    batch b = {pinned(device, HIDDEN * sizeof(float)), pinned(device, HIDDEN * sizeof(float)),
               pinned(device, TOP_K * sizeof(float)),  pinned(device, TOP_K * sizeof(int32_t)),
               pinned(device, sizeof(int32_t)),        0};
    float *rows = pinned(device, eep_rows_capacity(ctx) * HIDDEN * sizeof(float));
    int32_t *slot_begin = pinned(device, (EXPERTS + 1) * sizeof(int32_t));
    eep_dispatch_args d = {.struct_bytes = sizeof d};
    eep_combine_args c = {.struct_bytes = sizeof c, .out_dtype = EEP_FP32};
    d.x = b.x, d.topk_idx = b.topk_idx, d.num_tokens = b.num_tokens;
    d.rows = rows, d.slot_begin = slot_begin;
    c.rows = rows, c.topk_weights = b.topk_weights, c.num_tokens = b.num_tokens, c.out = b.out;

    OK(eep_capture_begin(stream));
    // README begins
    OK(eep_step_latch(ctx, stream));          /* captured once: latch, then per layer ... */
    OK(eep_dispatch(ctx, layer, stream, &d)); /* ... dispatch, your experts, combine, then finish */
    // README ends
    OK(eep_combine(ctx, layer, stream, &c));
    OK(eep_step_finish(ctx, stream));
    OK(eep_capture_end(stream, &graph));
    // README begins
    OK(eep_join(ctx)); /* wait to be let in; nobody waits for you */
    while (b.committed < STEPS && eep_step_begin(ctx, 50000, EEP_SIZED(&step)) == EEP_OK) {
        fill(&b);
        OK(eep_graph_replay(graph, stream));
        eep_step_end(ctx) == EEP_OK ? commit(&b) : roll_back(&b);
    }
    // README ends
    printf("%d batches committed, last step %llu, epoch %llu\n", b.committed,
           (unsigned long long)step.step, (unsigned long long)step.epoch);
    eep_close(ctx);
    eep_graph_close(graph);
    eep_stream_close(stream);
}

int main(void)
{
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    char folder[64], path[80], seat[96], text[256] = "";
    eep_store *store = NULL;
    eep_device *device = NULL;

    if (snprintf(folder, sizeof folder, "%s/eep-ten-XXXXXX", base) >= (int)sizeof folder ||
        !mkdtemp(folder)) {
        perror(base);
        return 1;
    }
    snprintf(path, sizeof path, "%s/store", folder);
    snprintf(seat, sizeof seat, "%s.seat0", path);
    if (eep_store_open(path, text, sizeof text, &store) != EEP_OK) {
        fprintf(stderr, "%s\n", text);
        return 1;
    }
    OK(eep_device_open("host", 0, &device));
    run(device, path);
    eep_device_close(device);
    eep_store_close(store);
    unlink(seat);
    rmdir(folder);
    return 0;
}
