/* What the public API refuses: bad configurations, taken seats, differing weights, calls in the
 * wrong order. Each names its cause, and a running instance loses nothing. */
#include "graphs/device/device_share.h"
#include "membership/process/process.h"
#include "membership/process/seat_file.h"
#include "tests/lib/context_fixture.h"
#include "graphs/base/descriptors.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

TestSuite(context_refused, .timeout = 100);

typedef struct mistake {
    size_t offset, bytes;
    int64_t value;
    const char *field;
} mistake;
#define MISTAKE(field, value)                                                                      \
    {                                                                                              \
        offsetof(eep_config, field), sizeof(((eep_config *)0)->field), value, #field               \
    }

static const mistake mistakes[] = {
    MISTAKE(struct_bytes, 8),
    MISTAKE(struct_bytes, 0),
    MISTAKE(rank, -1),
    MISTAKE(rank, 2),
    MISTAKE(num_ranks, 0),
    MISTAKE(num_ranks, -3),
    MISTAKE(num_ranks, 3),
    MISTAKE(max_ranks, -1),
    MISTAKE(max_ranks, EEP_MAX_RANKS + 1),
    MISTAKE(store_path, 0),
    MISTAKE(device, 0),
    MISTAKE(num_layers, 0),
    MISTAKE(num_layers, EEP_MAX_LAYERS + 1),
    MISTAKE(num_experts, 0),
    MISTAKE(num_experts, EEP_MAX_EXPERTS + 1),
    MISTAKE(num_slots, 0),
    MISTAKE(num_slots, 65535),
    MISTAKE(top_k, 0),
    MISTAKE(top_k, WORLD_EXPERTS + 1),
    MISTAKE(top_k, EEP_MAX_TOPK + 1),
    MISTAKE(hidden, 0),
    MISTAKE(hidden, -16),
    MISTAKE(num_max_tokens_per_rank, 0),
    MISTAKE(num_max_tokens_per_rank, 65536),
    MISTAKE(dtype, 2),
    MISTAKE(fp8_dispatch, 2),
    MISTAKE(bulk, 3),
    MISTAKE(num_blocks, -1),
    MISTAKE(num_blocks, 4097),
    MISTAKE(heartbeat_period_us, 0),
    MISTAKE(heartbeat_suspect_us, 0),
    MISTAKE(step_deadline_us, 0),
    MISTAKE(step_deadline_us, INT64_MAX),
    MISTAKE(warmup_deadline_us, 0),
    MISTAKE(warmup_deadline_us, INT64_MAX),
    MISTAKE(expel_floor_us, 0),
    MISTAKE(drain_bound_us, 0),
    MISTAKE(propose_delay_us, INT64_MAX),
    MISTAKE(join_timeout_us, INT64_MAX),
};

static eep_status open_with(const eep_config *config, char *error, size_t error_bytes)
{
    eep_context *context = NULL;
    eep_status status = eep_open(config, error, error_bytes, &context);
    if (status == EEP_OK) {
        eep_close(context);
    } else {
        cr_expect_null(context, "an output was set without success");
    }
    return status;
}

Test(context_refused, a_bad_configuration_is_refused_by_field)
{
    world w;
    eep_device *device;
    char error[256];
    world_open(&w, 2, 2);
    cr_assert_eq(eep_device_open("host", 0, &device), EEP_OK);
    w.config.device = device;
    w.config.rank = 0;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        const mistake *m = &mistakes[i];
        eep_config config = w.config;
        memcpy((char *)&config + m->offset, &m->value, m->bytes);
        eep_status status = open_with(&config, error, sizeof error);
        const char *name = strcmp(m->field, "struct_bytes") == 0 ? "eep_config" : m->field;
        cr_expect_eq(status, EEP_ERR_INVALID, "%s = %lld: %s", m->field, (long long)m->value,
                     eep_strerror(status));
        cr_expect(status == EEP_OK || strstr(error, name), "%s = %lld: the text is '%s'", m->field,
                  (long long)m->value, error);
    }
    cr_expect_eq(open_with(&w.config, NULL, 0), EEP_OK, "the configuration itself is good");
    eep_device_close(device);
    world_close(&w);
}

