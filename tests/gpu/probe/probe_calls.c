/* SPDX-License-Identifier: Apache-2.0 */
/* The role that makes the runtime's calls while a kernel waits in another stream: does the call
 * wait for that kernel, and do launches of another thread wait for the call? */
#include "tests/gpu/probe/probe_role.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KERNEL_MS = 700,   /* how long the kernel waits: what a call takes that waits for it */
    CALLS_US = 400000, /* how long calls are made */
    MOST_CALLS = 1000,
    CALL_BYTES = 4 << 20, /* beyond what an allocator keeps in reserve */
    CALL_GRAPH = PROBE_CALL_STREAM + 1,
    CALL_NOTHING,
};
enum { PHASE_NONE, PHASE_TAKE, PHASE_GIVE };

static const struct {
    int call;
    const char *take, *give;
} pairs[] = {
    {CALL_NOTHING, "nothing", "nothing_again"},
    {PROBE_CALL_STREAM, "stream_create", "stream_destroy"},
    {PROBE_CALL_MALLOC_ASYNC, "malloc_async", "free_async"},
    {CALL_GRAPH, "graph_instantiate", "graph_exec_destroy"},
    {PROBE_CALL_HOST_ALLOC, "host_alloc", "host_free"},
    {PROBE_CALL_MALLOC, "malloc", "free"},
};

typedef struct calls {
    probe_role *role;
    eep_stream *stream; /* for what is captured, or allocated in order */
    probe_stamp_args stamp;
} calls;

/* ------------------------------------------------------------------ the calls */

/* The end of a capture makes the graph's executable form. */
static eep_status take_graph(calls *c, void **thing_out)
{
    probe_role *r = c->role;
    eep_graph *graph = NULL;
    eep_status status = probe_check(r, eep_capture_begin(c->stream), "eep_capture_begin");

    if (status == EEP_OK) {
        status = probe_launch(r, c->stream, PROBE_STAMP, &c->stamp, sizeof c->stamp);
    }
    if (status == EEP_OK) {
        status = probe_check(r, eep_capture_end(c->stream, &graph), "eep_capture_end");
    }
    *thing_out = graph;
    return status;
}

static eep_status take(calls *c, int call, void **thing_out)
{
    const char *why = NULL;

    if (call == CALL_NOTHING) {
        probe_pause_ms(1);
    } else if (call == CALL_GRAPH) {
        return take_graph(c, thing_out);
    } else if (c->role->is_cuda) {
        why = probe_call_take(call, eep_stream_native(c->stream), CALL_BYTES, thing_out);
    } else {
        why = (*thing_out = malloc(CALL_BYTES)) ? NULL : "out of memory";
    }
    return why ? probe_fail(c->role, EEP_ERR_DEVICE, "%s", why) : EEP_OK;
}

static eep_status give(calls *c, int call, void *thing)
{
    const char *why = NULL;

    if (call == CALL_NOTHING) {
        probe_pause_ms(1);
    } else if (call == CALL_GRAPH) {
        eep_graph_close(thing);
    } else if (c->role->is_cuda) {
        why = probe_call_give(call, eep_stream_native(c->stream), thing);
    } else {
        free(thing);
    }
    return why ? probe_fail(c->role, EEP_ERR_DEVICE, "%s", why) : EEP_OK;
}

/* ------------------------------------------------------------------ one pair */

typedef struct pair_times {
    double take_us[MOST_CALLS], give_us[MOST_CALLS];
    size_t count;
    int goes_on[2]; /* the kernel, behind the first of each */
} pair_times;

/* A call that waited for the kernel has seen its end: the next one gets another kernel. */
static eep_status keep_busy(calls *c, probe_busy *busy)
{
    eep_status status;

    if (probe_busy_goes_on(c->role)) {
        return EEP_OK;
    }
    status = probe_busy_end(c->role, busy);
    return status == EEP_OK ? probe_busy_begin(c->role, KERNEL_MS, busy) : status;
}

