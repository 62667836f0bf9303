/* SPDX-License-Identifier: Apache-2.0 */
/* Ways into a view that are not smooth: what a joiner has to wait for comes late, or is wrong. */
#include "membership/context/context.h"
#include "membership/context/records.h"
#include "membership/core/core_state.h"
#include "membership/store/store_client.h"
#include "tests/lib/context_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

TestSuite(context_joins, .timeout = 100);

enum { STORE_US = 5000000 };

typedef struct stored {
    void *value;
    size_t size;
} stored;

/* Take a key out of the store, as if it had been forgotten. */
static stored take_out(eepi_store_client *client, const char *key)
{
    eepi_store_reply reply;
    stored s = {NULL, 0};

    cr_assert_eq(eepi_store_client_wait(client, eepi_store_get(client, key), STORE_US, &reply),
                 EEP_OK);
    cr_assert_eq(reply.status, EEP_OK, "%s", key);
    s.size = reply.size;
    s.value = malloc(reply.size);
    memcpy(s.value, reply.value, reply.size);
    cr_assert_eq(eepi_store_client_wait(client, eepi_store_remove(client, key), STORE_US, &reply),
                 EEP_OK);
    return s;
}

static void put_back(eepi_store_client *client, const char *key, stored s)
{
    eepi_store_reply reply;

    cr_assert_eq(eepi_store_client_wait(client, eepi_store_put(client, key, s.value, s.size, 0),
                                        STORE_US, &reply),
                 EEP_OK);
    free(s.value);
}

static int unmapped[WORLD_SEATS]; /* lines of each rank that say so; atomic */

static void note_unmapped(void *user, eep_log_level level, const char *line)
{
    (void)level;
    if (strstr(line, "cannot map the window of rank 1")) {
        __atomic_fetch_add(&unmapped[((const rank *)user)->seat], 1, __ATOMIC_SEQ_CST);
    }
}

static int num_unmapped(int32_t seat)
{
    return __atomic_load_n(&unmapped[seat], __ATOMIC_SEQ_CST);
}

/* A store that comes back empty is told again what it forgot, in any order. A joiner may hear of
 * the plan that lets it in before it hears of a member whose window it must map: it goes on when
 * that member's record has come, and not with the next plan. That one would come when the first has
 * lapsed, which here is longer than anybody waits. */
Test(context_joins, L4_a_plan_that_lacks_a_record_is_staged_when_the_record_comes)
{
    world w;
    eepi_store_client *client;
    world_open(&w, 2, 3);
    w.config.log = note_unmapped;
    w.config.log_level = EEP_LOG_WARN;
    world_start(&w);
    for (int32_t seat = 0; seat < 2; seat++) {
        w.ranks[seat].context->core->config.stage_bound_us = 2000u * WORLD_WAIT_MS;
    }
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    cr_assert_eq(eepi_store_client_open(w.path, STORE_US, &client), EEP_OK);
    stored record = take_out(client, EEPI_KEY_MEMBER "1");
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", w.ranks[2].error);
    rank_run(&w.ranks[2]);
    WORLD_WAIT(&w, rank_events(&w.ranks[0], EEP_EVENT_STAGED) == 1 && num_unmapped(2) > 0);
    put_back(client, EEPI_KEY_MEMBER "1", record);
    WORLD_WAIT(&w, w.ranks[2].joined);
    cr_expect_eq(rank_events(&w.ranks[0], EEP_EVENT_STAGED), 1, "the plan was made again");
    world_rest(&w);
    world_check_never_aborted(&w, 0, 1);
    world_check_right(&w);
    eepi_store_client_close(client);
    world_close(&w);
}

/* The rank has heard what keeps it out. */
static bool knows_what_it_waits_for(const char *text)
{
    return strstr(text, "an instance is there (epoch 1)") &&
           (strstr(text, "not been acknowledged by rank 2 (generation 1)") ||
            strstr(text, "not planned a view with it yet"));
}

