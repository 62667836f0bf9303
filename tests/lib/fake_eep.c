/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/fake_eep.h"
#include "eep/checkpoint.h"
#include "eep/words.h"
#include "graphs/device/device_ops.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- device */

typedef struct node {
    const eep_kernel *kernel;
    uint32_t num_blocks;
    _Alignas(16) unsigned char args[EEP_KERNEL_ARGS_MAX_BYTES];
} node;

struct eep_graph {
    node *nodes;
    uint32_t num_nodes;
};
struct eep_stream {
    eep_graph *recording;
};
enum { MOST_PINNED = 32 };
struct eep_device {
    int allocations, num_pinned;
    struct {
        const char *at;
        size_t bytes;
    } pinned[MOST_PINNED];
};

eep_device *fake_device_open(void)
{
    return calloc(1, sizeof(eep_device));
}

void fake_device_close(eep_device *device)
{
    free(device);
}

int fake_device_allocations(const eep_device *device)
{
    return device->allocations;
}

const char *eep_device_backend(const eep_device *device)
{
    (void)device;
    return "host";
}

const char *eep_device_error_text(void)
{
    return "";
}

eep_status eep_device_alloc(eep_device *device, eep_memory kind, size_t bytes, void **memory_out)
{
    size_t rounded = (bytes + 127) / 128 * 128;
    *memory_out = aligned_alloc(128, rounded);
    memset(*memory_out, 0, rounded);
    device->allocations++;
    if (kind == EEP_MEMORY_PINNED) {
        assert(device->num_pinned < MOST_PINNED);
        device->pinned[device->num_pinned].at = *memory_out;
        device->pinned[device->num_pinned++].bytes = rounded;
    }
    return EEP_OK;
}

void eep_device_free(eep_device *device, eep_memory kind, void *memory)
{
    (void)device;
    (void)kind;
    free(memory);
}

/* Everything is done when it is put into a stream. */
eep_status eep_event_open(eep_device *device, eep_event **event_out)
{
    (void)device;
    *event_out = malloc(1);
    return EEP_OK;
}

void eep_event_close(eep_event *event)
{
    free(event);
}

eep_status eep_event_record(eep_event *event, eep_stream *stream)
{
    (void)event;
    (void)stream;
    return EEP_OK;
}

eep_status eep_event_synchronize(eep_event *event, uint64_t timeout_us)
{
    (void)event;
    (void)timeout_us;
    return EEP_OK;
}

typedef struct copy_node {
    void *to;
    const void *from;
    size_t bytes;
} copy_node;

static void run_copy(const void *raw, eep_grid grid)
{
    const copy_node *copy = raw;
    (void)grid;
    memcpy(copy->to, copy->from, copy->bytes);
}

eep_status eep_copy_async(eep_stream *stream, void *to, const void *from, size_t bytes)
{
    static const eep_kernel kernel = EEP_KERNEL("copy", run_copy, NULL, NULL, 0);
    const copy_node copy = {to, from, bytes};
    return eep_launch(stream, &kernel, 1, 1, &copy, sizeof copy);
}

void *eep_stream_native(eep_stream *stream)
{
    (void)stream;
    return NULL;
}

eep_status eep_stream_open(eep_device *device, eep_stream **stream_out)
{
    (void)device;
    *stream_out = calloc(1, sizeof(eep_stream));
    return EEP_OK;
}

eep_status eepi_device_auxiliary(eep_device *device, eep_stream **stream_out)
{
    static eep_stream one;

    (void)device;
    *stream_out = &one;
    return EEP_OK;
}

void eep_stream_close(eep_stream *stream)
{
    free(stream);
}

eep_status eep_stream_synchronize(eep_stream *stream, uint64_t timeout_us)
{
    (void)stream;
    (void)timeout_us;
    return EEP_OK;
}

static void run_node(const node *n)
{
    for (uint32_t block = 0; block < n->num_blocks; block++) {
        n->kernel->host(n->args, (eep_grid){block, n->num_blocks, 0, 1});
    }
}

int eep_device_ordinal(const eep_device *device)
{
    (void)device;
    return 0;
}

eep_status eepi_capture_show(eep_stream *stream, const eep_kernel *kernel, uint32_t num_blocks,
                             const void *args, size_t args_bytes)
{
    (void)stream;
    (void)kernel;
    (void)num_blocks;
    (void)args;
    (void)args_bytes;
    return EEP_OK;
}