Test(context_refused, too_few_slots_for_the_experts_are_refused)
{
    world w;
    world_open(&w, 3, 4);
    w.config.num_slots = 2;
    cr_expect_eq(rank_open(&w, 0), EEP_ERR_INVALID);
    cr_expect(strstr(w.ranks[0].error, "num_slots") && strstr(w.ranks[0].error, "8 experts"), "%s",
              w.ranks[0].error);
    world_close(&w);
}

Test(context_refused, a_store_that_does_not_answer_is_named)
{
    world w;
    world_open(&w, 1, 1);
    w.config.store_path = "/nonexistent/store";
    cr_expect_eq(rank_open(&w, 0), EEP_ERR_UNREACHABLE);
    cr_expect(strstr(w.ranks[0].error, "/nonexistent/store"), "%s", w.ranks[0].error);
    world_close(&w);
}

/* Good in itself, and not what the others have. Some keep the size of a window or of its rows. */
static const mistake differences[] = {
    MISTAKE(max_ranks, 4),
    MISTAKE(num_layers, WORLD_LAYERS + 1),
    MISTAKE(num_experts, WORLD_EXPERTS - 1),
    MISTAKE(num_slots, WORLD_SLOTS + 1),
    MISTAKE(top_k, WORLD_TOPK - 1),
    MISTAKE(hidden, WORLD_HIDDEN / 2),
    MISTAKE(num_max_tokens_per_rank, WORLD_TOKENS + 1),
    MISTAKE(dtype, EEP_BF16),
    MISTAKE(fp8_dispatch, 1),
    MISTAKE(bulk, EEP_BULK_UCX),
};

Test(context_refused, a_taken_seat_and_another_shape_are_refused)
{
    world w;
    rank *second;
    world_open(&w, 2, 3);
    world_start(&w);
    second = &w.ranks[WORLD_SEATS - 1]; /* its place in the fixture, not in the instance */
    cr_assert_eq(eep_device_open("host", 0, &second->device), EEP_OK);
    eep_config config = w.config;
    config.rank = 1;
    config.device = second->device;
    cr_expect_eq(open_with(&config, second->error, sizeof second->error), EEP_ERR_SEAT_TAKEN);
    cr_expect(strstr(second->error, "holds the seat"), "%s", second->error);
    config.rank = 2;
    for (size_t i = 0; i < sizeof differences / sizeof differences[0]; i++) {
        eep_config other = config;
        memcpy((char *)&other + differences[i].offset, &differences[i].value, differences[i].bytes);
        cr_expect_eq(open_with(&other, second->error, sizeof second->error), EEP_ERR_INVALID, "%s",
                     differences[i].field);
        cr_expect(strstr(second->error, differences[i].field), "%s", second->error);
        cr_expect(strstr(second->error, " here and "), "both values: %s", second->error);
    }
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 5);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 1);
    world_check_right(&w);
    world_close(&w);
}

/* Two replicas of an expert with different bytes never get into one view. Whose weights differ from
 * those of the ranks before it is refused, and all others learn at once which rank that is. */
Test(context_refused, differing_weights_are_refused)
{
    world w;
    world_open(&w, 3, 3);
    int32_t holders = 0, refused = 0;
    for (int32_t seat = 0; seat < 3; seat++) {
        w.ranks[seat].heavier = (float)seat;
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
        for (int32_t slot = 0; slot < WORLD_SLOTS; slot++) {
            holders += eep_slot_expert(w.ranks[seat].context, 1, slot) == 3;
        }
    }
    cr_assert_geq(holders, 2);
    for (int32_t seat = 0; seat < 3; seat++) {
        rank_run(&w.ranks[seat]);
    }
    for (int32_t seat = 0; seat < 3; seat++) {
        const rank *r = &w.ranks[seat];
        WORLD_WAIT(&w, r->join_status != EEP_OK);
        cr_expect(r->join_status == EEP_ERR_UNCOVERED || r->join_status == EEP_ERR_CHECKSUM, "%s",
                  eep_strerror(r->join_status));
        refused += r->join_status == EEP_ERR_CHECKSUM;
        cr_expect(strstr(r->text, "layer 1 expert 3"), "rank %d: %s", seat, r->text);
    }
    cr_expect_eq(refused, 1, "%d ranks were refused", refused);
    world_close(&w);
}

