/* SPDX-License-Identifier: Apache-2.0 */
/* EEP_RANK_ANY: a process that takes whichever seat is free. */
#include "eep/launch.h"
#include "tests/lib/context_fixture.h"

#include <stdio.h>
#include <string.h>

enum { SEATS = 4 };

TestSuite(any_seat, .timeout = 60);

typedef struct opener {
    eep_config config;
    eep_context *context;
    eep_status status;
    char error[256];
} opener;

static void prepare(opener *o, const world *w)
{
    *o = (opener){.config = w->config};
    o->config.store_path = w->path;
    o->config.rank = EEP_RANK_ANY;
    cr_assert_eq(eep_device_open("host", 0, &o->config.device), EEP_OK);
}

static void *open_any(void *user)
{
    opener *o = user;

    o->status = eep_open(&o->config, o->error, sizeof o->error, &o->context);
    return NULL;
}

static void end(opener *o)
{
    eep_close(o->context);
    eep_device_close(o->config.device);
}

/* All seats are taken once, by processes that look at the same time. */
Test(any_seat, several_at_once_take_different_seats)
{
    opener openers[SEATS + 1];
    pthread_t threads[SEATS];
    uint32_t taken = 0;
    world w;

    world_open(&w, SEATS, SEATS);
    for (int i = 0; i < SEATS + 1; i++) {
        prepare(&openers[i], &w);
    }
    for (int i = 0; i < SEATS; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, open_any, &openers[i]), 0);
    }
    for (int i = 0; i < SEATS; i++) {
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
        cr_assert_eq(openers[i].status, EEP_OK, "%s", openers[i].error);
        cr_expect_eq(eep_generation(openers[i].context), 1);
        taken |= 1u << eep_rank(openers[i].context);
    }
    cr_expect_eq(taken, 0xf);
    open_any(&openers[SEATS]);
    cr_expect_eq(openers[SEATS].status, EEP_ERR_SEAT_TAKEN);
    cr_expect(strstr(openers[SEATS].error, "a rank without a seat: each of the 4 seats"), "%s",
              openers[SEATS].error);
    for (int i = 0; i < SEATS + 1; i++) {
        end(&openers[i]);
    }
    world_close(&w);
}

/* A seat whose process was here and has ended comes before one that nobody has had. */
Test(any_seat, a_replacement_takes_the_seat_that_lost_its_process)
{
    opener openers[3], next;
    world w;

    world_open(&w, 3, SEATS);
    for (int i = 0; i < 3; i++) {
        prepare(&openers[i], &w);
        open_any(&openers[i]);
        cr_assert_eq(openers[i].status, EEP_OK, "%s", openers[i].error);
        cr_expect_eq(eep_rank(openers[i].context), i);
    }
    end(&openers[1]);
    prepare(&next, &w);
    open_any(&next);
    cr_assert_eq(next.status, EEP_OK, "%s", next.error);
    cr_expect_eq(eep_rank(next.context), 1);
    cr_expect_eq(eep_generation(next.context), 2);
    prepare(&openers[1], &w);
    open_any(&openers[1]);
    cr_assert_eq(openers[1].status, EEP_OK, "%s", openers[1].error);
    cr_expect_eq(eep_rank(openers[1].context), 3);
    for (int i = 0; i < 3; i++) {
        end(&openers[i]);
    }
    end(&next);
    world_close(&w);
}
