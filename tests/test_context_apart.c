/* Contexts whose windows have two sides, as on a GPU: kernels reach one, host threads the other.
 * Whatever a host thread must learn of its peers has to come over the host side. */
#include "tests/context_fixture.h"

#include "graphs/device_share.h"
#include "membership/context.h"

TestSuite(context_apart, .timeout = 100);

enum { FIRST = 20, MANY = 50 };

static void open_apart(world *w, int32_t num_ranks)
{
    world_open(w, num_ranks, num_ranks);
    w->windows_apart = 1;
}

Test(context_apart, ranks_step_together)
{
    world w;
    open_apart(&w, 4);
    world_start(&w);
    for (int32_t seat = 0; seat < 4; seat++)
        cr_assert(eepi_window_is_apart(w.ranks[seat].context->window));
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, MANY);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 3);
    world_check_right(&w);
    world_close(&w);
}

Test(context_apart, idle_ranks_follow_the_one_with_work)
{
    world w;
    open_apart(&w, 4);
    world_start(&w);
    rank_set_mode(&w.ranks[2], RANK_WORK);
    world_advance(&w, 2, 2, FIRST);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 3);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 4; seat++)
        cr_expect_eq(w.ranks[seat].steps_ok, w.ranks[2].steps_ok, "rank %d", seat);
    world_close(&w);
}

static eepi_window *window_of(const rank *at, int32_t seat)
{
    return at->context->peers[seat].window;
}

/* Its successor's window is another one, while the old mapping is still there. */
Test(context_apart, a_rank_ends_and_its_seat_is_taken_again)
{
    world w;
    const void *before;
    open_apart(&w, 4);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, FIRST);
    before = eepi_window_device_address(window_of(&w.ranks[0], 1));
    rank_close(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 3 && w.ranks[2].last_active == 3 &&
                       w.ranks[3].last_active == 3);
    world_advance(&w, 2, 3, FIRST);
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", w.ranks[1].error);
    rank_set_mode(&w.ranks[1], RANK_WORK);
    rank_run(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[1].joined);
    world_advance(&w, 0, 3, FIRST);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(eep_generation(w.ranks[1].context), 2);
    cr_expect_neq(eepi_window_device_address(window_of(&w.ranks[0], 1)), before);
    cr_expect_gt(eepi_share_cost_of(w.ranks[0].device).calls, 4);
    world_close(&w);
}
