/* SPDX-License-Identifier: Apache-2.0 */
/* Local search on the choices of a plan: a fill that crosses the most loaded link is taken back and
 * placed elsewhere. Where there is no better place, another fill makes room for it, and is itself
 * placed elsewhere, and so on (an ejection chain of bounded length). */
#include "repair/planner/plan_improve.h"

#include "repair/planner/plan_bound.h"
#include "repair/planner/plan_choose.h"
#include "repair/planner/plan_shift.h"

enum {
    /* Paths that are weighed: so many for any instance, for each member, and for each pair of them:
     * where there are many nodes, single ones have more than their part of what is to be restored,
     * and many exchanges pass before that is spread. */
    WORK = 8000,
    WORK_PER_MEMBER = 500,
    WORK_PER_PAIR = 30,
    SEATS_PER_WEIGHED = 8, /* that are looked at and not weighed take as long as one that is */
};

/* The fills that make room for another one: those of its layer that cross links between ranks,
 * whose seat it takes; or all of its layer, and it goes anywhere then; or those of all layers. */
typedef enum search_scope { REMOTE_OF_OWN_LAYER, OWN_LAYER, ALL_LAYERS, NUM_SCOPES } search_scope;

typedef struct search {
    search_scope scope;
    eepi_plan_table *table;
    eepi_view *view;
    uint64_t makespan_ns, bound_ns;
    int64_t work;    /* left */
    int to_retiring; /* fills that the chain at hand moved to RETIRING seats, and not from them */
} search;

/* The lists of a layer, for the fill at that depth of a chain: those that a shallower one has, or
 * new ones. */
static eepi_plan_layer *lists_of(search *s, int layer, int depth)
{
    eepi_plan_table *t = s->table;

    for (int i = 0; i <= depth; i++) {
        if (t->layers[i].layer == layer) {
            return &t->layers[i];
        }
    }
    for (int i = depth + 1; i <= EEPI_PLAN_CHAIN; i++) {
        t->layers[i].layer = -1; /* what it says may change under it */
    }
    eepi_plan_layer_count(&t->layers[depth], s->view, layer);
    eepi_plan_layer_list(&t->layers[depth]);
    s->work -= (int64_t)t->num_members * s->view->shape.num_slots / 4;
    return &t->layers[depth];
}

/* A new place for the fill that was taken back from `old`, on that seat or (-1) the best of all;
 * false: none that ends before the makespan. */
static bool choose_below(search *s, const eepi_plan_layer *l, const eepi_plan_choice *old, int seat,
                         eepi_plan_choice *new_out)
{
    eepi_plan_table *t = s->table;
    eepi_plan_weight weight;

    *new_out = *old;
    t->num_weighed = 1;
    eepi_plan_find_sources_of(t, s->view, old);
    const bool is_found = seat < 0 ? eepi_plan_choose(t, l, s->makespan_ns, new_out, &weight)
                                   : eepi_plan_choose_on(t, l, seat, new_out, &weight);
    s->work -= t->num_weighed + t->num_members / SEATS_PER_WEIGHED;
    return is_found && weight.most_ns < s->makespan_ns;
}

/* 1: the fill moves to a RETIRING seat, -1: from one, 0: neither. No chain moves more to them than
 * from them. */
static int moves_to_retiring(const search *s, const eepi_plan_choice *old,
                             const eepi_plan_choice *new)
{
    return (eepi_view_seat_at(s->view, new->seat)->state == EEP_SEAT_RETIRING) -
           (eepi_view_seat_at(s->view, old->seat)->state == EEP_SEAT_RETIRING);
}

/* Take the fill back from its new place; fills that made room for it get their slots back. */
static void give_up(search *s, eepi_plan_layer *l, const eepi_plan_choice *new, int32_t num_shifted)
{
    eepi_plan_displace(s->table, l, new);
    eepi_plan_shift_undo(s->table, l, num_shifted);
}

/* Put a fill back exactly where it was. */
static void restore(search *s, eepi_plan_layer *l, eepi_plan_choice *choice)
{
    eepi_plan_take_slot(l, choice);
    eepi_plan_load(&s->table->network, choice->source, choice->seat);
}

/* No recursion that has no bound: a chain is at most EEPI_PLAN_CHAIN long. */
static bool settle(search *s, eepi_plan_choice *choice, int depth, int most_depth);

/* `other`, which was taken back, makes room for `choice` on its own seat or anywhere. */
static bool settle_both(search *s, eepi_plan_choice *choice, eepi_plan_choice *other, int seat,
                        int depth, int most_depth)
{
    eepi_plan_layer *l = lists_of(s, choice->layer, depth);
    const eepi_plan_choice old = *choice;
    const int32_t num_shifted = s->table->num_shifted;
    eepi_plan_choice new;

    if (!choose_below(s, l, &old, seat, &new)) {
        return false;
    }
    eepi_plan_place(s->table, l, &new);
    s->to_retiring += moves_to_retiring(s, &old, &new);
    *choice = new;
    choice->is_settled = true;
    if (settle(s, other, depth + 1, most_depth)) {
        choice->is_settled = false;
        return true;
    }
    give_up(s, l, &new, num_shifted);
    s->to_retiring -= moves_to_retiring(s, &old, &new);
    *choice = old;
    return false;
}

static bool make_room(search *s, eepi_plan_choice *choice, eepi_plan_choice *other, int depth,
                      int most_depth)
{
    eepi_plan_layer *l = lists_of(s, other->layer, depth + 1);

    other->is_settled = true;
    eepi_plan_displace(s->table, l, other);
    if (settle_both(s, choice, other, other->seat, depth, most_depth) ||
        (s->scope > REMOTE_OF_OWN_LAYER && settle_both(s, choice, other, -1, depth, most_depth))) {
        other->is_settled = false;
        return true;
    }
    restore(s, l, other);
    other->is_settled = false;
    return false;
}

