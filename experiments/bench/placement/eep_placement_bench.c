/* SPDX-License-Identifier: Apache-2.0 */
/* eep-placement-bench: place the layers whose loads come on stdin, for each goal, and say what the
 * placements are worth and what they cost. experiments/measure/placement.py feeds it.
 *
 *   eep-placement-bench RANKS SLOTS RANKS_PER_NODE EXPERTS [REPEATS] < loads
 *
 * stdin: EXPERTS whole numbers per layer. stdout: a row per layer and goal, and for each goal the
 * thread's CPU time for all layers, the least of REPEATS passes (30). */
#include "experiments/bench/placement/placement_bounds.h"
#include "repair/placement/judge_layer.h"
#include "repair/placement/place_layer.h"
#include "repair/placement/shares.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct bench {
    eepi_view_shape shape;
    int num_layers, repeats;
    uint32_t *loads; /* [num_layers][num_experts] */
    int32_t *experts;
    uint16_t *shares;
    eepi_placer *placer;
    eepi_shares *split;
} bench;

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* false: no memory, or no whole number of layers. */
static bool read_loads(bench *b)
{
    const size_t experts = (size_t)b->shape.num_experts;
    size_t num = 0, room = 0;
    unsigned load;

    while (scanf("%u", &load) == 1) {
        if (num == room) {
            uint32_t *more = realloc(b->loads, (room += 64 * experts) * sizeof *more);
            if (!more) {
                return false;
            }
            b->loads = more;
        }
        b->loads[num++] = load;
    }
    b->num_layers = (int)(num / experts);
    return num > 0 && num % experts == 0;
}

/* Experts with one replica that no placement can do without: copies that keep each share below 1.05
 * means, and two of each, less the slots. */
static long floor_of(const bench *b, const uint32_t *loads)
{
    long need = 0, slots = (long)b->shape.max_ranks * b->shape.num_slots;
    uint64_t total = 0;

    for (int e = 0; e < b->shape.num_experts; e++) {
        total += loads[e];
    }
    for (int e = 0; e < b->shape.num_experts; e++) {
        const uint64_t all = (uint64_t)loads[e] * (uint64_t)b->shape.max_ranks * 100;
        const uint64_t copies = (all + 105 * total - 1) / (105 * total);
        need += copies < 2 ? 2 : (long)copies;
    }
    return need > slots ? need - slots : 0;
}

/* Ratio, or experts with one replica, that no placement with the goal is below; 0: not looked for.
 */
static void print_bounds(const bench *b, eepi_placement_goal goal, const eepi_layer_verdict *v,
                         const uint32_t *loads)
{
    const bounds_layer layer = {.num_ranks = b->shape.max_ranks,
                                .num_slots = b->shape.num_slots,
                                .num_experts = b->shape.num_experts,
                                .loads = loads,
                                .pair_limit = v->most_shared <= 2 ? 2 : -1};

    printf(",%.4f,%.1f\n", goal == EEPI_PLACE_COVERAGE ? bounds_coverage(&layer) : 1,
           goal == EEPI_PLACE_MIXED && b->shape.num_slots == 2
               ? bounds_singles(&layer, EEPI_RATIO_MIXED / 1e6)
               : 0);
}

static bool place_all(bench *b, eepi_placement_goal goal, const char *name, bool print)
{
    for (int layer = 0; layer < b->num_layers; layer++) {
        const eepi_layer_problem problem = {.shape = b->shape,
                                            .goal = goal,
                                            .loads = b->loads +
                                                     (size_t)layer * (size_t)b->shape.num_experts};
        eepi_layer_verdict v;
        char why[200] = "no slots";
        if (eepi_place_layer(b->placer, &problem, b->experts) != EEP_OK) {
            return false;
        }
        if (!print) {
            continue;
        }
        if (eepi_judge_layer(&problem, b->experts, &v, why, sizeof why) != EEP_OK) {
            fprintf(stderr, "eep-placement-bench: layer %d: %s\n", layer, why);
            return false;
        }
        eepi_shares_split(b->split, b->experts, problem.loads, EEPI_SHARES_SWEEPS, b->shares);
        printf("%s,%d,%.4f,%.4f,%d,%ld,%d,%d,%d,%d,%d,%d", name, layer, v.ratio / 1e6,
               eepi_shares_peak(b->split, b->experts, problem.loads, b->shares) / 1e6, v.singles,
               floor_of(b, problem.loads), v.doubled, v.at_risk, v.lost_rank, v.lost_node,
               v.lost_run, v.most_shared);
        print_bounds(b, goal, &v, problem.loads);
    }
    return true;
}

static bool run(bench *b)
{
    static const char *const names[] = {"mixed", "coverage", "balance"};

    printf("goal,layer,ratio,flow,singles,floor,doubled,at_risk,lost_rank,lost_node,lost_run,"
           "most_shared,bound,least_singles\n");
    for (int goal = EEPI_PLACE_MIXED; goal <= EEPI_PLACE_BALANCE; goal++) {
        double least = 1e300;
        if (!place_all(b, (eepi_placement_goal)goal, names[goal], true)) {
            return false;
        }
        for (int i = 0; i < b->repeats; i++) {
            const double begin = cpu_ms();
            if (!place_all(b, (eepi_placement_goal)goal, names[goal], false)) {
                return false;
            }
            const double took = cpu_ms() - begin;
            least = took < least ? took : least;
        }
        if (b->repeats > 0) {
            printf("# %s: %d layers in %.2f ms of CPU time, least of %d\n", names[goal],
                   b->num_layers, least, b->repeats);
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    bench b = {.repeats = argc > 5 ? atoi(argv[5]) : 30};
    bool good = false;

    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: eep-placement-bench RANKS SLOTS RANKS_PER_NODE EXPERTS [REPEATS]"
                        " < loads\n");
        return 2;
    }
    b.shape = (eepi_view_shape){.max_ranks = atoi(argv[1]),
                                .num_layers = 1,
                                .num_experts = atoi(argv[4]),
                                .num_slots = atoi(argv[2]),
                                .ranks_per_node = atoi(argv[3])};
    if (eepi_view_bytes(&b.shape) == 0) {
        fprintf(stderr, "eep-placement-bench: no such shape\n");
        return 2;
    }
    const size_t slots = (size_t)b.shape.max_ranks * (size_t)b.shape.num_slots;
    b.experts = calloc(slots, sizeof *b.experts);
    b.shares = calloc(slots, sizeof *b.shares);
    b.placer = eepi_placer_new(&b.shape);
    b.split = eepi_shares_new(b.shape.max_ranks, b.shape.num_slots, b.shape.num_experts);
    if (b.experts && b.shares && b.placer && b.split && read_loads(&b)) {
        good = run(&b);
    }
    if (!good) {
        fprintf(stderr, "eep-placement-bench: bad loads, too few slots, or no memory\n");
    }
    eepi_shares_free(b.split);
    eepi_placer_free(b.placer);
    free(b.shares);
    free(b.experts);
    free(b.loads);
    return good ? 0 : 1;
}
