/* SPDX-License-Identifier: Apache-2.0 */
/* Restoring coverage against brute force: what must hold after any set of dead seats. */
#include "tests/lib/planner_fixture.h"
#include "repair/placement.h"
#include "repair/planner/planner.h"

#include <stdlib.h>
#include <string.h>

static int num_living_backups(const eepi_view *view, int layer, int expert)
{
    int count = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        count += eepi_view_is_member(view, seat) && eepi_view_has_backup(view, seat, layer, expert);
    }
    return count;
}

/* Slots of members that may be filled without taking an expert's last replica. */
static int num_spare(const eepi_view *view, int layer)
{
    int spare = 0, needed = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        spare += eepi_view_is_member(view, seat) ? view->shape.num_slots : 0;
    }
    for (int expert = 0; expert < view->shape.num_experts; expert++) {
        needed += num_live(view, layer, expert) > 0;
    }
    return spare - needed;
}

/* All that must hold of a successful plan: `before` is the document it was made on. */
static void expect_sound_plan(const eepi_view *before, const eepi_view *after, int num_fills,
                              uint64_t seed)
{
    const eepi_view_shape *s = &before->shape;
    eepi_fill fills[256];

    cr_assert_eq(eepi_plan_fills(after, -1, fills, 256), num_fills, REPLAY, SEED(seed));
    cr_assert_leq(num_fills, 256);
    for (int layer = 0; layer < s->num_layers; layer++) {
        for (int expert = 0; expert < s->num_experts; expert++) {
            const int live = num_live(before, layer, expert);
            int own_fills = 0;
            for (int i = 0; i < num_fills; i++) {
                own_fills += fills[i].layer == layer && fills[i].expert == expert;
            }
            cr_assert_eq(own_fills, live == 0, REPLAY, SEED(seed));
            cr_assert(live == 0 || num_live(after, layer, expert) > 0,
                      "expert %d lost its last replica; " REPLAY, expert, SEED(seed));
        }
    }
    for (int i = 0; i < num_fills; i++) {
        const eepi_fill *f = &fills[i];
        cr_assert(eepi_view_is_member(before, f->seat), REPLAY, SEED(seed));
        cr_assert(eepi_view_is_member(before, f->source), REPLAY, SEED(seed));
        cr_assert(eepi_view_has_backup(before, f->source, f->layer, f->expert), REPLAY, SEED(seed));
        if (eepi_view_has_backup(before, f->seat, f->layer, f->expert)) {
            cr_assert_eq(f->source, f->seat, "local reuse; " REPLAY, SEED(seed));
        }
    }
    for (int i = 0; i < s->num_layers * s->max_ranks * s->num_slots; i++) {
        const int slot = i % s->num_slots, seat = i / s->num_slots % s->max_ranks;
        const int layer = i / s->num_slots / s->max_ranks;
        const eepi_view_slot *was = eepi_view_slot_at(before, layer, seat, slot);
        const eepi_view_slot *is = eepi_view_slot_at(after, layer, seat, slot);
        if (is->state == EEPI_SLOT_HOLDS) {
            cr_assert(was->state == EEPI_SLOT_HOLDS && was->expert == is->expert, REPLAY,
                      SEED(seed));
        }
        if (was->state == EEPI_SLOT_HOLDS && is->state != EEPI_SLOT_HOLDS) {
            cr_assert_eq(is->state, EEPI_SLOT_FILLING, "given up for nothing; " REPLAY, SEED(seed));
        }
    }
}

/* The seat would fill it from its own backup without making the plan longer. */
static bool is_no_longer(eepi_plan_table *table, const eepi_fill *f, int seat)
{
    uint64_t own_ns;

    eepi_plan_unload(&table->network, f->source, f->seat);
    own_ns = eepi_plan_weigh_own(&table->network, seat).most_ns;
    eepi_plan_load(&table->network, f->source, f->seat);
    return own_ns <= eepi_plan_makespan_ns(&table->network);
}

/* A remote fill is chosen only when no seat with a backup of its own had a slot to give at the
 * end, when the fewest are left, or where the plan would take longer; retiring seats aside. */