/* The same without the record: who waits in vain for an instance that serves is told for what. It
 * may run out of time before it has heard anything. */
Test(context_joins, a_join_into_a_running_instance_that_takes_long_says_why)
{
    world w;
    eepi_store_client *client;
    world_open(&w, 2, 3);
    world_start(&w);
    cr_assert_eq(eepi_store_client_open(w.path, STORE_US, &client), EEP_OK);
    stored record = take_out(client, EEPI_KEY_MEMBER "1");
    w.config.join_timeout_us = 300000;
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", w.ranks[2].error);
    const uint64_t end_ms = world_now_ms() + WORLD_WAIT_MS;
    const char *text = "";
    while (!knows_what_it_waits_for(text) && world_now_ms() < end_ms) {
        cr_assert_eq(eep_join(w.ranks[2].context), EEP_ERR_TIMEOUT);
        text = eep_last_error(w.ranks[2].context);
    }
    cr_expect(knows_what_it_waits_for(text), "%s", text);
    put_back(client, EEPI_KEY_MEMBER "1", record);
    rank_run(&w.ranks[2]);
    WORLD_WAIT(&w, w.ranks[2].joined || w.ranks[2].ended != EEP_OK);
    eepi_store_client_close(client);
    world_rest(&w);
    world_close(&w);
}

/* The lowest descriptor that is free. */
static int next_descriptor(void)
{
    const int next = dup(0);

    cr_assert_gt(next, 0);
    close(next);
    return next;
}

/* No descriptor is left below the returned limit. The agent in this process has just been passed
 * some, which it looks at and closes: these are waited for. */
static struct rlimit take_descriptors(void)
{
    struct rlimit before, none;
    int next = next_descriptor();

    for (int same = 0; same < 20; same++) {
        usleep(10000);
        const int now = next_descriptor();
        same = now == next ? same : 0;
        next = now;
    }
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)next;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    return before;
}

/* How often a view is tried in so many ms, if the pause between is 20 ms and doubles up to 2 s. */
static int most_tries(uint64_t ms)
{
    int num = 1;

    for (uint64_t at = 20, pause = 20; at <= ms; num++) {
        pause = pause < 1000 ? 2 * pause : 2000;
        at += pause;
    }
    return num;
}

/* A view that cannot be staged is tried again by time: not in each round of the service thread, and
 * not only when a record comes, since what was missing may be a descriptor. */
Test(context_joins, a_view_that_cannot_be_staged_is_tried_again_ever_later)
{
    world w;
    struct rlimit before;
    world_open(&w, 2, 2);
    w.config.log = note_unmapped;
    w.config.log_level = EEP_LOG_WARN;
    w.config.drain_bound_us = 60000000; /* behind which such a rank takes itself out */
    for (int32_t seat = 0; seat < 2; seat++) {
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
    }
    before = take_descriptors();
    const uint64_t begun_ms = world_now_ms();
    for (int32_t seat = 0; seat < 2; seat++) {
        rank_run(&w.ranks[seat]);
    }
    WORLD_WAIT(&w, num_unmapped(0) > 0);
    for (int i = 0; i < 600; i++) {
        eepi_service_wake(w.ranks[0].context);
        usleep(1000);
    }
    const int tries = num_unmapped(0), most = most_tries(world_now_ms() - begun_ms);
    cr_expect_leq(tries, most, "%d tries, not at most %d", tries, most);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int32_t seat = 0; seat < 2; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].joined);
    }
    world_rest(&w);
    world_close(&w);
}

/* Another process's world on the same store. */
static void open_twin(world *twin, const world *w, int32_t num_ranks)
{
    world_prepare(twin, num_ranks, num_ranks);
    snprintf(twin->path, sizeof twin->path, "%s", w->path);
}

/* A member of which the store and the folder have lost all traces but the view itself lives on: who
 * comes into its seat does not tell its end. */
