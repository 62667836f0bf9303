/* SPDX-License-Identifier: Apache-2.0 */
/* Coverage after a fault: for each expert that no member holds, a slot to fill and a living source;
 * and what becomes of slots that are being filled. */
#include "repair/planner/planner.h"

#include <stdarg.h>
#include <stdio.h>

/* Names of experts that cannot be restored, as text of bounded length. */
typedef struct reasons {
    char *text;
    size_t size, length;
    int num_named, num_in_clause;
} reasons;

__attribute__((format(printf, 2, 3))) static void reasons_add(reasons *r, const char *format, ...)
{
    va_list args;

    if (r->length >= r->size) {
        return;
    }
    va_start(args, format);
    const int n = vsnprintf(r->text + r->length, r->size - r->length, format, args);
    va_end(args);
    if (n > 0) {
        r->length += (size_t)n;
    }
}

static void reasons_name(reasons *r, int layer, int expert)
{
    if (r->num_in_clause++ == 0) {
        reasons_add(r, "%slayer %d: experts", r->num_named ? "; " : "", layer);
    }
    r->num_named++;
    reasons_add(r, " %d", expert);
}

static void reasons_end_clause(reasons *r, const char *predicate)
{
    if (r->num_in_clause) {
        reasons_add(r, " have %s", predicate);
    }
    r->num_in_clause = 0;
}

/* A text that was cut ends after a whole word, with "...". */
static void reasons_finish(reasons *r)
{
    static const char more[] = "...";

    if (r->length < r->size || r->size < sizeof more) {
        return;
    }
    size_t end = r->size - sizeof more;
    while (end > 0 && r->text[end - 1] != ' ') {
        end--;
    }
    snprintf(r->text + end, r->size - end, "%s", more);
}

/* What planning one document carries from layer to layer. */
typedef struct coverage {
    eepi_view *view;
    int num_fills;
    int to_seat[EEP_MAX_RANKS];   /* fills into a seat */
    int from_seat[EEP_MAX_RANKS]; /* fills from a seat's backup */
    reasons why;
    eepi_plan_table *replicas; /* of the layer at hand */
} coverage;

/* A slot that could take an expert; less is better, field by field. */
typedef struct target {
    int is_retiring;  /* the seat will leave: its slots go with it */
    int is_remote;    /* its seat has no backup of its own: weights cross a link */
    int is_taken;     /* costs another expert a replica, */
    int64_t scarcity; /* the more so the fewer that has (negative count) */
    int num_fills;    /* of its seat so far */
    int seat, slot;
} target;

static bool is_better(const target *a, const target *b)
{
    if (a->is_retiring != b->is_retiring) {
        return a->is_retiring < b->is_retiring;
    }
    if (a->is_remote != b->is_remote) {
        return a->is_remote < b->is_remote;
    }
    if (a->is_taken != b->is_taken) {
        return a->is_taken < b->is_taken;
    }
    if (a->scarcity != b->scarcity) {
        return a->scarcity < b->scarcity;
    }
    return a->num_fills < b->num_fills; /* then the one that was met first: lower seat and slot */
}

/* True if the slot may be filled, with what that costs. */
static bool weigh_slot(const coverage *c, int layer, int expert, int seat, int slot,
                       target *target_out)
{
    const eepi_view_slot *s = eepi_view_slot_at(c->view, layer, seat, slot);
    const uint32_t others = s->state == EEPI_SLOT_HOLDS ? c->replicas->count[s->expert] : 0;

    if (s->state == EEPI_SLOT_FILLING || (s->state == EEPI_SLOT_HOLDS && others < 2)) {
        return false; /* never an expert's last replica */
    }
    *target_out = (target){
        .is_retiring = eepi_view_seat_at(c->view, seat)->state == EEP_SEAT_RETIRING,
        .is_remote = !eepi_view_has_backup(c->view, seat, layer, expert),
        .is_taken = s->state == EEPI_SLOT_HOLDS,
        .scarcity = -(int64_t)others,
        .num_fills = c->to_seat[seat],
        .seat = seat,
        .slot = slot,
    };
    return true;
}

/* The best slot for the expert; `seat` -1 if there is none. */
static target choose_target(const coverage *c, int layer, int expert)
{
    target best = {.seat = -1}, candidate;

    for (int seat = 0; seat < c->view->shape.max_ranks; seat++) {
        if (!eepi_view_is_member(c->view, seat)) {
            continue;
        }
        for (int slot = 0; slot < c->view->shape.num_slots; slot++) {
            if (weigh_slot(c, layer, expert, seat, slot, &candidate) &&
                (best.seat < 0 || is_better(&candidate, &best))) {
                best = candidate;
            }
        }
    }
    return best;
}

/* The member with a backup that has been asked least; -1: there is none. */
static int choose_source(const coverage *c, int layer, int expert)
{
    int best = -1;

    for (int seat = 0; seat < c->view->shape.max_ranks; seat++) {
        if (eepi_view_is_member(c->view, seat) &&
            eepi_view_has_backup(c->view, seat, layer, expert) &&
            (best < 0 || c->from_seat[seat] < c->from_seat[best])) {
            best = seat;
        }
    }
    return best;
}

