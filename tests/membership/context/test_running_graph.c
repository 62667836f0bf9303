/* SPDX-License-Identifier: Apache-2.0 */
/* Steps whose graph runs where libeep does not look: in another stream than the context's, or in
 * one that was closed. No promise is given before their end (rule M2). A second handle plays the
 * framework that owns a stream, and captures and replays by its own means. */
#include "tests/lib/put_nodes.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(running_graph, .timeout = 60);

/* ---------------------------------------------------------------- a graph that stands still */

static int is_open, is_reached;

/* Bounded, as everything in a test is. */
static void gate_body(const void *args, eep_grid grid)
{
    (void)args;
    (void)grid;
    __atomic_store_n(&is_reached, 1, __ATOMIC_SEQ_CST);
    for (int ms = 0; ms < WORLD_WAIT_MS && !__atomic_load_n(&is_open, __ATOMIC_SEQ_CST); ms++) {
        usleep(1000);
    }
}

static const eep_kernel gate = EEP_KERNEL("gate", gate_body, NULL, NULL, 0);

static void open_gate(void)
{
    __atomic_store_n(&is_open, 1, __ATOMIC_SEQ_CST);
}

/* ---------------------------------------------------------------- a framework */

typedef struct framework {
    rank *r;
    eep_stream *theirs, *ours; /* two handles of one stream */
    eep_stream *other;         /* which the context does not know */
    eep_graph *graph;          /* of theirs; the gate stands behind the latch */
} framework;

/* A part of a step. */
static void put_nodes(rank *r, const char *nodes, eep_stream *stream)
{
    cr_assert_eq(step_put_nodes(r, nodes, stream), EEP_OK, "%s: %s", nodes,
                 eep_last_error(r->context));
}

static void framework_open(framework *f, rank *r)
{
    f->r = r;
    cr_assert_eq(eep_stream_open(r->device, &f->theirs), EEP_OK);
    cr_assert_eq(eep_stream_open(r->device, &f->other), EEP_OK);
    cr_assert_eq(eep_stream_adopt(r->device, eep_stream_native(f->theirs), &f->ours), EEP_OK);
    cr_assert_eq(eep_capture_begin(f->theirs), EEP_OK);
    put_nodes(r, "L", f->ours);
    cr_assert_eq(eep_launch(f->ours, &gate, 1, 1, NULL, 0), EEP_OK);
    put_nodes(r, "D0 C0 D1 C1 F", f->ours);
    cr_assert_eq(eep_capture_end(f->theirs, &f->graph), EEP_OK);
    *r->num_tokens = 0;
}

static void framework_close(framework *f)
{
    open_gate();
    cr_expect_eq(eep_stream_synchronize(f->other, WORLD_PATIENT_US), EEP_OK);
    eep_graph_close(f->graph);
    if (f->ours) {
        eep_stream_close(f->ours);
    }
    eep_stream_close(f->theirs);
    eep_stream_close(f->other);
}

static void begin(rank *r)
{
    eep_step step;

    cr_assert_eq(eep_step_begin(r->context, 10000000, EEP_SIZED(&step)), EEP_OK, "%s",
                 eep_last_error(r->context));
}

static void replay_up_to_the_gate(framework *f, eep_stream *stream)
{
    __atomic_store_n(&is_open, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&is_reached, 0, __ATOMIC_SEQ_CST);
    cr_assert_eq(eep_stream_synchronize(f->theirs, WORLD_PATIENT_US),
                 EEP_OK); /* the flip is there */
    cr_assert_eq(eep_graph_replay(f->graph, stream), EEP_OK);
    WORLD_WAIT(f->r->world, __atomic_load_n(&is_reached, __ATOMIC_SEQ_CST));
}

/* One rank that has all experts, opened and let in. */
static rank *open_alone(world *w)
{
    world_open(w, 1, 1);
    w->config.num_experts = WORLD_SLOTS;
    cr_assert_eq(rank_open(w, 0), EEP_OK, "%s", w->ranks[0].error);
    return &w->ranks[0];
}

static void expect_end(rank *r, eep_status status, const char *says)
{
    eep_status got = eep_step_end(r->context);

    cr_expect_eq(got, status, "%s: %s", eep_strerror(got), eep_last_error(r->context));
    cr_expect(strstr(eep_last_error(r->context), says), "%s", eep_last_error(r->context));
}

