/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that is alone in its instance, compiled with headers whose structs are shorter or longer
 * than the library's (abi_headers.py). Behind each struct lie bytes that no call may write. */
#include <eep/checkpoint.h>
#include <eep/eep.h>
#include <eep/launch.h>
#include <eep/store.h>
#include <eep/watch.h>
#include <eep/control.h>
#include <eep/words.h>
#include <eep/shapes.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 256, HIDDEN = 16 };

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, eep_error_text());          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* One of each struct, with a guard. */
#define GUARDED(type, name)                                                                        \
    static struct {                                                                                \
        type s;                                                                                    \
        unsigned char guard[GUARD];                                                                \
    } name
GUARDED(eep_config, config);
GUARDED(eep_step, step);
GUARDED(eep_snapshot, snapshot);
GUARDED(eep_counters, counters);
GUARDED(eep_fault, fault);
GUARDED(eep_placement_info, info);
GUARDED(eep_window_sizes, sizes);
GUARDED(eep_step_words, words);
GUARDED(eep_shape_info, shape_info);
GUARDED(eep_launch_info, launch);
GUARDED(eep_bad_input, bad);
GUARDED(eep_view_info, view);
GUARDED(eep_verdict, verdict);
GUARDED(eep_memory_sizes, taken);
GUARDED(eep_checkpoint_tensor, tensor);

#define ARM(name) memset((name).guard, 0xa5, GUARD)
static int is_whole(const unsigned char *guard)
{
    for (int i = 0; i < GUARD; i++) {
        if (guard[i] != 0xa5)
            return 0;
    }
    return 1;
}
#define WHOLE(name) CHECK(is_whole((name).guard))

/* A struct without a field that every version has: the text names the call, the struct and both
 * sizes. */
#define TOO_SHORT(type, object, function, ...)                                                     \
    do {                                                                                           \
        char text[128];                                                                            \
        CHECK(function(__VA_ARGS__) == EEP_ERR_INVALID);                                           \
        snprintf(text, sizeof(text),                                                               \
                 #function ": struct_bytes of the " #type " is %zu, and at least ",                \
                 sizeof object);                                                                   \
        CHECK(strstr(eep_error_text(), text));                                                     \
    } while (0)

static eep_device *device;
static eep_stream *stream;
static eep_context *context;
static char store_path[100];
static int num_events;

static void note_event(void *user, const eep_event_info *event)
{
    (void)user;
    CHECK(event->struct_bytes >= 16 && event->seat <= 0);
    num_events++;
}

static void *memory(size_t bytes)
{
    void *at = NULL;

    CHECK(eep_device_alloc(device, EEP_MEMORY_PINNED, bytes, &at) == EEP_OK);
    return at;
}

static void configure(void)
{

    eep_config_init(&config.s);
    WHOLE(config);
    CHECK(config.s.struct_bytes == sizeof config.s && config.s.heartbeat_period_us > 0);
    config.s.rank = 0;
    config.s.num_ranks = 1;
    config.s.store_path = store_path;
    config.s.device = device;
    config.s.num_layers = 1;
    config.s.num_experts = config.s.num_slots = 2;
    config.s.top_k = 1;
    config.s.hidden = HIDDEN;
    config.s.num_max_tokens_per_rank = 4;
    config.s.bind_threads = 0;
    config.s.event = note_event;
}

