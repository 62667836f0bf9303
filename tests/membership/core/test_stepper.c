/* SPDX-License-Identifier: Apache-2.0 */
/* The step core alone: no device, no lock, no time but what is passed in. */
#include "membership/stepper/stepper.h"

#include <criterion/criterion.h>
#include <string.h>

static const eepi_stepper_config config = {
    .step_deadline_us = 1000, .warmup_deadline_us = 5000, .expel_floor_us = 100000};

static eepi_stepper fresh(void)
{
    eepi_stepper s;

    eepi_stepper_init(&s, &config);
    return s;
}

static eepi_live live(uint64_t epoch, uint64_t first_step, int planned)
{
    return (eepi_live){.epoch = epoch,
                       .digest = 100 + epoch,
                       .first_step = first_step,
                       .num_active = 4,
                       .planned = planned};
}

/* A rank that serves epoch 7 from step 41 on. */
static eepi_stepper serving(void)
{
    eepi_stepper s = fresh();
    const eepi_live view = live(7, 41, 0);

    eepi_stepper_install(&s, &view, 0);
    cr_assert_not_null(eepi_stepper_flip_to(&s));
    cr_assert_eq(eepi_stepper_flipped(&s), 0);
    return s;
}

static int step(eepi_stepper *s, eepk_status status)
{
    eepk_launch launch = eepi_stepper_begin(s, 0, 1000);

    status.done_step = launch.step;
    return eepi_stepper_end(s, &status, 1500);
}

Test(stepper, D5_numbers_go_up_whatever_happens)
{
    eepi_stepper s = serving();

    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).step, 41);
    cr_assert(!eepi_stepper_end(&s, &(eepk_status){.result = EEPK_STEP_PEER_ABORT}, 1));
    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).step, 42);
    cr_assert(!eepi_stepper_end(&s, NULL, 1));
    cr_assert_eq(eepi_stepper_begin(&s, 60, 0).step, 60);
    cr_assert(!eepi_stepper_end(&s, &(eepk_status){.result = EEPK_STEP_JUMP, .jump_step = 70}, 1));
    cr_assert_eq(eepi_stepper_begin(&s, 65, 0).step, 70);
}

Test(stepper, M2_a_wedged_rank_drains_once_its_step_has_ended)
{
    eepi_stepper s = serving();
    eepi_step_mail mail;

    cr_assert_eq(eepi_stepper_wedge(&s), 0);
    cr_assert(eepi_stepper_take_mail(&s, &mail) && mail.drained && mail.drained_step == 40);
    cr_assert(!eepi_stepper_may_begin(&s, 50) && !eepi_stepper_flip_to(&s));
    s = serving();
    (void)eepi_stepper_begin(&s, 0, 0);
    cr_assert_eq(eepi_stepper_wedge(&s), 1);
    cr_assert(!eepi_stepper_take_mail(&s, &mail));
    cr_assert(!eepi_stepper_end(&s, &(eepk_status){.result = EEPK_STEP_HOST_ABORT}, 1));
    cr_assert(eepi_stepper_take_mail(&s, &mail) && mail.drained && mail.drained_step == 41);
}

/* The device may block a flip: a wedge that comes meanwhile promises nothing before its end. */
Test(stepper, M2_a_wedged_rank_drains_once_its_flip_has_ended)
{
    eepi_stepper s = serving();
    const eepi_live next = live(8, 90, 0), planned = live(9, 90, 1);
    eepi_step_mail mail;

    eepi_stepper_install(&s, &next, 0);
    cr_assert_not_null(eepi_stepper_flip_to(&s));
    cr_assert_eq(eepi_stepper_wedge(&s), 0);
    cr_assert(!eepi_stepper_take_mail(&s, &mail));
    cr_assert(eepi_stepper_awaits_flip(&s));
    cr_assert_eq(eepi_stepper_stage(&s, &planned), EEPI_STAGE_BUSY, "T2");
    cr_assert_eq(eepi_stepper_flipped(&s), 0);
    cr_assert(eepi_stepper_take_mail(&s, &mail) && mail.drained && mail.drained_step == 89);
    cr_assert_eq(s.live.epoch, 8);
    cr_assert(!eepi_stepper_may_begin(&s, 95) && !eepi_stepper_awaits_flip(&s));
}