/* ---------------------------------------------------------------- tests */

/* A peer ends while our graph stands still in another stream. What it holds may still be stored, so
 * this rank does not say that it stores nothing more before the graph has ended. */
Test(running_graph, M2_no_promise_while_a_graph_runs_in_another_stream)
{
    framework f;
    eep_step step;
    world w;

    world_open(&w, 2, 2);
    w.config.num_experts = WORLD_SLOTS; /* each rank holds all of them */
    rank *a = &w.ranks[0], *b = &w.ranks[1];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", a->error);
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", b->error);
    framework_open(&f, a);
    b->mode = RANK_PARK;
    rank_run(b);
    cr_assert_eq(eep_join(a->context), EEP_OK, "%s", eep_last_error(a->context));
    WORLD_WAIT(&w, b->joined);
    begin(a);
    replay_up_to_the_gate(&f, f.other);
    rank_close(b);
    for (int i = 0; i < 2; i++) {
        expect_end(a, EEP_ERR_DEVICE, "has begun and not ended");
    }
    cr_expect_eq(eep_step_begin(a->context, 0, EEP_SIZED(&step)), EEP_ERR_STATE);
    WORLD_WAIT(&w, rank_events(a, EEP_EVENT_SUSPECTED) > 0);
    cr_expect_eq(rank_events(a, EEP_EVENT_WEDGED), 0, "the promise came before the graph's end");
    open_gate();
    expect_end(a, EEP_ERR_STATE, "ran in another stream");
    WORLD_WAIT(&w, rank_events(a, EEP_EVENT_WEDGED) > 0);
    expect_end(a, EEP_ERR_STATE, "no step was begun");
    begin(a); /* in the next view, and where it belongs */
    cr_assert_eq(eep_graph_replay(f.graph, f.theirs), EEP_OK);
    cr_expect_eq(eep_step_end(a->context), EEP_OK, "%s", eep_last_error(a->context));
    cr_expect_eq(eep_step_stream(a->context, a->stream), EEP_OK);
    framework_close(&f);
    world_close(&w);
}

/* Nodes that were put one by one have all run once their stream is empty: the step lacks its end,
 * and the next one may begin. So it is in a stream of the caller's. */