/* A process with other weights is told so, and those who serve do not notice. */
Test(context_refused, a_late_joiner_with_other_weights_is_told_why)
{
    world w;
    rank *late;
    world_open(&w, 3, 4);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    late = &w.ranks[3];
    late->heavier = 2;
    cr_assert_eq(rank_open(&w, 3), EEP_OK, "%s", late->error);
    rank_run(late);
    WORLD_WAIT(&w, late->join_status != EEP_OK);
    cr_expect_eq(late->join_status, EEP_ERR_CHECKSUM, "%s", eep_strerror(late->join_status));
    cr_expect(strstr(late->text, "layer 1 expert 3"), "%s", late->text);
    world_advance(&w, 0, 2, 5);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 2);
    world_check_right(&w);
    world_close(&w);
}

static void expect_state(const rank *r, eep_status status, const char *what)
{
    cr_expect_eq(status, EEP_ERR_STATE, "%s: %s", what, eep_strerror(status));
    cr_expect_neq(eep_last_error(r->context)[0], '\0', "%s", what);
}

Test(context_refused, calls_in_the_wrong_order_are_refused)
{
    world w;
    eep_step step = {.struct_bytes = sizeof step};
    eep_tensor tensors[WORLD_TENSORS] = {{&w, WORLD_HIDDEN * sizeof(float)},
                                         {&w, WORLD_HIDDEN * sizeof(float)}};
    world_open(&w, 1, 1);
    w.config.num_slots = WORLD_EXPERTS;
    rank *r = &w.ranks[0];
    eep_config config = w.config;
    cr_assert_eq(eep_device_open("host", 0, &r->device), EEP_OK);
    cr_assert_eq(eep_stream_open(r->device, &r->stream), EEP_OK);
    config.rank = 0;
    config.device = r->device;
    cr_assert_eq(eep_open(&config, r->error, sizeof r->error, &r->context), EEP_OK, "%s", r->error);
    expect_state(r, eep_join(r->context), "join without a graph");
    expect_state(r, eep_step_begin(r->context, 0, &step), "begin before join");
    expect_state(r, eep_step_end(r->context), "end before join");
    expect_state(r, eep_step_wait(r->context, 0), "wait before join");
    expect_state(r, eep_drain(r->context), "drain before join");
    int32_t number = 0;
    _Alignas(16) float row[WORLD_HIDDEN];
    eep_combine_args combine = {.struct_bytes = sizeof combine,
                                .rows = row,
                                .topk_weights = row,
                                .num_tokens = &number,
                                .out = row};
    expect_state(r, eep_combine(r->context, 0, r->stream, &combine), "combine before dispatch");
    cr_expect_eq(eep_combine(r->context, WORLD_LAYERS, r->stream, &combine), EEP_ERR_INVALID);
    eep_dispatch_args dispatch = {.struct_bytes = sizeof dispatch,
                                  .x = row,
                                  .num_tokens = &number,
                                  .rows = row,
                                  .slot_begin = &number};
    cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &dispatch), EEP_ERR_INVALID);
    dispatch.topk_idx = &number;
    dispatch.row_scales = row;
    cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &dispatch), EEP_ERR_INVALID);
    cr_expect(strstr(eep_last_error(r->context), "without fp8_dispatch"), "%s",
              eep_last_error(r->context));
    dispatch.row_scales = NULL;
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    cr_assert_eq(eep_step_latch(r->context, r->stream), EEP_OK);
    cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &dispatch), EEP_ERR_INVALID);
    cr_expect(strstr(eep_last_error(r->context), "eep_memory_register"), "%s",
              eep_last_error(r->context));
    cr_expect_eq(eep_capture_end(r->stream, &r->graph), EEP_ERR_INVALID);
    dispatch.rows = (uint8_t *)row + 4;
    cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &dispatch), EEP_ERR_INVALID);
    cr_expect(strstr(eep_last_error(r->context), "16 bytes"), "%s", eep_last_error(r->context));
    cr_expect_eq(eep_slot_set(r->context, 0, WORLD_EXPERTS, tensors, 2), EEP_ERR_INVALID);
    cr_expect_eq(eep_slot_set(r->context, 0, 0, tensors, EEP_MAX_TENSORS + 1), EEP_ERR_INVALID);
    expect_state(r, eep_join(r->context), "join behind a node that failed");
    cr_expect(strstr(eep_last_error(r->context), "broken off"), "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_stream(r->context, r->stream), EEP_OK);
    expect_state(r, eep_join(r->context), "join without weights");
    cr_expect(strstr(eep_last_error(r->context), "layer 0 slot 0"), "%s",
              eep_last_error(r->context));
    world_close(&w);
}