static void set_up(void)
{
    char error[256] = "";

    configure();
#ifdef SHORT_CONFIG
    TOO_SHORT(eep_config, config.s, eep_config_profile, &config.s, EEP_PROFILE_QUICK);
    TOO_SHORT(eep_config, config.s, eep_window_sizes_get, &config.s, EEP_SIZED(&sizes.s));
    TOO_SHORT(eep_config, config.s, eep_open, &config.s, error, sizeof error, &context);
    CHECK(strcmp(strstr(error, "struct_bytes"), strstr(eep_error_text(), "struct_bytes")) == 0);
    WHOLE(config);
    exit(0);
#endif
#ifdef SHORTER
    TOO_SHORT(eep_window_sizes, sizes.s, eep_window_sizes_get, &config.s, EEP_SIZED(&sizes.s));
    TOO_SHORT(eep_memory_sizes, taken.s, eep_memory_sizes_get, &config.s, 0, EEP_SIZED(&taken.s));
#else
    CHECK(eep_memory_sizes_get(&config.s, 0, EEP_SIZED(&taken.s)) == EEP_OK);
    CHECK(taken.s.rows_bytes > 0 && taken.s.struct_bytes == sizeof taken.s);
    CHECK(eep_window_sizes_get(&config.s, EEP_SIZED(&sizes.s)) == EEP_OK);
    CHECK(sizes.s.dispatch_bytes > 0 && sizes.s.struct_bytes == sizeof sizes.s);
#endif
    WHOLE(sizes);
    WHOLE(taken);
    if (eep_open(&config.s, error, sizeof error, &context) != EEP_OK) {
        fprintf(stderr, "eep_open: %s\n", error);
        exit(1);
    }
    for (int32_t slot = 0; slot < 2; slot++) {
        eep_tensor tensor = {NULL, 64};
        CHECK(eep_slot_alloc(context, 0, slot, &tensor, 1) == EEP_OK);
    }
}

static void copy_rows(const void *args, eep_grid grid)
{
    (void)args;
    (void)grid;
}

/* A step's buffers, and its two argument structs filled. */
static eep_dispatch_args dispatch;
static eep_combine_args combine;
static void fill_args(void)
{
    size_t rows = eep_rows_capacity(context) * HIDDEN * sizeof(float);

    (void)EEP_SIZED(&dispatch);
    dispatch.x = memory(4 * HIDDEN * sizeof(float));
    dispatch.topk_idx = memory(4 * sizeof(int32_t));
    dispatch.num_tokens = memory(sizeof(int32_t));
    dispatch.rows = memory(rows);
    dispatch.slot_begin = memory(3 * sizeof(int32_t));
    (void)EEP_SIZED(&combine);
    combine.out_dtype = EEP_FP32;
    combine.rows = dispatch.rows;
    combine.topk_weights = memory(4 * sizeof(float));
    combine.num_tokens = dispatch.num_tokens;
#ifndef SHORTER
    combine.out = memory(4 * HIDDEN * sizeof(float));
#endif
}

static eep_graph *capture(void)
{
    const eep_kernel nothing = {
        .struct_bytes = sizeof nothing, .name = "nothing", .host = copy_rows};
    eep_graph *graph = NULL;

    CHECK(eep_capture_begin(stream) == EEP_OK);
    CHECK(eep_step_latch(context, stream) == EEP_OK);
#ifdef SHORTER
    TOO_SHORT(eep_dispatch_args, dispatch, eep_dispatch, context, 0, stream, &dispatch);
    TOO_SHORT(eep_combine_args, combine, eep_combine, context, 0, stream, &combine);
    TOO_SHORT(eep_kernel, nothing, eep_launch, stream, &nothing, 1, 1, NULL, 0);
    CHECK(eep_capture_end(stream, &graph) == EEP_ERR_INVALID);
    return NULL;
#endif
    CHECK(eep_dispatch(context, 0, stream, &dispatch) == EEP_OK);
    CHECK(eep_launch(stream, &nothing, 1, 1, NULL, 0) == EEP_OK);
    CHECK(eep_combine(context, 0, stream, &combine) == EEP_OK);
    CHECK(eep_step_finish(context, stream) == EEP_OK);
    CHECK(eep_capture_end(stream, &graph) == EEP_OK);
    return graph;
}

