/* SPDX-License-Identifier: Apache-2.0 */
/* Background repair, as pure functions on a view document: redundancy, distance and balance come
 * back behind live traffic. All memory is taken once. Integers only, so that the same input gives
 * the same plan everywhere. */
#ifndef EEPI_BACKGROUND_H
#define EEPI_BACKGROUND_H

#include "repair/link_costs.h"

/* Permille of the mean load of the seats that stay. */
typedef struct eepi_background_limits {
    int32_t max_fills;       /* of one layer in one call */
    int32_t max_of_seat;     /* of one seat in one round: they follow one another there */
    int32_t max_exposed;     /* experts that may meanwhile have one live replica fewer than two */
    int32_t target_permille; /* balance moves end when no seat carries more, */
    int32_t start_permille;  /* and begin only when a seat carries more than this */
    int32_t pay_permille;    /* a fill must lower what seats carry too much by so much */
} eepi_background_limits;

/* 16 fills, 16 of a seat, 8 exposed, target 1.05, start 1.08, pay 0.5 %. */
extern const eepi_background_limits eepi_background_defaults;

/* What planning needs beside the document: of one layer at a time, a few words per slot, seat and
 * expert. */
typedef struct eepi_background eepi_background;

/* NULL: no memory. */
eepi_background *eepi_background_new(const eepi_view_shape *shape);
void eepi_background_free(eepi_background *background);

/* A round begins: the layers that follow share one document, whose members stay as they are, and
 * the fills of all of them add up on links and targets. `links` NULL: nothing is known of them;
 * `expert_bytes` 0: unknown. */
void eepi_background_begin(eepi_background *background, eepi_view *view, const eepi_links *links,
                           uint64_t expert_bytes);

/* One layer of the round's document, which covers all experts. Marks up to limits->max_fills slots
 * FILLING, each with a source, and returns how many. `loads` is [num_experts], NULL: uniform. Seats
 * that retire keep what they hold, and count for nothing else. In this order:
 *   0. What an engine ordered (membership/view/wishes.h): where a slot does not hold its wish, that
 * is mended, and nothing else. What follows leaves slots with a wish as they are, but for an expert
 * that is on no seat that stays and has no other slot (rules R3, R4).
 *   1. Each expert is on a seat that stays, so RETIRING seats lose what only they have.
 *   2. Each expert is on two seats that are apart (repair/spread.h), the hottest first. On two
 * seats that are too near is better than on one, and is no rest: a replica moves, or two change
 * places. What gives its slot keeps its own protection and as many replicas as its load needs under
 * the target. A seat whose load rises stays under the target where any slot allows that.
 *   3. Balance, while a seat carries more than start_permille: slots change hands, or two experts
 * change places, until no seat carries more than target_permille. No expert's protection gets
 * worse, unless the new replica is one without which the target cannot be reached.
 *   4. EMPTY slots that are left take the experts with the most load per replica.
 * Sources are chosen as for a fault (eepi_plan_source_for): the target's own backup; else of all
 * backups and replicas, as they are when the round is decided, the one whose path to the target
 * ends first behind what the round has planned for its links.
 * The last live replica of an expert is never taken. Each fill of 1 to 4 lowers (experts on no
 * staying seat, replicas that hot experts lack, experts on one seat, experts on near seats, EMPTY
 * slots, load above the target), the first that changes counting: so planning ends, and a layer at
 * rest stays at rest (0). */
int eepi_background_layer(eepi_background *background, int layer, const uint32_t *loads,
                          const eepi_background_limits *limits);

/* Split the loads of a layer over the replicas that are routed to, HOLDS slots of members, so that
 * the most loaded seat carries as little as possible: their shares. Without `anew` shares stay as
 * they are while they leave no seat above the target, or nearly no better ones are possible.
 * Returns whether a share changed. May stand between two layers of a round. */
bool eepi_background_split(eepi_background *background, eepi_view *view, int layer,
                           const uint32_t *loads, const eepi_background_limits *limits, bool anew);

/* Of the layer planned last, as it will be: */
typedef struct eepi_background_state {
    int64_t most_permille;      /* most loaded seat over the mean, an expert split equally */
    int32_t bare, single, near; /* experts on no staying seat, on one, on near ones only */
    int32_t lacking;            /* replicas that hot experts lack under the target */
    int32_t empty;              /* EMPTY slots of seats that stay */
    int32_t protecting;         /* fills for redundancy and distance */
} eepi_background_state;
eepi_background_state eepi_background_state_of(const eepi_background *background);
#endif