Test(context_joins, M7_a_member_that_left_no_trace_is_not_told_as_ended)
{
    world w, twin;
    eepi_store_client *client;
    char seat[sizeof w.path + 16];
    world_open(&w, 2, 2);
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    cr_assert_eq(eepi_store_client_open(w.path, STORE_US, &client), EEP_OK);
    stored record = take_out(client, EEPI_KEY_MEMBER "1");
    snprintf(seat, sizeof seat, "%s.seat1", w.path);
    cr_assert_eq(unlink(seat), 0);
    open_twin(&twin, &w, 2);
    cr_expect_eq(rank_open(&twin, 1), EEP_ERR_SEAT_TAKEN, "%s", twin.ranks[1].error);
    cr_expect(strstr(twin.ranks[1].error, "names generation 1 of this seat"), "%s",
              twin.ranks[1].error);
    world_advance(&w, 0, 1, 3);
    cr_expect_eq(rank_events(&w.ranks[0], EEP_EVENT_SUSPECTED), 0);
    put_back(client, EEPI_KEY_MEMBER "1", record);
    eepi_store_client_close(client);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* A rank looks at the numbers in the store before it takes its seat, and another instance may begin
 * in between. Its service is over, it is told why, and its seat is free for the other instance. */
Test(context_joins, M8_a_rank_that_was_overtaken_by_another_configuration_gives_its_seat_back)
{
    world w, twin;
    eepi_store_client *client;
    eepi_store_reply reply;
    world_open(&w, 2, 2);
    open_twin(&twin, &w, 2);
    twin.config.num_max_tokens_per_rank = 2 * WORLD_TOKENS;
    const eepi_instance winner = eepi_instance_of(&twin.config);
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", w.ranks[0].error);
    cr_assert_eq(eepi_store_client_open(w.path, STORE_US, &client), EEP_OK);
    cr_assert_eq(eepi_store_client_wait(
                     client, eepi_store_put(client, EEPI_KEY_INSTANCE, &winner, sizeof winner, 0),
                     STORE_US, &reply),
                 EEP_OK);
    eepi_store_client_close(client);
    cr_expect_eq(eep_join(w.ranks[0].context), EEP_ERR_EVICTED);
    cr_expect(strstr(eep_last_error(w.ranks[0].context),
                     "num_max_tokens_per_rank is 4 here and 8 in the instance"),
              "%s", eep_last_error(w.ranks[0].context));
    world_start(&twin);
    for (int32_t seat = 0; seat < 2; seat++) {
        rank_close(&twin.ranks[seat]);
    }
    world_close(&w);
}

/* Two configurations, neither in a view yet, meet in a store that has lost its memory: one gives
 * up, not both. */
Test(context_joins, M8_of_two_configurations_in_an_empty_store_one_stays)
{
    world w[2];
    char path[sizeof w[0].path + 8], error[256] = "";
    eep_store *empty;
    const uint64_t end_ms = world_now_ms() + WORLD_WAIT_MS;
    int loser = 0;
    for (int i = 0; i < 2; i++) {
        world_open(&w[i], 2, 2);
        w[i].config.num_max_tokens_per_rank = (i + 1) * WORLD_TOKENS;
        w[i].config.join_timeout_us = 400000;
        cr_assert_eq(rank_open(&w[i], i), EEP_OK, "%s", w[i].ranks[i].error);
    }
    for (int i = 0; i < 2; i++) {
        eep_store_close(w[i].store);
        w[i].store = NULL;
    }
    snprintf(path, sizeof path, "%s.new", w[0].path);
    cr_assert_eq(eep_store_open(path, error, sizeof error, &empty), EEP_OK, "%s", error);
    for (int i = 0; i < 2; i++) { /* both reach it by the name that they know */
        cr_assert_eq(link(path, w[i].path), 0);
    }
    while (eep_join(w[loser].ranks[loser].context) != EEP_ERR_EVICTED) {
        cr_assert_lt(world_now_ms(), end_ms, "nobody gives up");
        loser = !loser;
    }
    cr_expect_eq(eep_join(w[!loser].ranks[!loser].context), EEP_ERR_TIMEOUT, "both give up");
    for (int i = 0; i < 2; i++) {
        rank_close(&w[i].ranks[i]);
    }
    eep_store_close(empty);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(unlink(w[i].path), 0);
        world_close(&w[i]);
    }
}

