/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank of the GPU check does: steps with flips, steps in which another rank stops, steps
 * that it runs alone. */
#include "tests/gpu/smoke/smoke_rank.h"
#include "graphs/kernels/compiler_macros.h"
#include "membership/context/bank_image.h"

#include <string.h>

enum { SYNC_US = 20000000, LOOK_US = 2000 };
static const uint64_t patient_ns = 5000000000u;

/* Stage the view into the idle bank and make it live before the next replay. */
static int flip_to(smoke_rank *r, const eepi_view *view)
{
    eepi_bank_image(&r->shape, view, r->run->windows, eepi_tables_image(r->tables));
    if (smoke_check(r, eepi_tables_stage(r->tables, SYNC_US), "stage")) {
        return -1;
    }
    return smoke_check(r, eepi_tables_flip(r->tables, r->stream, view->epoch, view->digest),
                       "flip");
}

static void set_step(smoke_rank *r, uint64_t step, uint64_t epoch, uint64_t wait_ns)
{
    eepk_launch *launch = eepi_tables_launch(r->tables);

    launch->step = step;
    launch->epoch = epoch;
    launch->announce_digest = 0;
    launch->wait_ns = wait_ns;
}

/* Replay `graph`, wait for the end, and look whether the last node reported the step as ended so.
 */
static int replay(smoke_rank *r, uint64_t step, uint32_t wanted)
{
    const eepk_status *status = eepi_tables_status(r->tables);

    if (smoke_check(r, eep_graph_replay(r->graph, r->stream), "replay") ||
        smoke_check(r, eep_stream_synchronize(r->stream, SYNC_US), "synchronize")) {
        return -1;
    }
    if (eepk_load_acquire(&status->done_step) != step || status->result != wanted) {
        return smoke_fail(
            r, "rank %d step %llu: done_step %llu, result %u instead of %u, bad input %u", r->index,
            (unsigned long long)step, (unsigned long long)status->done_step, status->result, wanted,
            status->bad_input);
    }
    return 0;
}

static int load_inputs(smoke_rank *r, int step)
{
    smoke_group *run = r->run;

    smoke_inputs_fill(run->test, &r->shape, &run->in, step, r->index, r->inputs_host);
    if (smoke_check(r, eep_copy_async(r->stream, r->inputs, r->inputs_host, run->in.bytes),
                    "copy in") ||
        smoke_check(r, eep_copy_async(r->stream, r->outputs, r->poison, run->result->layout.bytes),
                    "poison")) {
        return -1;
    }
    return smoke_check(r, eep_stream_synchronize(r->stream, SYNC_US), "synchronize");
}

/* The step of number `number` with the inputs that are there; its outputs go to cell `step`. */
static int step_and_keep(smoke_rank *r, int step, uint64_t number)
{
    smoke_group *run = r->run;
    size_t bytes = run->result->layout.bytes;
    size_t cell = (size_t)step * (size_t)run->test->num_ranks + (size_t)r->index;
    uint64_t begin;

    set_step(r, number, (uint64_t)r->epoch, patient_ns);
    begin = eepk_now_ns();
    if (replay(r, number, EEPK_STEP_OK)) {
        return -1;
    }
    run->result->step_ns[cell] = eepk_now_ns() - begin;
    if (smoke_check(r, eep_copy_async(r->stream, r->outputs_host, r->outputs, bytes), "copy out") ||
        smoke_check(r, eep_stream_synchronize(r->stream, SYNC_US), "synchronize")) {
        return -1;
    }
    memcpy(run->result->outputs + cell * bytes, r->outputs_host, bytes);
    return 0;
}

static int run_step(smoke_rank *r, int step)
{
    smoke_group *run = r->run;
    int epoch = smoke_epoch_of(step);

    if (!smoke_is_member(run->test, epoch, r->index)) {
        return 0;
    }
    if (load_inputs(r, step)) {
        return -1;
    }
    if (r->epoch != epoch && flip_to(r, run->views[epoch - 1])) {
        return -1;
    }
    r->epoch = epoch;
    return step_and_keep(r, step, (uint64_t)step + 1);
}

/* Nobody else runs this step: it must end by itself and name the others, and only them. */
static int step_alone_deadline(smoke_rank *r, uint64_t step)
{
    smoke_group *run = r->run;
    uint64_t begin, others = 0;

    for (int i = 0; i < run->test->num_ranks; i++) {
        if (i != r->index) {
            others |= 1ull << smoke_seat_of(i);
        }
    }
    set_step(r, step, (uint64_t)run->num_flips, (uint64_t)SMOKE_WAIT_MS * 1000000u);
    begin = eepk_now_ns();
    if (replay(r, step, EEPK_STEP_DEADLINE)) {
        return -1;
    }
    run->result->deadline_ns = eepk_now_ns() - begin;
    run->result->deadline_right = eepi_tables_status(r->tables)->suspects[0] == others;
    return 0;
}

