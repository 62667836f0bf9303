/* SPDX-License-Identifier: Apache-2.0 */
/* The planner against brute force: small instances with links by chance, where every plan can be
 * tried. */
#include "tests/lib/plan_instance.h"
#include "experiments/plan_tool/plan_dual.h"

#include <stdio.h>
#include <string.h>

enum { MOST_RANKS = 5, MOST_EXPERTS = 8, MOST_LAYERS = 2, MOST_SLOTS = 4, MOST_NODES = 20000 };

static plan_instance small_instance(uint64_t *random)
{
    const eepi_view_shape shape = {.max_ranks = 2 + below(random, MOST_RANKS - 1),
                                   .num_layers = 1 + below(random, MOST_LAYERS),
                                   .num_experts = 1 + below(random, MOST_EXPERTS),
                                   .num_slots = 1 + below(random, MOST_SLOTS),
                                   .ranks_per_node = below(random, 4)};

    return new_plan_instance(&shape, (shape.num_experts + 1) / 2, below(random, 9), random);
}

/* ---------------------------------------------------------------- brute force */

/* Every plan that ends before `best_ns`, by depth first. */
typedef struct force {
    const plan_instance *in;
    eepi_view *view; /* what is tried */
    uint64_t load_ns[MOST_RANKS * EEPI_LINK_TYPES], best_ns;
    int retiring_left[MOST_LAYERS];
    int layer[MOST_LAYERS * MOST_EXPERTS], expert[MOST_LAYERS * MOST_EXPERTS], num_holes;
    int num_nodes;
} force;

static void place_from(force *f, int hole);

static void try_source(force *f, int hole, int source, int seat)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = instance_path(f->in, source, seat, path);
    bool is_below = true;

    for (int i = 0; i < num; i++) {
        f->load_ns[path[i]] += instance_unit_ns(f->in, path[i]);
        is_below &= f->load_ns[path[i]] < f->best_ns;
    }
    if (is_below) {
        place_from(f, hole + 1);
    }
    for (int i = 0; i < num; i++) {
        f->load_ns[path[i]] -= instance_unit_ns(f->in, path[i]);
    }
}

static uint64_t alone_ns(const force *f, int source, int seat)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = instance_path(f->in, source, seat, path);
    uint64_t most = 0;

    for (int i = 0; i < num; i++) {
        most = instance_unit_ns(f->in, path[i]) > most ? instance_unit_ns(f->in, path[i]) : most;
    }
    return most;
}

/* The rule of sources: the own backup; else any backup; the own file if there is none or it is
 * faster; any file if there is neither. */
static void try_sources(force *f, int hole, int seat)
{
    const int layer = f->layer[hole], expert = f->expert[hole];
    bool is_file_faster = true, any_backup = false;

    if (eepi_view_has_backup(f->view, seat, layer, expert)) {
        try_source(f, hole, seat, seat);
        return;
    }
    for (int source = 0; source < f->view->shape.max_ranks; source++) {
        if (eepi_view_has_backup(f->view, source, layer, expert)) {
            is_file_faster &= alone_ns(f, EEPI_SOURCE_FILE, seat) < alone_ns(f, source, seat);
            try_source(f, hole, source, seat);
            any_backup = true;
        }
    }
    if (f->in->can_read_file[seat] && is_file_faster) {
        try_source(f, hole, EEPI_SOURCE_FILE, seat);
    }
    for (int reader = 0; reader < f->view->shape.max_ranks; reader++) {
        if (!any_backup && !f->in->can_read_file[seat] && f->in->can_read_file[reader]) {
            try_source(f, hole, eepi_source_file_of(reader, seat), seat);
        }
    }
}

/* Slots of a seat that differ in nothing but their number are tried once. */
static bool is_tried(const force *f, int layer, int seat, int slot)
{
    const eepi_view_slot *s = eepi_view_slot_at(f->view, layer, seat, slot);

    for (int other = 0; other < slot; other++) {
        const eepi_view_slot *o = eepi_view_slot_at(f->view, layer, seat, other);
        if (o->state == s->state && o->expert == s->expert) {
            return true;
        }
    }
    return false;
}