static void expect_local_reuse(const eepi_view *before, const eepi_view *after,
                               eepi_plan_table *table, uint64_t seed)
{
    eepi_fill fills[256];
    const int num_fills = eepi_plan_fills(after, -1, fills, 256);

    for (int i = 0; i < num_fills; i++) {
        const eepi_fill *f = &fills[i];
        const eepi_view_slot *was = eepi_view_slot_at(before, f->layer, f->seat, f->slot);
        const bool goes_on = was->state == EEPI_SLOT_FILLING && was->expert == f->expert;
        for (int seat = 0; seat < before->shape.max_ranks && f->source != f->seat && !goes_on;
             seat++) {
            if (eepi_view_seat_at(before, seat)->state != EEP_SEAT_ACTIVE ||
                !eepi_view_has_backup(before, seat, f->layer, f->expert) ||
                !is_no_longer(table, f, seat)) {
                continue;
            }
            for (int slot = 0; slot < before->shape.num_slots; slot++) {
                const eepi_view_slot *s = eepi_view_slot_at(after, f->layer, seat, slot);
                cr_assert(
                    s->state == EEPI_SLOT_FILLING ||
                        (s->state == EEPI_SLOT_HOLDS && num_live(after, f->layer, s->expert) < 2),
                    "expert %d could be filled locally on seat %d; " REPLAY, f->expert, seat,
                    SEED(seed));
            }
        }
    }
}

/* The numbers of a clause "layer L: experts 5 17 have ..." that a text names. */
static bool names(const char *why, int layer, int expert)
{
    int at_layer = -1;

    for (const char *at = why; *at; at++) {
        if (strncmp(at, "layer ", 6) == 0) {
            at_layer = atoi(at + 6);
        }
        if (at[0] == ' ' && at[1] >= '0' && at[1] <= '9' &&
            !(at - why >= 5 && strncmp(at - 5, "layer", 5) == 0) && at_layer == layer &&
            atoi(at + 1) == expert) {
            return true;
        }
    }
    return false;
}

/* Plan coverage on `before` and judge the result; true if it succeeded. */
static bool judge_coverage(const eepi_view *before, uint64_t seed)
{
    const eepi_view_shape *s = &before->shape;
    eepi_view *after = copy_of(before), *twin = copy_of(before);
    char why[4096] = "", twin_why[4096] = "";
    int num_fills = -1, twin_fills = -1, must_fail = 0;
    eepi_plan_table *table = eepi_plan_table_new(s);
    eepi_plan_cost cost = {.num_own = -1};
    const eep_status status = eepi_plan_coverage(after, table, NULL, &cost, why, sizeof why);
    num_fills = eepi_plan_num_fills(&cost);

    cr_assert_eq(plan_coverage(twin, &twin_fills, twin_why, sizeof twin_why), status);
    cr_assert_str_eq(why, twin_why, REPLAY, SEED(seed));
    cr_assert_arr_eq(after, twin, before->bytes, "not deterministic; " REPLAY, SEED(seed));
    for (int layer = 0; layer < s->num_layers; layer++) {
        int without_backup = 0, placeable = 0, named = 0;
        for (int expert = 0; expert < s->num_experts; expert++) {
            const bool is_gone = num_live(before, layer, expert) == 0;
            const bool has_backup = num_living_backups(before, layer, expert) > 0;
            without_backup += is_gone && !has_backup;
            placeable += is_gone && has_backup;
            named += names(why, layer, expert);
            if (is_gone && !has_backup) {
                cr_assert(names(why, layer, expert), "%d of layer %d not in \"%s\"; " REPLAY,
                          expert, layer, why, SEED(seed));
            }
            cr_assert(is_gone || !names(why, layer, expert), "\"%s\"; " REPLAY, why, SEED(seed));
        }
        const int spare = num_spare(before, layer);
        const int unplaced = placeable > spare ? placeable - spare : 0;
        cr_assert_eq(named, without_backup + unplaced, "\"%s\"; " REPLAY, why, SEED(seed));
        must_fail += named;
    }
    cr_assert_eq(status, must_fail ? EEP_ERR_UNCOVERED : EEP_OK, REPLAY, SEED(seed));
    if (status == EEP_OK) {
        expect_sound_plan(before, after, num_fills, seed);
        expect_local_reuse(before, after, table, seed);
        (void)eepi_plan_filled(after, -1);
        cr_assert_eq(eepi_view_num_uncovered(after, -1), 0, REPLAY, SEED(seed));
        cr_assert_eq(eepi_plan_fills(after, -1, NULL, 0), 0);
        eepi_view_seal(after);
        cr_assert_eq(eepi_view_check(after, after->bytes, NULL), EEP_OK, REPLAY, SEED(seed));
    } else {
        cr_assert_eq(num_fills, -1, "written on failure");
    }
    eepi_plan_table_free(table);
    free(twin);
    free(after);
    return status == EEP_OK;
}

