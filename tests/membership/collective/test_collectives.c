/* SPDX-License-Identifier: Apache-2.0 */
/* Small collectives of contexts in one process: what every member gets, and what changes of view do
 * to a number that is under way (rule P13). */
#include "membership/collective/collective_state.h"
#include "membership/context/context.h"
#include "tests/membership/collective/callers.h"

#include <string.h>

TestSuite(collectives, .timeout = 100);

static uint64_t num_contributors(const caller *c)
{
    uint64_t num = 0;

    for (int word = 0; word < EEP_MAX_RANKS / 64; word++) {
        num += (uint64_t)__builtin_popcountll(c->result.contributors[word]);
    }
    return num;
}

/* All members, and nobody else, with one number, epoch and set of contributors. */
static void check_alike(const caller *callers, int num, eep_status status, uint64_t contributors)
{
    for (int i = 0; i < num; i++) {
        cr_assert_eq(callers[i].status, status, "rank %d: %s", callers[i].r->seat,
                     eep_strerror(callers[i].status));
        cr_assert_eq(callers[i].result.status, status);
        cr_assert_eq(callers[i].result.number, callers[0].result.number);
        cr_assert_eq(callers[i].result.epoch, callers[0].result.epoch);
        cr_assert_eq(callers[i].result.contributors[0], contributors);
        cr_assert_eq(num_contributors(&callers[i]), (uint64_t)__builtin_popcountll(contributors));
    }
}

static void check_gathered(const caller *callers, int num)
{
    for (int i = 0; i < num; i++) {
        for (int of = 0; of < num; of++) {
            const uint8_t *row = callers[i].received + callers[of].r->seat * CALLER_STRIDE;
            cr_assert_eq(callers[i].sizes[callers[of].r->seat], callers[of].bytes);
            cr_assert_arr_eq(row, callers[of].sent, callers[of].bytes);
            for (size_t at = callers[of].bytes; at < CALLER_STRIDE; at++) {
                cr_assert_eq(row[at], CALLER_UNTOUCHED);
            }
        }
    }
}

static void make(caller *callers, world *w, int num, caller_kind kind, int salt)
{
    for (int i = 0; i < num; i++) {
        callers[i] = caller_of(&w->ranks[i], kind, salt);
    }
}

/* Ranks 0 .. num-1 of a world of 4 seats. */
static void open_world(world *w, int num)
{
    world_open(w, num, 4);
    w->keep_backups = 1; /* no fault leaves an expert without a copy */
    w->config.backup_copies = 1;
    world_start(w);
}

Test(collectives, P13_all_members_get_the_same)
{
    world w;
    caller c[3];

    open_world(&w, 3);
    make(c, &w, 3, CALL_ALLGATHER, 1);
    c[1].bytes = 7;
    c[2].bytes = 0;
    callers_run(c, 3);
    check_alike(c, 3, EEP_OK, 7);
    cr_assert_eq(c[0].result.number, 1);
    cr_assert_eq(c[0].result.epoch, 1);
    check_gathered(c, 3);
    cr_assert_eq(c[0].sizes[3], 0, "a vacant seat");
    cr_assert_eq(c[0].received[3 * CALLER_STRIDE], CALLER_UNTOUCHED);
    make(c, &w, 3, CALL_BROADCAST, 2);
    callers_run(c, 3);
    check_alike(c, 3, EEP_OK, 7);
    cr_assert_arr_eq(c[2].received, c[0].sent, c[0].bytes);
    cr_assert_eq(c[2].received[c[0].bytes], CALLER_UNTOUCHED);
    make(c, &w, 3, CALL_BARRIER, 3);
    callers_run(c, 3);
    check_alike(c, 3, EEP_OK, 7);
    cr_assert_eq(c[0].result.number, 3);
    make(c, &w, 3, CALL_ALLREDUCE, 4);
    callers_run(c, 3);
    check_alike(c, 3, EEP_OK, 7);
    for (int i = 0; i < 3; i++) {
        uint64_t sum = 0;
        for (int of = 0; of < 3; of++) {
            uint64_t one;
            memcpy(&one, c[of].sent + 8, sizeof one);
            sum += one;
        }
        cr_assert_arr_eq(c[i].received + 8, &sum, sizeof sum);
    }
    world_close(&w);
}