static void place_from(force *f, int hole)
{
    if (hole == f->num_holes) {
        f->best_ns = 0;
        for (int32_t r = 0; r < eepi_links_count(f->in->links); r++) {
            f->best_ns = f->load_ns[r] > f->best_ns ? f->load_ns[r] : f->best_ns;
        }
        return;
    }
    if (f->num_nodes++ > MOST_NODES) {
        return;
    }
    const int layer = f->layer[hole];
    for (int seat = 0; seat < f->view->shape.max_ranks; seat++) {
        const bool retires = eepi_view_seat_at(f->view, seat)->state == EEP_SEAT_RETIRING;
        if (retires && f->retiring_left[layer] == 0) {
            continue;
        }
        for (int slot = 0; slot < f->view->shape.num_slots; slot++) {
            eepi_view_slot *s = eepi_view_slot_at(f->view, layer, seat, slot), was = *s;
            if (s->state == EEPI_SLOT_FILLING || is_tried(f, layer, seat, slot) ||
                (s->state == EEPI_SLOT_HOLDS && num_live(f->view, layer, s->expert) < 2)) {
                continue;
            }
            *s = (eepi_view_slot){
                .expert = (uint16_t)f->expert[hole], .source = 0, .state = EEPI_SLOT_FILLING};
            f->retiring_left[layer] -= retires;
            try_sources(f, hole, seat);
            f->retiring_left[layer] += retires;
            *s = was;
        }
    }
}

/* Nothing ends before `best_ns`, because the seats cannot take as many experts in less time. */
static bool cannot_be_less(const force *f)
{
    uint64_t num = 0;

    for (int seat = 0; seat < f->view->shape.max_ranks; seat++) {
        const uint64_t pcie_ns =
            instance_unit_ns(f->in, eepi_links_resource(f->in->links, seat, EEPI_LINK_PCIE_IN));
        const uint64_t rank_ns =
            instance_unit_ns(f->in, eepi_links_resource(f->in->links, seat, EEPI_LINK_RANK_IN));
        num += (f->best_ns - 1) / (pcie_ns > rank_ns ? pcie_ns : rank_ns);
    }
    return num < (uint64_t)f->num_holes;
}

/* The least makespan, if it is below `best_ns`; best_ns otherwise. 0 nodes left: unknown. */
static uint64_t least_makespan_ns(const plan_instance *in, const eepi_view *planned,
                                  uint64_t best_ns, bool *is_known_out)
{
    const eepi_view_shape *s = &in->view->shape;
    static force f;

    f = (force){.in = in, .view = copy_of(in->view), .best_ns = best_ns};
    for (int i = 0; i < s->num_layers * s->num_experts; i++) {
        if (num_live(in->view, i / s->num_experts, i % s->num_experts) == 0) {
            f.layer[f.num_holes] = i / s->num_experts;
            f.expert[f.num_holes++] = i % s->num_experts;
        }
    }
    for (int i = 0; i < s->num_layers * s->max_ranks * s->num_slots; i++) {
        const int layer = i / s->num_slots / s->max_ranks, seat = i / s->num_slots % s->max_ranks;
        f.retiring_left[layer] +=
            eepi_view_seat_at(planned, seat)->state == EEP_SEAT_RETIRING &&
            eepi_view_slot_at(planned, layer, seat, i % s->num_slots)->state == EEPI_SLOT_FILLING;
    }
    if (!cannot_be_less(&f)) {
        place_from(&f, 0);
    }
    *is_known_out = f.num_nodes <= MOST_NODES;
    free(f.view);
    return f.best_ns;
}

/* ---------------------------------------------------------------- coverage */

/* The most experts of a layer that can be restored, by depth first. */
typedef struct cover {
    const plan_instance *in;
    eepi_view *view; /* what is tried */
    int layer, hole[MOST_EXPERTS], num_holes, most, num_nodes;
} cover;

/* Somebody can give it, to any seat. */
static bool has_source(const cover *c, int expert)
{
    bool has = false;

    for (int source = 0; source < c->view->shape.max_ranks; source++) {
        has |=
            c->in->can_read_file[source] || eepi_view_has_backup(c->view, source, c->layer, expert);
    }
    return has;
}

static void cover_from(cover *c, int at, int placed)
{
    if (at == c->num_holes) {
        c->most = placed > c->most ? placed : c->most;
        return;
    }
    const int expert = c->hole[at];
    for (int i = 0; i < c->view->shape.max_ranks * c->view->shape.num_slots; i++) {
        const int seat = i / c->view->shape.num_slots, slot = i % c->view->shape.num_slots;
        eepi_view_slot *s = eepi_view_slot_at(c->view, c->layer, seat, slot), was = *s;
        if (placed + c->num_holes - at <= c->most || c->num_nodes++ > MOST_NODES) {
            return;
        }
        if (s->state == EEPI_SLOT_FILLING || !has_source(c, expert) ||
            (s->state == EEPI_SLOT_HOLDS && num_live(c->view, c->layer, s->expert) < 2)) {
            continue;
        }
        *s = (eepi_view_slot){.expert = (uint16_t)expert, .state = EEPI_SLOT_FILLING};
        cover_from(c, at + 1, placed + 1);
        *s = was;
    }
    cover_from(c, at + 1, placed);
}