Test(planner, S7_coverage_or_fail_closed)
{
    int covered = 0, refused = 0;

    for (uint64_t seed = first_seed(), end = seed + 6000; seed < end; seed++) {
        uint64_t random = seed;
        eepi_view *view = random_view(&random);
        eepi_plan_empty_nonmembers(view);
        if (judge_coverage(view, seed)) {
            covered++;
        } else {
            refused++;
        }
        free(view);
    }
    cr_assert(covered > 500 && refused > 500, "%d covered, %d refused", covered, refused);
}

/* A real instance, seats dying in random groups, faults also while REPAIRING. */
Test(planner, S7_coverage_after_any_set_of_dead_seats)
{
    int moved = 0, refused = 0;

    for (uint64_t seed = first_seed(), end = seed + 1200; seed < end; seed++) {
        uint64_t random = seed;
        const int *shape = shapes[below(&random, 7)];
        eepi_view *view = placed(shape[0], shape[1], 2, shape[2] > 64 ? 64 : shape[2], shape[3]);
        const eepi_view_shape *s = &view->shape;
        const int copies = 1 + below(&random, 3);
        for (int i = 0; i < s->num_layers * s->num_experts * copies; i++) { /* backups by chance */
            eepi_view_set_backup(view, below(&random, shape[0]) * shape[1],
                                 i / copies / s->num_experts, i / copies % s->num_experts, true);
        }
        for (int round = 0; round < 3; round++) {
            int num_fills = 0;
            for (int deaths = below(&random, 3); deaths >= 0; deaths--) {
                kill_seat(view, below(&random, shape[0]) * shape[1]);
            }
            const bool uncovered = eepi_view_num_uncovered(view, -1) > 0;
            if (!judge_coverage(view, seed)) {
                refused++;
                break;
            }
            cr_assert_eq(plan_coverage(view, &num_fills, NULL, 0), EEP_OK);
            cr_assert_eq(num_fills > 0, uncovered, REPLAY, SEED(seed));
            moved += num_fills;
            if (below(&random, 2)) {
                (void)eepi_plan_filled(view, -1); /* else the next fault comes while REPAIRING */
            }
        }
        free(view);
    }
    cr_assert(moved > 500 && refused > 50, "%d fills, %d refused", moved, refused);
}

Test(planner, nothing_moves_when_replicas_cover)
{
    eepi_view *view = placed(8, 1, 4, 64, 16);
    char why[8] = "as was";
    int num_fills = -1;

    kill_seat(view, 3);
    eepi_view *before = copy_of(view);
    cr_assert_eq(plan_coverage(view, &num_fills, why, sizeof why), EEP_OK);
    cr_assert_eq(num_fills, 0);
    cr_assert_arr_eq(view, before, view->bytes);
    cr_assert_str_eq(why, "as was");
    free(before);
    free(view);
}