eep_status eep_launch(eep_stream *stream, const eep_kernel *kernel, uint32_t num_blocks,
                      uint32_t num_threads, const void *args, size_t args_bytes)
{
    (void)num_threads;
    assert(args_bytes <= EEP_KERNEL_ARGS_MAX_BYTES);
    node n = {.kernel = kernel, .num_blocks = num_blocks};
    memcpy(n.args, args, args_bytes);
    eep_graph *graph = stream->recording;
    if (graph == NULL) {
        run_node(&n);
        return EEP_OK;
    }
    graph->nodes = realloc(graph->nodes, (graph->num_nodes + 1) * sizeof(node));
    graph->nodes[graph->num_nodes++] = n;
    return EEP_OK;
}

eep_status eep_capture_begin(eep_stream *stream)
{
    stream->recording = calloc(1, sizeof(eep_graph));
    return EEP_OK;
}

eep_status eep_capture_end(eep_stream *stream, eep_graph **graph_out)
{
    *graph_out = stream->recording;
    stream->recording = NULL;
    return EEP_OK;
}

eep_status eep_graph_replay(eep_graph *graph, eep_stream *stream)
{
    (void)stream;
    for (uint32_t i = 0; i < graph->num_nodes; i++) {
        run_node(&graph->nodes[i]);
    }
    return EEP_OK;
}

static int is_pinned(const eep_device *device, const void *at)
{
    for (int i = 0; i < device->num_pinned; i++) {
        const char *from = device->pinned[i].at;
        if ((const char *)at >= from && (const char *)at < from + device->pinned[i].bytes) {
            return 1;
        }
    }
    return 0;
}

int fake_graph_pinned(const eep_graph *graph, const eep_device *device, const char *except,
                      const char **name_out)
{
    int count = 0;
    for (uint32_t i = 0; i < graph->num_nodes; i++) {
        const node *n = &graph->nodes[i];
        for (uint32_t a = 0; a < n->kernel->num_args; a++) {
            const eep_kernel_arg *arg = &n->kernel->args[a];
            const void *address;
            if (arg->kind != EEP_ARG_ADDRESS || strstr(except, arg->name) != NULL) {
                continue;
            }
            memcpy(&address, n->args + arg->offset, sizeof address);
            if (!is_pinned(device, address)) {
                continue;
            }
            *name_out = arg->name;
            count++;
        }
    }
    return count;
}

void eep_graph_close(eep_graph *graph)
{
    if (graph != NULL) {
        free(graph->nodes);
    }
    free(graph);
}

/* ---------------------------------------------------------------- context */

size_t eep_dtype_bytes(eep_dtype dtype)
{
    return dtype == EEP_FP32 ? 4 : dtype == EEP_BF16 ? 2 : 0;
}

const char *eep_strerror(eep_status status)
{
    return status == EEP_OK ? "success" : "failure";
}

eep_context *fake_context_open(const fake_shape *shape)
{
    eep_context *c = calloc(1, sizeof *c);
    size_t places = (size_t)shape->num_layers * (size_t)shape->num_slots;
    c->shape = *shape;
    c->running = 1;
    c->experts = calloc(places, sizeof(int32_t));
    for (int i = 0; i < FAKE_MAX_CHAINS; i++) {
        c->row_of[i] =
            calloc((size_t)shape->num_max_tokens * (size_t)shape->top_k, sizeof(int32_t));
    }
    c->backups =
        calloc((size_t)shape->num_layers * (size_t)shape->num_experts, sizeof(fake_backup));
    for (size_t i = 0; i < places; i++) {
        c->experts[i] = (int32_t)(i % (size_t)shape->num_slots) % shape->num_experts;
    }
    return c;
}

void fake_context_close(eep_context *c)
{
    free(c->experts);
    free(c->row_of[0]);
    free(c->row_of[1]);
    free(c->backups);
    free(c);
}

const char *eep_last_error(const eep_context *context)
{
    (void)context;
    return "fake";
}

int32_t eep_rank(const eep_context *c)
{
    return c->shape.rank;
}

eep_status eep_snapshot_get(eep_context *c, eep_snapshot *snapshot_out, eep_counters *counters_out,
                            eep_seat *seats_out)
{
    (void)counters_out;
    (void)seats_out;
    *snapshot_out = (eep_snapshot){.max_ranks = c->shape.max_ranks};
    return EEP_OK;
}