/* One node of a step. */
static eep_status put_node(rank *r, char node, int32_t layer, eep_stream *stream)
{
    eep_dispatch_args dispatch = {.struct_bytes = sizeof dispatch,
                                  .x = r->x,
                                  .topk_idx = r->topk_idx,
                                  .num_tokens = r->num_tokens,
                                  .rows = r->rows,
                                  .slot_begin = r->slot_begin};
    eep_combine_args combine = {.struct_bytes = sizeof combine,
                                .rows = r->results,
                                .topk_weights = r->topk_weights,
                                .num_tokens = r->num_tokens,
                                .out = r->out,
                                .out_dtype = EEP_FP32};

    switch (node) {
    case 'L':
        return eep_step_latch(r->context, stream);
    case 'D':
        return eep_dispatch(r->context, layer, stream, &dispatch);
    case 'C':
        return eep_combine(r->context, layer, stream, &combine);
    default:
        return eep_step_finish(r->context, stream);
    }
}

/* Nodes as "L D0 C0 D1 C1 F", all but the last of which are accepted. */
static eep_status put_nodes(rank *r, const char *nodes)
{
    eep_status status = EEP_OK;

    for (const char *at = nodes; *at; at++) {
        if (!strchr("LDCF", *at)) {
            continue;
        }
        cr_assert_eq(status, EEP_OK, "%s before %s: %s", nodes, at, eep_last_error(r->context));
        status = put_node(r, *at, at[1] - '0', r->stream);
    }
    return status;
}

/* A graph must be one whole step: what else comes is refused, by names. */
Test(context_refused, a_part_of_a_step_is_no_graph)
{
    static const struct {
        const char *nodes, *says;
    } refused[] = {
        {"D0", "eep_dispatch of layer 0 came where eep_step_latch was expected"},
        {"F", "eep_step_finish came where eep_step_latch was expected"},
        {"L C0", "eep_combine of layer 0 came where eep_dispatch of layer 0 was expected"},
        {"L D1", "eep_dispatch of layer 1 came where eep_dispatch of layer 0 was expected"},
        {"L F", "eep_step_finish came where eep_dispatch of layer 0 was expected"},
        {"L D0 D0", "eep_dispatch of layer 0 came where eep_combine of layer 0 was expected"},
        {"L D0 D1", "eep_dispatch of layer 1 came where eep_combine of layer 0 was expected"},
        {"L D0 C0 D0", "eep_dispatch of layer 0 came where eep_dispatch of layer 1 was expected"},
        {"L D0 C0 C0", "eep_combine of layer 0 came where eep_dispatch of layer 1 was expected"},
        {"L D0 C0 F", "eep_step_finish came where eep_dispatch of layer 1 was expected"},
        {"L D0 L", "second eep_step_latch came in one capture"},
        {"L D0 C0 D1 C1 F F", "eep_step_finish came where eep_step_latch was expected"},
        {"L D0 C0 D1 C1 F L", "second eep_step_latch came in one capture"},
    };
    static const char *const cut[] = {"L", "L D0", "L D0 C0", "L D0 C0 D1 C1"};
    world w;
    eep_stream *other;
    eep_graph *graph;
    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_stream_open(r->device, &other), EEP_OK);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int is_whole = strstr(refused[i].nodes, "F") && strlen(refused[i].nodes) > 10;
        cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
        expect_state(r, put_nodes(r, refused[i].nodes), refused[i].nodes);
        cr_expect(strstr(eep_last_error(r->context), refused[i].says), "%s: %s", refused[i].nodes,
                  eep_last_error(r->context));
        eep_status status = eep_capture_end(r->stream, &graph);
        int is_empty = refused[i].nodes[0] != 'L'; /* nothing of a step is in it */
        cr_expect_eq(status, is_whole || is_empty ? EEP_OK : EEP_ERR_INVALID, "%s: %s",
                     refused[i].nodes, eep_strerror(status));
        if (status == EEP_OK) {
            eep_graph_close(graph);
        }
    }
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
        cr_assert_eq(put_nodes(r, cut[i]), EEP_OK, "%s", eep_last_error(r->context));
        cr_expect_eq(eep_capture_end(r->stream, &graph), EEP_ERR_INVALID, "%s", cut[i]);
        cr_expect(strstr(eep_device_error_text(), "lacks what follows"), "%s",
                  eep_device_error_text());
    }
    expect_state(r, eep_join(r->context), "join with a part of a step");
    cr_expect(strstr(eep_last_error(r->context), "eep_step_finish"), "%s",
              eep_last_error(r->context));
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    cr_assert_eq(put_nodes(r, "L"), EEP_OK);
    expect_state(r, put_node(r, 'D', 0, other), "a node in another stream");
    cr_expect(strstr(eep_last_error(r->context), "another stream"), "%s",
              eep_last_error(r->context));
    cr_expect_eq(eep_capture_end(r->stream, &graph), EEP_ERR_INVALID);
    cr_assert_eq(eep_join(r->context), EEP_ERR_STATE);
    graph = rank_capture(r); /* and a whole one is as good as ever */
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_expect_eq(rank_step(r, 2), EEP_OK, "%s", r->text);
    eep_graph_close(graph);
    eep_stream_close(other);
    world_close(&w);
}

