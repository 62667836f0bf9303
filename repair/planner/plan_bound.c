/* SPDX-License-Identifier: Apache-2.0 */
/* Lower bounds of the makespan. */
#include "repair/planner/plan_bound.h"

#include "repair/planner/plan_choose.h"
#include "repair/planner/plan_cuts.h"

#include <string.h>

void eepi_plan_bound_add_layer(eepi_plan_table *table, int num_experts)
{
    for (int i = 0; i < table->num_members; i++) {
        const int seat = table->members[i];
        const int slots = table->layers[0].num_empty[seat] + table->layers[0].num_spare[seat];
        table->capacity[seat] += slots < num_experts ? slots : num_experts;
    }
}

/* ---------------------------------------------------------------- slots */

/* One expert after the other into that seat. */
static uint64_t in_unit_ns(const eepi_plan_table *table, int seat)
{
    const eepi_plan_network *n = &table->network;
    const uint64_t pcie_ns = n->unit_ns[n->seats[seat].pcie_in];
    const uint64_t rank_ns = n->unit_ns[n->seats[seat].rank_in];

    return pcie_ns > rank_ns ? pcie_ns : rank_ns;
}

/* The members [from, end) can take `num` experts within that time, beside what each must take. */
static bool can_take(const eepi_plan_table *table, int from, int end, int64_t num, uint64_t ns)
{
    for (int i = from; i < end && num > 0; i++) {
        const int seat = table->members[i];
        const int64_t in_time = (int64_t)(ns / in_unit_ns(table, seat)) - table->fixed[seat];
        if (in_time > 0) {
            num -= in_time < table->capacity[seat] ? in_time : table->capacity[seat];
        }
    }
    return num <= 0;
}

/* Fills on the members [from, end) take at least so long. `most_ns` is enough. */
static uint64_t slots_bound_ns(const eepi_plan_table *table, int from, int end, int64_t num,
                               uint64_t most_ns)
{
    uint64_t least_ns = 0;

    while (least_ns < most_ns) {
        const uint64_t middle_ns = least_ns + (most_ns - least_ns) / 2;
        if (can_take(table, from, end, num, middle_ns)) {
            most_ns = middle_ns;
        } else {
            least_ns = middle_ns + 1;
        }
    }
    return least_ns;
}

/* ---------------------------------------------------------------- forced fills */

/* Sets of seats and links: those with at least so much of the largest load. */
static const uint8_t set_percents[EEPI_PLAN_SETS] = {100, 97, 90, 75, 50};

static bool is_in_set(const eepi_plan_table *t, int seat, uint64_t least_ns)
{
    const eepi_plan_network *n = &t->network;

    return n->load_ns[n->seats[seat].pcie_in] >= least_ns ||
           n->load_ns[n->seats[seat].rank_in] >= least_ns;
}

/* A slot that could be filled held this before the plan. */
static int64_t add_outside(eepi_plan_table *t, const eepi_view_slot *before, bool is_outside)
{
    if (before->state == EEPI_SLOT_HOLDS) {
        t->count[before->expert]++;
        t->outside[before->expert] += is_outside;
    }
    return before->state == EEPI_SLOT_EMPTY && is_outside;
}

/* How many fills of a layer, whose choices are [from, end), must go to the set: the staying seats
 * outside it can give so many slots at most, since one replica of each expert stays. */
static int64_t forced_fills(eepi_plan_table *t, const eepi_view *view, int from, int end,
                            uint64_t least_ns)
{
    const eepi_view_shape *s = &view->shape;
    int64_t num = 0, can_give = 0;

    memset(t->count, 0, (size_t)s->num_experts * sizeof *t->count);
    memset(t->outside, 0, (size_t)s->num_experts * sizeof *t->outside);
    for (int i = 0; i < t->num_members; i++) {
        const int seat = t->members[i];
        const eepi_view_slot *slots = eepi_view_slot_at(view, t->choices[from].layer, seat, 0);
        const bool is_outside = i < t->num_staying && !is_in_set(t, seat, least_ns);
        for (int slot = 0; slot < s->num_slots; slot++) {
            can_give += add_outside(t, &slots[slot], is_outside);
        }
    }
    for (int i = from; i < end; i++) {
        const eepi_plan_choice *c = &t->choices[i];
        const bool stays = eepi_view_seat_at(view, c->seat)->state == EEP_SEAT_ACTIVE;
        if (!c->is_kept) {
            num += stays;
            can_give += add_outside(t, &c->before, stays && !is_in_set(t, c->seat, least_ns));
        }
    }
    for (int expert = 0; expert < s->num_experts; expert++) {
        const uint32_t most = t->count[expert] ? t->count[expert] - 1 : 0;
        can_give += t->outside[expert] < most ? t->outside[expert] : most;
    }
    return num > can_give ? num - can_give : 0;
}

