/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of background repair share: what a document is worth, by brute force. */
#ifndef BACKGROUND_FIXTURE_H
#define BACKGROUND_FIXTURE_H

#include "tests/lib/planner_fixture.h"
#include "repair/background/outlook.h"
#include "repair/spread.h"

static inline eepi_view *new_view_of(eepi_view_shape shape)
{
    eepi_view *view = eepi_view_new(&shape);

    cr_assert_not_null(view);
    return view;
}

static inline bool is_staying(const eepi_view *view, int seat)
{
    return eepi_view_seat_at(view, seat)->state == EEP_SEAT_ACTIVE;
}

/* HOLDS or FILLING. */
static inline bool is_to_have(const eepi_view *view, int layer, int seat, int expert)
{
    for (int k = 0; k < view->shape.num_slots; k++) {
        const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, k);
        if (s->state != EEPI_SLOT_EMPTY && s->expert == expert) {
            return true;
        }
    }
    return false;
}

static inline int num_staying(const eepi_view *view)
{
    int staying = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        staying += is_staying(view, seat);
    }
    return staying;
}

static inline eepi_protection protection_of(const eepi_view *view, int layer, int expert)
{
    const int distance = eepi_spread_distance(&view->shape, num_staying(view));
    eepi_protection best = EEPI_BARE;
    int on[EEP_MAX_RANKS], n = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (is_staying(view, seat) && is_to_have(view, layer, seat, expert)) {
            on[n++] = seat;
        }
    }
    best = n > 1 ? EEPI_NEAR : n == 1 ? EEPI_SINGLE : EEPI_BARE;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
            if (eepi_spread_is_apart(&view->shape, distance, on[i], on[j])) {
                best = EEPI_APART;
            }
        }
    }
    return best;
}

/* The most loaded seat over the mean if each expert is split as well as possible: load is pushed
 * between the seats of an expert until little moves. */
static inline int peak_permille(const eepi_view *view, int layer, const uint32_t *loads)
{
    double on[64][64] = {0}, load[64] = {0}, total = 0, most = 0;
    const int experts = view->shape.num_experts, seats = view->shape.max_ranks;

    for (int expert = 0; expert < experts; expert++) {
        for (int seat = 0, first = 1; seat < seats; seat++) {
            if (first && is_staying(view, seat) && is_to_have(view, layer, seat, expert)) {
                on[expert][seat] = loads[expert];
                load[seat] += loads[expert];
                first = 0;
            }
        }
        total += loads[expert];
    }
    for (int sweep = 0; sweep < 200; sweep++) {
        for (int expert = 0; expert < experts; expert++) {
            for (int a = 0; a < seats; a++) {
                for (int b = 0; b < seats && on[expert][a] > 0; b++) {
                    double moves = (load[a] - load[b]) / 2;
                    if (moves <= 0 || !is_staying(view, b) || !is_to_have(view, layer, b, expert)) {
                        continue;
                    }
                    moves = moves < on[expert][a] ? moves : on[expert][a];
                    on[expert][a] -= moves;
                    on[expert][b] += moves;
                    load[a] -= moves;
                    load[b] += moves;
                }
            }
        }
    }
    for (int seat = 0; seat < seats; seat++) {
        most = load[seat] > most ? load[seat] : most;
    }
    return (int)(most * 1000 * num_staying(view) / total);
}
#endif