/* Steps without a graph: the nodes are put while the step runs. */
Test(context_refused, a_step_that_is_put_without_a_graph_must_be_whole)
{
    world w;
    eep_step step = {.struct_bytes = sizeof step};
    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, 1000000, &step), EEP_OK);
    *r->num_tokens = 0;
    cr_assert_eq(put_nodes(r, "L D0 C0 D1 C1 F"), EEP_OK, "%s", eep_last_error(r->context));
    expect_state(r, put_node(r, 'L', 0, r->stream), "a second latch in one step");
    cr_expect_eq(eep_step_end(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, 1000000, &step), EEP_OK);
    cr_assert_eq(put_nodes(r, "L D0 C0"), EEP_OK, "%s", eep_last_error(r->context));
    expect_state(r, eep_step_end(r->context), "the end of half a step");
    cr_expect(strstr(eep_last_error(r->context), "eep_dispatch of layer 1"), "%s",
              eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, 1000000, &step), EEP_OK, "%s",
                 eep_last_error(r->context));
    expect_state(r, eep_step_end(r->context), "the end of a step that was not replayed");
    cr_expect(strstr(eep_last_error(r->context), "no graph of this context"), "%s",
              eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, 1000000, &step), EEP_OK);
    cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
    cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
    eep_status twice = eep_step_end(r->context);
    cr_expect(twice == EEP_OK || strstr(eep_last_error(r->context), "replayed twice"), "%s",
              eep_last_error(r->context));
    cr_expect_eq(rank_step(r, 2), EEP_OK, "%s", r->text);
    world_close(&w);
}

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080 /* of Linux 5.6 */
#endif

/* For children: a clock of boot that is 100,000 s ahead, as /proc shows start times by. */
static int shift_clock(void)
{
    static const char ahead[] = "boottime 100000 0";
    int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
    int shifted = fd >= 0 && write(fd, ahead, sizeof ahead - 1) == (ssize_t)sizeof ahead - 1;

    if (fd >= 0) {
        close(fd);
    }
    return shifted;
}

/* In a namespace of its own: does eep_store_forget refuse, and eep_open both a held seat and a free
 * one? The answer is a byte in `say`: 'r' refused, 's' no such namespace can be made, or what went
 * wrong. */