/* A rank that waits in vain is told for which ranks. */
Test(context_joins, a_join_that_runs_out_of_time_says_who_is_missing)
{
    world w;
    world_open(&w, 4, 4);
    w.config.join_timeout_us = 200000;
    for (int32_t seat = 0; seat < 2; seat++) {
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
    }
    rank *r = &w.ranks[0];
    WORLD_WAIT(&w, rank_sees(r, 1, NULL).state == EEP_SEAT_JOINING);
    cr_expect_eq(eep_join(r->context), EEP_ERR_TIMEOUT);
    const char *text = eep_last_error(r->context);
    cr_expect(strstr(text, "not opened: 2, 3"), "%s", text);
    cr_expect(strstr(text, "not called eep_join: 1"), "%s", text);
    cr_expect_eq(rank_sees(r, 1, NULL).state, EEP_SEAT_JOINING);
    cr_expect_eq(rank_sees(r, 2, NULL).state, EEP_SEAT_VACANT);
    world_close(&w);
}

/* What the ranks of a first view must agree on is refused by name; what they had better agree on
 * is logged. */
static int advised;
static void note_advice(void *user, eep_log_level level, const char *line)
{
    (void)user;
    (void)level;
    if (strstr(line, "step_deadline_us is 7000000 here and")) {
        __atomic_fetch_add(&advised, 1, __ATOMIC_SEQ_CST);
    }
}

Test(context_joins, configurations_that_differ_are_named)
{
    world w;
    world_open(&w, 2, 3);
    w.config.log = note_advice;
    w.config.log_level = EEP_LOG_WARN;
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", w.ranks[0].error);
    w.config.num_ranks = 3;
    cr_expect_eq(rank_open(&w, 1), EEP_ERR_INVALID);
    cr_expect(strstr(w.ranks[1].error, "num_ranks is 3 here and 2"), "%s", w.ranks[1].error);
    w.config.num_ranks = 2;
    w.config.step_deadline_us = 7000000;
    cr_expect_eq(rank_open(&w, 1), EEP_OK, "%s", w.ranks[1].error);
    cr_expect_eq(advised, 1);
    world_close(&w);
}

/* An end that is one: every rank is told DRAINED, nobody is suspected, nothing is logged as an
 * error; and then an instance of another shape begins with the same store. */
Test(context_joins, M8_an_instance_ends_in_order_and_another_one_begins)
{
    world w;
    world_open(&w, 3, 3);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    world_rest(&w);
    cr_assert_eq(eep_instance_end(w.ranks[1].context), EEP_OK);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].ended != EEP_OK);
        cr_expect_eq(w.ranks[seat].ended, EEP_ERR_DRAINED, "%d: %s", seat,
                     eep_strerror(w.ranks[seat].ended));
        cr_expect(strstr(w.ranks[seat].text, "ended in order"), "%s", w.ranks[seat].text);
        cr_expect_eq(rank_events(&w.ranks[seat], EEP_EVENT_SUSPECTED), 0);
    }
    for (int32_t seat = 0; seat < 3; seat++) {
        rank_close(&w.ranks[seat]);
    }
    w.config.num_ranks = w.config.max_ranks = 2;
    w.config.num_max_tokens_per_rank = WORLD_TOKENS * 2;
    world_set_modes(&w, 0, 1, RANK_FOLLOW);
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* The rank that the wedge word is of. */
static int32_t wedged_seat(eepi_store_client *client)
{
    eepi_store_reply reply;
    eepi_wedge word;

    cr_assert_eq(
        eepi_store_client_wait(client, eepi_store_get(client, EEPI_KEY_WEDGE), STORE_US, &reply),
        EEP_OK);
    cr_assert_eq(reply.size, sizeof word);
    memcpy(&word, reply.value, sizeof word);
    return word.seat;
}