Test(stepper, M2_a_wedged_rank_drains_although_its_flip_failed)
{
    eepi_stepper s = serving();
    const eepi_live next = live(8, 90, 0);
    eepi_step_mail mail;

    eepi_stepper_install(&s, &next, 0);
    cr_assert_not_null(eepi_stepper_flip_to(&s));
    cr_assert_eq(eepi_stepper_wedge(&s), 0);
    eepi_stepper_flip_failed(&s);
    cr_assert(eepi_stepper_take_mail(&s, &mail) && mail.drained && mail.drained_step == 40);
}

Test(stepper, M3_what_all_announced_is_flipped_to_before_the_next_step)
{
    eepi_stepper s = serving();
    const eepi_live planned = live(8, 41, 1);
    eepi_step_mail mail;

    cr_assert_eq(eepi_stepper_stage(&s, &planned), EEPI_STAGE_GO);
    eepi_stepper_staged(&s, &planned);
    cr_assert_eq(eepi_stepper_stage(&s, &planned), EEPI_STAGE_THERE);
    eepi_stepper_announce(&s, &planned);
    cr_assert(eepi_stepper_wants(&s, 0), "a change of view is carried by empty steps");
    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).announce_digest, 108);
    cr_assert(eepi_stepper_end(&s, &(eepk_status){.result = EEPK_STEP_OK}, 1));
    cr_assert_null(eepi_stepper_flip_to(&s), "somebody did not know it yet");
    cr_assert(step(&s, (eepk_status){.flip_digest = 108}));
    cr_assert(!eepi_stepper_may_begin(&s, 0));
    cr_assert_eq(eepi_stepper_flip_to(&s)->epoch, 8);
    cr_assert_eq(eepi_stepper_flipped(&s), 1);
    cr_assert(step(&s, (eepk_status){0}) && eepi_stepper_take_mail(&s, &mail));
    cr_assert(mail.flipped && mail.flipped_digest == 108);
}

Test(stepper, M3_a_rank_that_met_a_newer_view_waits_for_the_commit)
{
    eepi_stepper s = serving();
    const eepi_live planned = live(8, 41, 1);

    eepi_stepper_staged(&s, &planned);
    cr_assert(!step(&s, (eepk_status){.result = EEPK_STEP_NEWER_EPOCH, .jump_step = 44}));
    cr_assert(!eepi_stepper_flip_to(&s) && !eepi_stepper_may_begin(&s, 0));
    cr_assert_eq(s.steps_aborted_by_join, 1);
    eepi_stepper_announce(&s, &planned);
    cr_assert_eq(eepi_stepper_flip_to(&s)->epoch, 8);
    (void)eepi_stepper_flipped(&s);
    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).step, 44);
}

/* What hosts tell of steps that they begin, where no tag says it. */
Test(stepper, N3_a_step_that_a_peer_is_ahead_of_is_given_up)
{
    eepi_stepper s = serving();

    cr_assert(!eepi_stepper_hear_begin(&s, 7, 43, 40), "no step is running");
    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).step, 43);
    cr_assert(!eepi_stepper_hear_begin(&s, 7, 43, 40));
    cr_assert(!eepi_stepper_hear_begin(&s, 6, 50, 40), "of a view before");
    cr_assert(!eepi_stepper_hear_begin(&s, 7, 44, 43), "its tags of 43 are on their way");
    cr_assert(eepi_stepper_hear_begin(&s, 7, 45, 42));
    cr_assert(!eepi_stepper_end(&s, &(eepk_status){.result = EEPK_STEP_HOST_ABORT}, 1));
    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).step, 45);
}

Test(stepper, N3_a_rank_that_heard_of_a_newer_view_waits_for_the_commit)
{
    eepi_stepper s = serving();
    const eepi_live planned = live(8, 41, 1);

    eepi_stepper_staged(&s, &planned);
    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).step, 41);
    cr_assert(!eepi_stepper_hear_begin(&s, 8, 40, 39), "below this one: it says nothing of it");
    cr_assert(eepi_stepper_hear_begin(&s, 8, 41, 40));
    cr_assert(!eepi_stepper_end(&s, &(eepk_status){.result = EEPK_STEP_HOST_ABORT}, 1));
    cr_assert(!eepi_stepper_flip_to(&s) && !eepi_stepper_may_begin(&s, 0));
    eepi_stepper_announce(&s, &planned);
    cr_assert_eq(eepi_stepper_flip_to(&s)->epoch, 8);
    (void)eepi_stepper_flipped(&s);
    cr_assert(eepi_stepper_may_begin(&s, 0));
    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).step, 42);
}

