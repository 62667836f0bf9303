/* SPDX-License-Identifier: Apache-2.0 */
/* Uses that cannot work, told in words: calls from callbacks, two threads in one context, steps in
 * a stream that is not the context's. */
#include "tests/lib/context_fixture.h"

#include <stdio.h>
#include <string.h>

TestSuite(context_misuse, .timeout = 60);

/* ---------------------------------------------------------------- callbacks */

typedef struct caller {
    eep_context *context; /* NULL: not yet; atomic */
    eep_device *device;
    eep_stream *stream;
    eep_event *event;
    int events, lines; /* in which it called; atomic */
    int inside;        /* callbacks that are in these calls; atomic */
    int wrong;         /* answers that are not what they should be */
    char line[900];    /* the last one about eep_close */
} caller;

static void count(caller *c, int is_right)
{
    c->wrong += !is_right;
}

/* What waits for a stream would wait for a step that waits for the service thread. */
static void call_device(caller *c)
{
    eep_stream *stream;
    eep_device *device;
    eep_graph *graph;
    void *memory;

    count(c, eep_stream_synchronize(c->stream, 1000000) == EEP_ERR_STATE);
    count(c, strstr(eep_error_text(), "eep_stream_synchronize from the log or event") != NULL);
    count(c, eep_event_synchronize(c->event, 1000000) == EEP_ERR_STATE);
    count(c, eep_stream_open(c->device, &stream) == EEP_ERR_STATE);
    count(c, eep_device_open("host", 0, &device) == EEP_ERR_STATE);
    count(c, eep_device_alloc(c->device, EEP_MEMORY_PINNED, 64, &memory) == EEP_ERR_STATE);
    count(c, eep_capture_begin(c->stream) == EEP_ERR_STATE);
    count(c, eep_capture_end(c->stream, &graph) == EEP_ERR_STATE);
    eep_stream_close(c->stream);
    count(c, eep_event_record(c->event, c->stream) == EEP_OK); /* waits for nothing */
}

static void call_all(caller *c)
{
    eep_context *context = __atomic_load_n(&c->context, __ATOMIC_SEQ_CST);
    eep_snapshot snapshot;
    eep_step step;

    if (!context) {
        return;
    }
    count(c, eep_snapshot_get(context, EEP_SIZED(&snapshot), NULL, NULL) == EEP_OK);
    count(c, eep_rank(context) == 0 && eep_generation(context) == 1);
    count(c, eep_step_begin(context, WORLD_PATIENT_US, EEP_SIZED(&step)) == EEP_ERR_STATE);
    count(c, strstr(eep_error_text(), "callback") != NULL);
    count(c, eep_step_end(context) == EEP_ERR_STATE);
    count(c, eep_step_wait(context, 1000000) == EEP_ERR_STATE);
    count(c, eep_join(context) == EEP_ERR_STATE);
    count(c, eep_drain(context) == EEP_ERR_STATE);
    eep_close(context);
    call_device(c);
}

/* So that what is called can be closed once nobody is inside. */
static void call_counted(caller *c)
{
    __atomic_fetch_add(&c->inside, 1, __ATOMIC_SEQ_CST);
    call_all(c);
    __atomic_fetch_sub(&c->inside, 1, __ATOMIC_SEQ_CST);
}

static void on_event(void *user, const eep_event_info *record)
{
    caller *c = user;

    (void)record;
    call_counted(c);
    __atomic_fetch_add(&c->events, 1, __ATOMIC_SEQ_CST);
}

static void on_log(void *user, eep_log_level level, const char *line)
{
    caller *c = user;

    (void)level;
    if (strstr(line, "eep_close")) {
        snprintf(c->line, sizeof c->line, "%s", line);
    }
    call_counted(c);
    __atomic_fetch_add(&c->lines, 1, __ATOMIC_SEQ_CST);
}

/* The callback's thread is the one that the call would wait for, or holds what it would need. */
Test(context_misuse, calls_from_callbacks_are_refused)
{
    caller c = {0};
    world w;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    w.config.log_level = EEP_LOG_DEBUG;
    w.config.log = on_log;
    w.user = &c;
    w.event = on_event;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    c.device = r->device;
    cr_assert_eq(eep_stream_open(r->device, &c.stream), EEP_OK);
    cr_assert_eq(eep_event_open(r->device, &c.event), EEP_OK);
    __atomic_store_n(&c.context, r->context, __ATOMIC_RELEASE);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(rank_step(r, 0), EEP_OK, "%s", r->text);
    }
    WORLD_WAIT(&w, __atomic_load_n(&c.events, __ATOMIC_SEQ_CST) > 0 &&
                       __atomic_load_n(&c.lines, __ATOMIC_SEQ_CST) > 0);
    __atomic_store_n(&c.context, NULL, __ATOMIC_SEQ_CST);
    WORLD_WAIT(&w, __atomic_load_n(&c.inside, __ATOMIC_SEQ_CST) == 0);
    eep_event_close(c.event);
    eep_stream_close(c.stream);
    world_close(&w);
    cr_expect_eq(c.wrong, 0, "%d answers are wrong", c.wrong);
    cr_expect(strstr(c.line, "does nothing"), "%s", c.line);
}

