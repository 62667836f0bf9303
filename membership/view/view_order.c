/* SPDX-License-Identifier: Apache-2.0 */
/* Wishes in a view document: taken over, met, and dropped. */
#include "membership/view/view_order.h"

#include <string.h>

void eepi_view_take_order(eepi_view *view, const eepi_order *order)
{
    view->order_number = order ? order->number : 0;
    view->order_digest = order ? order->digest : 0;
    if (order) {
        memcpy(eepi_view_wishes(view), order->wishes, eepi_wishes_bytes(&view->shape));
    } else {
        eepi_wishes_clear(eepi_view_wishes(view), &view->shape);
    }
}

static uint16_t *wishes_of(const eepi_view *view, int layer)
{
    return eepi_wishes_list(eepi_view_wishes(view), &view->shape) +
           eepi_wishes_index(&view->shape, layer, 0, 0);
}

const uint16_t *eepi_view_layer_wishes(const eepi_view *view, int layer)
{
    const int num = view->shape.max_ranks * view->shape.num_slots;
    const uint16_t *list = wishes_of(view, layer);

    for (int i = 0; view->order_number != 0 && i < num; i++) {
        if (list[i] != EEPI_NO_EXPERT) {
            return list;
        }
    }
    return NULL;
}

bool eepi_view_is_pinned(const eepi_view *view, int layer, int seat, int slot)
{
    return eepi_wishes_is_pinned(eepi_view_wishes(view),
                                 eepi_wishes_index(&view->shape, layer, seat, slot));
}

bool eepi_view_layer_has_pins(const eepi_view *view, int layer)
{
    const uint64_t *words = eepi_view_wishes(view);
    const size_t num = (size_t)view->shape.max_ranks * (size_t)view->shape.num_slots;
    const size_t first = eepi_wishes_index(&view->shape, layer, 0, 0), end = first + num;

    for (size_t at = first; view->order_number != 0 && at < end;) {
        if (at % 64 == 0 && words[at / 64] == 0) {
            at += 64;
        } else if (eepi_wishes_is_pinned(words, at++)) {
            return true;
        }
    }
    return false;
}

int eepi_view_num_unmet(const eepi_view *view, int layer, bool staying)
{
    const eepi_view_shape *shape = &view->shape;
    const uint16_t *wish = eepi_view_layer_wishes(view, layer);
    int unmet = 0;

    for (int seat = 0; wish && seat < shape->max_ranks; seat++) {
        const bool counts = staying ? eepi_view_seat_at(view, seat)->state == EEP_SEAT_ACTIVE
                                    : eepi_view_is_member(view, seat);
        for (int slot = 0; counts && slot < shape->num_slots; slot++) {
            const uint16_t wanted = wish[seat * shape->num_slots + slot];
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            unmet +=
                wanted != EEPI_NO_EXPERT && (s->state != EEPI_SLOT_HOLDS || s->expert != wanted);
        }
    }
    return unmet;
}

/* What the seats that stay have in a layer, and what is given there. */
typedef struct tally {
    int slots, without_wish; /* of these seats */
    int left;                /* experts that are given to none of them */
    bool moves;              /* somebody leaves, or a slot is empty or being filled */
} tally;

static tally tally_layer(const eepi_view *view, int layer, const uint16_t *wish)
{
    const eepi_view_shape *shape = &view->shape;
    uint64_t given[EEP_MAX_EXPERTS / 64 + 1];
    tally t = {.left = shape->num_experts};

    memset(given, 0, ((size_t)shape->num_experts / 64 + 1) * sizeof given[0]);
    for (int i = 0; i < shape->max_ranks * shape->num_slots; i++) {
        const int seat = i / shape->num_slots, slot = i % shape->num_slots;
        const int state = eepi_view_seat_at(view, seat)->state;
        t.moves |= state == EEP_SEAT_RETIRING;
        if (state != EEP_SEAT_ACTIVE) {
            continue;
        }
        t.slots++;
        t.moves |= eepi_view_slot_at(view, layer, seat, slot)->state != EEPI_SLOT_HOLDS;
        if (wish[i] == EEPI_NO_EXPERT) {
            t.without_wish++;
        } else if (!(given[wish[i] / 64] >> wish[i] % 64 & 1)) {
            given[wish[i] / 64] |= UINT64_C(1) << wish[i] % 64;
            t.left--;
        }
    }
    return t;
}

