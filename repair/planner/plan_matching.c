/* SPDX-License-Identifier: Apache-2.0 */
/* Fills that must cross a set of links: all but those that can be matched with slots and sources
 * away from it (augmenting paths). */
#include "repair/planner/plan_matching.h"

#include "repair/planner/plan_choose.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 4 };

/* One layer, and one set of links. */
typedef struct matching {
    const eepi_view *before;
    eepi_plan_table *table;
    const bool *in_set; /* [num_resources] */
    int layer, num_fills;
    const eepi_plan_choice *fills; /* [num_fills] of that layer */
    bool *is_away;       /* [num_fills][max_ranks]: a fill of it there need not cross the set */
    int32_t *seat_of;    /* [num_fills]: where it is matched; -1: nowhere */
    int32_t *num_empty;  /* [max_ranks]: EMPTY slots that are left */
    uint32_t *evicted;   /* [num_experts]: replicas given up */
    bool *is_given_up;   /* [max_ranks][num_slots]: that replica is */
    bool *was_at;        /* [max_ranks]: this augmenting path was at the seat, */
    bool *was_at_expert; /* [num_experts]: or sought another replica of that expert */
} matching;

static bool find_slot(matching *m, int seat);

static eepi_view_slot *slot_at(const matching *m, int seat, int slot)
{
    return eepi_view_slot_at(m->before, m->layer, seat, slot);
}

/* A replica of the expert that was given up is one no more: its seat finds another slot. */
static bool take_back(matching *m, int expert)
{
    const eepi_view_shape *s = &m->before->shape;

    if (m->was_at_expert[expert]) {
        return false;
    }
    m->was_at_expert[expert] = true;
    for (int i = 0; i < m->table->num_members; i++) {
        const int seat = m->table->members[i];
        for (int slot = 0; slot < s->num_slots; slot++) {
            bool *given_up = &m->is_given_up[seat * s->num_slots + slot];
            if (*given_up && slot_at(m, seat, slot)->expert == expert && find_slot(m, seat)) {
                *given_up = false;
                return true;
            }
        }
    }
    return false;
}

/* A slot of that seat: EMPTY, or a replica that another one makes up for. */
static bool find_own_slot(matching *m, int seat)
{
    const int num_slots = m->before->shape.num_slots;

    if (m->num_empty[seat] > 0) {
        m->num_empty[seat]--;
        return true;
    }
    for (int slot = 0; slot < num_slots; slot++) {
        const eepi_view_slot *s = slot_at(m, seat, slot);
        bool *given_up = &m->is_given_up[seat * num_slots + slot];
        if (s->state != EEPI_SLOT_HOLDS || *given_up) {
            continue;
        }
        if (m->evicted[s->expert] + 1 < m->table->count[s->expert]) {
            m->evicted[s->expert]++;
            *given_up = true;
            return true;
        }
        if (m->table->count[s->expert] > 1 && take_back(m, s->expert)) {
            *given_up = true;
            return true;
        }
    }
    return false;
}

static bool match(matching *m, int fill);

/* A slot of that seat, or that of a fill which goes elsewhere. */
static bool find_slot(matching *m, int seat)
{
    if (m->was_at[seat]) {
        return false;
    }
    m->was_at[seat] = true;
    if (find_own_slot(m, seat)) {
        return true;
    }
    for (int fill = 0; fill < m->num_fills; fill++) {
        if (m->seat_of[fill] == seat && match(m, fill)) {
            return true;
        }
    }
    return false;
}

static bool match(matching *m, int fill)
{
    const int max_ranks = m->before->shape.max_ranks;

    for (int i = 0; i < m->table->num_members; i++) {
        const int seat = m->table->members[i];
        if (m->is_away[fill * max_ranks + seat] && find_slot(m, seat)) {
            m->seat_of[fill] = seat;
            return true;
        }
    }
    return false;
}

