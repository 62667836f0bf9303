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

/* It asks for the register: for a moment a request is under way. */
static int reads_within(const rank *r, uint64_t ms)
{
    const struct eepi_store_session *session = r->context->session;
    const uint64_t until = world_now_ms() + ms;

    while (world_now_ms() < until) {
        if (__atomic_load_n(&session->read_id, __ATOMIC_RELAXED) != 0) {
            return 1;
        }
    }
    return 0;
}

/* What was told before has been heard, and answers have come: nothing is read for a while. */
static void await_quiet(const rank *r)
{
    const uint64_t until = world_now_ms() + WORLD_WAIT_MS;

    while (reads_within(r, 300)) {
        cr_assert_lt(world_now_ms(), until, "it reads for its own sake");
        usleep(10000);
    }
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
    world w;
    uint64_t epoch = 10;
    int tries = 0;

    setenv("EEP_NETWORK_PEERS", "all", 1);
    world_open(&w, 2, 2);
    world_start(&w);
    world_rest(&w);
    world_set_modes(&w, 0, 1, RANK_PARK);
    await_quiet(&w.ranks[0]);
    do { /* the answer may come before it is looked for */
        tell_begin(&w, ++epoch);
    } while (!reads_within(&w.ranks[0], 100) && ++tries < 100);
    cr_assert_lt(tries, 100, "the register is not read");
    await_quiet(&w.ranks[0]);
    tell_begin(&w, epoch); /* the same once more is no news */
    cr_assert_not(reads_within(&w.ranks[0], 200));
    world_close(&w);
}
