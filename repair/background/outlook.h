/* SPDX-License-Identifier: Apache-2.0 */
/* A layer as a round will leave it: FILLING slots count as held. Counts are kept while slots change
 * hands, so nothing looks at all seats to place one replica. An expert's load is split over its
 * replicas as the router will be told: so that the most loaded of its seats carries least. */
#ifndef EEPI_OUTLOOK_H
#define EEPI_OUTLOOK_H

#include "membership/view/view_order.h"
#include "repair/background/background.h"

typedef enum eepi_protection {
    EEPI_BARE = 0,   /* on no seat that stays */
    EEPI_SINGLE = 1, /* on one */
    EEPI_NEAR = 2,   /* on several, no two of them apart */
    EEPI_APART = 3,  /* on two that are apart */
} eepi_protection;

enum { EEPI_NOTHING = -1 };

typedef struct eepi_outlook_expert {
    int64_t weight;     /* its traffic */
    int32_t first;      /* a slot that has it; then next[] of that slot ... */
    int32_t slots;      /* of staying seats, that have it */
    int32_t seats;      /* different ones of these */
    int32_t live;       /* slots of members that hold it already */
    int32_t hot;        /* seats that it needs under the target */
    uint8_t protection; /* eepi_protection */
} eepi_outlook_expert;

typedef struct eepi_outlook_seat {
    int64_t load;
    int32_t node;
    int32_t filled; /* in the round */
    bool member, stays;
} eepi_outlook_seat;

typedef struct eepi_outlook {
    eepi_view *view;
    eepi_view_shape shape;
    int32_t layer, distance, num_nodes, num_staying;
    eepi_view_slot *slot; /* [max_ranks * num_slots] of the layer */
    eepi_outlook_seat *seat;
    eepi_outlook_expert *expert;
    int32_t *next;    /* [max_ranks * num_slots] slot with the same expert; EEPI_NOTHING */
    int64_t *carried; /* [max_ranks * num_slots] of its expert's load, by that slot */
    int32_t *sorted;  /* [max_ranks * num_slots] scratch of a split */
    int32_t *fills;   /* [max_ranks * num_slots] slots that this call fills */
    int32_t num_fills, num_exposed;
    int32_t bare, lacking, single, near, empty;
    int64_t total, mean, target, start, pay; /* loads */
    bool has_loads;
    bool routed; /* of what is routed to now: HOLDS slots of all members, and not the round's end */
    const uint16_t *wish; /* [max_ranks * num_slots] what an order gives the slots; NULL: nothing */
    bool order_moves;     /* else slots with a wish stay as they are (rule R4) */
    eepi_background_limits limits;
} eepi_outlook;

/* The counts that order documents, most important first; a difference of two layers. */
typedef struct eepi_outlook_change {
    int32_t bare, lacking, single, near;
} eepi_outlook_change;

/* Seats, distance and nodes of the document. */
void eepi_outlook_begin(eepi_outlook *o, eepi_view *view, bool routed);
/* Look at a layer. */
void eepi_outlook_read(eepi_outlook *o, int layer, const uint32_t *loads,
                       const eepi_background_limits *limits);
/* Give the slot to the expert: FILLING from now on. */
void eepi_outlook_fill(eepi_outlook *o, int slot, int expert);
/* Take back the last fill; `was` is what the slot was before it. */
void eepi_outlook_take_back(eepi_outlook *o, eepi_view_slot was);

/* What an expert's protection would be without one of its slots (EEPI_NOTHING: with all) and with
 * one seat more (EEPI_NOTHING: none). */
eepi_protection eepi_outlook_protection(const eepi_outlook *o, int expert, int without, int with);
/* Count what changes if the expert had that slot less and that seat more. */
eepi_outlook_change eepi_outlook_changes(const eepi_outlook *o, int expert, int without, int with);
/* < 0, 0, > 0: the two changes together make the layer better, no different, worse. */
int eepi_outlook_order(eepi_outlook_change a, eepi_outlook_change b);
/* Split the load of one expert, or of all in turn until no seat is above the target or nothing is
 * gained. The load above the target never rises. */
void eepi_outlook_split(eepi_outlook *o, int expert);
void eepi_outlook_split_all(eepi_outlook *o);
/* Write the splits into the document's slots; whether any changed. */
bool eepi_outlook_write_split(eepi_outlook *o);
/* What the expert's other replicas can take over under the target. */
int64_t eepi_outlook_room(const eepi_outlook *o, int expert, int without);
int64_t eepi_outlook_most(const eepi_outlook *o);
int64_t eepi_outlook_all_above(const eepi_outlook *o);
/* The slot may be given away at all: its expert loses no last live replica, and is not one too many
 * that is exposed, and no order has given it to somebody. EMPTY slots may. A seat that is to fill
 * enough of them already gives none. */
bool eepi_outlook_may_take(const eepi_outlook *o, int slot);

static inline int eepi_outlook_seat_of(const eepi_outlook *o, int slot)
{
    return slot / o->shape.num_slots;
}

static inline bool eepi_outlook_apart(const eepi_outlook *o, int a, int b)
{
    const int forward = a < b ? b - a : a - b;
    const int back = o->shape.max_ranks - forward;

    return (forward < back ? forward : back) >= o->distance &&
           !eepi_view_are_mates(&o->shape, a, b) &&
           (o->num_nodes == 1 || o->seat[a].node != o->seat[b].node);
}

static inline bool eepi_outlook_has(const eepi_outlook *o, int seat, int expert)
{
    for (int s = o->expert[expert].first; s != EEPI_NOTHING; s = o->next[s]) {
        if (s / o->shape.num_slots == seat) {
            return true;
        }
    }
    return false;
}

static inline int64_t eepi_outlook_above(const eepi_outlook *o, int64_t load)
{
    return load > o->target ? load - o->target : 0;
}
#endif