int32_t eep_slot_expert(const eep_context *c, int32_t layer, int32_t slot)
{
    return c->experts[layer * c->shape.num_slots + slot];
}

const int32_t *eep_physical_to_logical(const eep_context *c)
{
    return c->experts;
}

eep_status eep_slot_set(eep_context *c, int32_t layer, int32_t slot, const eep_tensor *tensors,
                        int32_t num_tensors)
{
    (void)layer;
    (void)slot;
    (void)tensors;
    (void)num_tensors;
    c->num_slots_set++;
    return EEP_OK;
}

int eep_backup_wanted(const eep_context *c, int32_t layer, int32_t expert)
{
    (void)c;
    (void)layer;
    return expert % 4 == 1 || expert % 4 == 3;
}

eep_status eep_backup_set(eep_context *c, int32_t layer, int32_t expert, const eep_tensor *tensors,
                          int32_t num_tensors)
{
    fake_backup *b = &c->backups[c->num_backups++];
    b->layer = layer;
    b->expert = expert;
    memcpy(b->tensors, tensors, (size_t)num_tensors * sizeof *tensors);
    return EEP_OK;
}

eep_status eep_step_words_get(eep_context *c, eep_step_words *words_out)
{
    words_out->running = &c->running;
    words_out->given_up = &c->given_up;
    words_out->aborted = &c->aborted;
    return EEP_OK;
}

size_t eep_rows_capacity(const eep_context *c)
{
    return (size_t)c->shape.num_max_tokens * (size_t)c->shape.top_k;
}

/* ---------------------------------------------------------------- step */

typedef struct dispatch_node {
    eep_context *context;
    eep_dispatch_args args;
    int32_t layer;
} dispatch_node;
typedef struct combine_node {
    eep_context *context;
    eep_combine_args args;
} combine_node;

/* Replicas take turns by token, so that which one computes must not matter. */
static int32_t slot_of(const eep_context *c, int32_t layer, int32_t expert, int32_t token)
{
    int32_t num_slots = c->shape.num_slots, found = -1;
    for (int32_t s = 0; s < num_slots; s++) {
        if (c->experts[layer * num_slots + s] == expert && (found < 0 || token % 2 == 1)) {
            found = s;
        }
    }
    return found;
}

static void dispatch_host(const void *raw, eep_grid grid)
{
    const dispatch_node *n = raw;
    eep_context *c = n->context;
    int32_t count = *n->args.num_tokens * c->shape.top_k, row = 0;
    size_t bytes = (size_t)c->shape.hidden * eep_dtype_bytes(c->shape.dtype);
    (void)grid;
    c->slot_begin = n->args.slot_begin;
    for (int32_t slot = 0; slot < c->shape.num_slots; slot++) {
        n->args.slot_begin[slot] = row;
        for (int32_t i = 0; i < count && !c->abort; i++) {
            int32_t token = i / c->shape.top_k;
            if (slot_of(c, n->layer, n->args.topk_idx[i], token) != slot) {
                continue;
            }
            memcpy((char *)n->args.rows + (size_t)row * bytes,
                   (const char *)n->args.x + (size_t)token * bytes, bytes);
            c->row_of[n->args.chain][i] = row++;
        }
    }
    n->args.slot_begin[c->shape.num_slots] = row;
}