/* What must go to a set of seats takes so long, however it is divided among them. */
static uint64_t forced_bound_ns(eepi_plan_table *t, const eepi_view *view, uint64_t least_ns)
{
    int64_t forced = 0;
    uint64_t ns = 0, most_ns = 0;

    for (int from = 0, end; from < t->num_choices; from = end) {
        for (end = from + 1;
             end < t->num_choices && t->choices[end].layer == t->choices[from].layer; end++) {
        }
        forced += forced_fills(t, view, from, end, least_ns);
    }
    most_ns = eepi_plan_makespan_ns(&t->network);
    while (ns < most_ns) {
        const uint64_t middle_ns = ns + (most_ns - ns) / 2;
        int64_t done = 0;
        for (int i = 0; i < t->num_staying; i++) {
            if (is_in_set(t, t->members[i], least_ns)) {
                const int64_t in_time =
                    (int64_t)(middle_ns / in_unit_ns(t, t->members[i])) - t->fixed[t->members[i]];
                done += in_time > 0 ? in_time : 0;
            }
        }
        if (done >= forced) {
            most_ns = middle_ns;
        } else {
            ns = middle_ns + 1;
        }
    }
    return ns;
}

/* ---------------------------------------------------------------- links */

typedef struct hits {
    uint8_t of[EEPI_PLAN_SETS]; /* how many links of the set a path, or a half of one, crosses */
} hits;

static hits most_hits(void)
{
    hits h;

    memset(h.of, 0x7f, sizeof h.of);
    return h;
}

static void add_link(const eepi_plan_table *table, hits *h, int32_t resource, uint64_t makespan_ns)
{
    for (int k = 0; k < EEPI_PLAN_SETS; k++) {
        h->of[k] += table->network.load_ns[resource] >= makespan_ns / 100 * set_percents[k];
    }
}

static void keep_least(hits *least, const hits *h, const hits *more)
{
    for (int k = 0; k < EEPI_PLAN_SETS; k++) {
        const int sum = h->of[k] + (more ? more->of[k] : 0);
        least->of[k] = (uint8_t)(sum < least->of[k] ? sum : least->of[k]);
    }
}

/* What the halves of paths cross at least. */
typedef struct cuts {
    uint64_t makespan_ns;
    hits in_cross, in_near, file;   /* the least of all members; that of reading a file */
    uint64_t total[EEPI_PLAN_SETS]; /* over all fills */
} cuts;

static hits hits_out(const eepi_plan_table *t, int seat, uint64_t makespan_ns)
{
    const eepi_seat_links *s = &t->network.seats[seat];
    hits h = {{0}};

    add_link(t, &h, s->host, makespan_ns);
    add_link(t, &h, s->rank_out, makespan_ns);
    add_link(t, &h, s->nic_out, makespan_ns);
    return h;
}

static hits hits_in(const eepi_plan_table *t, int seat, int32_t more, uint64_t makespan_ns)
{
    const eepi_seat_links *s = &t->network.seats[seat];
    hits h = {{0}};

    add_link(t, &h, s->pcie_in, makespan_ns);
    add_link(t, &h, s->rank_in, makespan_ns);
    if (more >= 0) {
        add_link(t, &h, more, makespan_ns);
    }
    return h;
}

static void count_members(const eepi_plan_table *t, cuts *c)
{
    c->in_cross = c->in_near = c->file = most_hits();
    for (int i = 0; i < t->num_members; i++) {
        const int seat = t->members[i];
        const eepi_seat_links *s = &t->network.seats[seat];
        hits h = hits_in(t, seat, -1, c->makespan_ns);
        keep_least(&c->in_near, &h, NULL);
        h = hits_in(t, seat, s->nic_in, c->makespan_ns);
        keep_least(&c->in_cross, &h, NULL);
        if (t->can_read_file && t->can_read_file[seat]) {
            h = (hits){{0}};
            add_link(t, &h, s->files, c->makespan_ns);
            keep_least(&c->file, &h, NULL);
        }
    }
}

/* What a backup of a part crosses at least: into a slot of its own node, and out of it. */
static void count_parts(eepi_plan_table *t, const cuts *c)
{
    for (int i = 0; i < t->num_parts; i++) {
        eepi_plan_part *part = &t->parts[i];
        hits own = most_hits(), out = most_hits();
        for (int k = part->from; k < part->end; k++) {
            const int seat = t->members[k];
            hits h = hits_in(t, seat, t->network.seats[seat].host, c->makespan_ns);
            keep_least(&own, &h, NULL);
            h = hits_out(t, seat, c->makespan_ns);
            keep_least(&out, &h, &c->in_cross);
        }
        memcpy(part->own_hits, own.of, sizeof part->own_hits);
        memcpy(part->out_hits, out.of, sizeof part->out_hits);
    }
}

static void keep_least_of_part(hits *least, const eepi_plan_part *part)
{
    for (int k = 0; k < EEPI_PLAN_SETS; k++) {
        const uint8_t sum =
            part->own_hits[k] < part->out_hits[k] ? part->own_hits[k] : part->out_hits[k];
        least->of[k] = sum < least->of[k] ? sum : least->of[k];
    }
}