/* The last wedge word of an instance with more seats stays in the store. The next instance cannot
 * read it, and its own words replace it. */
Test(context_joins, N22_the_wedge_word_of_an_ended_instance_is_replaced)
{
    const eepi_wedge left = {5, 1, 1, {0, 0, -1}};
    eepi_store_client *client;
    eepi_store_reply reply;
    world w;
    world_open(&w, 3, 3);
    cr_assert_eq(eepi_store_client_open(w.path, STORE_US, &client), EEP_OK);
    cr_assert_eq(eepi_store_client_wait(
                     client, eepi_store_put(client, EEPI_KEY_WEDGE, &left, sizeof left, 0),
                     STORE_US, &reply),
                 EEP_OK);
    world_start(&w);
    world_rest(&w);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, wedged_seat(client) < 2);
    eepi_store_client_close(client);
    world_close(&w);
}

/* Several instances may come at once where one has ended. The numbers in the store decide between
 * them; the last view may still have the shape of the one before, or of one that lost. */
Test(context_joins, M8_the_view_of_an_ended_instance_follows_the_numbers)
{
    eepi_store_client *client;
    eepi_store_reply reply;
    eepi_instance winner;
    world w;
    world_open(&w, 2, 3);
    world_start(&w);
    world_rest(&w);
    cr_assert_eq(eep_instance_end(w.ranks[0].context), EEP_OK);
    for (int32_t seat = 0; seat < 2; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].ended == EEP_ERR_DRAINED);
        rank_close(&w.ranks[seat]);
    }
    w.config.max_ranks = 2;
    winner = eepi_instance_of(&w.config);
    cr_assert_eq(eepi_store_client_open(w.path, STORE_US, &client), EEP_OK);
    cr_assert_eq(eepi_store_client_wait(
                     client, eepi_store_put(client, EEPI_KEY_INSTANCE, &winner, sizeof winner, 0),
                     STORE_US, &reply),
                 EEP_OK);
    eepi_store_client_close(client);
    world_set_modes(&w, 0, 1, RANK_FOLLOW);
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* The last ranks may leave one by one as well. */
Test(context_joins, M8_the_drain_of_the_last_rank_ends_the_instance)
{
    world w;
    world_open(&w, 2, 2);
    world_start(&w);
    world_lock(&w);
    w.ranks[0].drain = w.ranks[1].drain = 1;
    world_unlock(&w);
    for (int32_t seat = 0; seat < 2; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].ended != EEP_OK);
        cr_expect_eq(w.ranks[seat].ended, EEP_ERR_DRAINED);
    }
    world_close(&w);
}

static int awaited; /* lines that name a process that never joins; atomic */

static void note_awaited(void *user, eep_log_level level, const char *line)
{
    (void)user;
    (void)level;
    if (strstr(line, "rank 2 (generation 1) has opened and not called eep_join")) {
        __atomic_fetch_add(&awaited, 1, __ATOMIC_SEQ_CST);
    }
}

/* The last ranks wait for somebody who is on the way in: they say so, and need not. */
Test(context_joins, the_last_ranks_say_whom_they_wait_for)
{
    world w;
    world_open(&w, 2, 3);
    w.config.log = note_awaited;
    w.config.log_level = EEP_LOG_WARN;
    world_start(&w);
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", w.ranks[2].error);
    world_lock(&w);
    w.ranks[0].drain = w.ranks[1].drain = 1;
    world_unlock(&w);
    WORLD_WAIT(&w, rank_events(&w.ranks[0], EEP_EVENT_DRAIN_WAITS) > 0 &&
                       __atomic_load_n(&awaited, __ATOMIC_SEQ_CST) > 0);
    cr_assert_eq(eep_instance_end(w.ranks[0].context), EEP_OK);
    for (int32_t seat = 0; seat < 2; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].ended == EEP_ERR_DRAINED);
    }
    world_close(&w);
}

