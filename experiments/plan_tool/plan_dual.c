/* SPDX-License-Identifier: Apache-2.0 */
/* The dual bound: prices of links and slots, raised where they are asked for too much. */
#include "experiments/plan_tool/plan_dual.h"

#include "repair/planner/plan_choose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 1500, FEWEST_STEPS = 60 };
#define MOST_WORK ((int64_t)400000000) /* targets that are priced */
/* Found by trial on instances whose linear program was solved: the bound comes within a tenth. */
#define SHARPNESS 40.0
#define MEAN_STEP 0.001
static const double slot_steps[] = {0.03, 0.1, 0.3}; /* which is best depends on the instance */

typedef struct dual {
    const eepi_view *before;
    eepi_plan_table *table;
    double makespan;
    double *price; /* [num_resources] of a nanosecond; they sum up to 1 */
    double *mean;
    double *load;       /* [num_resources] of the cheapest ways */
    double *slot_price; /* [num_layers][max_ranks] */
    double *asked;      /* [max_ranks]: slots of the layer at hand, less those there are */
    double *in_own, *in_cross, *in_near, *in_file, *out_cross, *out_near; /* [max_ranks] */
    double slot_step;
    bool *may_read; /* [num_choices][max_ranks]: the file may be the source */
    int reader;     /* the cheapest that reads its file for others; -1: none */
    double from_reader;
} dual;

static double *slot_price_at(const dual *d, int layer, int seat)
{
    return &d->slot_price[layer * d->before->shape.max_ranks + seat];
}

static double cost_of(const dual *d, int32_t resource)
{
    return d->price[resource] * (double)d->table->network.unit_ns[resource];
}

/* It is priced as if it were near each target: that costs no more than the one that is cheapest. */
static void find_cheapest_reader(dual *d)
{
    const eepi_plan_table *t = d->table;

    d->reader = -1;
    for (int i = 0; t->can_read_file && i < t->num_members; i++) {
        const eepi_seat_links *s = &t->network.seats[t->members[i]];
        const double cost = cost_of(d, s->files) + cost_of(d, s->rank_out);
        if (t->can_read_file[s->seat] && (d->reader < 0 || cost < d->from_reader)) {
            d->reader = s->seat;
            d->from_reader = cost;
        }
    }
}

static void price_halves(dual *d)
{
    find_cheapest_reader(d);
    for (int i = 0; i < d->table->num_members; i++) {
        const int seat = d->table->members[i];
        const eepi_seat_links *s = &d->table->network.seats[seat];
        d->in_near[seat] = cost_of(d, s->pcie_in) + cost_of(d, s->rank_in);
        d->in_own[seat] = d->in_near[seat] + cost_of(d, s->host);
        d->in_cross[seat] = d->in_near[seat] + cost_of(d, s->nic_in);
        d->in_file[seat] = d->in_near[seat] + cost_of(d, s->files);
        d->out_near[seat] = cost_of(d, s->host) + cost_of(d, s->rank_out);
        d->out_cross[seat] = d->out_near[seat] + cost_of(d, s->nic_out);
    }
}

/* The cheapest source of the expert whose sources were found, for that seat, and its price. */
static int cheapest_source(const dual *d, int seat, bool may_read, double *cost_out)
{
    const eepi_plan_table *t = d->table;
    const int node = t->network.seats[seat].node;
    int best = -1;

    if (eepi_plan_has_own(t, seat)) {
        *cost_out = d->in_own[seat];
        return seat;
    }
    for (int i = 0; i < t->num_groups; i++) {
        const eepi_plan_group *g = &t->groups[i];
        const bool is_near = g->node == node;
        const double cost = is_near ? d->out_near[g->near_seat] + d->in_near[seat]
                                    : d->out_cross[g->cross_seat] + d->in_cross[seat];
        if (best < 0 || cost < *cost_out) {
            best = is_near ? g->near_seat : g->cross_seat;
            *cost_out = cost;
        }
    }
    if (may_read && (best < 0 || d->in_file[seat] < *cost_out)) {
        best = EEPI_SOURCE_FILE;
        *cost_out = d->in_file[seat];
    }
    if (best < 0 && d->reader >= 0) {
        best = eepi_source_file_of(d->reader, seat);
        *cost_out = d->from_reader + d->in_near[seat];
    }
    return best;
}