static bool crosses_set(const matching *m, int source, int seat)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_plan_path(&m->table->network, source, seat, path);

    for (int i = 0; i < num; i++) {
        if (m->in_set[path[i]]) {
            return true;
        }
    }
    return false;
}

/* Some source that the planner might choose for that seat keeps away from the set. */
static bool can_be_away(const matching *m, int seat)
{
    const eepi_plan_table *t = m->table;

    if (t->num_of_sources && t->source_stamp[seat] == t->stamp) {
        return !crosses_set(m, seat, seat);
    }
    for (int i = 0; i < t->num_of_sources; i++) {
        if (!crosses_set(m, t->sources[i], seat)) {
            return true;
        }
    }
    return t->can_read_file && t->can_read_file[seat] && !crosses_set(m, EEPI_SOURCE_FILE, seat);
}

static void begin_layer(matching *m)
{
    const eepi_view_shape *s = &m->before->shape;
    eepi_plan_table *t = m->table;

    memset(t->count, 0, (size_t)s->num_experts * sizeof *t->count);
    memset(m->evicted, 0, (size_t)s->num_experts * sizeof *m->evicted);
    memset(m->is_given_up, 0, (size_t)s->max_ranks * (size_t)s->num_slots);
    for (int i = 0; i < t->num_members; i++) {
        const int seat = t->members[i];
        m->num_empty[seat] = 0;
        for (int slot = 0; slot < s->num_slots; slot++) {
            const eepi_view_slot *held = slot_at(m, seat, slot);
            m->num_empty[seat] += held->state != EEPI_SLOT_HOLDS;
            if (held->state == EEPI_SLOT_HOLDS) {
                t->count[held->expert]++;
            }
        }
    }
    for (int fill = 0; fill < m->num_fills; fill++) {
        m->seat_of[fill] = -1;
        eepi_plan_find_sources(t, m->before, m->layer, m->fills[fill].expert);
        for (int i = 0; i < t->num_members; i++) {
            const int seat = t->members[i];
            m->is_away[fill * s->max_ranks + seat] =
                m->fills[fill].is_kept
                    ? seat == m->fills[fill].seat && !crosses_set(m, m->fills[fill].source, seat)
                    : can_be_away(m, seat);
        }
    }
}

/* How many fills of the layer cross the set at least. */
static int num_crossing(matching *m)
{
    int num = 0;

    begin_layer(m);
    for (int fill = 0; fill < m->num_fills; fill++) {
        memset(m->was_at, 0, (size_t)m->before->shape.max_ranks);
        memset(m->was_at_expert, 0, (size_t)m->before->shape.num_experts);
        num += !match(m, fill);
    }
    return num;
}

static uint64_t set_bound_ns(matching *m)
{
    const uint64_t scale = UINT64_C(1) << 40;
    const eepi_plan_table *t = m->table;
    uint64_t crossing = 0, per_ns = 0; /* experts that the set carries in 1 ns, times `scale` */

    for (int32_t r = 0; r < t->network.num_resources; r++) {
        per_ns += m->in_set[r] ? scale / t->network.unit_ns[r] + 1 : 0;
    }
    for (int from = 0, end; from < t->num_choices; from = end) {
        for (end = from + 1;
             end < t->num_choices && t->choices[end].layer == t->choices[from].layer; end++) {
        }
        m->layer = t->choices[from].layer;
        m->fills = &t->choices[from];
        m->num_fills = end - from;
        crossing += (uint64_t)num_crossing(m);
    }
    return per_ns ? crossing * scale / per_ns : 0;
}

/* Sets of the most loaded links: those with at least so much of the largest load, all of them or
 * those of one kind. */
