/* SPDX-License-Identifier: Apache-2.0 */
/* Which rank puts which expert into host memory. */
#include "repair/backup_plan.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* A node with members. */
typedef struct node {
    int first, num_members; /* in seats */
    int of_layer, of_all;   /* experts that it keeps */
    bool is_taken;          /* for the expert at hand */
} node;

typedef struct plan {
    const eepi_view *view;
    int *seats; /* of members, in order */
    node *nodes;
    uint64_t *held; /* [num_nodes][words]: in a slot of the layer */
    int num_nodes, copies;
    int least_of_layer; /* of the nodes that are not taken */
} plan;

static void list_nodes(plan *p)
{
    const eepi_view_shape *shape = &p->view->shape;
    int num_seats = 0, last = -1;

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        const int at = eepi_view_node_of(shape, seat);
        if (!eepi_view_is_member(p->view, seat)) {
            continue;
        }
        if (at != last) {
            p->nodes[p->num_nodes++] = (node){.first = num_seats};
            last = at;
        }
        p->nodes[p->num_nodes - 1].num_members++;
        p->seats[num_seats++] = seat;
    }
}

static uint64_t *held_at(const plan *p, int at)
{
    return p->held + (size_t)at * (size_t)eepi_view_backup_words(&p->view->shape);
}

static void note_held(plan *p, int layer)
{
    const eepi_view_shape *shape = &p->view->shape;

    memset(p->held, 0,
           (size_t)p->num_nodes * (size_t)eepi_view_backup_words(shape) * sizeof *p->held);
    for (int at = 0; at < p->num_nodes; at++) {
        for (int i = 0; i < p->nodes[at].num_members * shape->num_slots; i++) {
            const int seat = p->seats[p->nodes[at].first + i / shape->num_slots];
            const eepi_view_slot *slot =
                eepi_view_slot_at(p->view, layer, seat, i % shape->num_slots);
            if (slot->state == EEPI_SLOT_HOLDS) {
                held_at(p, at)[slot->expert / 64] |= UINT64_C(1) << (slot->expert % 64);
            }
        }
    }
}

/* Is `a` the better node for one more copy of the expert? */
static bool is_better(const plan *p, int expert, int a, int b)
{
    const node *x = &p->nodes[a], *y = &p->nodes[b];
    const bool full_a = x->of_layer > p->least_of_layer + 1;
    const bool full_b = y->of_layer > p->least_of_layer + 1;
    const uint64_t held_a = held_at(p, a)[expert / 64] >> (expert % 64) & 1u;
    const uint64_t held_b = held_at(p, b)[expert / 64] >> (expert % 64) & 1u;

    if (full_a != full_b) {
        return full_b;
    }
    if (held_a != held_b) {
        return held_b != 0;
    }
    if (x->of_all != y->of_all) {
        return x->of_all < y->of_all;
    }
    return (a + expert) % p->num_nodes < (b + expert) % p->num_nodes;
}

static int least_of_layer(const plan *p)
{
    int least = INT_MAX;

    for (int at = 0; at < p->num_nodes; at++) {
        if (!p->nodes[at].is_taken && p->nodes[at].of_layer < least) {
            least = p->nodes[at].of_layer;
        }
    }
    return least;
}

/* Does the rank in `seat` put the expert there? */
static bool place_expert(plan *p, int expert, int seat)
{
    bool is_own = false;

    for (int at = 0; at < p->num_nodes; at++) {
        p->nodes[at].is_taken = false;
    }
    for (int copy = 0; copy < p->copies; copy++) {
        int best = -1;
        p->least_of_layer = least_of_layer(p);
        for (int at = 0; at < p->num_nodes; at++) {
            if (!p->nodes[at].is_taken && (best < 0 || is_better(p, expert, at, best))) {
                best = at;
            }
        }
        node *n = &p->nodes[best];
        is_own |= p->seats[n->first + n->of_all % n->num_members] == seat;
        n->is_taken = true;
        n->of_layer++;
        n->of_all++;
    }
    return is_own;
}

static void place_all(plan *p, int copies, int seat, uint64_t *wanted_out)
{
    const eepi_view_shape *shape = &p->view->shape;
    const int words = eepi_view_backup_words(shape);

    list_nodes(p);
    p->copies = copies < p->num_nodes ? copies : p->num_nodes;
    if (p->copies == 0) {
        return;
    }
    for (int layer = 0; layer < shape->num_layers; layer++) {
        note_held(p, layer);
        for (int at = 0; at < p->num_nodes; at++) {
            p->nodes[at].of_layer = 0;
        }
        for (int expert = 0; expert < shape->num_experts; expert++) {
            if (place_expert(p, expert, seat)) {
                wanted_out[layer * words + expert / 64] |= UINT64_C(1) << (expert % 64);
            }
        }
    }
}

eep_status eepi_plan_backups(const eepi_view *initial, int copies, int seat, uint64_t *wanted_out)
{
    const eepi_view_shape *shape = &initial->shape;
    const size_t seats = (size_t)shape->max_ranks, words = (size_t)eepi_view_backup_words(shape);
    const size_t nodes = (size_t)eepi_view_num_nodes(shape);
    plan p = {.view = initial,
              .seats = calloc(seats, sizeof *p.seats),
              .nodes = calloc(nodes, sizeof *p.nodes),
              .held = calloc(nodes * words, sizeof *p.held)};
    const eep_status status = p.seats && p.nodes && p.held ? EEP_OK : EEP_ERR_NO_MEMORY;

    memset(wanted_out, 0, (size_t)shape->num_layers * words * sizeof *wanted_out);
    if (status == EEP_OK) {
        place_all(&p, copies, seat, wanted_out);
    }
    free(p.seats);
    free(p.nodes);
    free(p.held);
    return status;
}