/* A collective is not part of a step, and no step waits for it. */
Test(collectives, they_run_beside_steps)
{
    world w;
    caller c[3];

    open_world(&w, 3);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_set_modes(&w, 2, 2, RANK_FOLLOW); /* without work: it holds nobody up */
    for (int i = 0; i < 50; i++) {
        make(c, &w, 3, CALL_ALLGATHER, i);
        callers_run(c, 3);
        check_alike(c, 3, EEP_OK, 7);
        cr_assert_eq(c[0].result.number, (uint64_t)i + 1);
        check_gathered(c, 3);
    }
    world_advance(&w, 0, 1, 3);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 2);
    world_check_right(&w);
    world_close(&w);
}

Test(collectives, before_the_join_they_concern_a_rank_alone)
{
    world w;
    caller c;
    const caller_kind kinds[] = {CALL_BARRIER, CALL_ALLGATHER, CALL_ALLREDUCE};

    open_world(&w, 2);
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", w.ranks[2].error);
    for (int i = 0; i < 3; i++) {
        c = caller_of(&w.ranks[2], kinds[i], i);
        cr_assert_eq(caller_call(&c), EEP_OK);
        cr_assert(c.result.number == 0 && c.result.epoch == 0);
        cr_assert_eq(c.result.contributors[0], 1u << 2);
    }
    cr_assert_arr_eq(c.received, c.sent, c.bytes);
    c = caller_of(&w.ranks[2], CALL_BROADCAST, 1);
    cr_assert_eq(caller_call(&c), EEP_ERR_NOT_FOUND);
    cr_assert(caller_is_untouched(&c));
    c.root = 2;
    cr_assert_eq(caller_call(&c), EEP_OK);
    world_close(&w);
}

/* What was given stays given: the call is made again until it ends. */
Test(collectives, a_call_without_patience_gives_and_comes_back)
{
    world w;
    caller c[2], other;

    open_world(&w, 2);
    make(c, &w, 2, CALL_ALLGATHER, 5);
    c[0].timeout_us = 0;
    cr_assert_eq(caller_call(&c[0]), EEP_ERR_TIMEOUT);
    cr_assert(strstr(eep_error_text(), "rank 1"), "%s", eep_error_text());
    cr_assert_eq(c[0].result.number, 1);
    cr_assert(caller_is_untouched(&c[0]));
    other = caller_of(&w.ranks[0], CALL_BARRIER, 5);
    cr_assert_eq(caller_call(&other), EEP_ERR_STATE, "another one");
    other = caller_of(&w.ranks[0], CALL_ALLGATHER, 5);
    other.bytes = 1;
    cr_assert_eq(caller_call(&other), EEP_ERR_STATE, "other bytes");
    cr_assert_eq(caller_call(&c[1]), EEP_OK, "it does not wait for one that has given");
    cr_assert_eq(caller_call(&c[0]), EEP_OK);
    check_alike(c, 2, EEP_OK, 3);
    check_gathered(c, 2);
    world_close(&w);
}

/* Calls that differ end the number for all members alike. */
Test(collectives, calls_that_differ_end_alike)
{
    world w;
    caller c[3];

    open_world(&w, 3);
    make(c, &w, 3, CALL_ALLGATHER, 1);
    c[2] = caller_of(&w.ranks[2], CALL_BARRIER, 1);
    callers_run(c, 3);
    check_alike(c, 3, EEP_ERR_PROTOCOL, 0);
    cr_assert(caller_is_untouched(&c[0]) && caller_is_untouched(&c[1]));
    make(c, &w, 3, CALL_BROADCAST, 2);
    c[0].root = c[1].root = c[2].root = 3;
    callers_run(c, 3);
    check_alike(c, 3, EEP_ERR_NOT_FOUND, 0);
    cr_assert_eq(c[0].result.number, 2);
    make(c, &w, 3, CALL_BARRIER, 3);
    callers_run(c, 3);
    check_alike(c, 3, EEP_OK, 7);
    cr_assert_eq(c[0].result.number, 3);
    world_close(&w);
}

/* A rank ends, and had not called: nobody has the result, so nobody gets it. */
Test(collectives, P13_a_fault_ends_it_for_all)
{
    world w;
    caller c[3];

    open_world(&w, 3);
    make(c, &w, 3, CALL_ALLGATHER, 1);
    caller_start_given(&c[0]);
    c[1].timeout_us = 0;
    cr_assert_eq(caller_call(&c[1]), EEP_ERR_TIMEOUT);
    rank_close(&w.ranks[2]);
    cr_assert_eq(caller_wait(&c[0]), EEP_ERR_ABORTED);
    c[1].timeout_us = CALLER_PATIENT_US;
    cr_assert_eq(caller_call(&c[1]), EEP_ERR_ABORTED);
    check_alike(c, 2, EEP_ERR_ABORTED, 0);
    cr_assert(caller_is_untouched(&c[0]) && caller_is_untouched(&c[1]));
    callers_run(c, 2);
    check_alike(c, 2, EEP_OK, 3);
    cr_assert(c[0].result.number == 1 && c[0].result.epoch > 1);
    check_gathered(c, 2);
    cr_assert_eq(c[0].sizes[2], 0, "the seat is vacant now");
    world_close(&w);
}

