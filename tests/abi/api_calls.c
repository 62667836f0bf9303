/* SPDX-License-Identifier: Apache-2.0 */
/* What api_calls.py makes of the headers is included here: see there. */
#include <eep/checkpoint.h>
#include <eep/collectives.h>
#include <eep/control.h>
#include <eep/eep.h>
#include <eep/launch.h>
#include <eep/shapes.h>
#include <eep/sink.h>
#include <eep/store.h>
#include <eep/watch.h>
#include <eep/words.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static eep_device *device;
static eep_stream *stream;
static eep_event *event;
static eep_graph *graph;
static eep_context *context;
static eep_sink *sink;
static eep_store *store;
static eep_watch *watch;
static eep_checkpoint *checkpoint;
static eep_checkpoint_tensor tensor;
static const char *const names[1] = {"a"};
static eep_view_info view;
static eep_config config;
static eep_step step;
static eep_snapshot snapshot;
static eep_counters counters;
static eep_fault fault;
static eep_placement placement;
static eep_placement_info info;
static eep_bad_input bad;
static eep_step_words words;
static eep_form_sizes form_sizes;
static eep_live_placement live;
static eep_shape_info shape_info;
static eep_window_sizes sizes;
static eep_collective_result collective;
static eep_verdict verdict;
static eep_memory_sizes memory;
static eep_seat seats[4];
static eep_dispatch_args dispatch;
static eep_combine_args combine;
static eep_tensor tensors[1];
static void *buffer, *made;
static char text[512], path[100], other_path[100];
static int num_wrong;

static void nothing(const void *args, eep_grid grid)
{
    (void)args;
    (void)grid;
}
static eep_status place_expert(void *user, int32_t layer, int32_t expert, int32_t number,
                               eep_checkpoint_place *place_out)
{
    (void)user, (void)layer, (void)expert, (void)number;
    snprintf(place_out->name, sizeof place_out->name, "a");
    return EEP_OK;
}
static const eep_kernel kernel = EEP_KERNEL("nothing", nothing, NULL, NULL, 0);

/* Named before the call, in case it ends the process. */
static const char *under_way = "";
static void begin(const char *label)
{
    under_way = label;
}

static void wrong(const char *label, const char *what)
{
    printf("%s: %s (\"%s\")\n", label, what, eep_error_text());
    num_wrong++;
}

static void refuses(const char *label, const char *name, eep_status status)
{
    if (status != EEP_ERR_INVALID)
        wrong(label, eep_strerror(status));
    else if (!strstr(eep_error_text(), name) || !strstr(eep_error_text(), "NULL"))
        wrong(label, "the text names neither the call nor NULL");
}

static void answers(const char *label, int is_right)
{
    if (!is_right)
        wrong(label, "another answer than 0, -1 or the empty text");
}

static void in_child(const char *label, const char *name, eep_status status)
{
    if (status != EEP_ERR_STATE)
        wrong(label, eep_strerror(status));
    else if (!strstr(eep_error_text(), name) || !strstr(eep_error_text(), "a child of fork"))
        wrong(label, "the text names neither the call nor fork");
}

#include "api_calls.inc"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("line %d: %s: %s\n", __LINE__, #condition, eep_error_text());                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* A tensor "a" of one byte. */
static void write_checkpoint(void)
{
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    const unsigned char length[8] = {sizeof header - 1};
    FILE *file = fopen(other_path, "wb");

    CHECK(file && fwrite(length, 1, 8, file) == 8 && fputs(header, file) >= 0 &&
          fputc(7, file) == 7 && fclose(file) == 0);
}

static void set_up(void)
{
    write_checkpoint();
    CHECK(eep_checkpoint_open(other_path, text, sizeof text, &checkpoint) == EEP_OK);
    CHECK(remove(other_path) == 0);
    CHECK(eep_store_open(path, text, sizeof text, &store) == EEP_OK);
    CHECK(eep_device_open("host", 0, &device) == EEP_OK);
    CHECK(eep_stream_open(device, &stream) == EEP_OK);
    CHECK(eep_event_open(device, &event) == EEP_OK);
    CHECK(eep_sink_open(1, &sink) == EEP_OK);
    CHECK(eep_watch_open(path, 1000000, NULL, 0, &watch) == EEP_OK);
    CHECK(eep_device_alloc(device, EEP_MEMORY_PINNED, 4096, &buffer) == EEP_OK);
    CHECK(eep_capture_begin(stream) == EEP_OK);
    CHECK(eep_launch(stream, &kernel, 1, 1, NULL, 0) == EEP_OK);
    CHECK(eep_capture_end(stream, &graph) == EEP_OK);
    tensors[0] = (eep_tensor){buffer, 64};
    eep_config_init(&config);
    config.rank = 0;
    config.num_ranks = 1;
    config.store_path = path;
    config.device = device;
    config.num_layers = 1;
    config.num_experts = config.num_slots = 2;
    config.top_k = 1;
    config.hidden = 16;
    config.num_max_tokens_per_rank = 4;
    CHECK(eep_open(&config, text, sizeof text, &context) == EEP_OK);
}

/* The child has the parent's memory and none of its threads: no call may touch or wait for them. */
static void try_child(void)
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        alarm(20);
        num_wrong = 0;
        call_in_child();
        eep_store_close(store);
        fflush(stdout);
        _exit(num_wrong != 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        printf("in a child of fork a call ended with signal %d\n", WTERMSIG(status));
    CHECK(status == 0);
}

/* Everything in the order that hurts most. */
static void close_the_wrong_way(void)
{
    eep_device_close(device);
    eep_stream_close(stream);
    eep_graph_close(graph);
    eep_event_close(event);
    eep_store_close(store);
    eep_close(context);
    eep_sink_close(sink);
    eep_watch_close(watch);
    eep_checkpoint_close(checkpoint);
}

static void name_the_call(void)
{
    fflush(stdout);
    if (under_way[0])
        fprintf(stderr, "last call: %s\n", under_way);
}

int main(int argc, char **argv)
{
    snprintf(path, sizeof path, "%s/store", argc > 1 ? argv[1] : ".");
    snprintf(other_path, sizeof other_path, "%s/other", argc > 1 ? argv[1] : ".");
    atexit(name_the_call);
    set_up();
    call_with_null();
    CHECK(num_wrong == 0);
    try_child();
    close_the_wrong_way();
    printf("%d calls with NULL, %d in a child\n", NUM_NULLS, NUM_FORKED);
    under_way = "";
    return 0;
}
