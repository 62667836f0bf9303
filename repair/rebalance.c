/* SPDX-License-Identifier: Apache-2.0 */
/* Background repair: what is moved behind live traffic, one layer at a time (routing stabilisation
 * of DESIGN.md; the paper moves all of it inside the pause). Pure, as the planner. */
#include "repair/rebalance.h"

#include <stdlib.h>

/* One expert's whole traffic; a replica carries LOAD / replicas of it. */
enum { LOAD = 1 << 16 };

/* A layer as the round will leave it: FILLING slots count as held. Only seats that stay count. */
typedef struct outlook {
    eepi_view *view;
    int layer;
    uint16_t spread[EEP_MAX_EXPERTS];   /* seats that have the expert */
    uint16_t replicas[EEP_MAX_EXPERTS]; /* slots that have it */
    uint16_t holds[EEP_MAX_EXPERTS];    /* of these, slots that hold it already */
    int64_t load[EEP_MAX_RANKS];
    int from_seat[EEP_MAX_RANKS], to_seat[EEP_MAX_RANKS]; /* fills of this round */
} outlook;

static bool stays(const eepi_view *view, int seat)
{
    return eepi_view_is_member(view, seat) &&
           eepi_view_seat_at(view, seat)->state != EEP_SEAT_RETIRING;
}

static eepi_view_slot *slot_at(const outlook *o, int seat, int slot)
{
    return eepi_view_slot_at(o->view, o->layer, seat, slot);
}

static int copies_on(const outlook *o, int seat, int expert)
{
    int copies = 0;

    for (int slot = 0; slot < o->view->shape.num_slots; slot++) {
        copies += slot_at(o, seat, slot)->expert == expert;
    }
    return copies;
}

static int64_t share(int replicas)
{
    return replicas > 0 ? LOAD / replicas : 0;
}

static void look(outlook *o)
{
    const eepi_view_shape *shape = &o->view->shape;

    for (int expert = 0; expert < shape->num_experts; expert++) {
        o->spread[expert] = o->replicas[expert] = o->holds[expert] = 0;
    }
    for (int seat = 0; seat < shape->max_ranks; seat++) {
        o->load[seat] = 0;
        for (int slot = 0; slot < shape->num_slots && stays(o->view, seat); slot++) {
            const eepi_view_slot *s = slot_at(o, seat, slot);
            bool again = false;
            if (s->state == EEPI_SLOT_EMPTY) {
                continue;
            }
            for (int before = 0; before < slot && !again; before++) {
                again = slot_at(o, seat, before)->expert == s->expert;
            }
            o->spread[s->expert] += !again;
            o->replicas[s->expert]++;
            o->holds[s->expert] += s->state == EEPI_SLOT_HOLDS;
        }
    }
    for (int seat = 0; seat < shape->max_ranks; seat++) {
        for (int slot = 0; slot < shape->num_slots && stays(o->view, seat); slot++) {
            const eepi_view_slot *s = slot_at(o, seat, slot);
            if (s->state != EEPI_SLOT_EMPTY) {
                o->load[seat] += share(o->replicas[s->expert]);
            }
        }
    }
}

/* A member that has the expert's weights, asked least in this round: in a slot, or as a backup.
 * -1: nobody. */
static int choose_source(const outlook *o, int expert)
{
    int best = -1;

    for (int seat = 0; seat < o->view->shape.max_ranks; seat++) {
        bool has = false;
        if (!eepi_view_is_member(o->view, seat)) {
            continue;
        }
        has = eepi_view_has_backup(o->view, seat, o->layer, expert);
        for (int slot = 0; slot < o->view->shape.num_slots && !has; slot++) {
            const eepi_view_slot *s = slot_at(o, seat, slot);
            has = s->state == EEPI_SLOT_HOLDS && s->expert == expert;
        }
        if (has && (best < 0 || o->from_seat[seat] < o->from_seat[best])) {
            best = seat;
        }
    }
    return best;
}

/* Give the slot to the expert; false if nobody has its weights. */
static bool fill(outlook *o, int expert, int seat, int slot)
{
    const bool own = eepi_view_has_backup(o->view, seat, o->layer, expert);
    const int source = own ? seat : choose_source(o, expert); /* local reuse first */

    if (source < 0) {
        return false;
    }
    *slot_at(o, seat, slot) = (eepi_view_slot){
        .expert = (uint16_t)expert, .source = (uint16_t)source, .state = EEPI_SLOT_FILLING};
    o->from_seat[source]++;
    o->to_seat[seat]++;
    look(o);
    return true;
}

/* ---------------------------------------------------------------- redundancy */

/* What a slot costs that is taken for an expert with `spread` seats: nothing (empty, or the seat
 * has its expert twice), or a replica of an expert that has at least two seats more. -1: not to be
 * had.
 */
static int cost_of(const outlook *o, int spread, int seat, int slot)
{
    const eepi_view_slot *s = slot_at(o, seat, slot);

    if (s->state == EEPI_SLOT_EMPTY) {
        return 0;
    }
    if (s->state == EEPI_SLOT_FILLING || o->holds[s->expert] < 2) {
        return -1; /* never an expert's last live replica */
    }
    if (copies_on(o, seat, s->expert) > 1) {
        return 1;
    }
    return o->spread[s->expert] >= spread + 2 ? EEP_MAX_RANKS + 2 - o->spread[s->expert] : -1;
}