Test(planner, the_error_names_the_experts)
{
    eepi_view *view = new_view(2, 4, 20, 20);
    char why[200], cut[48];
    int num_fills;

    set_seat(view, 0, EEP_SEAT_ACTIVE);
    for (int layer = 0; layer < 4; layer++) {
        for (int expert = 0; expert < 20; expert++) {
            set_expert(view, layer, 0, expert, expert);
        }
    }
    set_expert(view, 3, 0, 5, 0);
    set_expert(view, 3, 0, 17, 0);
    eepi_view *again = copy_of(view);
    cr_assert_eq(plan_coverage(view, &num_fills, why, sizeof why), EEP_ERR_UNCOVERED);
    cr_assert_str_eq(why, "layer 3: experts 5 17 have no live copy or backup");
    cr_assert_eq(plan_coverage(again, &num_fills, NULL, 0), EEP_ERR_UNCOVERED);
    cr_assert_eq(plan_coverage(again, &num_fills, cut, 24), EEP_ERR_UNCOVERED);
    cr_assert_str_eq(cut, "layer 3: experts 5 ...");
    cr_assert_eq(plan_coverage(again, &num_fills, cut, 1), EEP_ERR_UNCOVERED);
    cr_assert_str_eq(cut, "");
    free(again);
    free(view);
}

/* One layer, experts 0-3; seat 0 holds 0 0 0 1, seat 1 holds 1 2 2 -, seat 2 has a spare slot. */
static eepi_view *small_instance(void)
{
    static const int held[3][4] = {{0, 0, 0, 1}, {1, 2, 2, -1}, {1, 0, 2, -1}};
    eepi_view *view = new_view(3, 1, 4, 4);

    for (int i = 0; i < 12; i++) {
        if (held[i / 4][i % 4] >= 0) {
            set_expert(view, 0, i / 4, i % 4, held[i / 4][i % 4]);
        }
    }
    for (int seat = 0; seat < 3; seat++) {
        set_seat(view, seat, EEP_SEAT_ACTIVE);
    }
    return view;
}

static eepi_fill only_fill(eepi_view *view)
{
    eepi_fill fill;
    int num_fills = 0;

    cr_assert_eq(plan_coverage(view, &num_fills, NULL, 0), EEP_OK);
    cr_assert_eq(num_fills, 1);
    cr_assert_eq(eepi_plan_fills(view, -1, &fill, 1), 1);
    return fill;
}

Test(planner, local_reuse_comes_before_an_empty_slot_elsewhere)
{
    eepi_view *view = small_instance();

    eepi_view_set_backup(view, 0, 0, 3, true);
    eepi_fill fill = only_fill(view);
    cr_assert(fill.seat == 0 && fill.source == 0 && fill.expert == 3);
    cr_assert_eq(fill.slot, 0, "expert 0 has most replicas");
    free(view);
    view = small_instance();
    eepi_view_set_backup(view, 0, 0, 3, true);
    eepi_view_set_backup(view, 2, 0, 3, true);
    fill = only_fill(view);
    cr_assert(fill.seat == 2 && fill.source == 2 && fill.slot == 3, "local and EMPTY");
    free(view);
}

/* Seat i has experts i - 1 and i, so each of them is on two neighbours. Experts 8 to 13 are gone.
 * Expert 7 + i has its backup beside seat i alone, and 13 beside seat 0. Where seats 1 to 5 give
 * their first slot, seat 0 has nothing left to give for 13. All five of them have to give their
 * second one. */
Test(planner, seats_give_what_leaves_another_one_its_own_to_give)
{
    eepi_view *view = new_view(7, 1, 14, 2);
    eepi_plan_table *table = eepi_plan_table_new(&view->shape);
    eepi_plan_cost cost;

    for (int seat = 0; seat < 7; seat++) {
        set_seat(view, seat, EEP_SEAT_ACTIVE);
        set_expert(view, 0, seat, 0, seat == 0 ? 6 : seat - 1);
        set_expert(view, 0, seat, 1, seat == 6 ? 7 : seat);
        if (seat < 6) {
            eepi_view_set_backup(view, seat, 0, seat == 0 ? 13 : 7 + seat, true);
        }
    }
    cr_assert_eq(eepi_plan_coverage(view, table, NULL, &cost, NULL, 0), EEP_OK);
    cr_assert_eq(cost.num_own, 6, "%d cross links between ranks", cost.num_remote);
    for (int seat = 0; seat < 6; seat++) {
        cr_assert_eq(eepi_view_slot_at(view, 0, seat, 1)->state, EEPI_SLOT_FILLING, "%d", seat);
    }
    eepi_plan_table_free(table);
    free(view);
}