static rank *from_kernel; /* whose stream runs the kernel */
static int kernel_answers, kernel_wrong;
static char kernel_text[512];

static void calling_body(const void *args, eep_grid grid);
static const eep_kernel calling = EEP_KERNEL("calling", calling_body, NULL, NULL, 0);

static void calling_body(const void *args, eep_grid grid)
{
    rank *r = from_kernel;
    eep_snapshot snapshot;
    eep_status expected = EEP_ERR_STATE;

    (void)args;
    (void)grid;
    kernel_wrong += eep_step_end(r->context) != expected;
    snprintf(kernel_text, sizeof kernel_text, "%s", eep_error_text());
    kernel_wrong += eep_stream_synchronize(r->stream, 1000000) != expected;
    kernel_wrong += eep_graph_replay(r->graph, r->stream) != expected;
    kernel_wrong += eep_launch(r->stream, &calling, 1, 1, NULL, 0) != expected;
    eep_stream_close(r->stream);
    eep_close(r->context);
    kernel_wrong += eep_snapshot_get(r->context, EEP_SIZED(&snapshot), NULL, NULL) != EEP_OK;
    __atomic_store_n(&kernel_answers, 1, __ATOMIC_SEQ_CST);
}

/* A kernel's host body runs in its stream's thread, which every wait for the stream waits for. */
Test(context_misuse, calls_from_a_kernel_are_refused)
{
    eep_step step;
    world w;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = from_kernel = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, EEP_SIZED(&step)), EEP_OK);
    rank_fill(r, 1, BAD_NONE);
    cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
    cr_assert_eq(eep_launch(r->stream, &calling, 1, 1, NULL, 0), EEP_OK);
    WORLD_WAIT(&w, __atomic_load_n(&kernel_answers, __ATOMIC_SEQ_CST));
    cr_expect_eq(eep_step_end(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_expect_eq(kernel_wrong, 0, "%d answers are wrong", kernel_wrong);
    cr_expect(strstr(kernel_text, "eep_step_end from a kernel's host body"), "%s", kernel_text);
    world_close(&w);
}

/* ---------------------------------------------------------------- two threads */

static void *end_step(void *user)
{
    rank *r = user;

    return eep_step_end(r->context) == EEP_OK ? r : NULL;
}

/* A step is ended once, whoever asks first. */
Test(context_misuse, two_threads_do_not_end_one_step)
{
    world w;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    for (int i = 0; i < 50; i++) {
        eep_step step;
        pthread_t thread;
        void *other;
        eep_status status;

        cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, EEP_SIZED(&step)), EEP_OK);
        rank_fill(r, 1, BAD_NONE);
        cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
        cr_assert_eq(pthread_create(&thread, NULL, end_step, r), 0);
        status = eep_step_end(r->context);
        pthread_join(thread, &other);
        cr_assert_eq((status == EEP_OK) + (other != NULL), 1, "step %d ended twice", i);
    }
    world_close(&w);
}

/* ---------------------------------------------------------------- streams */

/* Both would wait for each other: the second one is told so when it is captured. */
Test(context_misuse, a_stream_is_one_contexts)
{
    eep_stream *own, *again;
    world w;

    world_open(&w, 2, 2);
    rank *a = &w.ranks[0], *b = &w.ranks[1];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", a->error);
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", b->error);
    cr_expect_eq(eep_step_latch(b->context, a->stream), EEP_ERR_STATE);
    cr_expect(strstr(eep_last_error(b->context), "another context's steps"), "%s",
              eep_last_error(b->context));
    cr_expect_eq(eep_step_stream(b->context, a->stream), EEP_ERR_STATE);
    cr_expect_eq(eep_graph_replay(b->graph, a->stream), EEP_ERR_INVALID, "of another device");
    cr_assert_eq(eep_stream_open(a->device, &own), EEP_OK);
    /* two handles of one stream are one stream */
    cr_assert_eq(eep_stream_adopt(a->device, eep_stream_native(a->stream), &again), EEP_OK);
    cr_expect_eq(eep_step_stream(b->context, again), EEP_ERR_STATE);
    cr_expect_eq(eep_step_stream(a->context, again), EEP_OK);
    cr_expect_eq(eep_step_stream(b->context, a->stream), EEP_ERR_STATE);
    cr_expect_eq(eep_graph_replay(a->graph, a->stream), EEP_OK, "%s", eep_error_text());
    cr_assert_eq(eep_stream_synchronize(a->stream, WORLD_PATIENT_US), EEP_OK);
    cr_assert_eq(eep_step_stream(a->context, own), EEP_OK);
    eep_stream_close(again);
    cr_expect_eq(eep_graph_replay(a->graph, a->stream), EEP_ERR_STATE);
    cr_expect(strstr(eep_error_text(), "eep_step_stream"), "%s", eep_error_text());
    cr_expect_eq(eep_step_stream(b->context, a->stream), EEP_OK, "it was given back");
    cr_expect_eq(eep_step_stream(b->context, b->stream), EEP_OK);
    cr_expect_eq(eep_step_stream(a->context, a->stream), EEP_OK);
    eep_stream_close(own);
    world_close(&w);
}