Test(stepper, M10_who_is_not_in_the_view_that_all_switch_to_has_left)
{
    eepi_stepper s = serving();
    eepi_live planned = live(8, 41, 1);
    eepi_step_mail mail;

    planned.leaves = 1;
    eepi_stepper_announce(&s, &planned);
    cr_assert(step(&s, (eepk_status){.flip_digest = 108}));
    cr_assert_null(eepi_stepper_flip_to(&s));
    cr_assert(s.live.epoch == 0 && !eepi_stepper_may_begin(&s, 50));
    cr_assert(eepi_stepper_take_mail(&s, &mail) && mail.flipped_digest == 108);
}

static eepk_shape shape_of_four(void)
{
    return (eepk_shape){.max_ranks = 4,
                        .num_layers = 1,
                        .num_chains = 1,
                        .num_shapes = 3,
                        .shapes = {{8, 1, 0, 0}, {8, 2, 1, 0}, {8, 4, 3, 0}},
                        .self = 3,
                        .off_dispatch_tag = 0};
}

/* Tags hold 30 bits of a step. */
Test(stepper, S13_a_joiner_reads_its_peers_steps_near_the_first_one_of_its_view)
{
    static _Alignas(128) uint8_t window[2 * 4 * EEPK_LINE_BYTES];
    const uint64_t first = (3ull << EEPK_TAG_STEP_BITS) - 5,
                   now = (3ull << EEPK_TAG_STEP_BITS) + 200;
    const eepk_shape shape = shape_of_four();
    const eepi_live view = live(8, first, 1);
    eepi_stepper s = fresh();

    *eepk_dispatch_tag(&shape, window, 0, 1) = eepk_tag(8, now, 0, EEPK_PHASE_DISPATCH);
    eepi_stepper_install(&s, &view, 1);
    (void)eepi_stepper_flip_to(&s);
    (void)eepi_stepper_flipped(&s);
    cr_assert(!eepi_stepper_may_begin(&s, 0), "its first step is a peer's");
    cr_assert_eq(eepi_stepper_peer_step(&s, &shape, window), now);
    cr_assert_eq(eepi_stepper_begin(&s, now, 0).step, now);
}

/* ---------------------------------------------------------------- shapes */

static uint32_t begins_with(eepi_stepper *s, uint32_t wanted, uint32_t peers)
{
    (void)eepi_stepper_begin(s, 0, 0);
    return eepi_stepper_take_shape(s, wanted, peers);
}

static void ends_with(eepi_stepper *s, eepk_status status)
{
    cr_assert_eq(eepi_stepper_end(s, &status, 0), status.result == EEPK_STEP_OK);
}

Test(stepper, P6_who_ended_a_step_ok_begins_the_next_one_as_all_agreed)
{
    eepi_stepper s = serving();

    cr_expect_eq(begins_with(&s, 2, EEPI_NO_SHAPE), 2, "nobody says otherwise");
    ends_with(&s, (eepk_status){.wanted_shape = 1, .seen_shape = 2});
    cr_expect_eq(begins_with(&s, 2, 0), 1, "it was agreed on, whatever others began with");
    ends_with(&s, (eepk_status){.wanted_shape = 0, .seen_shape = 1});
    cr_expect_eq(begins_with(&s, 2, EEPI_NO_SHAPE), 0);
    ends_with(&s, (eepk_status){.wanted_shape = 2});
    (void)eepi_stepper_begin(&s, s.step + 7, 0);
    cr_expect_eq(eepi_stepper_take_shape(&s, 0, 1), 2, "of another step it is a least one");
}

Test(stepper, P6_an_aborted_step_is_followed_by_none_of_a_smaller_shape)
{
    eepi_stepper s = serving();

    cr_expect_eq(begins_with(&s, 0, 1), 1, "a peer has begun it");
    ends_with(&s, (eepk_status){.result = EEPK_STEP_DEADLINE, .seen_shape = 1});
    cr_expect_eq(begins_with(&s, 0, EEPI_NO_SHAPE), 1, "its positions run again");
    ends_with(&s, (eepk_status){.result = EEPK_STEP_SHAPE, .seen_shape = 2});
    cr_expect_eq(begins_with(&s, 0, 1), 2);
    ends_with(&s, (eepk_status){.result = EEPK_STEP_PEER_ABORT, .seen_shape = 2});
    cr_expect_eq(begins_with(&s, 0, 0), 2, "until a step ends OK");
    ends_with(&s, (eepk_status){.wanted_shape = 0, .seen_shape = 2});
    cr_expect_eq(begins_with(&s, 2, EEPI_NO_SHAPE), 0);
}

