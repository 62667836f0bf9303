/* SPDX-License-Identifier: Apache-2.0 */
/* The front scheduler: fair assignment, re-queueing without loss, and a random history in which
 * ranks die and come back while every request is emitted exactly once. */
#include "experiments/load/scheduler.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static uint32_t add(scheduler *s, uint32_t input, uint32_t output)
{
    uint32_t id = 0;
    cr_assert_eq(scheduler_add(s, input, output, 0, &id), EEP_OK);
    return id;
}

static eep_status emit(scheduler *s, int seat, uint32_t gen, uint32_t request, uint32_t position)
{
    wire_token token = {.request = request, .position = position, .token = 1000 + position};
    return scheduler_token(s, seat, gen, &token, 1);
}

Test(scheduler, gives_to_the_seat_with_fewest_positions)
{
    scheduler *s = NULL;
    wire_assign assign;
    int seat = -1;
    cr_assert_eq(scheduler_open(2, 10, 2, &s), EEP_OK);
    add(s, 100, 10);
    add(s, 5, 5);
    add(s, 5, 5);
    add(s, 5, 5);
    add(s, 5, 5);
    cr_assert_not(scheduler_next(s, &assign, &seat), "no seat is open");
    scheduler_seat_open(s, 0, 1);
    scheduler_seat_open(s, 1, 1);
    const int expected[] = {0, 1, 1, 0};
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert(scheduler_next(s, &assign, &seat));
        cr_assert_eq(assign.request, i);
        cr_assert_eq(seat, expected[i], "request %u went to %d", i, seat);
    }
    cr_assert_not(scheduler_next(s, &assign, &seat), "both seats are full");
    cr_assert_eq(scheduler_count(s).queued, 1);
    cr_assert_eq(scheduler_count(s).running, 4);
    scheduler_close(s);
}

Test(scheduler, a_dead_seat_hands_over_with_what_was_emitted)
{
    scheduler *s = NULL;
    wire_assign assign;
    int seat = -1;
    uint32_t decoding = 99;
    cr_assert_eq(scheduler_open(2, 10, 8, &s), EEP_OK);
    uint32_t id = add(s, 4, 3);
    scheduler_seat_open(s, 0, 1);
    cr_assert(scheduler_next(s, &assign, &seat));
    cr_assert_eq(scheduler_activity(s, 0, 1, &decoding), 1);
    cr_assert_eq(emit(s, 0, 1, id, 0), EEP_OK);
    cr_assert_eq(emit(s, 0, 1, id, 1), EEP_OK);
    cr_assert_eq(scheduler_activity(s, 0, 1, &decoding), 2);
    cr_assert_eq(decoding, id);
    scheduler_seat_open(s, 1, 1);
    cr_assert_eq(scheduler_seat_ended(s, 0, 2), 0, "another generation");
    cr_assert_eq(scheduler_seat_ended(s, 0, 1), 1);
    cr_assert_eq(emit(s, 0, 1, id, 2), EEP_ERR_NOT_OWNER, "a zombie's token");
    cr_assert(scheduler_next(s, &assign, &seat));
    cr_assert_eq(seat, 1);
    cr_assert_eq(assign.num_emitted, 2);
    cr_assert_eq(assign.header.bytes, sizeof assign + 2 * sizeof(uint32_t));
    cr_assert_eq(scheduler_request_at(s, id)->tokens[1], 1001);
    cr_assert_eq(emit(s, 1, 1, id, 1), EEP_ERR_DUPLICATE, "emitted before");
    cr_assert_eq(emit(s, 1, 1, id, 2), EEP_OK);
    scheduler_counts counts = scheduler_count(s);
    cr_assert_eq(counts.completed, 1);
    cr_assert_eq(counts.tokens_refused, 2);
    cr_assert_eq(counts.running + counts.queued, 0);
    scheduler_close(s);
}

Test(scheduler, failures_hand_backs_and_bad_requests)
{
    scheduler *s = NULL;
    wire_assign assign;
    int seat = -1;
    uint32_t id = 0;
    cr_assert_eq(scheduler_open(0, 1, 1, &s), EEP_ERR_INVALID);
    cr_assert_eq(scheduler_open(1, 2, 1, &s), EEP_OK);
    cr_assert_eq(scheduler_add(s, 0, 1, 0, &id), EEP_ERR_INVALID);
    cr_assert_eq(scheduler_add(s, 1, 0, 0, &id), EEP_ERR_INVALID);
    add(s, 1, 1);
    add(s, 1, 1);
    cr_assert_eq(scheduler_add(s, 1, 1, 0, &id), EEP_ERR_NO_MEMORY);
    scheduler_seat_open(s, 0, 7);
    cr_assert(scheduler_next(s, &assign, &seat));
    scheduler_fail(s, 0, 6, 0);
    cr_assert_eq(scheduler_count(s).failed, 0, "not its owner");
    scheduler_hand_back(s, 0, 7, 0);
    cr_assert_eq(scheduler_count(s).queued, 2);
    cr_assert(scheduler_next(s, &assign, &seat));
    cr_assert_eq(assign.request, 0, "what came back is first");
    scheduler_fail(s, 0, 7, 0);
    cr_assert_eq(scheduler_count(s).failed, 1);
    scheduler_seat_close(s, 0);
    cr_assert_not(scheduler_next(s, &assign, &seat));
    scheduler_lose_all(s);
    cr_assert_eq(scheduler_count(s).lost, 1);
    cr_assert_eq(emit(s, 0, 7, 77, 0), EEP_ERR_INVALID, "unknown request");
    scheduler_close(s);
}