/* The cheapest source of each node. */
static void group_sources(dual *d)
{
    eepi_plan_table *t = d->table;

    eepi_plan_weigh_sources(t);
    for (int g = 0; g < t->num_groups; g++) {
        t->groups[g].near_seat = t->groups[g].cross_seat = -1;
    }
    for (int i = 0; i < t->num_of_sources; i++) {
        const int seat = t->sources[i], node = t->network.seats[seat].node;
        int g = 0;
        while (t->groups[g].node != node) {
            g++;
        }
        eepi_plan_group *group = &t->groups[g];
        if (group->near_seat < 0 || d->out_near[seat] < d->out_near[group->near_seat]) {
            group->near_seat = seat;
        }
        if (group->cross_seat < 0 || d->out_cross[seat] < d->out_cross[group->cross_seat]) {
            group->cross_seat = seat;
        }
    }
}

static void add_load(dual *d, int source, int seat)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_plan_path(&d->table->network, source, seat, path);

    for (int i = 0; i < num; i++) {
        d->load[path[i]] += (double)d->table->network.unit_ns[path[i]];
    }
}

/* The price of one fill's cheapest way. */
static double pay_for(dual *d, const eepi_plan_choice *choice, int num_targets)
{
    const eepi_plan_table *t = d->table;
    double best = INFINITY;
    int best_seat = -1, best_source = -1;
    const bool *may_read = d->may_read + (choice - t->choices) * d->before->shape.max_ranks;

    eepi_plan_find_sources(d->table, d->before, choice->layer, choice->expert);
    group_sources(d);
    for (int i = 0; i < num_targets; i++) {
        const int seat = choice->is_kept ? choice->seat : t->members[i];
        double cost = 0;
        const int source = cheapest_source(d, seat, may_read[seat], &cost);
        cost += *slot_price_at(d, choice->layer, seat);
        if (source >= 0 && cost < best) {
            best = cost;
            best_seat = seat;
            best_source = source;
        }
    }
    d->asked[best_seat]++;
    add_load(d, best_source, best_seat);
    return best;
}

/* What all slots of the layer cost that can be given: EMPTY ones, and all replicas of an expert but
 * the cheapest. */
static double pay_for_slots(dual *d, int layer)
{
    const eepi_view_shape *s = &d->before->shape;
    eepi_plan_table *t = d->table;
    double sum = 0;

    memset(t->count, 0, (size_t)s->num_experts * sizeof *t->count);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < t->num_members; i++) {
            const int seat = t->members[i];
            const double price = *slot_price_at(d, layer, seat);
            const eepi_view_slot *slots = eepi_view_slot_at(d->before, layer, seat, 0);
            for (int slot = 0; slot < s->num_slots; slot++) {
                const int expert = slots[slot].expert;
                if (slots[slot].state != EEPI_SLOT_HOLDS) {
                    sum += pass ? 0 : price;
                    d->asked[seat] -= pass ? 0 : 1;
                } else if (pass == 0) { /* the seat of the cheapest one, plus 1 */
                    if (t->count[expert] == 0 ||
                        price < *slot_price_at(d, layer, (int)t->count[expert] - 1)) {
                        t->count[expert] = (uint32_t)seat + 1;
                    }
                } else if (t->count[expert] == (uint32_t)seat + 1) {
                    t->count[expert] = UINT32_MAX; /* that one stays */
                } else {
                    sum += price;
                    d->asked[seat]--;
                }
            }
        }
    }
    return sum;
}

static double pay_for_layer(dual *d, int from, int end)
{
    eepi_plan_table *t = d->table;
    const int layer = t->choices[from].layer;
    int num_targets = t->num_staying;
    double sum = 0;

    memset(d->asked, 0, (size_t)d->before->shape.max_ranks * sizeof *d->asked);
    for (int i = from; i < end; i++) {
        if (eepi_view_seat_at(d->before, t->choices[i].seat)->state != EEP_SEAT_ACTIVE) {
            num_targets = t->num_members;
        }
    }
    for (int i = from; i < end; i++) {
        sum += pay_for(d, &t->choices[i], num_targets);
    }
    sum -= pay_for_slots(d, layer);
    for (int i = 0; i < t->num_members; i++) {
        const int seat = t->members[i];
        double *price = slot_price_at(d, layer, seat);
        *price += d->slot_step * d->asked[seat];
        *price = *price > 0 ? *price : 0;
    }
    return sum;
}

/* The bound that the prices give; they are changed for the next one. */
static double pay_for_all(dual *d)
{
    const eepi_plan_table *t = d->table;
    double sum = 0;

    memset(d->load, 0, (size_t)t->network.num_resources * sizeof *d->load);
    price_halves(d);
    for (int from = 0, end; from < t->num_choices; from = end) {
        for (end = from + 1;
             end < t->num_choices && t->choices[end].layer == t->choices[from].layer; end++) {
        }
        sum += pay_for_layer(d, from, end);
    }
    return sum;
}