/* So does an instance of which nobody can serve any more. */
Test(context_joins, M8_an_instance_that_lost_experts_ends_in_order)
{
    world w;
    world_open(&w, 2, 2);
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    world_rest(&w);
    rank_close(&w.ranks[1]);
    rank_set_mode(&w.ranks[0], RANK_WORK);
    WORLD_WAIT(&w, w.ranks[0].closed > 0);
    cr_assert_eq(eep_instance_end(w.ranks[0].context), EEP_OK);
    WORLD_WAIT(&w, w.ranks[0].ended != EEP_OK);
    cr_expect_eq(w.ranks[0].ended, EEP_ERR_DRAINED, "%s", w.ranks[0].text);
    rank_close(&w.ranks[0]);
    world_set_modes(&w, 0, 1, RANK_FOLLOW);
    world_start(&w); /* another one begins */
    world_close(&w);
}

/* One that did not end in order is cleared by hand; until then the text says so. */
Test(context_joins, a_store_of_a_dead_instance_is_cleared_by_hand)
{
    world w;
    char error[256] = "";
    world_open(&w, 2, 2);
    world_start(&w);
    cr_expect_eq(eep_store_forget(w.path, error, sizeof error), EEP_ERR_STATE);
    cr_expect(strstr(error, "holds seat"), "%s", error);
    world_rest(&w);
    for (int32_t seat = 0; seat < 2; seat++) {
        rank_close(&w.ranks[seat]);
    }
    w.config.top_k = 1;
    cr_expect_eq(rank_open(&w, 0), EEP_ERR_INVALID);
    cr_expect(strstr(w.ranks[0].error, "eep-store --forget"), "%s", w.ranks[0].error);
    cr_expect_eq(eep_store_forget(w.path, error, sizeof error), EEP_OK, "%s", error);
    w.config.top_k = WORLD_TOPK;
    w.config.num_max_tokens_per_rank = WORLD_TOKENS * 2;
    world_set_modes(&w, 0, 1, RANK_FOLLOW);
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    world_rest(&w);
    world_close(&w);
}

/* The same configuration with another checkpoint, where an instance died: who is refused is told
 * how to clear the store, and then the new weights serve. */
Test(context_joins, other_weights_after_a_dead_instance_are_told_how_to_begin)
{
    world w;
    char error[256] = "";
    world_open(&w, 2, 2);
    world_start(&w);
    world_rest(&w);
    for (int32_t seat = 0; seat < 2; seat++) {
        rank_close(&w.ranks[seat]);
    }
    for (int32_t seat = 0; seat < 2; seat++) {
        w.ranks[seat].heavier = 2;
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
    }
    for (int32_t seat = 0; seat < 2; seat++) {
        rank_run(&w.ranks[seat]);
    }
    for (int32_t seat = 0; seat < 2; seat++) {
        const rank *r = &w.ranks[seat];
        WORLD_WAIT(&w, r->join_status != EEP_OK);
        cr_expect(strstr(r->text, "layer 1 expert 3") && strstr(r->text, "eep-store --forget"),
                  "rank %d: %s: %s", seat, eep_strerror(r->join_status), r->text);
    }
    for (int32_t seat = 0; seat < 2; seat++) {
        rank_close(&w.ranks[seat]);
    }
    cr_assert_eq(eep_store_forget(w.path, error, sizeof error), EEP_OK, "%s", error);
    world_set_modes(&w, 0, 1, RANK_FOLLOW);
    world_start(&w);
    world_close(&w);
}