static void plan_fill(coverage *c, int layer, int expert)
{
    const target to = choose_target(c, layer, expert);

    if (to.seat < 0) {
        reasons_name(&c->why, layer, expert);
        return;
    }
    eepi_view_slot *slot = eepi_view_slot_at(c->view, layer, to.seat, to.slot);
    const int source = to.is_remote ? choose_source(c, layer, expert) : to.seat;
    if (slot->state == EEPI_SLOT_HOLDS) {
        c->replicas->count[slot->expert]--;
    }
    eepi_plan_set_slot(slot, EEPI_SLOT_FILLING, expert, source);
    c->to_seat[to.seat]++;
    c->from_seat[source]++;
    c->num_fills++;
}

/* What an earlier plan was filling goes on where it restores coverage: its owner may have the bytes
 * already. All else holds nothing. */
static void keep_useful_fills(coverage *c, int layer)
{
    eepi_view *view = c->view;
    bool *kept = c->replicas->kept;

    memset(kept, 0, (size_t)view->shape.num_experts * sizeof *kept);
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        for (int slot = 0; slot < view->shape.num_slots; slot++) {
            eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            int source;
            if (s->state != EEPI_SLOT_FILLING) {
                continue;
            }
            source = eepi_view_has_backup(view, seat, layer, s->expert)
                         ? seat
                         : choose_source(c, layer, s->expert);
            if (!eepi_view_is_member(view, seat) || c->replicas->count[s->expert] > 0 ||
                kept[s->expert] || source < 0) {
                eepi_plan_clear_slot(s);
                continue;
            }
            s->source = (uint16_t)source;
            kept[s->expert] = true;
            c->to_seat[seat]++;
            c->from_seat[source]++;
            c->num_fills++;
        }
    }
}

static void cover_layer(coverage *c, int layer)
{
    const int num_experts = c->view->shape.num_experts;

    eepi_plan_count_replicas(c->view, layer, -1, false, c->replicas);
    for (int expert = 0; expert < num_experts; expert++) {
        if (c->replicas->count[expert] == 0 && choose_source(c, layer, expert) < 0) {
            reasons_name(&c->why, layer, expert);
        }
    }
    reasons_end_clause(&c->why, "no live copy or backup");
    keep_useful_fills(c, layer);
    /* A fill takes exactly one spare slot, whichever: no choice leaves a later expert without one.
     * Counts of 0 stay 0 and others stay above: the same experts as before are uncovered. */
    for (int expert = 0; expert < num_experts; expert++) {
        if (c->replicas->count[expert] == 0 && !c->replicas->kept[expert] &&
            choose_source(c, layer, expert) >= 0) {
            plan_fill(c, layer, expert);
        }
    }
    reasons_end_clause(&c->why, "no live copy and no free slot");
}

eep_status eepi_plan_coverage(eepi_view *view, eepi_plan_table *table, int *num_fills_out,
                              char *why_out, size_t why_bytes)
{
    coverage c = {
        .view = view, .replicas = table, .why = {.text = why_out, .size = why_out ? why_bytes : 0}};

    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        cover_layer(&c, layer);
    }
    if (c.why.num_named > 0) {
        reasons_finish(&c.why);
        return EEP_ERR_UNCOVERED;
    }
    *num_fills_out = c.num_fills;
    return EEP_OK;
}

int eepi_plan_fills(const eepi_view *view, int seat, eepi_fill *fills_out, int capacity)
{
    int num_fills = 0;

    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        for (int at = seat < 0 ? 0 : seat; at < (seat < 0 ? view->shape.max_ranks : seat + 1);
             at++) {
            for (int slot = 0; slot < view->shape.num_slots; slot++) {
                const eepi_view_slot *s = eepi_view_slot_at(view, layer, at, slot);
                if (s->state != EEPI_SLOT_FILLING) {
                    continue;
                }
                if (num_fills < capacity) {
                    fills_out[num_fills] = (eepi_fill){layer, at, slot, s->expert, s->source};
                }
                num_fills++;
            }
        }
    }
    return num_fills;
}

/* Give all FILLING slots of a seat (-1: of all) another state; returns how many there were. */
static int end_fills(eepi_view *view, int seat, eepi_slot_state state)
{
    int num = 0;

    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        for (int at = 0; at < view->shape.max_ranks; at++) {
            for (int slot = 0; slot < view->shape.num_slots; slot++) {
                eepi_view_slot *s = eepi_view_slot_at(view, layer, at, slot);
                if (s->state != EEPI_SLOT_FILLING || (seat >= 0 && at != seat)) {
                    continue;
                }
                eepi_plan_set_slot(s, state, state == EEPI_SLOT_HOLDS ? s->expert : EEPI_NO_EXPERT,
                                   EEPI_NO_SEAT);
                num++;
            }
        }
    }
    return num;
}

int eepi_plan_filled(eepi_view *view, int seat)
{
    return end_fills(view, seat, EEPI_SLOT_HOLDS);
}

int eepi_plan_void(eepi_view *view)
{
    return end_fills(view, -1, EEPI_SLOT_EMPTY);
}

int eepi_plan_can_leave(const eepi_view *view, eepi_plan_table *table, int seat)
{
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        eepi_plan_count_replicas(view, layer, seat, true, table);
        for (int expert = 0; expert < view->shape.num_experts; expert++) {
            if (table->count[expert] == 0) {
                return 0;
            }
        }
    }
    return 1;
}