/* What a rank process would hold in the random history. */
enum { SEATS = 5, REQUESTS = 300, OUTPUT = 6 };
typedef struct fake_rank {
    uint32_t generation;
    bool alive;
    int num;
    uint32_t request[8], position[8];
} fake_rank;

static void hand_out(scheduler *s, fake_rank *rank)
{
    wire_assign assign;
    int seat = -1;
    while (scheduler_next(s, &assign, &seat)) {
        fake_rank *to = &rank[seat];
        cr_assert(to->alive && to->num < 8);
        to->request[to->num] = assign.request;
        to->position[to->num++] = assign.num_emitted;
    }
}

static void emit_one(scheduler *s, fake_rank *rank, int seat, int emitted[REQUESTS])
{
    fake_rank *from = &rank[seat];
    if (!from->num) {
        return;
    }
    uint32_t request = from->request[0];
    cr_assert_eq(emit(s, seat, from->generation, request, from->position[0]), EEP_OK);
    emitted[request]++;
    if (++from->position[0] == OUTPUT) {
        from->num--;
        from->request[0] = from->request[from->num];
        from->position[0] = from->position[from->num];
    }
}

Test(scheduler, random_deaths_lose_and_double_nothing)
{
    const unsigned seed = 4;
    unsigned state = seed;
    int emitted[REQUESTS] = {0};
    fake_rank rank[SEATS] = {0};
    scheduler *s = NULL;
    cr_assert_eq(scheduler_open(SEATS, REQUESTS, 8, &s), EEP_OK);
    for (int r = 0; r < REQUESTS; r++) {
        add(s, 1 + (uint32_t)(rand_r(&state) % 9), OUTPUT);
    }
    for (int round = 0; round < 100000 && scheduler_count(s).completed < REQUESTS; round++) {
        int seat = rand_r(&state) % SEATS;
        if (rand_r(&state) % 20 == 0) {
            if (rank[seat].alive) {
                scheduler_seat_ended(s, seat, rank[seat].generation);
                rank[seat].alive = false;
                rank[seat].num = 0;
            } else {
                rank[seat].alive = true;
                scheduler_seat_open(s, seat, ++rank[seat].generation);
            }
        }
        hand_out(s, rank);
        if (rank[seat].alive) {
            emit_one(s, rank, seat, emitted);
        }
    }
    for (int r = 0; r < REQUESTS; r++) {
        cr_assert_eq(emitted[r], OUTPUT, "seed %u request %d: %d tokens", seed, r, emitted[r]);
    }
    cr_assert_eq(scheduler_count(s).tokens_refused, 0);
    scheduler_close(s);
}

Test(scheduler, what_ranks_served_fails_and_is_sent_again)
{
    scheduler *s = NULL;
    wire_assign assign;
    int seat = -1;
    scheduler_failed failed;
    cr_assert_eq(scheduler_open(2, 7, 2, &s), EEP_OK);
    uint32_t done = add(s, 4, 1), served = add(s, 5, 3), waits = add(s, 6, 2);
    scheduler_seat_open(s, 0, 1);
    cr_assert(scheduler_next(s, &assign, &seat));
    cr_assert(scheduler_next(s, &assign, &seat));
    cr_assert_eq(emit(s, 0, 1, done, 0), EEP_OK);
    cr_assert_eq(emit(s, 0, 1, served, 0), EEP_OK);
    cr_assert_eq(emit(s, 0, 1, served, 1), EEP_OK);
    scheduler_seat_close(s, 0);
    cr_assert_eq(scheduler_fail_served(s, 77, &failed), EEP_OK);
    cr_assert_eq(failed.num, 1);
    cr_assert_eq(failed.tokens, 2);
    cr_assert_eq(failed.first_retry, 3);
    cr_assert_eq(scheduler_request_at(s, served)->status, REQUEST_FAILED);
    const scheduler_request *retry = scheduler_request_at(s, failed.first_retry);
    cr_assert(retry->input_length == 5 && retry->output_length == 3 && retry->num_emitted == 0);
    cr_assert_eq(retry->arrival_ms, 77);
    cr_assert_neq(emit(s, 0, 1, served, 2), EEP_OK, "its rank may emit nothing more");
    scheduler_seat_open(s, 0, 2);
    cr_assert(scheduler_next(s, &assign, &seat));
    cr_assert_eq(assign.request, waits, "what waited is first");
    cr_assert(scheduler_next(s, &assign, &seat));
    cr_assert(assign.request == failed.first_retry && assign.num_emitted == 0);
    scheduler_counts counts = scheduler_count(s);
    cr_assert(counts.accepted == 4 && counts.completed == 1 && counts.failed == 1);
    cr_assert_eq(scheduler_fail_served(s, 78, &failed), EEP_OK);
    cr_assert_eq(failed.num, 2);
    scheduler_seat_open(s, 0, 3);
    cr_assert(scheduler_next(s, &assign, &seat) && scheduler_next(s, &assign, &seat));
    cr_assert_eq(scheduler_fail_served(s, 79, &failed), EEP_ERR_NO_MEMORY, "7 requests at most");
    scheduler_close(s);
}