/* Nor this one: once it is seen to wait, the abort word must end it. */
static int step_alone_abort(smoke_rank *r, uint64_t step)
{
    const eepk_status *status = eepi_tables_status(r->tables);
    uint64_t begin;

    set_step(r, step, (uint64_t)r->run->num_flips, patient_ns);
    if (smoke_check(r, eep_graph_replay(r->graph, r->stream), "replay")) {
        return -1;
    }
    if (eep_stream_synchronize(r->stream, LOOK_US) != EEP_ERR_TIMEOUT) {
        return smoke_fail(r, "rank %d step %llu did not wait for its peers", r->index,
                          (unsigned long long)step);
    }
    begin = eepk_now_ns();
    eepk_store_release(eepi_tables_abort_step(r->tables), step);
    if (smoke_check(r, eep_stream_synchronize(r->stream, SYNC_US), "synchronize after abort")) {
        return -1;
    }
    r->run->result->abort_ns = eepk_now_ns() - begin;
    r->run->result->abort_right =
        eepk_load_acquire(&status->done_step) == step && status->result == EEPK_STEP_HOST_ABORT;
    return 0;
}

/* ------------------------------------------------------------------ a rank that stops */

/* The stopper replays the beginning of the step only; the others must end by the deadline, accuse
 * nobody else, and at least one of them must accuse it. */
static int step_with_stopper(smoke_rank *r, uint64_t step, int stop)
{
    smoke_group *run = r->run;
    const eepk_status *status = eepi_tables_status(r->tables);
    const int stopper = smoke_stopper(run->test);
    const uint64_t seat = 1ull << smoke_seat_of(stopper);
    uint64_t begin, us;
    int is_right;

    set_step(r, step, (uint64_t)run->num_flips, (uint64_t)SMOKE_WAIT_MS * 1000000u);
    begin = eepk_now_ns();
    if (smoke_check(r, eep_graph_replay(r->index == stopper ? r->until[stop] : r->graph, r->stream),
                    "replay") ||
        smoke_check(r, eep_stream_synchronize(r->stream, SYNC_US), "synchronize")) {
        return -1;
    }
    us = (eepk_now_ns() - begin) / 1000u;
    if (r->index == stopper) {
        return 0;
    }
    is_right = eepk_load_acquire(&status->done_step) == step &&
               (status->result == EEPK_STEP_DEADLINE
                    ? status->suspects[0] == seat
                    : status->result == EEPK_STEP_PEER_ABORT && status->suspects[0] == 0);
    pthread_mutex_lock(&run->lock);
    run->result->stops[stop].num_right += is_right;
    run->result->stops[stop].num_accused += status->result == EEPK_STEP_DEADLINE;
    if (us > run->result->stops[stop].longest_us) {
        run->result->stops[stop].longest_us = us;
    }
    pthread_mutex_unlock(&run->lock);
    return 0;
}

/* Each stop, then the step that was not: all ranks run its positions under the next number. Who
 * fails comes to every barrier all the same. */
static void run_stops(smoke_rank *r)
{
    smoke_group *run = r->run;

    for (int stop = 0; stop < SMOKE_STOPS; stop++) {
        int cell = run->test->num_steps + stop;
        uint64_t number = (uint64_t)(cell + stop) + 1; /* two numbers for each */
        int failed = smoke_is_failed(run) || load_inputs(r, cell);
        pthread_barrier_wait(&run->barrier);
        failed = failed || step_with_stopper(r, number, stop);
        pthread_barrier_wait(&run->barrier);
        if (!failed && load_inputs(r, cell) == 0) {
            (void)step_and_keep(r, cell, number + 1);
        }
    }
}

/* ------------------------------------------------------------------ all of it */

void smoke_steps(smoke_rank *r)
{
    smoke_group *run = r->run;
    const smoke_case *test = run->test;
    uint64_t next = (uint64_t)(test->num_steps + 2 * SMOKE_STOPS) + 1;

    for (int step = 0; step < test->num_steps && !smoke_is_failed(run); step++) {
        if (run_step(r, step)) {
            break;
        }
    }
    pthread_barrier_wait(&run->barrier);
    if (test->num_ranks < 2 || smoke_is_failed(run)) {
        return;
    }
    pthread_barrier_wait(&run->barrier); /* all have seen that it did not fail */
    (void)run_stops(r);
    pthread_barrier_wait(&run->barrier);
    if (r->index == 0 && !smoke_is_failed(run) && step_alone_deadline(r, next) == 0) {
        (void)step_alone_abort(r, next + 1);
    }
}