/* H50: one of them has the result, so all get it, although a contributor has ended. */
Test(collectives, P13_what_one_has_all_get)
{
    world w;
    caller c[3];

    open_world(&w, 3);
    make(c, &w, 3, CALL_ALLGATHER, 1);
    c[1].timeout_us = c[2].timeout_us = 0;
    cr_assert_eq(caller_call(&c[1]), EEP_ERR_TIMEOUT);
    cr_assert_eq(caller_call(&c[2]), EEP_ERR_TIMEOUT);
    cr_assert_eq(caller_call(&c[0]), EEP_OK);
    rank_close(&w.ranks[2]);
    caller_await_epoch(&w.ranks[1], 2);
    caller_await_epoch(&w.ranks[0], 2);
    cr_assert_eq(caller_call(&c[1]), EEP_OK);
    check_alike(c, 2, EEP_OK, 7);
    cr_assert_eq(c[1].result.epoch, 1);
    check_gathered(c, 2);
    cr_assert_arr_eq(c[1].received + 2 * CALLER_STRIDE, c[2].sent, c[2].bytes);
    make(c, &w, 2, CALL_BARRIER, 2);
    callers_run(c, 2);
    check_alike(c, 2, EEP_OK, 3);
    cr_assert_eq(c[0].result.number, 2);
    world_close(&w);
}

/* H51: it was begun under one view and ends under the next one, with the joiner. */
Test(collectives, P13_a_planned_view_takes_over_what_is_under_way)
{
    world w;
    caller c[3];

    open_world(&w, 2);
    make(c, &w, 2, CALL_BARRIER, 0);
    callers_run(c, 2);
    make(c, &w, 3, CALL_ALLGATHER, 1);
    caller_start_given(&c[0]);
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", w.ranks[2].error);
    rank_run(&w.ranks[2]);
    world_set_modes(&w, 0, 1, RANK_WORK);
    WORLD_WAIT(&w, w.ranks[2].joined);
    caller_await_epoch(&w.ranks[0], 2);
    caller_await_epoch(&w.ranks[1], 2);
    c[2].timeout_us = 1000;
    (void)!caller_call(&c[2]);
    cr_assert_eq(c[2].status, EEP_ERR_TIMEOUT, "rank 1 has not called");
    c[2].timeout_us = CALLER_PATIENT_US;
    caller_start(&c[2]);
    cr_assert_eq(caller_call(&c[1]), EEP_OK);
    cr_assert_eq(caller_wait(&c[0]), EEP_OK);
    cr_assert_eq(caller_wait(&c[2]), EEP_OK);
    check_alike(c, 3, EEP_OK, 7);
    cr_assert(c[0].result.number == 2 && c[0].result.epoch == 2);
    check_gathered(c, 3);
    world_rest(&w);
    world_close(&w);
}