Test(planner, a_retiring_seat_is_a_source_but_the_last_choice_as_target)
{
    eepi_view *view = small_instance();

    set_seat(view, 2, EEP_SEAT_RETIRING);
    eepi_view_set_backup(view, 2, 0, 3, true);
    eepi_fill fill = only_fill(view);
    cr_assert(fill.seat == 1 && fill.slot == 3 && fill.source == 2);
    free(view);
    view = small_instance();
    set_seat(view, 0, EEP_SEAT_RETIRING);
    kill_seat(view, 1);
    set_seat(view, 2, EEP_SEAT_RETIRING);
    eepi_view_set_backup(view, 2, 0, 3, true);
    fill = only_fill(view);
    cr_assert(fill.seat == 2 && fill.slot == 3, "nobody else is left");
    free(view);
}

Test(planner, fills_are_spread_over_targets_and_sources)
{
    eepi_view *view = new_view(6, 2, 8, 8);
    int num_fills = 0;

    for (int seat = 0; seat < 6; seat++) {
        set_seat(view, seat, seat < 4 ? EEP_SEAT_ACTIVE : EEP_SEAT_RETIRING);
    }
    for (int i = 0; i < 2 * 8 * 2; i++) {
        eepi_view_set_backup(view, 4 + i % 2, i / 16, i / 2 % 8, true);
    }
    cr_assert_eq(plan_coverage(view, &num_fills, NULL, 0), EEP_OK);
    cr_assert_eq(num_fills, 16);
    for (int seat = 0; seat < 4; seat++) {
        cr_assert_eq(eepi_plan_fills(view, seat, NULL, 0), 4, "seat %d", seat);
    }
    eepi_fill fills[16];
    int from[6] = {0};
    cr_assert_eq(eepi_plan_fills(view, -1, fills, 16), 16);
    for (int i = 0; i < 16; i++) {
        from[fills[i].source]++;
        cr_assert(i == 0 || fills[i].layer > fills[i - 1].layer ||
                      (fills[i].layer == fills[i - 1].layer && fills[i].seat >= fills[i - 1].seat),
                  "not in order");
    }
    cr_assert(from[4] == 8 && from[5] == 8);
    /* no more than the capacity is written */
    fills[3].expert = -7;
    cr_assert_eq(eepi_plan_fills(view, -1, fills, 3), 16);
    cr_assert_eq(fills[3].expert, -7);
    free(view);
}

Test(planner, a_fault_while_repairing_voids_the_fills)
{
    eepi_view *view = small_instance();

    eepi_view_set_backup(view, 1, 0, 3, true);
    eepi_view_set_backup(view, 2, 0, 3, true);
    eepi_fill fill = only_fill(view);
    cr_assert(fill.seat == 1 && fill.source == 1);
    kill_seat(view, 1);
    fill = only_fill(view);
    cr_assert(fill.seat == 2 && fill.source == 2, "the expert is filled elsewhere");
    fill = only_fill(view);
    cr_assert(fill.seat == 2 && fill.slot == 3, "planned anew, not twice");
    free(view);
}

Test(planner, a_seat_may_leave_when_the_others_cover)
{
    for (uint64_t seed = first_seed(), end = seed + 3000; seed < end; seed++) {
        uint64_t random = seed;
        eepi_view *view = random_view(&random);
        const int seat = below(&random, view->shape.max_ranks);
        eepi_view *after = copy_of(view);
        set_seat(after, seat, EEP_SEAT_VACANT);
        for (int other = 0; other < after->shape.max_ranks; other++) {
            if (eepi_view_seat_at(after, other)->state == EEP_SEAT_RETIRING) {
                set_seat(after, other, EEP_SEAT_VACANT); /* they will go too */
            }
        }
        cr_assert_eq(plan_can_leave(view, seat), eepi_view_num_uncovered(after, -1) == 0, REPLAY,
                     SEED(seed));
        free(after);
        free(view);
    }
}