eepi_reach eepi_view_reach(const eepi_view *view, int layer)
{
    const uint16_t *wish = eepi_view_layer_wishes(view, layer);
    tally t;

    if (!wish || eepi_view_num_unmet(view, layer, true) == 0) {
        return EEPI_REACHABLE;
    }
    t = tally_layer(view, layer, wish);
    if (t.left > t.without_wish) {
        return EEPI_NO_ROOM;
    }
    return t.slots <= view->shape.num_experts && !t.moves ? EEPI_NO_SPARE : EEPI_REACHABLE;
}

int eepi_view_num_unreachable(const eepi_view *view, int *layer_out)
{
    int num = 0;

    for (int layer = 0; view->order_number != 0 && layer < view->shape.num_layers; layer++) {
        if (eepi_view_reach(view, layer) != EEPI_REACHABLE) {
            if (num == 0 && layer_out) {
                *layer_out = layer;
            }
            num += eepi_view_num_unmet(view, layer, true);
        }
    }
    return num;
}

static bool is_met(const eepi_view_slot *slot, uint16_t wish)
{
    return wish == EEPI_NO_EXPERT || (slot->state == EEPI_SLOT_HOLDS && slot->expert == wish);
}

static void exchange(eepi_view *view, size_t a, size_t b)
{
    uint16_t *list = eepi_wishes_list(eepi_view_wishes(view), &view->shape);
    uint64_t *words = eepi_view_wishes(view);
    const uint16_t was = list[a];

    list[a] = list[b];
    list[b] = was;
    if (eepi_wishes_is_pinned(words, a) != eepi_wishes_is_pinned(words, b)) {
        words[a / 64] ^= UINT64_C(1) << (a % 64);
        words[b / 64] ^= UINT64_C(1) << (b % 64);
    }
}

void eepi_view_exchange_wishes(eepi_view *view, int layer, int seat, int slot, int other)
{
    exchange(view, eepi_wishes_index(&view->shape, layer, seat, slot),
             eepi_wishes_index(&view->shape, layer, seat, other));
}

/* Each exchange meets a wish, and breaks none. */
static int align_seat(eepi_view *view, int layer, int seat)
{
    const eepi_view_slot *slots = eepi_view_slot_at(view, layer, seat, 0);
    const size_t first = eepi_wishes_index(&view->shape, layer, seat, 0);
    const uint16_t *wish = eepi_wishes_list(eepi_view_wishes(view), &view->shape) + first;
    int changed = 0;

    for (int slot = 0; slot < view->shape.num_slots; slot++) {
        for (int at = 0; !is_met(&slots[slot], wish[slot]) && at < view->shape.num_slots; at++) {
            if (slots[at].state == EEPI_SLOT_HOLDS && slots[at].expert == wish[slot] &&
                wish[at] != wish[slot]) {
                exchange(view, first + (size_t)slot, first + (size_t)at);
                changed++;
                at = -1; /* it has another wish now */
            }
        }
    }
    return changed;
}

static int drop_loose(eepi_view *view, int layer)
{
    const int num = view->shape.max_ranks * view->shape.num_slots;
    const uint64_t *words = eepi_view_wishes(view);
    const size_t first = eepi_wishes_index(&view->shape, layer, 0, 0);
    uint16_t *list = wishes_of(view, layer);
    int dropped = 0;

    for (int i = 0; i < num; i++) {
        if (list[i] != EEPI_NO_EXPERT && !eepi_wishes_is_pinned(words, first + (size_t)i)) {
            list[i] = EEPI_NO_EXPERT;
            dropped++;
        }
    }
    return dropped;
}

int eepi_view_settle_wishes(eepi_view *view)
{
    int changed = 0;

    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        if (!eepi_view_layer_wishes(view, layer)) {
            continue;
        }
        for (int seat = 0; seat < view->shape.max_ranks; seat++) {
            changed += eepi_view_is_member(view, seat) ? align_seat(view, layer, seat) : 0;
        }
        if (eepi_view_num_unmet(view, layer, true) == 0) {
            changed += drop_loose(view, layer);
        }
    }
    return changed;
}
