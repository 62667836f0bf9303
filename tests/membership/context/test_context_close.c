/* SPDX-License-Identifier: Apache-2.0 */
/* eep_close beside another thread: a call that waits ends, and nothing is freed under it. */
#include "membership/context/context.h"
#include "tests/lib/context_fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

TestSuite(context_close, .timeout = 60);

enum { CALL_MS = 20000 };

typedef struct serving {
    rank *rank;
    eep_status (*call)(rank *r);
    eep_status status;
    char text[512];
    int has_ended; /* atomic */
} serving;

static void *serve(void *user)
{
    serving *s = user;

    s->status = s->call(s->rank);
    snprintf(s->text, sizeof s->text, "%s", eep_error_text());
    __atomic_store_n(&s->has_ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void nap_ms(long ms)
{
    const struct timespec nap = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&nap, NULL);
}

/* The clock stands still while this is not 0: eep_close leaves a thread that is inside a step 200
 * ms, and a busy machine may not run that thread for longer. */
static uint64_t stopped_ns; /* atomic */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    const uint64_t ns = __atomic_load_n(&stopped_ns, __ATOMIC_ACQUIRE);

    if (ns && clock == CLOCK_MONOTONIC) {
        *now = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, now);
}

static bool is_in_call(eep_context *context)
{
    return __atomic_load_n(&context->calls.call, __ATOMIC_ACQUIRE) != NULL;
}

static bool is_in_step(eep_context *context)
{
    bool is_in_step;

    pthread_mutex_lock(&context->lock);
    is_in_step = context->stepper.in_step;
    pthread_mutex_unlock(&context->lock);
    return is_in_step && !is_in_call(context);
}

static eep_status join(rank *r)
{
    return eep_join(r->context);
}

static eep_status wait_for_step(rank *r)
{
    return eep_step_wait(r->context, (uint64_t)CALL_MS * 1000);
}

/* Begins a step, and is closed before it replays: the thread is inside a step and in no call. */
static eep_status step_on(rank *r)
{
    eep_step step;
    eep_status status = eep_step_begin(r->context, WORLD_PATIENT_US, EEP_SIZED(&step));

    if (status == EEP_OK) {
        __atomic_store_n(&stopped_ns, world_now_ms() * 1000000, __ATOMIC_RELEASE);
        while (!eepi_call_is_closed(r->context)) {
            nap_ms(1);
        }
        rank_fill(r, 1, BAD_NONE);
        status = eep_graph_replay(r->graph, r->stream);
    }
    return status == EEP_OK ? eep_step_end(r->context) : status;
}

static eep_status end_step(rank *r)
{
    return eep_step_end(r->context);
}

/* Close the context while another thread is in `call`: a context that is closed before is no longer
 * there for the call. */
static void close_beside(rank *r, eep_status (*call)(rank *r), bool (*is_there)(eep_context *),
                         const char *expected)
{
    serving s = {.rank = r, .call = call};
    const uint64_t begun_ms = world_now_ms();
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, serve, &s), 0);
    while (!is_there(r->context)) {
        nap_ms(1);
    }
    nap_ms(20); /* it likely sleeps by then */
    eep_close(r->context);
    pthread_join(thread, NULL);
    r->context = NULL;
    __atomic_store_n(&stopped_ns, 0, __ATOMIC_RELEASE);
    cr_expect_eq(s.status, EEP_ERR_STATE, "%s: %s", eep_strerror(s.status), s.text);
    cr_expect(strstr(s.text, expected), "not \"%s\": %s", expected, s.text);
    cr_expect_lt(world_now_ms() - begun_ms, CALL_MS / 2, "the call was not ended");
}

static rank *open_one(world *w, int32_t num_ranks)
{
    rank *r = &w->ranks[0];

    world_open(w, num_ranks, num_ranks);
    if (num_ranks == 1) {
        w->config.num_experts = WORLD_SLOTS;
    }
    cr_assert_eq(rank_open(w, 0), EEP_OK, "%s", r->error);
    return r;
}

Test(context_close, a_join_that_waits_ends)
{
    world w;
    rank *r = open_one(&w, 2);

    close_beside(r, join, is_in_call, "eep_join: another thread has called eep_close");
    world_close(&w);
}

Test(context_close, a_wait_for_a_step_ends)
{
    world w;
    rank *r = open_one(&w, 1);

    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    eep_step step;
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, EEP_SIZED(&step)), EEP_OK);
    rank_fill(r, 1, BAD_NONE);
    cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
    cr_assert_eq(eep_step_end(r->context), EEP_OK);
    close_beside(r, wait_for_step, is_in_call, "eep_close");
    world_close(&w);
}

Test(context_close, a_step_that_is_served_ends)
{
    for (int i = 0; i < 4; i++) {
        world w;
        rank *r = open_one(&w, 1);

        cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
        close_beside(r, step_on, is_in_step, "eep_close");
        world_close(&w);
    }
}

/* A thread that is cancelled leaves the call first: it would keep a lock for ever otherwise. */
Test(context_close, a_cancelled_thread_ends_its_call)
{
    world w;
    rank *r = open_one(&w, 2);
    serving s = {.rank = r, .call = end_step};
    pthread_t thread;
    eep_step step;

    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", w.ranks[1].error);
    rank_set_mode(&w.ranks[1], RANK_PARK);
    rank_run(&w.ranks[1]);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(eep_step_begin(r->context, WORLD_PATIENT_US, EEP_SIZED(&step)), EEP_OK);
    rank_fill(r, 1, BAD_NONE);
    cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
    cr_assert_eq(pthread_create(&thread, NULL, serve, &s), 0);
    while (!is_in_call(r->context)) {
        nap_ms(1);
    }
    nap_ms(20);
    cr_assert_not(__atomic_load_n(&s.has_ended, __ATOMIC_ACQUIRE), "it does not wait: %s", s.text);
    cr_assert_eq(pthread_cancel(thread), 0);
    nap_ms(20);
    eep_step_abort(r->context);
    pthread_join(thread, NULL);
    cr_expect(s.has_ended, "the thread was ended inside of the call");
    cr_expect_eq(s.status, EEP_ERR_ABORTED, "%s: %s", eep_strerror(s.status), s.text);
    eep_close(r->context);
    r->context = NULL;
    world_close(&w);
}