/* ---------------------------------------------------------------- joining again */

/* A first rank with other weights closes the instance; once another process has its seat, those who
 * waited are let in. */
Test(context_misuse, M8_a_join_that_was_uncovered_goes_on)
{
    eep_status status = EEP_ERR_UNCOVERED;
    world w;

    world_open(&w, 2, 2);
    w.config.num_experts = WORLD_SLOTS; /* each rank holds all of them */
    w.config.join_timeout_us = 5000000;
    w.config.propose_delay_us = WORLD_PATIENT_US; /* b is refused, and does not find out itself */
    rank *a = &w.ranks[0], *b = &w.ranks[1];
    b->heavier = 1;
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", a->error);
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", b->error);
    rank_run(b);
    cr_expect_eq(eep_join(a->context), EEP_ERR_UNCOVERED, "%s", eep_last_error(a->context));
    WORLD_WAIT(&w, b->join_status == EEP_ERR_CHECKSUM);
    rank_close(b);
    b->heavier = 0;
    b->mode = RANK_FOLLOW;
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", b->error);
    rank_run(b);
    for (int i = 0; i < 3 && (status == EEP_ERR_UNCOVERED || status == EEP_ERR_TIMEOUT); i++) {
        status = eep_join(a->context);
    }
    cr_expect_eq(status, EEP_OK, "%s", eep_last_error(a->context));
    WORLD_WAIT(&w, b->joined);
    cr_expect_eq(rank_step(a, 0), EEP_OK, "%s", a->text);
    cr_expect_eq(eep_join(a->context), EEP_ERR_STATE);
    world_close(&w);
}

/* ---------------------------------------------------------------- leaving, weights */

/* A rank that waits for EEP_ERR_DRAINED is told that it cannot come, and how it can. */
Test(context_misuse, a_drain_without_room_elsewhere_is_told)
{
    world w;

    world_open(&w, 2, 3); /* five slots for eight experts */
    world_start(&w);
    world_lock(&w);
    w.ranks[1].drain = 1;
    world_unlock(&w);
    WORLD_WAIT(&w, rank_events(&w.ranks[1], EEP_EVENT_DRAIN_WAITS) == 1);
    cr_expect_eq(rank_events(&w.ranks[0], EEP_EVENT_DRAIN_WAITS), 0);
    WORLD_WAIT(&w, rank_sees(&w.ranks[0], 1, NULL).state == EEP_SEAT_RETIRING);
    world_close(&w);
}

/* What was begun and never replayed runs nowhere: the seat is free after the close. */
Test(context_misuse, a_step_that_was_never_replayed_keeps_no_seat)
{
    eep_step step = {.struct_bytes = sizeof step};
    world w;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, &step), EEP_OK);
    cr_expect_eq(eep_step_end(r->context), EEP_ERR_STATE);
    rank_close(r);
    cr_expect_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    world_close(&w);
}

/* With join_timeout_us 0 a call asks, or looks, and does not wait. */
Test(context_misuse, a_join_that_does_not_wait_is_called_again)
{
    const struct timespec nap = {0, 1000000};
    eep_status status = EEP_ERR_TIMEOUT;
    eep_step step = {.struct_bytes = sizeof step};
    world w;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    w.config.join_timeout_us = 0;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    for (int i = 0; i < WORLD_WAIT_MS && status == EEP_ERR_TIMEOUT; i++) {
        status = eep_join(r->context);
        if (status == EEP_ERR_TIMEOUT) {
            cr_expect(strstr(eep_last_error(r->context), "eep_join: not let in within 0 ms"), "%s",
                      eep_last_error(r->context));
        }
        nanosleep(&nap, NULL);
    }
    cr_expect_eq(status, EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, &step), EEP_OK);
    rank_close(r);
    world_close(&w);
}