static bool may_make_room(const search *s, const eepi_plan_choice *choice,
                          const eepi_plan_choice *other)
{
    return s->scope == ALL_LAYERS || (other->layer == choice->layer &&
                                      (s->scope == OWN_LAYER || other->source != other->seat));
}

/* To the best place there is. */
static bool move(search *s, eepi_plan_layer *l, eepi_plan_choice *choice)
{
    eepi_plan_choice new;

    if (!choose_below(s, l, choice, -1, &new) ||
        s->to_retiring + moves_to_retiring(s, choice, &new) > 0) {
        return false;
    }
    eepi_plan_place(s->table, l, &new);
    *choice = new;
    return true;
}

/* Seats that have no slot to give may get one. */
static bool find_room(search *s, eepi_plan_layer *l)
{
    s->work -= s->table->num_members / SEATS_PER_WEIGHED;
    return eepi_plan_shift_find(s->table, l);
}

/* Place a fill that was taken back; false: nothing was found, all is as before. */
static bool settle(search *s, eepi_plan_choice *choice, int depth, int most_depth)
{
    eepi_plan_table *t = s->table;
    eepi_plan_layer *l = lists_of(s, choice->layer, depth);

    if (move(s, l, choice) || (find_room(s, l) && move(s, l, choice))) {
        return true;
    }
    eepi_plan_shift_forget(l);
    for (int i = 0; i < t->num_choices && depth < most_depth && s->work > 0; i++) {
        eepi_plan_choice *other = &t->choices[i];
        if (other != choice && !other->is_kept && !other->is_settled &&
            may_make_room(s, choice, other) && make_room(s, choice, other, depth, most_depth)) {
            return true;
        }
    }
    return false;
}

static bool is_critical(const search *s, const eepi_plan_choice *choice)
{
    return !choice->is_kept && eepi_plan_path_load_ns(&s->table->network, choice->source,
                                                      choice->seat) >= s->makespan_ns;
}

static bool is_done(const search *s)
{
    return s->work <= 0 || eepi_plan_is_close(s->makespan_ns, s->bound_ns);
}

/* All fills that cross the most loaded link, once; true if one was moved. */
static bool improve_round(search *s, int most_depth)
{
    eepi_plan_table *t = s->table;
    bool any = false;

    for (int i = 0; i < t->num_choices && !is_done(s); i++) {
        eepi_plan_choice *choice = &t->choices[i];
        if (!is_critical(s, choice)) {
            continue;
        }
        eepi_plan_layer *l = lists_of(s, choice->layer, 0);
        eepi_plan_displace(t, l, choice);
        choice->is_settled = true;
        s->to_retiring = 0;
        t->num_shifted = 0;
        if (settle(s, choice, 0, most_depth)) {
            any = true;
            s->makespan_ns = eepi_plan_makespan_ns(&t->network);
        } else {
            restore(s, l, choice);
        }
        choice->is_settled = false;
    }
    return any;
}

/* A fill from another rank goes where the node has a backup, if that makes the plan no longer: its
 * weights cross no link between ranks then. */
static bool move_to_backup(search *s, eepi_plan_choice *choice)
{
    eepi_plan_table *t = s->table;
    eepi_plan_layer *l = lists_of(s, choice->layer, 0);
    eepi_plan_choice to = *choice;
    uint64_t least_ns = s->makespan_ns + 1;

    eepi_plan_find_sources_of(t, s->view, choice);
    eepi_plan_displace(t, l, choice);
    for (int i = 0; i < t->num_of_sources; i++) {
        const int seat = t->sources[i];
        const uint64_t ns = eepi_plan_weigh_own(&t->network, seat).most_ns;
        if (ns < least_ns && eepi_plan_can_fill(l, seat) &&
            eepi_view_seat_at(s->view, seat)->state == EEP_SEAT_ACTIVE) {
            least_ns = ns;
            to.seat = to.source = seat;
        }
    }
    if (to.source != to.seat) {
        restore(s, l, choice);
        return false;
    }
    eepi_plan_place(t, l, &to);
    *choice = to;
    return true;
}

/* Until none is left, which ends: no fill comes back. */
static void use_backups(search *s)
{
    eepi_plan_table *t = s->table;
    bool any = true;

    s->makespan_ns = eepi_plan_makespan_ns(&t->network);
    while (any) {
        any = false;
        for (int i = 0; i < t->num_choices; i++) {
            eepi_plan_choice *choice = &t->choices[i];
            if (!choice->is_kept && choice->source != choice->seat) {
                any |= move_to_backup(s, choice);
            }
        }
    }
}

uint64_t eepi_plan_improve(eepi_plan_table *table, eepi_view *view)
{
    const int64_t members = table->num_members;
    search s = {.table = table,
                .view = view,
                .makespan_ns = eepi_plan_makespan_ns(&table->network),
                .bound_ns = eepi_plan_bound_ns(table, view),
                .work = WORK + members * WORK_PER_MEMBER + members * members * WORK_PER_PAIR};

    for (int i = 0; i <= EEPI_PLAN_CHAIN; i++) {
        table->layers[i].layer = -1;
    }
    /* Longer chains only where no shorter one helps, and what costs little first. */
    for (int depth = 0; depth <= EEPI_PLAN_CHAIN; depth++) {
        for (int scope = 0; scope < (depth ? NUM_SCOPES : 1); scope++) {
            s.scope = (search_scope)scope;
            while (!is_done(&s) && improve_round(&s, depth)) {
            }
        }
    }
    use_backups(&s);
    return s.bound_ns;
}