static float element(const void *rows, size_t at, eep_dtype dtype)
{
    float value;
    if (dtype == EEP_FP32) {
        return ((const float *)rows)[at];
    }
    uint32_t bits = (uint32_t)((const uint16_t *)rows)[at] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void combine_host(const void *raw, eep_grid grid)
{
    const combine_node *n = raw;
    eep_context *c = n->context;
    size_t hidden = (size_t)c->shape.hidden;
    (void)grid;
    for (int32_t t = 0; t < *n->args.num_tokens && !c->abort; t++) {
        for (size_t h = 0; h < hidden; h++) {
            float sum = 0.0f;
            for (int32_t k = 0; k < c->shape.top_k; k++) {
                int32_t i = t * c->shape.top_k + k;
                size_t at = (size_t)c->row_of[n->args.chain][i] * hidden + h;
                sum = sum + n->args.topk_weights[i] * element(n->args.rows, at, c->shape.dtype);
            }
            ((float *)n->args.out)[(size_t)t * hidden + h] = sum;
        }
    }
}

#define TOKENS_OF(type)                                                                            \
    {                                                                                              \
        "num_tokens", offsetof(type, args.num_tokens), sizeof(int32_t *), EEP_ARG_ADDRESS          \
    }
static const eep_kernel_arg dispatch_fields[] = {TOKENS_OF(dispatch_node)};
static const eep_kernel_arg combine_fields[] = {TOKENS_OF(combine_node)};
static const eep_kernel dispatch_kernel =
    EEP_KERNEL("fake_dispatch", dispatch_host, NULL, dispatch_fields, 1);
static const eep_kernel combine_kernel =
    EEP_KERNEL("fake_combine", combine_host, NULL, combine_fields, 1);

eep_status eep_step_latch(eep_context *c, eep_stream *stream)
{
    (void)stream;
    memset(c->num_halves, 0, sizeof c->num_halves);
    return EEP_OK;
}

/* A chain that has begun has all of its halves. */
eep_status eep_step_finish(eep_context *c, eep_stream *stream)
{
    (void)stream;
    assert(c->num_halves[0] == 4 * c->shape.num_layers);
    assert(c->num_halves[1] == 0 || c->num_halves[1] == 4 * c->shape.num_layers);
    return EEP_OK;
}

static void take_half(eep_context *c, int32_t chain, int32_t layer, int32_t half)
{
    assert(chain >= 0 && chain < FAKE_MAX_CHAINS && c->num_halves[chain] == 4 * layer + half);
    (void)layer, (void)half;
    c->num_halves[chain]++;
}

/* What a send is given is read at its receive: until then it must stay. */
eep_status eep_dispatch_send(eep_context *c, int32_t layer, eep_stream *stream,
                             const eep_dispatch_args *args)
{
    (void)stream;
    take_half(c, args->chain, layer, 0);
    c->dispatch[args->chain] = *args;
    return EEP_OK;
}

eep_status eep_dispatch_receive(eep_context *c, int32_t layer, int32_t chain, eep_stream *stream)
{
    dispatch_node n = {c, c->dispatch[chain], layer};
    take_half(c, chain, layer, 1);
    return eep_launch(stream, &dispatch_kernel, 1, 1, &n, sizeof n);
}

eep_status eep_combine_send(eep_context *c, int32_t layer, eep_stream *stream,
                            const eep_combine_args *args)
{
    (void)stream;
    assert(args->out_dtype == EEP_FP32);
    take_half(c, args->chain, layer, 2);
    c->combine[args->chain] = *args;
    return EEP_OK;
}

eep_status eep_combine_receive(eep_context *c, int32_t layer, int32_t chain, eep_stream *stream)
{
    combine_node n = {c, c->combine[chain]};
    take_half(c, chain, layer, 3);
    return eep_launch(stream, &combine_kernel, 1, 1, &n, sizeof n);
}

/* ---------------------------------------------------------------- checkpoints: there are none */

const char *eep_error_text(void)
{
    return "the imitation has no checkpoints";
}

eep_status eep_checkpoint_open(const char *path, char *error_out, size_t error_bytes,
                               eep_checkpoint **checkpoint_out)
{
    (void)checkpoint_out;
    snprintf(error_out, error_bytes, "%s: %s", path, eep_error_text());
    return EEP_ERR_NOT_FOUND;
}

void eep_checkpoint_close(eep_checkpoint *checkpoint)
{
    (void)checkpoint;
}

eep_status eep_checkpoint_find(const eep_checkpoint *checkpoint, const char *name,
                               eep_checkpoint_tensor *tensor_out)
{
    (void)checkpoint, (void)name, (void)tensor_out;
    return EEP_ERR_NOT_FOUND;
}

eep_status eep_checkpoint_read(const eep_checkpoint *checkpoint, const char *name, uint64_t offset,
                               size_t bytes, void *to_out)
{
    (void)checkpoint, (void)name, (void)offset, (void)bytes, (void)to_out;
    return EEP_ERR_NOT_FOUND;
}

eep_status eep_checkpoint_set(eep_context *context, eep_checkpoint *checkpoint, int32_t num_tensors,
                              eep_checkpoint_place_fn place, void *user)
{
    (void)context, (void)checkpoint, (void)num_tensors, (void)place, (void)user;
    return EEP_ERR_NOT_FOUND;
}