static void expect_text(const rank *r, eep_status status, eep_status expected, const char *text)
{
    cr_expect_eq(status, expected, "%s: %s", text, eep_strerror(status));
    cr_expect(strstr(eep_last_error(r->context), text), "not \"%s\": %s", text,
              eep_last_error(r->context));
}

/* It names the call, the value, and what is possible. */
Test(context_misuse, a_refusal_names_call_and_value)
{
    eep_tensor tensors[WORLD_TENSORS] = {{NULL, 64}, {NULL, 64}};
    eep_dispatch_args d = {.struct_bytes = sizeof d};
    eep_combine_args c = {.struct_bytes = sizeof c};
    eep_step step = {.struct_bytes = sizeof step};
    eep_stream *other = NULL;
    world w;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    eep_context *at = r->context;
    expect_text(r, eep_slot_set(at, 2, 0, tensors, 2), EEP_ERR_INVALID,
                "eep_slot_set: layer 2 slot 0: there are layers 0 to 1, of slots 0 to 4");
    expect_text(r, eep_slot_alloc(at, 0, -1, tensors, 2), EEP_ERR_INVALID,
                "eep_slot_alloc: layer 0 slot -1: there are");
    expect_text(r, eep_slot_alloc(at, 0, 0, tensors, 2), EEP_ERR_STATE,
                "eep_slot_alloc: layer 0 slot 0 has memory already");
    expect_text(r, eep_slot_set(at, 0, 0, tensors, 9), EEP_ERR_INVALID,
                "eep_slot_set: num_tensors is 9: 1 to 8 are possible");
    expect_text(r, eep_slot_set(at, 0, 0, tensors, 1), EEP_ERR_INVALID,
                "eep_slot_set: 1 tensors, and 2 are needed");
    expect_text(r, eep_backup_set(at, 0, 5, tensors, 2), EEP_ERR_INVALID,
                "eep_backup_set: layer 0 expert 5: there are layers 0 to 1, of experts 0 to 4");
    expect_text(r, eep_drain(at), EEP_ERR_STATE, "eep_drain: this rank has not called eep_join");
    expect_text(r, eep_dispatch(at, 2, r->stream, &d), EEP_ERR_INVALID,
                "eep_dispatch: layer is 2: 0 to 1 are possible");
    expect_text(r, eep_combine(at, -1, r->stream, &c), EEP_ERR_INVALID,
                "eep_combine: layer is -1: 0 to 1 are possible");
    c = (eep_combine_args){sizeof c,        EEP_FP32,      r->chain[0].rows,
                           r->topk_weights, r->num_tokens, (char *)r->out + 4};
    expect_text(r, eep_combine(at, 0, r->stream, &c), EEP_ERR_INVALID, "eep_combine: out is at 0x");
    cr_expect_eq(eep_busy(at, 600000001), EEP_ERR_INVALID);
    cr_expect(strstr(eep_error_text(), "eep_busy: busy_us is 600000001: 0 to 600000000"), "%s",
              eep_error_text());
    cr_assert_eq(eep_join(at), EEP_OK, "%s", eep_last_error(at));
    cr_assert_eq(eep_stream_open(r->device, &other), EEP_OK);
    cr_assert_eq(eep_step_begin(at, WORLD_PATIENT_US, &step), EEP_OK);
    expect_text(r, eep_step_stream(at, other), EEP_ERR_STATE, "eep_step_stream: step 1 has begun");
    expect_text(r, eep_step_latch(at, other), EEP_ERR_STATE,
                "eep_step_latch: step 1 runs in another stream");
    eep_stream_close(other);
    rank_close(r);
    world_close(&w);
}

/* A refusal says what to do about it. */
Test(context_misuse, refusals_of_an_open_say_the_remedy)
{
    char error[256] = "";
    eep_context *context;
    eep_config none = {0};
    world w;

    cr_expect_eq(eep_open(&none, error, sizeof error, &context), EEP_ERR_INVALID);
    cr_expect(strstr(error, "eep_config_init") && strstr(error, "struct_bytes"), "%s", error);
    world_open(&w, 1, 1);
    rank *r = &w.ranks[0];
    w.config.num_ranks = w.config.max_ranks = 0;
    cr_expect_eq(rank_open(&w, 0), EEP_ERR_INVALID);
    cr_expect(strstr(r->error, "num_ranks is 0") && strstr(r->error, "EEP_SIZE"), "%s", r->error);
    w.config.num_ranks = 1;
    w.config.store_path = "/dev/null/store";
    cr_expect_eq(rank_open(&w, 0), EEP_ERR_SYSTEM);
    cr_expect(strstr(r->error, "Not a directory") && strstr(r->error, "/dev/null/store"), "%s",
              r->error);
    world_close(&w);
}