static void count_fill(eepi_plan_table *t, const eepi_view *view, const eepi_plan_choice *choice,
                       cuts *c)
{
    hits least = most_hits();

    if (choice->is_kept) {
        int32_t path[EEPI_LINKS_MAX_PATH];
        const int num = eepi_plan_path(&t->network, choice->source, choice->seat, path);
        memset(&least, 0, sizeof least);
        for (int i = 0; i < num; i++) {
            add_link(t, &least, path[i], c->makespan_ns);
        }
    } else {
        eepi_plan_find_sources_of(t, view, choice);
        keep_least(&least, &c->file, &c->in_near);
        for (int i = 0; i < t->num_found; i++) {
            keep_least_of_part(&least, &t->parts[t->found[i]]);
        }
    }
    for (int k = 0; k < EEPI_PLAN_SETS; k++) {
        c->total[k] += least.of[k];
    }
}

static uint64_t links_bound_ns(eepi_plan_table *t, const eepi_view *view, uint64_t makespan_ns)
{
    const uint64_t scale = UINT64_C(1) << 40;
    cuts c = {.makespan_ns = makespan_ns};
    uint64_t best_ns = 0;

    count_members(t, &c);
    count_parts(t, &c);
    for (int i = 0; i < t->num_choices; i++) {
        count_fill(t, view, &t->choices[i], &c);
    }
    for (int k = 0; k < EEPI_PLAN_SETS; k++) {
        uint64_t per_ns = 0; /* experts that the set's links carry in a nanosecond, times `scale` */
        for (int32_t r = 0; r < t->network.num_resources; r++) {
            if (t->network.load_ns[r] >= makespan_ns / 100 * set_percents[k]) {
                per_ns += scale / t->network.unit_ns[r] + 1;
            }
        }
        const uint64_t ns = c.total[k] * scale / per_ns;
        best_ns = ns > best_ns ? ns : best_ns;
    }
    return best_ns;
}

/* An expert that a file alone has takes so long by itself: it has one source, and is not divided.
 * One rank may read it and another one take it in. */
static uint64_t file_bound_ns(eepi_plan_table *t, const eepi_view *view)
{
    const eepi_plan_network *n = &t->network;
    uint64_t read_ns = UINT64_MAX, in_ns = UINT64_MAX;
    bool any = false;

    for (int i = 0; i < t->num_choices && !any; i++) {
        if (eepi_source_is_file(t->choices[i].source)) {
            eepi_plan_find_sources_of(t, view, &t->choices[i]);
            any = t->num_of_sources == 0;
        }
    }
    for (int i = 0; i < t->num_members && any; i++) {
        const int seat = t->members[i];
        const uint64_t file_ns = n->unit_ns[n->seats[seat].files], ns = in_unit_ns(t, seat);
        read_ns = t->can_read_file[seat] && file_ns < read_ns ? file_ns : read_ns;
        in_ns = ns < in_ns ? ns : in_ns;
    }
    return !any ? 0 : read_ns > in_ns ? read_ns : in_ns;
}

uint64_t eepi_plan_bound_ns(eepi_plan_table *table, const eepi_view *view)
{
    const uint64_t makespan_ns = eepi_plan_makespan_ns(&table->network);
    int64_t on_staying = 0, on_retiring = 0;
    uint64_t bound_ns = 0, ns;

    if (table->num_choices == 0) {
        return 0;
    }
    memset(table->fixed, 0, (size_t)table->network.shape.max_ranks * sizeof *table->fixed);
    for (int i = 0; i < table->num_choices; i++) {
        const eepi_plan_choice *c = &table->choices[i];
        const bool stays = eepi_view_seat_at(view, c->seat)->state == EEP_SEAT_ACTIVE;
        table->fixed[c->seat] += c->is_kept;
        on_staying += stays && !c->is_kept;
        on_retiring += !stays && !c->is_kept;
    }
    for (int i = 0; i < table->num_members; i++) {
        ns = (uint64_t)table->fixed[table->members[i]] * in_unit_ns(table, table->members[i]);
        bound_ns = ns > bound_ns ? ns : bound_ns;
    }
    ns = file_bound_ns(table, view);
    bound_ns = ns > bound_ns ? ns : bound_ns;
    ns = slots_bound_ns(table, 0, table->num_staying, on_staying, makespan_ns);
    bound_ns = ns > bound_ns ? ns : bound_ns;
    ns = slots_bound_ns(table, table->num_staying, table->num_members, on_retiring, makespan_ns);
    bound_ns = ns > bound_ns ? ns : bound_ns;
    if (!eepi_plan_is_close(makespan_ns, bound_ns)) {
        ns = links_bound_ns(table, view, makespan_ns);
        bound_ns = ns > bound_ns ? ns : bound_ns;
        for (int k = 0; k < EEPI_PLAN_SETS; k++) {
            ns = forced_bound_ns(table, view, makespan_ns / 100 * set_percents[k]);
            bound_ns = ns > bound_ns ? ns : bound_ns;
        }
        ns = eepi_plan_cut_bound_ns(table, view, bound_ns, makespan_ns);
        bound_ns = ns > bound_ns ? ns : bound_ns;
    }
    return bound_ns;
}