/* A link is dear where the cheapest ways load it most, on average over the steps so far. */
static void set_prices(dual *d)
{
    const int32_t num = d->table->network.num_resources;
    double sum = 0, most = 0;

    for (int32_t r = 0; r < num; r++) {
        most = d->mean[r] > most ? d->mean[r] : most;
    }
    for (int32_t r = 0; r < num; r++) {
        d->price[r] = exp(SHARPNESS * (d->mean[r] - most) / d->makespan);
        sum += d->price[r];
    }
    for (int32_t r = 0; r < num; r++) {
        d->price[r] /= sum;
    }
}

/* Where the rule of sources lets a fill read the file. */
static void find_readers(dual *d)
{
    eepi_plan_table *t = d->table;

    for (int i = 0; t->can_read_file && i < t->num_choices; i++) {
        bool *may_read = d->may_read + (ptrdiff_t)i * d->before->shape.max_ranks;
        eepi_plan_find_sources(t, d->before, t->choices[i].layer, t->choices[i].expert);
        for (int j = 0; j < t->num_members; j++) {
            const int seat = t->members[j];
            may_read[seat] = t->can_read_file[seat] && eepi_plan_is_file_faster(t, seat);
        }
    }
}

/* From the loads of the plan on. For the first third the prices of links stay, until those of slots
 * fit them. */
static double search(dual *d, int64_t steps, double slot_step, double best)
{
    const eepi_plan_table *t = d->table;
    const eepi_view_shape *s = &d->before->shape;

    memset(d->slot_price, 0, (size_t)s->num_layers * (size_t)s->max_ranks * sizeof *d->slot_price);
    for (int32_t r = 0; r < t->network.num_resources; r++) {
        d->mean[r] = (double)t->network.load_ns[r];
    }
    for (int64_t i = 0; i < steps && best < d->makespan * 0.985; i++) {
        set_prices(d);
        d->slot_step = slot_step * d->makespan / (double)t->num_choices / sqrt((double)i + 1);
        const double bound = pay_for_all(d);
        best = bound > best ? bound : best;
        for (int32_t r = 0; r < t->network.num_resources && i >= steps / 3; r++) {
            d->mean[r] += MEAN_STEP * (d->load[r] - d->mean[r]);
        }
    }
    return best;
}

static double best_bound(dual *d, double best)
{
    const int64_t per_step = (int64_t)d->table->num_choices * d->table->num_members;
    int64_t steps = MOST_WORK / per_step;

    steps = steps > MOST_STEPS ? MOST_STEPS : steps < FEWEST_STEPS ? FEWEST_STEPS : steps;
    for (size_t i = 0; i < sizeof slot_steps / sizeof slot_steps[0]; i++) {
        best = search(d, steps, slot_steps[i], best);
    }
    return best;
}

uint64_t plan_dual_bound_ns(const eepi_view *before, eepi_plan_table *table, uint64_t bound_ns)
{
    const eepi_view_shape *s = &before->shape;
    const size_t ranks = (size_t)s->max_ranks;
    const size_t links = (size_t)table->network.num_resources, all = ranks * 7 + links * 3;
    const size_t slots = (size_t)s->num_layers * ranks;
    const uint64_t makespan_ns = eepi_plan_makespan_ns(&table->network);
    double *memory = calloc(all + slots, sizeof *memory);
    bool *may_read = calloc((size_t)table->num_choices * ranks + 1, sizeof *may_read);
    uint64_t best_ns = bound_ns;

    if (memory && may_read && table->num_choices > 0 &&
        !eepi_plan_is_close(makespan_ns, bound_ns)) {
        double *of_seats = memory + 3 * links;
        dual d = {.before = before,
                  .table = table,
                  .makespan = (double)makespan_ns,
                  .price = memory,
                  .load = memory + links,
                  .mean = memory + 2 * links,
                  .asked = of_seats,
                  .in_own = of_seats + ranks,
                  .in_cross = of_seats + 2 * ranks,
                  .in_near = of_seats + 3 * ranks,
                  .in_file = of_seats + 4 * ranks,
                  .out_cross = of_seats + 5 * ranks,
                  .out_near = of_seats + 6 * ranks,
                  .slot_price = memory + all,
                  .may_read = may_read};
        find_readers(&d);
        /* less than what rounding may have added */
        const double best = best_bound(&d, (double)bound_ns) * (1 - 1e-9);
        best_ns = best > (double)bound_ns ? (uint64_t)best : bound_ns;
    }
    free(may_read);
    free(memory);
    return best_ns;
}