static uint64_t best_set_ns(matching *m, bool *in_set, bool *best_set)
{
    static const uint8_t percents[] = {100, 98, 95, 90, 80, 65};
    const eepi_plan_network *n = &m->table->network;
    const int32_t of_seats = n->shape.max_ranks * EEPI_LINK_OF_SEAT;
    const uint64_t makespan_ns = eepi_plan_makespan_ns(n);
    uint64_t best_ns = 0;

    for (size_t i = 0; i < sizeof percents; i++) {
        for (int kind = -1; kind < EEPI_LINK_TYPES; kind++) {
            bool any = false;
            for (int32_t r = 0; r < n->num_resources; r++) {
                const int32_t of =
                    r < of_seats ? r % EEPI_LINK_OF_SEAT : EEPI_LINK_OF_SEAT + (r - of_seats) % 2;
                in_set[r] =
                    n->load_ns[r] >= makespan_ns / 100 * percents[i] && (kind < 0 || of == kind);
                any |= in_set[r];
            }
            const uint64_t ns = any ? set_bound_ns(m) : 0;
            if (ns > best_ns) {
                best_ns = ns;
                memcpy(best_set, in_set, (size_t)n->num_resources * sizeof *in_set);
            }
        }
    }
    return best_ns;
}

/* Loaded links are taken into the set and out of it, one by one, as long as that helps: of links in
 * a row on one path, one is enough. */
static uint64_t best_bound_ns(matching *m, bool *in_set, bool *best_set, uint64_t known_ns)
{
    const eepi_plan_network *n = &m->table->network;
    const uint64_t makespan_ns = eepi_plan_makespan_ns(n);
    uint64_t best_ns = 0;
    bool any = true;

    if (eepi_plan_is_close(makespan_ns, known_ns)) {
        return known_ns;
    }
    best_ns = best_set_ns(m, in_set, best_set);

    memcpy(in_set, best_set, (size_t)n->num_resources * sizeof *in_set);
    for (int round = 0; round < MOST_ROUNDS && any; round++) {
        any = false;
        for (int32_t r = 0; r < n->num_resources; r++) {
            if (n->load_ns[r] < makespan_ns / 2 ||
                eepi_plan_is_close(makespan_ns, best_ns > known_ns ? best_ns : known_ns)) {
                continue;
            }
            in_set[r] = !in_set[r];
            const uint64_t ns = set_bound_ns(m);
            if (ns > best_ns) {
                best_ns = ns;
                any = true;
            } else {
                in_set[r] = !in_set[r];
            }
        }
    }
    return best_ns;
}

uint64_t eepi_plan_matching_bound_ns(const eepi_view *before, eepi_plan_table *table,
                                     uint64_t bound_ns)
{
    const eepi_view_shape *s = &before->shape;
    const size_t ranks = (size_t)s->max_ranks, experts = (size_t)s->num_experts;
    bool *in_set = calloc((size_t)table->network.num_resources + 1, sizeof *in_set);
    bool *best_set = calloc((size_t)table->network.num_resources + 1, sizeof *best_set);
    matching m = {.before = before,
                  .table = table,
                  .in_set = in_set,
                  .is_away = calloc(experts * ranks, sizeof *m.is_away),
                  .seat_of = calloc(experts, sizeof *m.seat_of),
                  .num_empty = calloc(ranks, sizeof *m.num_empty),
                  .evicted = calloc(experts, sizeof *m.evicted),
                  .is_given_up = calloc(ranks * (size_t)s->num_slots, sizeof *m.is_given_up),
                  .was_at = calloc(ranks, sizeof *m.was_at),
                  .was_at_expert = calloc(experts, sizeof *m.was_at_expert)};
    uint64_t ns = 0;

    if (in_set && best_set && m.is_away && m.seat_of && m.num_empty && m.evicted && m.is_given_up &&
        m.was_at && m.was_at_expert && table->num_choices > 0) {
        ns = best_bound_ns(&m, in_set, best_set, bound_ns);
    }
    free(in_set);
    free(best_set);
    free(m.is_away);
    free(m.seat_of);
    free(m.num_empty);
    free(m.evicted);
    free(m.is_given_up);
    free(m.was_at);
    free(m.was_at_expert);
    return ns > bound_ns ? ns : bound_ns;
}
