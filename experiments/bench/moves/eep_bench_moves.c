/* SPDX-License-Identifier: Apache-2.0 */
/* What background repair moves after a loss, and what its planning costs: seeded loads, a row a
 * case. Each law of loads and shape begins with a fresh placement of its own; then one rank is
 * lost, or one node, and planning goes on until nothing is left to do. Loads after a loss are those
 * before it, and what the loss uncovers was restored inside the pause.
 *
 *     eep-bench-moves [LAYERS [SEED]] */
#include "experiments/bench/moves/equal_moves.h"
#include "repair/background/background.h"
#include "repair/placement.h"
#include "repair/planner/planner.h"
#include "experiments/base/expert_loads.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REPEATS = 30, MOST_ROUNDS = 100 };

typedef struct bench {
    const char *law;
    eepi_view_shape shape;
    eepi_view *placed;
    uint32_t *loads; /* [num_layers][num_experts] */
    eepi_background *background;
    eepi_background_limits limits;
} bench;

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n, size);

    if (!memory) {
        fputs("eep-bench-moves: no memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* ---------------------------------------------------------------- documents */

static const uint32_t *loads_of(const bench *b, int layer)
{
    return b->loads + (size_t)layer * (size_t)b->shape.num_experts;
}

static void set_up(bench *b, uint64_t seed)
{
    const size_t experts = (size_t)b->shape.num_experts;
    uint64_t random = seed;
    eepi_plan_wish wish = {.goal = EEPI_PLACE_MIXED};

    b->placed = eepi_view_new(&b->shape);
    b->background = eepi_background_new(&b->shape);
    b->loads = allocate((size_t)b->shape.num_layers * experts, sizeof *b->loads);
    b->limits = eepi_background_defaults;
    for (int layer = 0; layer < b->shape.num_layers; layer++) {
        if (expert_loads_draw(b->law, b->shape.num_experts, &random,
                              b->loads + (size_t)layer * experts) != EEP_OK) {
            fputs("eep-bench-moves: no memory\n", stderr);
            exit(1);
        }
    }
    for (int seat = 0; seat < b->shape.max_ranks; seat++) {
        *eepi_view_seat_at(b->placed, seat) =
            (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
    }
    wish.loads = b->loads;
    if (!b->background || eepi_plan_fresh(b->placed, &wish) != EEP_OK) {
        fputs("eep-bench-moves: no placement\n", stderr);
        exit(1);
    }
    for (int layer = 0; layer < b->shape.num_layers; layer++) {
        (void)eepi_background_split(b->background, b->placed, layer, loads_of(b, layer), &b->limits,
                                    true);
    }
}

static void tear_down(bench *b)
{
    eepi_background_free(b->background);
    free(b->placed);
    free(b->loads);
}

/* Seats are lost, and what nobody holds any more is restored from the backups of the others. */
static void lose(const bench *b, eepi_view *view, int from, int n)
{
    eepi_plan_table *table = eepi_plan_table_new(&view->shape);

    for (int seat = from; seat < from + n; seat++) {
        eepi_view_seat_at(view, seat)->state = EEP_SEAT_VACANT;
    }
    eepi_plan_empty_nonmembers(view);
    for (int i = 0; i < b->shape.num_layers * b->shape.num_experts; i++) {
        const int layer = i / b->shape.num_experts, expert = i % b->shape.num_experts;
        for (int seat = 0; seat < b->shape.max_ranks; seat++) {
            eepi_view_set_backup(view, seat, layer, expert, eepi_view_is_member(view, seat));
        }
    }
    if (!table || eepi_plan_coverage(view, table, NULL, NULL, NULL, 0) != EEP_OK) {
        fputs("eep-bench-moves: experts are lost\n", stderr);
        exit(1);
    }
    (void)eepi_plan_filled(view, -1);
    eepi_plan_table_free(table);
}

/* ---------------------------------------------------------------- rows */

typedef struct sums {
    double protecting, forced, levelling, equal, before, after, worst, us;
    int most_protecting, most_levelling, most_equal, stuck, single, near;
} sums;

static double thread_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* How a layer stands with its best split, nothing moved. */
static eepi_background_state look(bench *b, eepi_view *view, int layer)
{
    eepi_background_limits none = b->limits;

    none.max_fills = 0;
    eepi_background_begin(b->background, view, NULL, 0);
    (void)eepi_background_layer(b->background, layer, loads_of(b, layer), &none);
    return eepi_background_state_of(b->background);
}

/* Rounds until nothing moves. */
static void settle(bench *b, eepi_view *view, int layer, int *protecting_out, int *all_out)
{
    int fills = 1;

    *protecting_out = *all_out = 0;
    for (int round = 0; fills > 0 && round < MOST_ROUNDS; round++) {
        eepi_background_begin(b->background, view, NULL, 0);
        fills = eepi_background_layer(b->background, layer, loads_of(b, layer), &b->limits);
        *protecting_out += eepi_background_state_of(b->background).protecting;
        *all_out += fills;
        (void)eepi_plan_filled(view, -1);
        (void)eepi_background_split(b->background, view, layer, loads_of(b, layer), &b->limits,
                                    true);
    }
}

static void run_layer(bench *b, const eepi_view *lost, eepi_view *view, int layer, sums *s)
{
    const eepi_background_state before = look(b, view, layer);
    bool stuck;
    const int equal = equal_moves(&b->shape, eepi_view_slot_at(view, layer, 0, 0),
                                  loads_of(b, layer), b->limits.target_permille, &stuck);
    eepi_view *first = eepi_view_copy(lost);
    eepi_background_state after;
    double least = INFINITY;
    int protecting, all;

    for (int repeat = 0; repeat < REPEATS / 10; repeat++) { /* the first round of its planning */
        const double start = thread_us();
        eepi_background_begin(b->background, first, NULL, 0);
        (void)eepi_background_layer(b->background, layer, loads_of(b, layer), &b->limits);
        least = fmin(least, thread_us() - start);
        memcpy(first, lost, lost->bytes);
    }
    free(first);
    settle(b, view, layer, &protecting, &all);
    after = look(b, view, layer);
    s->us = fmax(s->us, least);
    s->protecting += protecting;
    s->levelling += all - protecting;
    s->forced += fmax(0, before.single + before.near - after.single - after.near);
    s->equal += equal;
    s->most_equal = equal > s->most_equal ? equal : s->most_equal;
    s->stuck += stuck;
    s->most_protecting = protecting > s->most_protecting ? protecting : s->most_protecting;
    s->most_levelling = all - protecting > s->most_levelling ? all - protecting : s->most_levelling;
    s->before += (double)before.most_permille / 1000;
    s->after += (double)after.most_permille / 1000;
    s->worst = fmax(s->worst, (double)after.most_permille / 1000);
    s->single += after.single;
    s->near += after.near;
}

static void run_loss(bench *b, const char *what, int from, int n)
{
    const int layers = b->shape.num_layers;
    eepi_view *view = eepi_view_copy(b->placed), *lost;
    sums s = {0};

    lose(b, view, from, n);
    lost = eepi_view_copy(view);
    b->limits.max_fills = 256;
    b->limits.start_permille = b->limits.target_permille; /* not tolerated: how much reaches it */
    for (int layer = 0; layer < layers; layer++) {
        run_layer(b, lost, view, layer, &s);
    }
    b->limits = eepi_background_defaults;
    printf("%dx%dx%d,%s,%s,%.2f,%d,%.2f,%.2f,%d,%.2f,%d,%d,%.3f,%.3f,%.3f,%.2f,%d,%.0f\n",
           b->shape.max_ranks, b->shape.num_slots, b->shape.num_experts, b->law, what,
           s.protecting / layers, s.most_protecting, s.forced / layers, s.levelling / layers,
           s.most_levelling, s.equal / layers, s.most_equal, s.stuck, s.before / layers,
           s.after / layers, s.worst, (double)s.single / layers, s.near, s.us);
    free(lost);
    free(view);
}

/* A whole pass that finds nothing to do. */
static void run_rest(bench *b)
{
    eepi_view *view = eepi_view_copy(b->placed);
    double least = INFINITY;
    int fills = 0, single = 0, near = 0;

    for (int layer = 0; layer < b->shape.num_layers; layer++) {
        int protecting, all;
        settle(b, view, layer, &protecting, &all);
        fills += all;
        (void)eepi_background_split(b->background, view, layer, loads_of(b, layer), &b->limits,
                                    true);
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        const double start = thread_us();
        eepi_background_begin(b->background, view, NULL, 0);
        single = near = 0;
        for (int layer = 0; layer < b->shape.num_layers; layer++) {
            (void)eepi_background_layer(b->background, layer, loads_of(b, layer), &b->limits);
            (void)eepi_background_split(b->background, view, layer, loads_of(b, layer), &b->limits,
                                        false);
            single += eepi_background_state_of(b->background).single;
            near += eepi_background_state_of(b->background).near;
        }
        least = fmin(least, thread_us() - start);
    }
    printf("%dx%dx%d,%s,rest,,,,%.2f,,,,,,,,%.2f,%d,%.0f\n", b->shape.max_ranks, b->shape.num_slots,
           b->shape.num_experts, b->law, (double)fills / b->shape.num_layers,
           (double)single / b->shape.num_layers, near, least);
    free(view);
}

int main(int argc, char **argv)
{
    static const char *const laws[] = {"z0.5", "z1", "ln", "un"};
    static const eepi_view_shape shapes[] = {{32, 58, 256, 16, 8, 0}, {32, 58, 256, 17, 8, 0},
                                             {31, 58, 256, 16, 8, 0}, {96, 58, 256, 6, 8, 0},
                                             {320, 61, 256, 2, 8, 0}, {320, 61, 256, 1, 8, 0}};

    printf("shape,law,what,redundancy_mean,redundancy_most,redundancy_forced_mean,"
           "balance_mean,balance_most,equal_mean,equal_most,equal_stuck,ratio_split_before,ratio_"
           "mean,ratio_worst,singles_mean,near,cpu_us\n");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (size_t law = 0; law < sizeof laws / sizeof laws[0]; law++) {
            bench b = {.law = laws[law], .shape = shapes[i]};
            b.shape.num_layers = argc > 1 ? atoi(argv[1]) : b.shape.num_layers;
            set_up(&b, argc > 2 ? strtoull(argv[2], NULL, 0) : 1);
            run_rest(&b);
            if (b.shape.num_slots > 1) {
                run_loss(&b, "rank", b.shape.max_ranks / 3, 1);
                run_loss(&b, "node", 8, 8);
            }
            tear_down(&b);
            fflush(stdout);
        }
    }
    return 0;
}