/* A checkpoint with a tensor "a" of one byte. */
static eep_checkpoint *open_checkpoint(void)
{
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    const unsigned char length[8] = {sizeof header - 1};
    eep_checkpoint *checkpoint = NULL;
    char path[120];
    FILE *file;

    snprintf(path, sizeof path, "%s.weights", store_path);
    file = fopen(path, "wb");
    CHECK(file && fwrite(length, 1, 8, file) == 8 && fputs(header, file) >= 0 &&
          fputc(7, file) == 7 && fclose(file) == 0);
    CHECK(eep_checkpoint_open(path, NULL, 0, &checkpoint) == EEP_OK && remove(path) == 0);
    return checkpoint;
}

/* A step with an expert that there is not, and what a front sees. */
static void observe(eep_graph *graph)
{
    char error[256] = "";
    eep_watch *watch = NULL;

    *(int32_t *)dispatch.num_tokens = 1;
    *(int32_t *)dispatch.topk_idx = 7;
    CHECK(eep_step_begin(context, 1000000, EEP_SIZED(&step.s)) == EEP_OK);
    CHECK(eep_graph_replay(graph, stream) == EEP_OK);
    CHECK(eep_step_end(context) == EEP_ERR_BAD_STEP_INPUT);
    *(int32_t *)dispatch.num_tokens = 0;
    CHECK(eep_bad_input_get(context, EEP_SIZED(&bad.s)) == EEP_OK);
    WHOLE(bad);
    CHECK(bad.s.kind == EEP_BAD_EXPERT_RANGE && bad.s.value == 7 && bad.s.num_bad_tokens == 1 &&
          bad.s.struct_bytes == sizeof bad.s);
    CHECK(eep_step_words_get(context, EEP_SIZED(&words.s)) == EEP_OK);
    WHOLE(words);
    CHECK(words.s.running && words.s.given_up && words.s.reserved == 0 &&
          words.s.struct_bytes == sizeof words.s);
    CHECK(eep_launch_read(EEP_SIZED(&launch.s)) == EEP_OK);
    WHOLE(launch);
    CHECK(launch.s.rank == -1 && launch.s.num_ranks == 0 && launch.s.store[0] == '\0' &&
          launch.s.struct_bytes == sizeof launch.s);
    CHECK(eep_expel(context, 0, 2, 0, EEP_SIZED(&verdict.s)) == EEP_ERR_STATE);
    WHOLE(verdict);
    CHECK(eep_num_shapes(context) == 1);
    CHECK(eep_shape_get(context, 0, EEP_SIZED(&shape_info.s)) == EEP_OK);
    WHOLE(shape_info);
    CHECK(shape_info.s.num_chunks == 1 && shape_info.s.chunk_tokens == shape_info.s.max_tokens);
    CHECK(eep_watch_open(store_path, 1000000, error, sizeof error, &watch) == EEP_OK);
    CHECK(eep_watch_next(watch, 1000000, EEP_SIZED(&view.s), NULL, 0) == EEP_OK);
    WHOLE(view);
    CHECK(view.s.num_active == 1 && view.s.is_serving == 1 && view.s.struct_bytes == sizeof view.s);
    eep_watch_close(watch);
    eep_checkpoint *checkpoint = open_checkpoint();
    CHECK(eep_checkpoint_find(checkpoint, "a", EEP_SIZED(&tensor.s)) == EEP_OK);
    WHOLE(tensor);
    CHECK(tensor.s.bytes == 1 && tensor.s.shape[0] == 1 &&
          tensor.s.struct_bytes == sizeof tensor.s);
    eep_checkpoint_close(checkpoint);
}

