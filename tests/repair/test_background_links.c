/* SPDX-License-Identifier: Apache-2.0 */
/* Sources of background repair go by what links carry, as those of a fault do: against paths that
 * are written out here. */
#include "tests/lib/background_fixture.h"
#include "tests/lib/plan_instance.h"

enum { EXPERT_BYTES = 1000000 };

/* Replicas are lost with some of the ranks; each expert that is gone comes back on a rank that is
 * left. Backups and links are by chance. */
static plan_instance instance_to_mend(uint64_t *random)
{
    const int ranks = 3 + below(random, 14), experts = 1 + below(random, 24);
    const eepi_view_shape shape = {
        ranks, 1, experts, 1 + 2 * experts / ranks + below(random, 3), below(random, 6), 0};
    plan_instance in = {.view = new_view_of(shape), .links = eepi_links_new(&shape)};

    cr_assert_not_null(in.links);
    for (int seat = 0; seat < ranks; seat++) {
        set_seat(in.view, seat, EEP_SEAT_ACTIVE);
    }
    cr_assert_eq(eepi_plan_initial(in.view), EEP_OK);
    for (int seat = 1; seat < ranks; seat++) {
        const int fate = below(random, 8);
        set_seat(in.view, seat,
                 fate < 2    ? EEP_SEAT_VACANT
                 : fate == 2 ? EEP_SEAT_RETIRING
                             : EEP_SEAT_ACTIVE);
    }
    eepi_plan_empty_nonmembers(in.view);
    instance_choose_rates(&in, random);
    instance_choose_backups(in.view, random, below(random, 3));
    in.given = (eepi_plan_given){.links = in.links, .expert_bytes = EXPERT_BYTES};
    return in;
}

static bool is_covered(const eepi_view *view)
{
    for (int expert = 0; expert < view->shape.num_experts; expert++) {
        if (num_live(view, 0, expert) == 0) {
            return false;
        }
    }
    return true;
}

/* How long the slowest link of the path takes for one expert, and all of them together. */
typedef struct path_cost {
    uint64_t most_ns, sum_ns;
} path_cost;

static path_cost cost_of(const plan_instance *in, int expert, int source, int target)
{
    const bool is_backup = eepi_view_has_backup(in->view, source, 0, expert);
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_links_path(in->links, source, target,
                                    is_backup ? EEPI_LINK_BACKUP : EEPI_LINK_SLOT, path);
    path_cost cost = {0, 0};

    for (int i = 0; i < num; i++) {
        const uint64_t ns = instance_unit_ns(in, path[i]);
        cost.most_ns = ns > cost.most_ns ? ns : cost.most_ns;
        cost.sum_ns += ns;
    }
    return cost;
}

static bool is_copy(const eepi_view *before, const eepi_view *after, int seat, int expert)
{
    return eepi_view_is_member(before, seat) && (eepi_view_has_backup(before, seat, 0, expert) ||
                                                 eepi_view_holds(after, 0, seat, expert));
}

/* The own backup if there is one. Else no fill crosses a link that is down where another copy
 * has a way without; and a fill that is alone has the fastest source of all. */
static void expect_source(const plan_instance *in, const eepi_view *after, int seat,
                          const eepi_view_slot *slot, bool is_alone, uint64_t seed)
{
    const uint64_t down_ns = eepi_links_time_ns(EXPERT_BYTES, EEPI_LINKS_DOWN_RATE);
    const path_cost cost = cost_of(in, slot->expert, slot->source, seat);

    cr_assert(is_copy(in->view, after, slot->source, slot->expert), REPLAY, SEED(seed));
    if (eepi_view_has_backup(in->view, seat, 0, slot->expert)) {
        cr_assert_eq(slot->source, seat, REPLAY, SEED(seed));
        return;
    }
    for (int other = 0; other < in->view->shape.max_ranks; other++) {
        if (!is_copy(in->view, after, other, slot->expert)) {
            continue;
        }
        const path_cost than = cost_of(in, slot->expert, other, seat);
        cr_assert(cost.most_ns < down_ns || than.most_ns >= down_ns,
                  "rank %d reads expert %d from %d over a link that is down, not from %d; " REPLAY,
                  seat, slot->expert, slot->source, other, SEED(seed));
        cr_assert(!is_alone || cost.most_ns < than.most_ns ||
                      (cost.most_ns == than.most_ns && cost.sum_ns <= than.sum_ns),
                  "rank %d reads expert %d from %d, and %d is faster; " REPLAY, seat, slot->expert,
                  slot->source, other, SEED(seed));
    }
}

/* One round with what is known of links, and one without; returns the fills of each. */
static int judge_round(const plan_instance *in, uint64_t seed, int most_fills,
                       uint64_t *known_ns_io, uint64_t *unknown_ns_io)
{
    eepi_view *known = copy_of(in->view), *unknown = copy_of(in->view);
    eepi_background *background = eepi_background_new(&in->view->shape);
    eepi_plan_table *table = eepi_plan_table_new(&in->view->shape);
    eepi_background_limits limits = eepi_background_defaults;
    eepi_plan_cost cost;

    limits.max_fills = most_fills;
    eepi_background_begin(background, known, in->links, EXPERT_BYTES);
    const int fills = eepi_background_layer(background, 0, NULL, &limits);
    eepi_background_begin(background, unknown, NULL, 0);
    cr_assert_eq(eepi_background_layer(background, 0, NULL, &limits), fills, REPLAY, SEED(seed));
    for (int i = 0; i < in->view->shape.max_ranks * in->view->shape.num_slots; i++) {
        const int seat = i / in->view->shape.num_slots, k = i % in->view->shape.num_slots;
        eepi_view_slot *slot = eepi_view_slot_at(known, 0, seat, k);
        eepi_view_slot *twin = eepi_view_slot_at(unknown, 0, seat, k);
        cr_assert(slot->state == twin->state && slot->expert == twin->expert,
                  "links say from where, not what; " REPLAY, SEED(seed));
        if (slot->state == EEPI_SLOT_FILLING) {
            expect_source(in, known, seat, slot, fills == 1, seed);
        }
    }
    eepi_plan_measure(known, table, &in->given, &cost);
    *known_ns_io += cost.makespan_ns;
    eepi_plan_measure(unknown, table, &in->given, &cost);
    *unknown_ns_io += cost.makespan_ns;
    eepi_plan_table_free(table);
    eepi_background_free(background);
    free(known);
    free(unknown);
    return fills;
}

/* EEP_TEST_CASES: how many. */
Test(background, sources_go_by_what_links_carry)
{
    const char *cases = getenv("EEP_TEST_CASES");
    const int wanted = cases ? atoi(cases) : 1000;
    uint64_t known_ns = 0, unknown_ns = 0;
    int fills = 0, judged = 0;

    for (uint64_t seed = first_seed(), end = seed + (uint64_t)wanted; seed < end; seed++) {
        uint64_t random = seed;
        plan_instance in = instance_to_mend(&random);
        if (is_covered(in.view)) {
            fills += judge_round(&in, seed, 1, &known_ns, &unknown_ns);
            fills += judge_round(&in, seed, 16, &known_ns, &unknown_ns);
            judged++;
        }
        free_plan_instance(&in);
    }
    cr_assert(judged > wanted / 4 && fills > wanted, "%d judged, %d fills", judged, fills);
    cr_assert_lt(known_ns * 10, unknown_ns * 8, "%.1f ms on the whole, %.1f without links",
                 (double)known_ns / 1e6, (double)unknown_ns / 1e6);
}
