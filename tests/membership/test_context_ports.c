/* SPDX-License-Identifier: Apache-2.0 */
/* Whole ranks on a machine with one RDMA device of two ports, which a test double plays: a port
 * that goes down is told to people and to planners, and costs nobody his place. */
#include "membership/context/context.h"
#include "membership/context/records.h"
#include "tests/lib/context_fixture.h"
#include "tests/transport/fake_verbs.h"

#include <stdio.h>

enum {
    RANKS = 3,
    WAIT_US = WORLD_WAIT_MS * 1000,
    PORT_MB = 12890,
    BOTH_MB = 25781
}; /* 4 lanes of EDR each */

/* In the place of the library's own. */
const eepi_verbs *eepi_verbs_system(void)
{
    return fake_verbs();
}

/* What the record of a seat in the store says of its NIC. */
static uint32_t told_nic(world *w, int32_t seat)
{
    eepi_store_client *client = NULL;
    eepi_store_reply reply;
    eepi_record record;
    uint32_t nic = 0;
    char key[32];

    snprintf(key, sizeof key, EEPI_KEY_MEMBER "%d", seat);
    cr_assert_eq(eepi_store_client_open(w->path, WAIT_US, &client), EEP_OK);
    cr_assert_eq(eepi_store_client_wait(client, eepi_store_get(client, key), WAIT_US, &reply),
                 EEP_OK);
    cr_assert_eq(
        eepi_record_decode(reply.value, reply.size, &w->ranks[seat].context->view_shape, &record),
        EEP_OK);
    nic = record.member.rates[EEPI_RATE_NIC];
    eepi_store_client_close(client);
    return nic;
}

static bool all_tell(world *w, uint32_t nic)
{
    for (int32_t seat = 0; seat < RANKS; seat++) {
        if (told_nic(w, seat) != nic) {
            return false;
        }
    }
    return true;
}

static bool all_saw(world *w, eep_event_kind kind, uint64_t times)
{
    for (int32_t seat = 0; seat < RANKS; seat++) {
        if (rank_events(&w->ranks[seat], kind) != times) {
            return false;
        }
    }
    return true;
}

static void wait_told(world *w, uint32_t nic)
{
    const uint64_t until_ms = world_now_ms() + WORLD_WAIT_MS;

    while (!all_tell(w, nic) && world_now_ms() < until_ms) {
        world_lock(w);
        world_nap(w);
        world_unlock(w);
    }
    cr_assert(all_tell(w, nic), "rank 0 tells %u MB/s, not %u", told_nic(w, 0), nic);
}

Test(context_ports, a_port_that_goes_down_is_told_and_costs_nobody_his_place, .timeout = 100)
{
    world w;
    uint64_t epoch;

    fake_verbs_begin(1, 2);
    world_open(&w, RANKS, RANKS);
    world_start(&w);
    world_set_modes(&w, 0, RANKS - 1, RANK_WORK);
    world_advance(&w, 0, RANKS - 1, 3);
    cr_assert(all_tell(&w, BOTH_MB), "both ports count");

    fake_verbs_port_down(0, 2);
    WORLD_WAIT(&w, all_saw(&w, EEP_EVENT_PORT_DOWN, 1));
    wait_told(&w, PORT_MB);
    fake_verbs_port_down(0, 1);
    WORLD_WAIT(&w, all_saw(&w, EEP_EVENT_PORT_DOWN, 2));
    wait_told(&w, EEPI_RATE_DOWN);
    world_advance(&w, 0, RANKS - 1, 3); /* they serve on: the ports carry no row */

    fake_verbs_port_up(0, 1);
    fake_verbs_port_up(0, 2);
    WORLD_WAIT(&w, all_saw(&w, EEP_EVENT_PORT_UP, 2));
    wait_told(&w, BOTH_MB);
    world_advance(&w, 0, RANKS - 1, 3);
    for (int32_t seat = 0; seat < RANKS; seat++) {
        cr_expect_eq(rank_sees(&w.ranks[0], seat, &epoch).state, EEP_SEAT_ACTIVE);
        cr_expect_eq(rank_events(&w.ranks[seat], EEP_EVENT_SUSPECTED), 0);
    }
    cr_expect_eq(epoch, 1, "membership did not change");
    world_rest(&w);
    world_check_never_aborted(&w, 0, RANKS - 1);
    world_check_right(&w);
    world_close(&w);
    cr_assert_eq(fake_verbs_end(), 0, "the ranks closed the device");
}

/* Taken out while ranks serve: the service thread neither spins nor forgets to serve. */
Test(context_ports, a_device_that_is_taken_out_is_watched_no_longer, .timeout = 100)
{
    world w;

    fake_verbs_begin(2, 1);
    world_open(&w, RANKS, RANKS);
    world_start(&w);
    world_set_modes(&w, 0, RANKS - 1, RANK_WORK);
    fake_verbs_remove(1);
    WORLD_WAIT(&w, all_saw(&w, EEP_EVENT_PORT_DOWN, 1));
    wait_told(&w, PORT_MB);
    world_advance(&w, 0, RANKS - 1, 3);
    world_rest(&w);
    world_check_never_aborted(&w, 0, RANKS - 1);
    world_close(&w);
    cr_assert_eq(fake_verbs_end(), 0);
}