/* Rows and tags of a PROXY peer wait for this rank's begin; its begin word does not. */
Test(stepper, P6_a_begin_word_tells_the_shape_before_any_tag)
{
    eepi_stepper s = serving();

    eepi_stepper_hear_shape(&s, 41, 1);
    eepi_stepper_hear_shape(&s, 41, 0);
    eepi_stepper_hear_shape(&s, 40, 2);
    cr_expect_eq(begins_with(&s, 0, EEPI_NO_SHAPE), 1);
    ends_with(&s, (eepk_status){.result = EEPK_STEP_SHAPE, .seen_shape = 1});
    cr_expect_eq(begins_with(&s, 2, EEPI_NO_SHAPE), 2, "it was of step 41 alone");
    ends_with(&s, (eepk_status){.wanted_shape = 0, .seen_shape = 2});
    eepi_stepper_hear_shape(&s, 43, 2);
    cr_expect_eq(begins_with(&s, 1, EEPI_NO_SHAPE), 0, "what was agreed on counts");
}

Test(stepper, P6_the_shape_of_peers_is_read_from_their_tags)
{
    static _Alignas(128) uint8_t window[4 * EEPK_LINE_BYTES];
    const eepk_shape shape = shape_of_four();
    const struct {
        uint64_t epoch, step;
        uint32_t exchange, expected;
    } tags[] = {{7, 41, 0, 0},
                {7, 41, 1, 1},
                {7, 41, 2, 1},
                {7, 41, 3, 2},
                {7, 41, 6, 2},
                {7, 40, 6, EEPI_NO_SHAPE},
                {7, 42, 6, EEPI_NO_SHAPE},
                {6, 41, 6, EEPI_NO_SHAPE}};
    eepi_stepper s = serving();

    (void)eepi_stepper_begin(&s, 0, 0);
    cr_assert_eq(s.step, 41);
    cr_assert_eq(s.live.epoch, 7);
    cr_expect_eq(eepi_stepper_peer_shape(&s, &shape, window), EEPI_NO_SHAPE);
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        *eepk_dispatch_tag(&shape, window, 0, 1) =
            eepk_tag(tags[i].epoch, tags[i].step, tags[i].exchange, EEPK_PHASE_DISPATCH);
        cr_expect_eq(eepi_stepper_peer_shape(&s, &shape, window), tags[i].expected, "case %zu", i);
    }
    *eepk_dispatch_tag(&shape, window, 0, 0) = eepk_tag(7, 41, 2, EEPK_PHASE_DISPATCH);
    *eepk_dispatch_tag(&shape, window, 0, 2) = eepk_tag(7, 41, 0, EEPK_PHASE_DISPATCH);
    cr_expect_eq(eepi_stepper_peer_shape(&s, &shape, window), 1, "the largest");
}

Test(stepper, D6_the_first_step_of_a_view_may_take_longer)
{
    eepi_stepper s = serving();

    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).wait_ns, 5000000);
    cr_assert(eepi_stepper_end(&s, &(eepk_status){0}, 1));
    cr_assert_eq(eepi_stepper_begin(&s, 0, 0).wait_ns, 1000000);
}

Test(stepper, M5_expel_us_follows_the_slowest_of_many_steps)
{
    eepi_stepper s = serving();

    for (int i = 0; i < 1024; i++) {
        (void)eepi_stepper_begin(&s, 0, 0);
        (void)eepi_stepper_end(&s, &(eepk_status){0}, i == 500 ? 60000 : 300);
    }
    cr_assert_geq(s.expel_us, 20 * 60000);
}

Test(stepper, M5_a_missed_deadline_is_told_with_its_step)
{
    eepi_stepper s = serving();
    eepi_step_mail mail;

    cr_assert(!step(&s, (eepk_status){.result = EEPK_STEP_DEADLINE, .suspects = {1u << 2}}));
    cr_assert(eepi_stepper_take_mail(&s, &mail) && mail.accused);
    cr_assert(mail.accused_step == 41 && mail.accused_seats[0] == 1u << 2);
}