/* How many experts nobody can restore, over all layers; -1: too many ways to try. */
static int num_uncoverable(const plan_instance *in)
{
    const eepi_view_shape *s = &in->view->shape;
    int num = 0;

    for (int layer = 0; layer < s->num_layers && num >= 0; layer++) {
        cover c = {.in = in, .view = copy_of(in->view), .layer = layer, .most = -1};
        for (int expert = 0; expert < s->num_experts; expert++) {
            if (num_live(in->view, layer, expert) == 0) {
                c.hole[c.num_holes++] = expert;
            }
        }
        cover_from(&c, 0, 0);
        num = c.num_nodes > MOST_NODES && c.most < c.num_holes ? -1 : num + c.num_holes - c.most;
        free(c.view);
    }
    return num;
}

/* Experts in "layer 3: experts 5 17 have no live copy or backup; ...". */
static int num_named(const char *why)
{
    int num = 0;

    for (const char *at = why; *at; at++) {
        num += at[0] == ' ' && at[1] >= '0' && at[1] <= '9' &&
               at[1 + strspn(at + 1, "0123456789")] == ' ';
    }
    return num;
}

/* ---------------------------------------------------------------- judging */

typedef struct tally {
    int num, num_near, num_least, num_unknown;
    int num_covered, num_refused; /* of plans whose coverage is known to be the best there is */
    double worst;
    uint64_t worst_seed;
} tally;

/* As many experts are restored as can be, and the others are named. */
static void expect_most_covered(const plan_instance *in, eep_status status, const char *why,
                                uint64_t seed, tally *t)
{
    const int without = num_uncoverable(in);

    cr_assert(without < 0 || (without == 0) == (status == EEP_OK), "%d of %s; " REPLAY, without,
              why, SEED(seed));
    cr_assert(without < 0 || status == EEP_OK || num_named(why) == without, "%d of %s; " REPLAY,
              without, why, SEED(seed));
    t->num_covered += without == 0;
    t->num_refused += without > 0;
}

/* Plan one instance by chance; instances without two fills, or with too many plans to try, do not
 * count. */
static void judge(uint64_t seed, tally *t)
{
    uint64_t random = seed;
    plan_instance in = small_instance(&random);
    eepi_view *view = copy_of(in.view);
    eepi_plan_table *table = eepi_plan_table_new(&view->shape);
    eepi_plan_cost cost;
    bool is_known = false;
    char why[2048] = "";

    in.given.can_read_file = in.can_read_file;
    const eep_status status = eepi_plan_coverage(view, table, &in.given, &cost, why, sizeof why);
    expect_most_covered(&in, status, why, seed, t);
    if (status == EEP_OK && eepi_plan_num_fills(&cost) > 1) {
        const uint64_t least_ns = least_makespan_ns(&in, view, cost.makespan_ns, &is_known);
        const double ratio = (double)cost.makespan_ns / (double)least_ns;
        cr_assert_leq(plan_dual_bound_ns(in.view, table, 0), least_ns,
                      "the dual bound is above a plan; " REPLAY, SEED(seed));
        cr_assert_leq(cost.bound_ns, least_ns, "the bound is above a plan; " REPLAY, SEED(seed));
        t->num_unknown += !is_known;
        t->num += is_known;
        t->num_least += is_known && least_ns == cost.makespan_ns;
        t->num_near += is_known && cost.makespan_ns <= least_ns + least_ns / 10;
        if (ratio > t->worst) {
            t->worst = ratio;
            t->worst_seed = seed;
        }
    }
    eepi_plan_table_free(table);
    free(view);
    free_plan_instance(&in);
}

/* EEP_TEST_CASES: how many (./check --long: 10,000). */
Test(plan_makespan, is_near_the_least_of_all_plans)
{
    const char *cases = getenv("EEP_TEST_CASES");
    const int wanted = cases ? atoi(cases) : 300;
    tally t = {.worst = 1};

    for (uint64_t seed = first_seed(); t.num < wanted; seed++) {
        judge(seed, &t);
    }
    if (cases) {
        fprintf(stderr,
                "%d plans: %d the least, %d within 10 %%, worst %.3f (seed %llu); %d unknown; "
                "coverage the best there is in %d plans and %d refusals\n",
                t.num, t.num_least, t.num_near, t.worst, (unsigned long long)t.worst_seed,
                t.num_unknown, t.num_covered, t.num_refused);
    }
    cr_assert_geq(t.num_near * 100, t.num * 99, "%d of %d; worst %.2f, " REPLAY, t.num_near, t.num,
                  t.worst, SEED(t.worst_seed));
    cr_assert_leq(t.num_unknown * 10, t.num, "%d unknown", t.num_unknown);
    cr_assert(t.num_covered > wanted && t.num_refused > wanted / 8, "%d covered, %d refused",
              t.num_covered, t.num_refused);
}
