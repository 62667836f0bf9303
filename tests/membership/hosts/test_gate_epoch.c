/* SPDX-License-Identifier: Apache-2.0 */
/* A newer epoch at the gate of a rank whose watch has brought nothing (rule N18). Ranks of one
 * process reach each other by the network alone. */
#include "graphs/device/tables.h"
#include "membership/context/context.h"
#include "membership/service/store_session_state.h"
#include "tests/lib/context_fixture.h"
#include "transport/proxy/ring_lane.h"

#include <stdlib.h>
#include <unistd.h>

TestSuite(gate_epoch, .timeout = 60);

static uint64_t num_reads(const rank *r)
{
    return __atomic_load_n(&r->context->session->num_reads, __ATOMIC_RELAXED);
}

/* It asks for the register again, within that time. */
static int reads_more_than(const rank *r, uint64_t before, uint64_t ms)
{
    const uint64_t until = world_now_ms() + ms;

    while (num_reads(r) == before && world_now_ms() < until) {
        usleep(1000);
    }
    return num_reads(r) != before;
}

/* What was told before has been heard, and answers have come: nothing is read for a while. */
static uint64_t await_quiet(const rank *r)
{
    const uint64_t until = world_now_ms() + WORLD_WAIT_MS;
    uint64_t reads = num_reads(r);

    while (reads_more_than(r, reads, 300)) {
        cr_assert_lt(world_now_ms(), until, "it reads for its own sake");
        reads = num_reads(r);
    }
    return reads;
}

/* In the name of rank 1: it begins step 0 under that epoch, which no rank of an older view does. */
static void tell_begin(world *w, uint64_t epoch)
{
    const eep_context *from = w->ranks[1].context, *to = w->ranks[0].context;
    const uint32_t queue = to->generation % 2 * from->shape.max_ranks;

    eepi_ring_put_begin(eepi_tables_ring(from->tables, queue), epoch, 0, 0, 0, from->generation,
                        to->generation);
}

Test(gate_epoch, N18_a_newer_epoch_at_the_gate_is_read_at_once)
{
    const uint64_t epoch = 11;
    uint64_t reads;
    world w;

    setenv("EEP_NETWORK_PEERS", "all", 1);
    world_open(&w, 2, 2);
    world_start(&w);
    world_rest(&w);
    world_set_modes(&w, 0, 1, RANK_PARK);
    reads = await_quiet(&w.ranks[0]);
    tell_begin(&w, epoch);
    cr_assert(reads_more_than(&w.ranks[0], reads, WORLD_WAIT_MS), "the register is not read");
    reads = await_quiet(&w.ranks[0]);
    tell_begin(&w, epoch); /* the same once more is no news */
    cr_assert_not(reads_more_than(&w.ranks[0], reads, 200));
    world_close(&w);
}