/* Nobody waits for a rank that has left as it asked. */
Test(collectives, P13_who_leaves_is_not_waited_for)
{
    world w;
    caller c[4];

    open_world(&w, 4);
    make(c, &w, 4, CALL_ALLGATHER, 1);
    caller_start_given(&c[0]);
    world_lock(&w);
    w.ranks[3].drain = 1;
    world_unlock(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    WORLD_WAIT(&w, w.ranks[3].ended == EEP_ERR_DRAINED);
    caller_start(&c[2]);
    cr_assert_eq(caller_call(&c[1]), EEP_OK);
    cr_assert_eq(caller_wait(&c[2]), EEP_OK);
    cr_assert_eq(caller_wait(&c[0]), EEP_OK);
    check_alike(c, 3, EEP_OK, 7);
    cr_assert_eq(c[0].result.epoch, 2);
    cr_assert_eq(caller_call(&c[3]), EEP_ERR_DRAINED);
    cr_assert(caller_is_untouched(&c[3]));
    world_rest(&w);
    world_close(&w);
}

/* A rank that comes takes its part from the number on that the others have not ended. */
Test(collectives, P13_a_successor_goes_on_with_the_others)
{
    world w;
    caller c[3];

    open_world(&w, 3);
    for (int i = 0; i < 5; i++) {
        make(c, &w, 3, CALL_ALLGATHER, i);
        callers_run(c, 3);
        check_alike(c, 3, EEP_OK, 7);
    }
    rank_close(&w.ranks[1]);
    caller_await_epoch(&w.ranks[0], 2);
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", w.ranks[1].error);
    rank_run(&w.ranks[1]);
    world_set_modes(&w, 0, 2, RANK_FOLLOW);
    WORLD_WAIT(&w, w.ranks[1].joined);
    for (int i = 0; i < 3; i++) { /* until then the other two may end a number without it */
        caller_await_epoch(&w.ranks[i], 3);
    }
    make(c, &w, 3, CALL_ALLGATHER, 7);
    callers_run(c, 3);
    check_alike(c, 3, EEP_OK, 7);
    cr_assert_eq(c[0].result.number, 6);
    check_gathered(c, 3);
    world_close(&w);
}

/* Not before the call waits: a context that is closed is no longer there for it. */
static void *close_beside(void *user)
{
    caller_await_given(user);
    eep_close(((caller *)user)->r->context);
    return NULL;
}

Test(collectives, eep_close_ends_a_call_that_waits)
{
    world w;
    caller c;
    pthread_t thread;

    open_world(&w, 2);
    rank_stop(&w.ranks[1]);
    c = caller_of(&w.ranks[1], CALL_BARRIER, 0);
    cr_assert_eq(pthread_create(&thread, NULL, close_beside, &c), 0);
    cr_assert_eq(caller_call(&c), EEP_ERR_STATE);
    pthread_join(thread, NULL);
    w.ranks[1].context = NULL;
    world_close(&w);
}

/* The memory that the rank contributes in. */
static eepi_contribution *own_head(const rank *r, uint64_t number)
{
    return eepi_contribution_of(r->context->calls.collectives->own, number);
}

/* What a dead rank left half written, or somebody stored over, is not taken. */
Test(collectives, P13_a_contribution_that_is_not_sound_is_not_there)
{
    world w;
    caller c[2];
    eepi_contribution *head;
    uint8_t *bytes;

    open_world(&w, 2);
    make(c, &w, 2, CALL_ALLGATHER, 1);
    c[0].timeout_us = c[1].timeout_us = 0;
    cr_assert_eq(caller_call(&c[1]), EEP_ERR_TIMEOUT);
    head = own_head(&w.ranks[1], 1);
    bytes = eepi_contribution_bytes(w.ranks[1].context->calls.collectives->own, 1);
    bytes[3] ^= 1;
    cr_expect_eq(caller_call(&c[0]), EEP_ERR_TIMEOUT, "its bytes");
    bytes[3] ^= 1;
    head->bytes ^= 8;
    cr_expect_eq(caller_call(&c[0]), EEP_ERR_TIMEOUT, "its length");
    head->bytes ^= 8;
    head->what.length ^= 1;
    cr_expect_eq(caller_call(&c[0]), EEP_ERR_TIMEOUT, "what it is for");
    head->what.length ^= 1;
    head->generation ^= 1;
    cr_expect_eq(caller_call(&c[0]), EEP_ERR_TIMEOUT, "its writer");
    head->generation ^= 1;
    head->epoch--;
    cr_expect_eq(caller_call(&c[0]), EEP_ERR_TIMEOUT, "its epoch");
    head->epoch++;
    cr_expect(caller_is_untouched(&c[0]));
    cr_assert_eq(caller_call(&c[0]), EEP_OK);
    cr_assert_eq(caller_call(&c[1]), EEP_OK);
    check_gathered(c, 2);
    world_close(&w);
}

/* A rank that promises has closed the ledger before: what it gave ends for nobody any more. */
Test(collectives, P13_no_number_ends_behind_a_promise)
{
    world w;
    caller c[2];
    uint64_t held;

    open_world(&w, 2);
    make(c, &w, 2, CALL_ALLGATHER, 1);
    c[0].timeout_us = 0;
    c[1].timeout_us = 20000;
    cr_assert_eq(caller_call(&c[0]), EEP_ERR_TIMEOUT);
    eepi_collectives_stop(w.ranks[0].context);
    cr_assert_eq(eepi_collectives_last(w.ranks[0].context, &held), 0);
    cr_assert_eq(held, 0);
    cr_assert_eq(caller_call(&c[1]), EEP_ERR_TIMEOUT);
    cr_assert(caller_is_untouched(&c[1]));
    world_close(&w);
}

/* Two numbers lie side by side: who is behind still finds the older one. */
Test(collectives, P13_a_result_stays_until_the_next_but_one)
{
    world w;
    caller c[2], next;

    open_world(&w, 2);
    for (int i = 0; i < 20; i++) {
        make(c, &w, 2, CALL_ALLGATHER, i);
        c[1].timeout_us = 0;
        cr_assert_eq(caller_call(&c[1]), EEP_ERR_TIMEOUT);
        cr_assert_eq(caller_call(&c[0]), EEP_OK);
        next = caller_of(&w.ranks[0], CALL_ALLGATHER, i + 100);
        next.timeout_us = 0;
        cr_assert_eq(caller_call(&next), EEP_ERR_TIMEOUT, "rank 1 has not ended the one before");
        cr_assert_eq(caller_call(&c[1]), EEP_OK);
        check_alike(c, 2, EEP_OK, 3);
        check_gathered(c, 2);
        c[1] = caller_of(&w.ranks[1], CALL_ALLGATHER, i + 100);
        cr_assert_eq(caller_call(&c[1]), EEP_OK);
        cr_assert_eq(caller_call(&next), EEP_OK);
    }
    world_close(&w);
}

/* Only those that go on without a rank write over what it has not taken: it waits to hear so (seed
 * 5589). What is damaged in memory is another matter. */
Test(collectives, P13_a_result_that_was_written_over_is_waited_for)
{
    world w;
    caller c[2];
    eepi_contribution *head;

    open_world(&w, 2);
    make(c, &w, 2, CALL_ALLGATHER, 1);
    c[0].timeout_us = 0;
    cr_assert_eq(caller_call(&c[0]), EEP_ERR_TIMEOUT);
    cr_assert_eq(caller_call(&c[1]), EEP_OK);
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", w.ranks[2].error);
    rank_run(&w.ranks[2]);
    world_set_modes(&w, 0, 1, RANK_WORK);
    WORLD_WAIT(&w, w.ranks[2].joined);
    caller_await_epoch(&w.ranks[0], 2);
    head = own_head(&w.ranks[1], 1);
    head->number = 3;
    c[0].timeout_us = 20000;
    cr_expect_eq(caller_call(&c[0]), EEP_ERR_TIMEOUT, "%s", eep_error_text());
    cr_expect(caller_is_untouched(&c[0]));
    head->number = 1;
    head->bytes ^= 8;
    cr_expect_eq(caller_call(&c[0]), EEP_ERR_CHECKSUM, "%s", eep_error_text());
    world_rest(&w);
    world_close(&w);
}

Test(collectives, arguments_and_captures_are_refused)
{
    world w;
    eep_collective_result result;
    uint8_t bytes[8] = {0};
    eep_stream *stream;
    eep_graph *graph;

    open_world(&w, 2);
    eep_context *context = w.ranks[0].context;
    cr_assert_eq(eep_collective_broadcast(context, 4, bytes, 8, 0, NULL), EEP_ERR_INVALID);
    cr_assert_eq(eep_collective_broadcast(context, -1, bytes, 8, 0, NULL), EEP_ERR_INVALID);
    cr_assert_eq(eep_collective_broadcast(context, 0, bytes, EEP_COLLECTIVE_MAX_BYTES + 1, 0, NULL),
                 EEP_ERR_INVALID);
    cr_assert_eq(eep_collective_allgather(context, bytes, 8, bytes, 7, NULL, 0, NULL),
                 EEP_ERR_INVALID, "more than a seat's place");
    cr_assert_eq(eep_collective_allreduce(context, bytes, bytes, 1, EEP_REDUCE_FP32, EEP_REDUCE_AND,
                                          0, NULL),
                 EEP_ERR_INVALID);
    cr_assert_eq(eep_collective_allreduce(context, bytes, bytes, EEP_COLLECTIVE_MAX_BYTES / 8 + 1,
                                          EEP_REDUCE_INT64, EEP_REDUCE_SUM, 0, NULL),
                 EEP_ERR_INVALID);
    result.struct_bytes = 8;
    cr_assert_eq(eep_collective_barrier(context, 0, &result), EEP_ERR_INVALID);
    cr_assert_eq(eep_stream_open(w.ranks[0].device, &stream), EEP_OK);
    cr_assert_eq(eep_capture_begin(stream), EEP_OK);
    cr_assert_eq(eep_collective_barrier(context, 0, NULL), EEP_ERR_STATE);
    cr_assert(strstr(eep_error_text(), "captured"), "%s", eep_error_text());
    cr_assert_eq(eep_capture_end(stream, &graph), EEP_OK);
    eep_graph_close(graph);
    eep_stream_close(stream);
    cr_assert_eq(eep_collective_barrier(context, 0, EEP_SIZED(&result)), EEP_ERR_TIMEOUT);
    cr_assert_eq(result.number, 1, "nothing of the above was given");
    world_close(&w);
}