static eep_status time_pair(calls *c, probe_stepper *stepper, probe_busy *busy, int call,
                            pair_times *t)
{
    const uint64_t until_ns = eepi_now_ns() + CALLS_US * 1000ull;
    eep_status status = EEP_OK;

    for (t->count = 0; t->count < MOST_CALLS && status == EEP_OK; t->count++) {
        void *thing = NULL;
        uint64_t begin_ns = eepi_now_ns();
        if (begin_ns >= until_ns) {
            break;
        }
        probe_stepper_phase(stepper, PHASE_TAKE);
        status = take(c, call, &thing);
        probe_stepper_phase(stepper, PHASE_NONE);
        t->take_us[t->count] = (double)(eepi_now_ns() - begin_ns) / 1000.0;
        if (t->count == 0) {
            t->goes_on[0] = probe_busy_goes_on(c->role);
            status = status == EEP_OK ? keep_busy(c, busy) : status;
        }
        begin_ns = eepi_now_ns();
        probe_stepper_phase(stepper, PHASE_GIVE);
        if (status == EEP_OK) {
            status = give(c, call, thing);
        }
        probe_stepper_phase(stepper, PHASE_NONE);
        t->give_us[t->count] = (double)(eepi_now_ns() - begin_ns) / 1000.0;
        if (t->count == 0) {
            t->goes_on[1] = probe_busy_goes_on(c->role);
        }
    }
    return status;
}

static eep_status say_call(probe_role *r, const char *name, double *us, size_t count, int goes_on,
                           uint64_t longest_launch_us)
{
    char check[64];
    eep_status status = probe_say_values(r, name, "us", us, count);

    snprintf(check, sizeof check, "%s_kernel_goes_on", name);
    if (status == EEP_OK) {
        status = probe_say_row(r, check, goes_on, 1);
    }
    snprintf(check, sizeof check, "%s_longest_launch_us", name);
    return status == EEP_OK ? probe_say_row(r, check, (double)longest_launch_us, 1) : status;
}

static eep_status ask_pair(calls *c, size_t which, pair_times *t)
{
    probe_role *r = c->role;
    probe_stepper stepper;
    probe_busy busy;
    eep_status status = probe_stepper_open(r, &stepper), ended;

    if (status == EEP_OK) {
        status = probe_busy_open(r, &busy);
    }
    if (status == EEP_OK) {
        status = probe_busy_begin(r, KERNEL_MS, &busy);
    }
    if (status == EEP_OK) {
        status = probe_stepper_begin(r, &stepper);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = time_pair(c, &stepper, &busy, pairs[which].call, t);
    ended = probe_stepper_end(r, &stepper);
    status = status == EEP_OK ? ended : status;
    if (status == EEP_OK) {
        status = probe_busy_end(r, &busy);
    }
    if (status == EEP_OK) {
        status = say_call(r, pairs[which].take, t->take_us, t->count, t->goes_on[0],
                          stepper.longest_us[PHASE_TAKE]);
    }
    return status == EEP_OK ? say_call(r, pairs[which].give, t->give_us, t->count, t->goes_on[1],
                                       stepper.longest_us[PHASE_GIVE])
                            : status;
}

eep_status probe_calls(probe_role *r)
{
    calls c = {.role = r};
    pair_times *times = malloc(sizeof *times);
    eep_status status = times ? EEP_OK : probe_fail(r, EEP_ERR_NO_MEMORY, "memory");

    if (status == EEP_OK) {
        status = probe_check(r, eep_stream_open(r->device, &c.stream), "a third stream");
    }
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0] && status == EEP_OK; i++) {
        memset(times, 0, sizeof *times);
        status = ask_pair(&c, i, times);
    }
    free(times);
    eep_stream_close(c.stream);
    return status == EEP_OK ? probe_say(r) : status;
}