static void serve(eep_graph *graph)
{
    eep_status status = EEP_ERR_TIMEOUT;

    CHECK(eep_join(context) == EEP_OK);
    for (int i = 0; i < 100 && status == EEP_ERR_TIMEOUT; i++)
        status = eep_step_begin(context, 50000, EEP_SIZED(&step.s));
    CHECK(status == EEP_OK);
    WHOLE(step);
    CHECK(step.s.num_active == 1 && step.s.step > 0 && step.s.struct_bytes == sizeof step.s);
    CHECK(eep_graph_replay(graph, stream) == EEP_OK);
    CHECK(eep_step_end(context) == EEP_OK);
    CHECK(eep_snapshot_get(context, EEP_SIZED(&snapshot.s), EEP_SIZED(&counters.s), NULL) ==
          EEP_OK);
    WHOLE(snapshot);
    WHOLE(counters);
    CHECK(snapshot.s.num_active == 1 && counters.s.steps_ok == 1);
    CHECK(eep_fault_next(context, EEP_SIZED(&fault.s)) == EEP_ERR_NOT_FOUND);
    WHOLE(fault);
    CHECK(eep_placement_get(context, EEP_SIZED(&info.s), NULL, NULL) == EEP_OK);
    WHOLE(info);
    CHECK(num_events > 0);
    observe(graph);
}

#ifdef SHORTER
/* Each that libeep fills, without its last field: refused before anything is done. */
static void refuse_the_shorter(void)
{
    char error[256] = "";
    eep_watch *watch = NULL;

    TOO_SHORT(eep_step, step.s, eep_step_begin, context, 0, EEP_SIZED(&step.s));
    TOO_SHORT(eep_snapshot, snapshot.s, eep_snapshot_get, context, EEP_SIZED(&snapshot.s), NULL,
              NULL);
    TOO_SHORT(eep_fault, fault.s, eep_fault_next, context, EEP_SIZED(&fault.s));
    TOO_SHORT(eep_placement_info, info.s, eep_placement_get, context, EEP_SIZED(&info.s), NULL,
              NULL);
    TOO_SHORT(eep_step_words, words.s, eep_step_words_get, context, EEP_SIZED(&words.s));
    TOO_SHORT(eep_shape_info, shape_info.s, eep_shape_get, context, 0, EEP_SIZED(&shape_info.s));
    TOO_SHORT(eep_launch_info, launch.s, eep_launch_read, EEP_SIZED(&launch.s));
    TOO_SHORT(eep_bad_input, bad.s, eep_bad_input_get, context, EEP_SIZED(&bad.s));
    TOO_SHORT(eep_verdict, verdict.s, eep_expel, context, 0, 2, 0, EEP_SIZED(&verdict.s));
    CHECK(eep_watch_open(store_path, 1000000, error, sizeof error, &watch) == EEP_OK);
    TOO_SHORT(eep_view_info, view.s, eep_watch_next, watch, 0, EEP_SIZED(&view.s), NULL, 0);
    eep_checkpoint *checkpoint = open_checkpoint();
    TOO_SHORT(eep_checkpoint_tensor, tensor.s, eep_checkpoint_find, checkpoint, "a",
              EEP_SIZED(&tensor.s));
    WHOLE(tensor);
    eep_checkpoint_close(checkpoint);
    snapshot.s.struct_bytes = 24; /* its own is right, and that of the counters is not */
    TOO_SHORT(eep_counters, counters.s, eep_snapshot_get, context, &snapshot.s,
              EEP_SIZED(&counters.s), NULL);
    WHOLE(step);
    WHOLE(snapshot);
    WHOLE(counters);
    WHOLE(fault);
    WHOLE(words);
    WHOLE(bad);
    WHOLE(verdict);
    WHOLE(view);
    eep_watch_close(watch);
    eep_close(context);
}
#endif

#ifdef LONGER
/* A field that this library does not know is refused where it says something. */
#define REFUSED(call, object)                                                                      \
    do {                                                                                           \
        char byte[32];                                                                             \
        (object).field_of_the_next_version = 1;                                                    \
        snprintf(byte, sizeof byte, "at byte %zu ", sizeof object - 8);                            \
        CHECK((call) == EEP_ERR_INVALID);                                                          \
        CHECK(strstr(eep_error_text(), byte));                                                     \
        (object).field_of_the_next_version = 0;                                                    \
    } while (0)
