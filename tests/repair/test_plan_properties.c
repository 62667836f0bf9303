/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold of every plan, on instances by chance: also of plans made again, after a further
 * fault, and of those that fail. */
#include "tests/lib/plan_instance.h"
#include "repair/planner/plan_choose.h"

static bool has_backup(const eepi_view *view, int seat, int layer, int expert)
{
    return eepi_view_is_member(view, seat) && eepi_view_has_backup(view, seat, layer, expert);
}

static int num_backups(const eepi_view *view, int layer, int expert)
{
    int num = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        num += has_backup(view, seat, layer, expert);
    }
    return num;
}

static bool any_reads_file(const plan_instance *in)
{
    bool any = false;

    for (int seat = 0; seat < in->view->shape.max_ranks; seat++) {
        any |= eepi_view_is_member(in->view, seat) && in->can_read_file[seat];
    }
    return any;
}

/* Slots of members in the layer that could be filled, FILLING ones too; one replica of each expert
 * stays. */
static int num_spare(const plan_instance *in, int layer)
{
    const eepi_view_shape *s = &in->view->shape;
    int num = 0;

    for (int expert = 0; expert < s->num_experts; expert++) {
        const int live = num_live(in->view, layer, expert);
        int there = 0;
        for (int seat = 0; seat < s->max_ranks; seat++) {
            if (eepi_view_is_member(in->view, seat)) {
                there += num_on_seat(in->view, layer, seat, expert);
            }
        }
        num += there < live ? there : live > 0 ? live - 1 : 0;
    }
    for (int i = 0; i < s->max_ranks * s->num_slots; i++) {
        const int seat = i / s->num_slots;
        num += eepi_view_is_member(in->view, seat) &&
               eepi_view_slot_at(in->view, layer, seat, i % s->num_slots)->state != EEPI_SLOT_HOLDS;
    }
    return num;
}

/* The number after " " at `at`, or -1. */
static int number_at(const char *at)
{
    return at[0] == ' ' && at[1] >= '0' && at[1] <= '9' ? atoi(at + 1) : -1;
}

/* Read "layer 3: experts 5 17 have no live copy or backup; ..." into named_out[layer][expert]:
 * 1: no source, 2: no slot. */
static void read_names(const char *why, const eepi_view_shape *s, uint8_t *named_out)
{
    memset(named_out, 0, (size_t)s->num_layers * (size_t)s->num_experts);
    for (const char *clause = why; clause && *clause; clause = strstr(clause, "layer ")) {
        const int layer = atoi(clause + 6);
        const char *at = strstr(clause, "experts") + 7;
        const char *end = strstr(at, " have");
        const uint8_t kind = strncmp(end, " have no live copy or", 21) == 0 ? 1 : 2;
        for (; at < end; at++) {
            if (number_at(at) >= 0) {
                named_out[layer * s->num_experts + number_at(at)] = kind;
            }
        }
        clause = end;
    }
}

/* A plan fails exactly where experts cannot be had, and names exactly those: each without a source,
 * and as few for want of slots as can be. */
static void expect_exact_names(const plan_instance *in, eep_status status, const char *why,
                               uint64_t seed)
{
    const eepi_view_shape *s = &in->view->shape;
    uint8_t *named = malloc((size_t)s->num_layers * (size_t)s->num_experts);
    int num_named = 0;

    read_names(why, s, named);
    for (int layer = 0; layer < s->num_layers; layer++) {
        int holes = 0, without_slot = 0;
        for (int expert = 0; expert < s->num_experts; expert++) {
            const bool is_gone = num_live(in->view, layer, expert) == 0;
            const int backups = num_backups(in->view, layer, expert);
            const bool has_source = backups > 0 || any_reads_file(in);
            const int kind = named[layer * s->num_experts + expert];
            cr_assert_eq(kind == 1, is_gone && !has_source, "layer %d expert %d: %s; " REPLAY,
                         layer, expert, why, SEED(seed));
            cr_assert(kind != 2 || is_gone, REPLAY, SEED(seed));
            without_slot += kind == 2;
            holes += is_gone && has_source;
            num_named += kind != 0;
        }
        const int over = holes - num_spare(in, layer);
        cr_assert_eq(without_slot, over > 0 ? over : 0, "layer %d: %s; " REPLAY, layer, why,
                     SEED(seed));
    }
    cr_assert_eq(status, num_named ? EEP_ERR_UNCOVERED : EEP_OK, REPLAY, SEED(seed));
    free(named);
}

/* Each fill restores an expert that nobody had, once, from somebody who can give it, in the place
 * of nobody's last replica; nothing else changes. */