static void try_from_elsewhere(const char *path, int kind, int say)
{
    char answer = 's', error[256] = "";
    eep_context *context;
    eep_device *device;

    if (unshare(kind == CLONE_NEWPID ? CLONE_NEWPID | CLONE_NEWNS : kind) == 0) {
        pid_t child = kind == CLONE_NEWTIME && !shift_clock() ? -1 : fork();
        if (child > 0) {
            waitpid(child, NULL, 0);
            return;
        }
        answer = child == 0 ? 'e' : 's';
        if (child == 0 && kind == CLONE_NEWPID &&
            (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
             mount("proc", "/proc", "proc", 0, NULL) != 0)) {
            answer = 's';
        }
    }
    if (answer == 'e' && (eep_store_forget(path, error, sizeof error) != EEP_ERR_STATE ||
                          !strstr(error, "of another pid or time namespace"))) {
        answer = 'f';
    }
    for (int32_t seat = 0; answer == 'e' && seat <= 2; seat += 2) {
        eep_config config;
        answer = 'd';
        if (eep_device_open("host", 0, &device) != EEP_OK) {
            break;
        }
        world_config(&config);
        config.num_ranks = 2;
        config.max_ranks = 3;
        config.rank = seat;
        config.device = device;
        config.store_path = path;
        answer = eep_open(&config, error, sizeof error, &context) != EEP_ERR_UNSUPPORTED ? 'o'
                 : !strstr(error, "pid namespace or time namespace")                     ? 't'
                 : seat == 2                                                             ? 'r'
                                                                                         : 'e';
        eep_device_close(device);
    }
    (void)!write(say, &answer, 1);
}

/* A joiner in a container that shares the store's folder. What it sees of pids is about others, or
 * has another start time: it must not take a held seat, nor tell anybody that a healthy rank has
 * ended, nor clear the store. */
static void check_elsewhere(int kind)
{
    world w;
    int go[2], say[2];
    char path[sizeof w.path] = "", answer = 0;
    cr_assert(pipe(go) == 0 && pipe(say) == 0);
    pid_t child = fork(); /* before there are threads */
    if (child == 0) {
        close(go[1]);
        if (read(go[0], path, sizeof path) == (ssize_t)sizeof path) {
            try_from_elsewhere(path, kind, say[1]);
        }
        _exit(0);
    }
    world_open(&w, 2, 3);
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    cr_assert_eq(write(go[1], w.path, sizeof w.path), (ssize_t)sizeof w.path);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_assert_eq(read(say[0], &answer, 1), 1);
    world_advance(&w, 0, 1, 20);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 1);
    cr_expect_eq(rank_sees(&w.ranks[0], 0, NULL).generation, 1);
    world_check_right(&w);
    world_close(&w);
    if (answer == 's') {
        cr_skip("no such namespace can be made here");
    }
    cr_expect_eq(answer, 'r', "answer '%c'", answer);
}

Test(context_refused, M5_a_process_of_another_pid_namespace_disturbs_nobody)
{
    check_elsewhere(CLONE_NEWPID);
}

Test(context_refused, M5_a_process_of_another_time_namespace_disturbs_nobody)
{
    check_elsewhere(CLONE_NEWTIME);
}

/* A rank that serves captures: on a GPU it may not; on the host no step can begin meanwhile.
 * Returns the captures. */
static uint64_t capture_while_serving(rank *r)
{
    eep_step step = {.struct_bytes = sizeof step};
    eep_graph *graph;

    if (eepi_device_is_discrete(r->device)) {
        cr_expect_eq(eep_capture_begin(r->stream), EEP_ERR_STATE);
        cr_expect(strstr(eep_device_error_text(), "whole device"), "%s", eep_device_error_text());
        return 0;
    }
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    expect_state(r, eep_step_begin(r->context, 0, &step), "begin in a capture");
    cr_expect(strstr(eep_last_error(r->context), "captured"), "%s", eep_last_error(r->context));
    expect_state(r, eep_step_wait(r->context, 0), "wait in a capture");
    expect_state(r, eep_drain(r->context), "drain in a capture");
    cr_assert_eq(eep_capture_end(r->stream, &graph), EEP_OK);
    eep_graph_close(graph);
    return 1;
}