static void refuse_the_unknown(void)
{
    eep_kernel kernel = {.struct_bytes = sizeof kernel, .name = "nothing", .host = copy_rows};
    eep_placement placement = {.struct_bytes = sizeof placement, .number = 1};
    eep_context *other = NULL;

    REFUSED(eep_placement_set(context, &placement), placement);
    REFUSED(eep_open(&config.s, NULL, 0, &other), config.s);
    REFUSED(eep_window_sizes_get(&config.s, &sizes.s), config.s);
    REFUSED(eep_dispatch(context, 0, stream, &dispatch), dispatch);
    REFUSED(eep_combine(context, 0, stream, &combine), combine);
    REFUSED(eep_launch(stream, &kernel, 1, 1, NULL, 0), kernel);
}
#endif

/* A struct that is no version's. */
static void refuse_the_unsized(void)
{
    char error[256] = "";
    uint32_t bytes = config.s.struct_bytes;
    eep_context *other = NULL;

    config.s.struct_bytes = 8;
    CHECK(eep_open(&config.s, error, sizeof error, &other) == EEP_ERR_INVALID);
    CHECK(strstr(error, "struct_bytes of the eep_config is 8, and at least "));
    config.s.struct_bytes = bytes + 4; /* in the middle of a field */
    CHECK(eep_open(&config.s, error, sizeof error, &other) == EEP_ERR_INVALID);
    CHECK(strstr(error, "a multiple of 8"));
    config.s.struct_bytes = bytes;
    snapshot.s.struct_bytes = 0;
    CHECK(eep_snapshot_get(context, &snapshot.s, NULL, NULL) == EEP_ERR_INVALID);
    CHECK(strstr(eep_error_text(), "EEP_SIZED"));
}

/* Each is closed before what uses it; a context knows that its stream was closed. */
static void close_the_wrong_way(eep_graph *graph)
{
    eep_stream_close(stream);
    CHECK(eep_step_begin(context, 1000, &step.s) == EEP_ERR_STATE);
    CHECK(strstr(eep_last_error(context), "was closed"));
    CHECK(eep_stream_open(device, &stream) == EEP_OK);
    CHECK(eep_step_stream(context, stream) == EEP_OK);
    CHECK(eep_step_begin(context, 1000000, &step.s) == EEP_OK);
    CHECK(eep_graph_replay(graph, stream) == EEP_OK);
    CHECK(eep_step_end(context) == EEP_OK);
    eep_device_close(device);
    eep_stream_close(stream);
    eep_graph_close(graph);
    eep_close(context);
}

int main(int argc, char **argv)
{
    char error[256] = "";
    eep_store *store = NULL;
    eep_graph *graph;

    snprintf(store_path, sizeof store_path, "%s/store", argc > 1 ? argv[1] : ".");
    ARM(config);
    ARM(step);
    ARM(snapshot);
    ARM(counters);
    ARM(fault);
    ARM(info);
    ARM(sizes);
    ARM(words);
    ARM(launch);
    ARM(verdict);
    ARM(taken);
    ARM(shape_info);
    ARM(bad);
    ARM(view);
    ARM(tensor);
    CHECK(eep_version() == EEP_VERSION);
    CHECK(eep_store_open(store_path, error, sizeof error, &store) == EEP_OK);
    CHECK(eep_device_open("host", 0, &device) == EEP_OK);
    CHECK(eep_stream_open(device, &stream) == EEP_OK);
    set_up();
    fill_args();
#ifdef LONGER
    refuse_the_unknown();
#endif
    graph = capture();
#ifdef SHORTER
    refuse_the_shorter();
    return 0;
#endif
    serve(graph);
    refuse_the_unsized();
    close_the_wrong_way(graph);
    eep_store_close(store);
    return 0;
}