static void expect_valid(const plan_instance *in, const eepi_view *after, uint64_t seed)
{
    const eepi_view_shape *s = &in->view->shape;

    for (int i = 0; i < s->num_layers * s->num_experts; i++) {
        const int layer = i / s->num_experts, expert = i % s->num_experts;
        int fills = 0;
        for (int j = 0; j < s->max_ranks * s->num_slots; j++) {
            const eepi_view_slot *slot =
                eepi_view_slot_at(after, layer, j / s->num_slots, j % s->num_slots);
            fills += slot->state == EEPI_SLOT_FILLING && slot->expert == expert;
        }
        cr_assert_eq(fills, num_live(in->view, layer, expert) == 0, REPLAY, SEED(seed));
        cr_assert(fills || num_live(after, layer, expert) > 0, REPLAY, SEED(seed));
    }
    for (int i = 0; i < s->num_layers * s->max_ranks * s->num_slots; i++) {
        const int slot = i % s->num_slots, seat = i / s->num_slots % s->max_ranks;
        const int layer = i / s->num_slots / s->max_ranks;
        const eepi_view_slot *was = eepi_view_slot_at(in->view, layer, seat, slot);
        const eepi_view_slot *is = eepi_view_slot_at(after, layer, seat, slot);
        if (is->state != EEPI_SLOT_FILLING) {
            cr_assert(was->state == EEPI_SLOT_FILLING ? is->state == EEPI_SLOT_EMPTY
                                                      : memcmp(was, is, sizeof *is) == 0,
                      REPLAY, SEED(seed));
            continue;
        }
        cr_assert(eepi_view_is_member(in->view, seat), REPLAY, SEED(seed));
        if (eepi_source_is_file(is->source)) {
            const int reader = eepi_source_seat(is->source, seat);
            cr_assert(eepi_view_is_member(in->view, reader) && in->can_read_file[reader], REPLAY,
                      SEED(seed));
            cr_assert(reader == seat ? !has_backup(in->view, seat, layer, is->expert)
                                     : !in->can_read_file[seat] &&
                                           num_backups(in->view, layer, is->expert) == 0,
                      REPLAY, SEED(seed));
        } else {
            cr_assert(has_backup(in->view, is->source, layer, is->expert), REPLAY, SEED(seed));
            cr_assert(is->source == seat || !has_backup(in->view, seat, layer, is->expert), REPLAY,
                      SEED(seed));
        }
    }
}

/* The makespan is the largest load, added up from the document alone, and no less than the bound.
 */
static void expect_cost(const plan_instance *in, const eepi_view *after, const eepi_plan_cost *cost,
                        uint64_t seed)
{
    static uint64_t load_ns[INSTANCE_MOST_RANKS * EEPI_LINK_TYPES];
    eepi_fill fills[512];
    const int num = eepi_plan_fills(after, -1, fills, 512);
    uint64_t most_ns = 0;

    cr_assert_eq(eepi_plan_num_fills(cost), num, REPLAY, SEED(seed));
    memset(load_ns, 0, sizeof load_ns);
    for (int i = 0; i < num; i++) {
        int32_t path[EEPI_LINKS_MAX_PATH];
        const int length = instance_path(in, fills[i].source, fills[i].seat, path);
        for (int j = 0; j < length; j++) {
            load_ns[path[j]] += instance_unit_ns(in, path[j]);
            most_ns = load_ns[path[j]] > most_ns ? load_ns[path[j]] : most_ns;
        }
    }
    cr_assert_eq(cost->makespan_ns, most_ns, REPLAY, SEED(seed));
    cr_assert_leq(cost->bound_ns, cost->makespan_ns, REPLAY, SEED(seed));
}

/* What was being filled for coverage goes on in the same slot, from the same source if that lives.
 */