Test(context_refused, calls_in_the_wrong_order_leave_a_running_rank_alone)
{
    world w;
    eep_step step = {.struct_bytes = sizeof step};
    eep_stream *other;
    uint64_t captures;
    eep_tensor tensors[WORLD_TENSORS] = {{&w, WORLD_HIDDEN * sizeof(float)},
                                         {&w, WORLD_HIDDEN * sizeof(float)}};
    world_open(&w, 1, 2);
    w.config.num_experts = WORLD_SLOTS; /* what one rank can hold */
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_stream_open(r->device, &other), EEP_OK);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    expect_state(r, eep_join(r->context), "join twice");
    expect_state(r, eep_step_end(r->context), "end without begin");
    expect_state(r, eep_slot_set(r->context, 0, 0, tensors, WORLD_TENSORS), "weights after join");
    expect_state(r, eep_backup_set(r->context, 0, 0, tensors, WORLD_TENSORS), "backup after join");
    cr_expect_eq(rank_step(r, 0), EEP_OK, "%s", r->text);
    cr_assert_eq(eep_step_begin(r->context, 0, &step), EEP_OK);
    expect_state(r, eep_step_begin(r->context, 0, &step), "begin twice");
    expect_state(r, eep_step_wait(r->context, 0), "wait in a step");
    expect_state(r, eep_step_latch(r->context, other), "another graph in a step");
    expect_state(r, eep_step_stream(r->context, other), "another stream in a step");
    expect_state(r, eep_step_end(r->context), "end without replay");
    /* replayed where libeep does not look */
    cr_assert_eq(eep_step_begin(r->context, 0, &step), EEP_OK);
    cr_expect_eq(eep_graph_replay(r->graph, other), EEP_ERR_STATE);
    cr_expect(strstr(eep_error_text(), "eep_step_stream"), "%s", eep_error_text());
    expect_state(r, eep_step_end(r->context), "end of a step whose replay was refused");
    eep_stream_close(other);
    captures = capture_while_serving(r);
    cr_expect_eq(rank_step(r, 0), EEP_OK, "%s", r->text);
    cr_expect_eq(eep_step_wait(r->context, 0), EEP_ERR_TIMEOUT);
    cr_expect_eq(rank_counters(r).steps_ok, 2u);
    cr_expect_eq(rank_counters(r).captures_after_join, captures);
    world_close(&w);
}

/* A process that holds a seat may know an instance that the store has forgotten: none begins before
 * it was heard, or has gone (M8). */
Test(context_refused, M8_no_instance_begins_beside_a_holder_that_was_not_heard)
{
    world w;
    eepi_seat_holder holder = {.pid = (int32_t)getpid(),
                               .pid_start = eepi_process_start((int32_t)getpid()),
                               .home = eepi_process_home()};
    eepi_seat_holder before;
    world_open(&w, 1, 2);
    w.config.num_experts = WORLD_SLOTS; /* what one rank can hold */
    w.config.join_timeout_us = 300000;
    rank *r = &w.ranks[0];
    cr_assert_eq(eepi_seat_take(w.path, 1, 0, &holder, &before), EEP_OK);
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_expect_eq(eep_join(r->context), EEP_ERR_TIMEOUT, "%s", eep_last_error(r->context));
    cr_assert_eq(eepi_seat_release(w.path, 1, &holder), EEP_OK);
    world_close(&w);
}

/* ------------------------------------------------------------------ descriptors */

static void leave_descriptors(uint64_t num)
{
    struct rlimit limit;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = eepi_descriptors_look().open + num;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Whatever is opened when they run out: the limit is named, never another cause. */
Test(context_refused, descriptors_that_run_out_are_named)
{
    world w;

    world_open(&w, 2, 8);
    for (uint64_t room = 0; room < 24; room += 3) {
        leave_descriptors(room);
        eep_status status = rank_open(&w, 0);
        if (status == EEP_OK) {
            rank_close(&w.ranks[0]);
            continue;
        }
        cr_expect_eq(status, EEP_ERR_SYSTEM, "room for %d: %d: %s", (int)room, (int)status,
                     w.ranks[0].error);
        cr_expect_not_null(strstr(w.ranks[0].error, "RLIMIT_NOFILE"), "room for %d: %s", (int)room,
                           w.ranks[0].error);
    }
    leave_descriptors(256);
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", w.ranks[0].error);
    rank_close(&w.ranks[0]);
    world_close(&w);
}

/* A limit below what is open makes poll refuse them all: the service goes on without a spin. */
Test(context_refused, a_limit_lowered_below_what_is_open_stops_nobody)
{
    world w;
    struct rlimit before, none;
    struct timespec used;
    double spent_ms;

    world_open(&w, 2, 2);
    world_start(&w);
    world_rest(&w);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 1;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    spent_ms = -(double)used.tv_sec * 1e3 - (double)used.tv_nsec / 1e6;
    poll(NULL, 0, 400); /* the time over which it is watched */
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    spent_ms += (double)used.tv_sec * 1e3 + (double)used.tv_nsec / 1e6;
    cr_expect_lt(spent_ms, 200);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 20);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    world_close(&w);
}
