/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's store is as good as the product's: the same suite, under virtual time. What the
 * product's cores survive here is worth something only if that holds. */
#include "tests/sim/sim.h"
#include "tests/lib/store/store_conformance.h"

#include <stdio.h>

enum { PASS_US = 200, RESTART_US = 1000, BOUND_US = 60000000, STACK_BYTES = 640 * 1024 };

static const char *why, *case_name;
static int is_over;

static void pass(void *user)
{
    (void)user;
    sim_sleep(PASS_US);
}

static uint64_t now_us(void *user)
{
    (void)user;
    return sim->now_us;
}

static void cut(void *user, eepi_store_client *client)
{
    (void)user;
    sim_store_cut(client);
}

static void restart(void *user)
{
    (void)user;
    sim_store_outage(RESTART_US, 1, 1);
}

static void *run(void *argument)
{
    const store_world world = {.address = "sim",
                               .pass = pass,
                               .now_us = now_us,
                               .cut = cut,
                               .restart = restart,
                               .forgets = true,
                               .lists = true};

    (void)argument;
    why = store_conformance(&world, &case_name);
    is_over = 1;
    sim_process_end(sim_self(), "the suite is over");
    return NULL;
}

static int done(void)
{
    return is_over;
}

int sim_store_conforms(const sim_options *options)
{
    int good;

    why = NULL;
    is_over = 0;
    sim_world_open(options);
    sim_store_open(1, 1);
    (void)sim_spawn(sim_process_new(0), run, NULL, STACK_BYTES);
    if (!sim_run(sim->now_us + BOUND_US, done)) {
        why = "it does not end";
    }
    good = why == NULL;
    if (!good) {
        printf("seed %llu: %s: %s\n", (unsigned long long)options->seed, case_name, why);
    }
    sim_world_close();
    return good;
}