static void expect_kept(const plan_instance *in, const eepi_view *after, uint64_t seed)
{
    const eepi_view_shape *s = &in->view->shape;
    eepi_fill was[512];
    const int num = eepi_plan_fills(in->view, -1, was, 512);

    for (int i = 0; i < num; i++) {
        const eepi_fill *f = &was[i];
        const eepi_view_slot *is = eepi_view_slot_at(after, f->layer, f->seat, f->slot);
        const bool has_source =
            num_backups(in->view, f->layer, f->expert) > 0 || any_reads_file(in);
        const int reader = eepi_source_seat(f->source, f->seat);
        int earlier = 0;
        for (int j = 0; j < i; j++) {
            earlier += was[j].layer == f->layer && was[j].expert == f->expert;
        }
        if (num_live(in->view, f->layer, f->expert) > 0 || earlier || !has_source ||
            !eepi_view_is_member(in->view, f->seat) || s->num_layers < 0) {
            continue;
        }
        cr_assert(is->state == EEPI_SLOT_FILLING && is->expert == f->expert, REPLAY, SEED(seed));
        if (has_backup(in->view, f->source < s->max_ranks ? f->source : 0, f->layer, f->expert) &&
            f->source < s->max_ranks && !has_backup(in->view, f->seat, f->layer, f->expert)) {
            cr_assert_eq(is->source, f->source, "another source; " REPLAY, SEED(seed));
        }
        if (eepi_source_is_file(f->source) && eepi_view_is_member(in->view, reader)) {
            cr_assert_eq(is->source, f->source, "another file; " REPLAY, SEED(seed));
        }
    }
}

/* Plan on the instance's view, and look at everything. The view becomes the planned one where the
 * plan succeeds. */
static bool judge_plan(plan_instance *in, eepi_plan_table *table, bool expects_kept, uint64_t seed)
{
    eepi_view *after = copy_of(in->view), *again = copy_of(in->view);
    eepi_plan_table *fresh = eepi_plan_table_new(&in->view->shape);
    static char why[8192], twin_why[8192];
    eepi_plan_cost cost, twin;

    why[0] = twin_why[0] = '\0';
    const eep_status status = eepi_plan_coverage(after, table, &in->given, &cost, why, sizeof why);
    cr_assert_eq(eepi_plan_coverage(again, fresh, &in->given, &twin, twin_why, sizeof twin_why),
                 status);
    cr_assert_str_eq(why, twin_why, REPLAY, SEED(seed));
    expect_exact_names(in, status, why, seed);
    if (status == EEP_OK) {
        cr_assert_arr_eq(after, again, after->bytes, "not determined; " REPLAY, SEED(seed));
        cr_assert_eq(memcmp(&cost, &twin, sizeof cost), 0, REPLAY, SEED(seed));
        expect_valid(in, after, seed);
        expect_cost(in, after, &cost, seed);
        if (expects_kept) {
            expect_kept(in, after, seed);
        }
        /* no flapping */
        cr_assert_eq(eepi_plan_coverage(again, table, &in->given, &twin, why, sizeof why), EEP_OK);
        cr_assert_arr_eq(after, again, after->bytes, "flaps; " REPLAY, SEED(seed));
        memcpy(in->view, after, after->bytes);
    }
    eepi_plan_table_free(fresh);
    free(after);
    free(again);
    return status == EEP_OK;
}

static void judge_plans(uint64_t from, int wanted)
{
    int planned = 0, refused = 0, again = 0;

    for (uint64_t seed = from, end = seed + (uint64_t)wanted; seed < end; seed++) {
        uint64_t random = seed;
        const eepi_view_shape shape = {.max_ranks = 1 + below(&random, 8),
                                       .num_layers = 1 + below(&random, 3),
                                       .num_experts = 1 + below(&random, 16),
                                       .num_slots = 1 + below(&random, 6),
                                       .ranks_per_node = below(&random, 4)};
        plan_instance in = new_plan_instance(&shape, 1 + below(&random, shape.num_experts),
                                             below(&random, 9), &random);
        eepi_plan_table *table = eepi_plan_table_new(&shape);
        in.given.can_read_file = in.can_read_file;
        bool is_planned = judge_plan(&in, table, false, seed);
        planned += is_planned;
        refused += !is_planned;
        /* a fault while it is repaired */
        for (int round = 0; round < 2 && is_planned && shape.max_ranks > 1; round++) {
            set_seat(in.view, below(&random, shape.max_ranks), EEP_SEAT_VACANT);
            eepi_plan_empty_nonmembers(in.view);
            is_planned = judge_plan(&in, table, true, seed);
            again += is_planned;
        }
        eepi_plan_table_free(table);
        free_plan_instance(&in);
    }
    cr_assert(planned > wanted / 8 && refused > wanted / 8 && again > wanted / 20,
              "%d planned, %d refused, %d again", planned, refused, again);
}

/* EEP_TEST_CASES: how many together (./check --long: 100,000). */
static int half_of_cases(void)
{
    const char *cases = getenv("EEP_TEST_CASES");

    return (cases ? atoi(cases) : 5000) / 2;
}

Test(plan_properties, hold_for_plans_by_chance)
{
    judge_plans(first_seed(), half_of_cases());
}

Test(plan_properties, hold_for_as_many_again)
{
    judge_plans(first_seed() + (uint64_t)half_of_cases(), half_of_cases());
}