/* Put the expert on one seat more if some slot is worth it. */
static bool spread_expert(outlook *o, int expert)
{
    const eepi_view_shape *shape = &o->view->shape;
    int best_seat = -1, best_slot = -1, best_cost = 0;

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        if (!stays(o->view, seat) || copies_on(o, seat, expert) > 0) {
            continue;
        }
        for (int slot = 0; slot < shape->num_slots; slot++) {
            const int cost = cost_of(o, o->spread[expert], seat, slot);
            const bool better =
                cost >= 0 && (best_seat < 0 || cost < best_cost ||
                              (cost == best_cost && o->to_seat[seat] < o->to_seat[best_seat]) ||
                              (cost == best_cost && o->to_seat[seat] == o->to_seat[best_seat] &&
                               o->load[seat] < o->load[best_seat]));
            if (better) {
                best_seat = seat;
                best_slot = slot;
                best_cost = cost;
            }
        }
    }
    return best_seat >= 0 && fill(o, expert, best_seat, best_slot);
}

/* The next expert from `from` on that has so many seats; -1: none. */
static int next_needy(const outlook *o, int spread, int from)
{
    for (int expert = from; expert < o->view->shape.num_experts; expert++) {
        if (o->spread[expert] == spread) {
            return expert;
        }
    }
    return -1;
}

static int restore_redundancy(outlook *o, int max_fills)
{
    const eepi_view_shape *shape = &o->view->shape;
    int fills = 0;

    for (int spread = 0; spread < shape->max_ranks; spread++) {
        int expert = next_needy(o, spread, 0);
        while (expert >= 0 && fills < max_fills) {
            fills += spread_expert(o, expert);
            expert = next_needy(o, spread, expert + 1);
        }
    }
    return fills;
}

/* ---------------------------------------------------------------- balance */

/* By how much the sum of the squared loads falls if the slot, which holds `taken`, goes to
 * `expert`; all other replicas of both carry a different share then. */
static int64_t gain_of(const outlook *o, int expert, int taken, int at)
{
    const int64_t more =
        share(o->replicas[expert] + 1) - share(o->replicas[expert]); /* for each other replica */
    const int64_t less = share(o->replicas[taken] - 1) - share(o->replicas[taken]);
    int64_t gain = 0;

    for (int seat = 0; seat < o->view->shape.max_ranks; seat++) {
        int64_t change;
        if (!stays(o->view, seat)) {
            continue;
        }
        change =
            copies_on(o, seat, expert) * more + (copies_on(o, seat, taken) - (seat == at)) * less;
        if (seat == at) {
            change += share(o->replicas[expert] + 1) - share(o->replicas[taken]);
        }
        gain -= change * (2 * o->load[seat] + change);
    }
    return gain;
}

/* Relieve the most loaded seat of part of one expert, by a slot elsewhere whose expert has one
 * replica more: the two change places, and redundancy stays as it is. Only for a gain of one
 * expert's whole load squared, so that small differences move nothing. */
static bool relieve(outlook *o)
{
    const eepi_view_shape *shape = &o->view->shape;
    int64_t best = (int64_t)LOAD * LOAD - 1;
    int most = -1, best_expert = -1, best_seat = -1, best_slot = -1;

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        if (stays(o->view, seat) && (most < 0 || o->load[seat] > o->load[most])) {
            most = seat;
        }
    }
    for (int from = 0; most >= 0 && from < shape->num_slots; from++) {
        const int expert = slot_at(o, most, from)->expert;
        if (slot_at(o, most, from)->state != EEPI_SLOT_HOLDS) {
            continue;
        }
        for (int seat = 0; seat < shape->max_ranks; seat++) {
            if (!stays(o->view, seat) || copies_on(o, seat, expert) > 0) {
                continue;
            }
            for (int slot = 0; slot < shape->num_slots; slot++) {
                const eepi_view_slot *s = slot_at(o, seat, slot);
                int64_t gain;
                if (s->state != EEPI_SLOT_HOLDS || o->holds[s->expert] < 2 ||
                    o->spread[s->expert] != o->spread[expert] + 1 ||
                    copies_on(o, seat, s->expert) > 1) {
                    continue;
                }
                gain = gain_of(o, expert, s->expert, seat);
                if (gain > best) {
                    best = gain;
                    best_expert = expert;
                    best_seat = seat;
                    best_slot = slot;
                }
            }
        }
    }
    return best_seat >= 0 && fill(o, best_expert, best_seat, best_slot);
}

int eepi_plan_background(eepi_view *view, int layer, int max_fills)
{
    outlook *o = calloc(1, sizeof *o);
    int fills;

    if (!o) {
        return 0; /* it can wait until there is memory */
    }
    o->view = view;
    o->layer = layer;
    look(o);
    fills = restore_redundancy(o, max_fills);
    while (fills < max_fills && relieve(o)) {
        fills++;
    }
    free(o);
    return fills;
}
