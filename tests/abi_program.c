/* A rank that is alone in its instance, compiled with headers whose structs are shorter or longer
 * than the library's (abi_headers.py). Behind each struct lie bytes that no call may write. */
#include <eep/eep.h>
#include <eep/store.h>

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
GUARDED(eep_window_sizes, sizes);

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

static void set_up(void)
{
    char error[256] = "";

    eep_config_init(&config.s);
    WHOLE(config);
    CHECK(config.s.struct_bytes == sizeof(config.s) && config.s.heartbeat_period_us > 0);
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
    CHECK(eep_window_sizes_get(&config.s, EEP_SIZED(&sizes.s)) == EEP_OK);
    WHOLE(sizes);
    CHECK(sizes.s.dispatch_bytes > 0 && sizes.s.struct_bytes == sizeof(sizes.s));
    if (eep_open(&config.s, error, sizeof(error), &context) != EEP_OK) {
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
#ifndef SHORT_COMBINE
    combine.out = memory(4 * HIDDEN * sizeof(float));
#endif
}

static eep_graph *capture(void)
{
    const eep_kernel nothing = {
        .struct_bytes = sizeof(nothing), .name = "nothing", .host = copy_rows};
    eep_graph *graph = NULL;

    CHECK(eep_capture_begin(stream) == EEP_OK);
    CHECK(eep_step_latch(context, stream) == EEP_OK);
    CHECK(eep_dispatch(context, 0, stream, &dispatch) == EEP_OK);
    CHECK(eep_launch(stream, &nothing, 1, 1, NULL, 0) == EEP_OK);
#ifdef SHORT_COMBINE
    CHECK(eep_combine(context, 0, stream, &combine) == EEP_ERR_INVALID);
    CHECK(strstr(eep_last_error(context), "eep_combine: the buffer out is NULL"));
    exit(0);
#endif
    CHECK(eep_combine(context, 0, stream, &combine) == EEP_OK);
    CHECK(eep_step_finish(context, stream) == EEP_OK);
    CHECK(eep_capture_end(stream, &graph) == EEP_OK);
    return graph;
}

static void serve(eep_graph *graph)
{
    eep_status status = EEP_ERR_TIMEOUT;

    CHECK(eep_join(context) == EEP_OK);
    for (int i = 0; i < 100 && status == EEP_ERR_TIMEOUT; i++)
        status = eep_step_begin(context, 50000, EEP_SIZED(&step.s));
    CHECK(status == EEP_OK);
    WHOLE(step);
    CHECK(step.s.num_active == 1 && step.s.step > 0 && step.s.struct_bytes == sizeof(step.s));
    CHECK(eep_graph_replay(graph, stream) == EEP_OK);
    CHECK(eep_step_end(context) == EEP_OK);
    CHECK(eep_snapshot_get(context, EEP_SIZED(&snapshot.s), EEP_SIZED(&counters.s), NULL) ==
          EEP_OK);
    WHOLE(snapshot);
    WHOLE(counters);
    CHECK(snapshot.s.num_active == 1 && counters.s.steps_ok == 1);
    CHECK(eep_fault_next(context, EEP_SIZED(&fault.s)) == EEP_ERR_NOT_FOUND);
    WHOLE(fault);
    CHECK(num_events > 0);
}

#ifdef LONGER
/* A field that this library does not know is refused where it says something. */
#define REFUSED(call, object)                                                                      \
    do {                                                                                           \
        char byte[32];                                                                             \
        (object).field_of_the_next_version = 1;                                                    \
        snprintf(byte, sizeof(byte), "at byte %zu ", sizeof(object) - 8);                          \
        CHECK((call) == EEP_ERR_INVALID);                                                          \
        CHECK(strstr(eep_error_text(), byte));                                                     \
        (object).field_of_the_next_version = 0;                                                    \
    } while (0)
static void refuse_the_unknown(void)
{
    eep_kernel kernel = {.struct_bytes = sizeof(kernel), .name = "nothing", .host = copy_rows};
    eep_context *other = NULL;

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
    CHECK(eep_open(&config.s, error, sizeof(error), &other) == EEP_ERR_INVALID);
    CHECK(strstr(error, "struct_bytes of the eep_config is 8, and at least "));
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

    snprintf(store_path, sizeof(store_path), "%s/store", argc > 1 ? argv[1] : ".");
    ARM(config);
    ARM(step);
    ARM(snapshot);
    ARM(counters);
    ARM(fault);
    ARM(sizes);
    CHECK(eep_version() == EEP_VERSION);
    CHECK(eep_store_open(store_path, error, sizeof(error), &store) == EEP_OK);
    CHECK(eep_device_open("host", 0, &device) == EEP_OK);
    CHECK(eep_stream_open(device, &stream) == EEP_OK);
    set_up();
    fill_args();
#ifdef LONGER
    refuse_the_unknown();
#endif
    graph = capture();
    serve(graph);
    refuse_the_unsized();
    close_the_wrong_way(graph);
    eep_store_close(store);
    return 0;
}