Test(running_graph, half_a_step_that_was_put_one_by_one_is_over)
{
    framework f;
    world w;
    rank *r = open_alone(&w);

    framework_open(&f, r);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    begin(r);
    put_nodes(r, "L D0 C0", f.ours);
    expect_end(r, EEP_ERR_STATE, "eep_dispatch of layer 1");
    begin(r);
    put_nodes(r, "L D0 C0 D1 C1 F", f.ours);
    cr_expect_eq(eep_step_end(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_expect_eq(eep_step_stream(r->context, r->stream), EEP_OK);
    framework_close(&f);
    world_close(&w);
}

/* libeep waits for what was in a stream of its own. */
Test(running_graph, a_stream_that_is_closed_inside_a_step_has_ended)
{
    static const char *const puts[] = {"", "L D0 C0", "L D0 C0 D1 C1 F"};
    eep_stream *streams[3];
    world w;
    rank *r = open_alone(&w);

    for (int i = 0; i < 3; i++) {
        cr_assert_eq(eep_stream_open(r->device, &streams[i]), EEP_OK);
    }
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    for (int i = 0; i < 3; i++) {
        eep_step step;

        cr_assert_eq(eep_step_stream(r->context, streams[i]), EEP_OK);
        begin(r);
        *r->num_tokens = 0;
        put_nodes(r, puts[i], streams[i]);
        eep_stream_close(streams[i]);
        if (i == 2) {
            cr_expect_eq(eep_step_end(r->context), EEP_OK, "%s", eep_last_error(r->context));
        } else {
            expect_end(r, EEP_ERR_STATE, i == 0 ? "no graph of this context" : "layer 1");
        }
        cr_expect_eq(eep_step_begin(r->context, 0, EEP_SIZED(&step)), EEP_ERR_STATE);
        cr_expect(strstr(eep_last_error(r->context), "was closed"), "%s",
                  eep_last_error(r->context));
    }
    rank_close(r);
    cr_expect_eq(rank_open(&w, 0), EEP_OK, "the seat is free: %s", r->error);
    world_close(&w);
}

/* What is in a stream of the caller's goes on when its handle is closed. */
Test(running_graph, a_callers_stream_that_is_closed_inside_a_step_runs_on)
{
    framework f;
    world w;
    rank *r = open_alone(&w);

    framework_open(&f, r);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    begin(r);
    replay_up_to_the_gate(&f, f.theirs);
    eep_stream_close(f.ours);
    f.ours = NULL;
    expect_end(r, EEP_ERR_DEVICE, "has begun and not ended");
    open_gate();
    expect_end(r, EEP_ERR_STATE, "was aborted"); /* since the call before gave it up */
    cr_expect_eq(eep_step_stream(r->context, r->stream), EEP_OK);
    cr_expect_eq(rank_step(r, 2), EEP_OK, "%s", r->text);
    framework_close(&f);
    world_close(&w);
}

/* ---------------------------------------------------------------- what a close leaves */

/* Memory that a graph may use is lost on purpose: in a child, whose end nobody looks at for leaks.
 * It answers whether its seat is free for another process. */
static int seat_is_free_after(int (*leave)(framework *f, rank *r))
{
    pid_t child = fork(); /* before there are threads */
    int status = 0;

    cr_assert_geq(child, 0);
    if (child == 0) {
        framework f;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(20);
        world w;
        rank *r = open_alone(&w);
        eep_config config = w.config;
        eep_context *again;

        framework_open(&f, r);
        if (eep_join(r->context) != EEP_OK) {
            _exit(2);
        }
        if (!leave(&f, r)) {
            _exit(3);
        }
        eep_close(r->context);
        config.rank = 0;
        if (eep_device_open("host", 0, &config.device) != EEP_OK) {
            _exit(4);
        }
        _exit(eep_open(&config, r->error, sizeof r->error, &again) == EEP_OK);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1, "status %x", (unsigned)status);
    return WEXITSTATUS(status);
}

static int leave_running(framework *f, rank *r)
{
    begin(r);
    replay_up_to_the_gate(f, f->other);
    return 1;
}

static int leave_running_and_end(framework *f, rank *r)
{
    leave_running(f, r);
    return eep_step_end(r->context) == EEP_ERR_DEVICE;
}

/* The graph may be queued: when it begins it finds the abort word, and stores nothing. */
static int leave_without_replay(framework *f, rank *r)
{
    (void)f;
    begin(r);
    return eep_step_end(r->context) == EEP_ERR_STATE;
}

Test(running_graph, M7_a_seat_is_kept_while_a_graph_runs_in_another_stream)
{
    cr_expect_eq(seat_is_free_after(leave_running), 0);
    cr_expect_eq(seat_is_free_after(leave_running_and_end), 0);
    cr_expect_eq(seat_is_free_after(leave_without_replay), 1);
}

/* A graph of libeep's own is replayed in the context's stream only, also if that is the caller's:
 * nothing is left, not even memory (the sanitizers look). */
Test(running_graph, a_step_without_a_replay_leaves_nothing_in_a_callers_stream)
{
    eep_stream *theirs, *ours;
    world w;
    rank *r = open_alone(&w);

    cr_assert_eq(eep_stream_open(r->device, &theirs), EEP_OK);
    cr_assert_eq(eep_stream_adopt(r->device, eep_stream_native(theirs), &ours), EEP_OK);
    cr_assert_eq(eep_step_stream(r->context, ours), EEP_OK);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    begin(r);
    expect_end(r, EEP_ERR_STATE, "no graph of this context");
    eep_stream_close(ours);
    eep_stream_close(theirs);
    rank_close(r);
    cr_expect_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    world_close(&w);
}

static void latch_uncaptured(rank *r)
{
    cr_expect_eq(eep_step_latch(r->context, r->stream), EEP_ERR_STATE);
    cr_expect(strstr(eep_last_error(r->context), "call eep_capture_begin first"), "%s",
              eep_last_error(r->context));
}

/* The nodes would run at once, and every step would lack a graph. */
Test(running_graph, a_capture_that_was_forgotten_is_told_at_its_latch)
{
    world w;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    r->opened = latch_uncaptured;
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_expect_eq(rank_step(r, 1), EEP_OK, "%s", eep_last_error(r->context));
    world_close(&w);
}
