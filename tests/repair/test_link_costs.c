/* SPDX-License-Identifier: Apache-2.0 */
/* Links: paths and rates against the drawing in link_costs.h, costs against wide arithmetic, and
 * what ranks tell of themselves. */
#include "repair/link_costs.h"

#include "experiments/base/random.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define GB ((uint64_t)1000000000)

static eepi_links *links_of_nodes(int max_ranks, int ranks_per_node)
{
    const eepi_view_shape shape = {.max_ranks = max_ranks,
                                   .num_layers = 1,
                                   .num_experts = 8,
                                   .num_slots = 2,
                                   .ranks_per_node = ranks_per_node};
    eepi_links *links = eepi_links_new(&shape);

    cr_assert_not_null(links);
    return links;
}

static eepi_links *links_new(int max_ranks)
{
    return links_of_nodes(max_ranks, 0);
}

/* Bytes per second of a transfer that has its path to itself. */
static uint64_t pair_rate(const eepi_links *links, int source, int target, int kind)
{
    int32_t path[EEPI_LINKS_MAX_PATH];
    const int num = eepi_links_path(links, source, target, kind, path);
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < num; i++) {
        const uint64_t rate = eepi_links_rate(links, path[i]);
        least = rate < least ? rate : least;
    }
    return least;
}

/* As "rank 0 out, rank 1 in". */
static const char *say_path(const eepi_links *links, int source, int target, int kind)
{
    static char text[256];
    int32_t resources[EEPI_LINKS_MAX_PATH];
    int num = eepi_links_path(links, source, target, kind, resources);
    size_t used = 0;

    for (int i = 0; i < num; i++) {
        char name[64];
        eepi_links_name(links, resources[i], name, sizeof name);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? ", " : "", name);
    }
    return text;
}

Test(link_costs, paths_within_a_node)
{
    eepi_links *links = links_new(4);

    cr_assert_str_eq(say_path(links, 0, 1, EEPI_LINK_SLOT), "rank 0 out, rank 1 in");
    cr_assert_str_eq(say_path(links, 2, 2, EEPI_LINK_SLOT), "rank 2 in");
    cr_assert_str_eq(say_path(links, 0, 1, EEPI_LINK_BACKUP),
                     "host memory of node 0, rank 0 out, PCIe of rank 1 in, rank 1 in");
    cr_assert_str_eq(say_path(links, 3, 3, EEPI_LINK_BACKUP),
                     "host memory of node 0, PCIe of rank 3 in, rank 3 in");
    cr_assert_str_eq(say_path(links, 0, 3, EEPI_LINK_NODE_BACKUP),
                     "host memory of node 0, PCIe of rank 3 in, rank 3 in");
    cr_assert_str_eq(say_path(links, 3, 3, EEPI_LINK_FILE),
                     "files of node 0, PCIe of rank 3 in, rank 3 in");
    cr_assert_str_eq(say_path(links, 0, 3, EEPI_LINK_FILE),
                     "files of node 0, rank 0 out, PCIe of rank 3 in, rank 3 in");
    eepi_links_free(links);
    eepi_links_free(NULL);
}

Test(link_costs, paths_between_nodes)
{
    eepi_links *links = links_of_nodes(5, 2); /* nodes of 2, 2 and 1 ranks */

    cr_assert_eq(eepi_links_count(links), 5 * EEPI_LINK_OF_SEAT + 3 * 2);
    cr_assert_str_eq(say_path(links, 1, 4, EEPI_LINK_SLOT),
                     "rank 1 out, PCIe of rank 1 out, NIC of rank 0 out, NIC of rank 4 in, "
                     "PCIe of rank 4 in, rank 4 in");
    cr_assert_str_eq(say_path(links, 1, 2, EEPI_LINK_BACKUP),
                     "host memory of node 0, rank 1 out, NIC of rank 0 out, NIC of rank 2 in, "
                     "PCIe of rank 2 in, rank 2 in");
    cr_assert_str_eq(say_path(links, 3, 1, EEPI_LINK_NODE_BACKUP),
                     "host memory of node 1, NIC of rank 2 out, NIC of rank 0 in, "
                     "PCIe of rank 1 in, rank 1 in");
    cr_assert_str_eq(say_path(links, 0, 4, EEPI_LINK_FILE),
                     "files of node 0, rank 0 out, NIC of rank 0 out, NIC of rank 4 in, "
                     "PCIe of rank 4 in, rank 4 in");
    cr_assert_str_eq(say_path(links, 2, 3, EEPI_LINK_SLOT), "rank 2 out, rank 3 in");
    eepi_links_free(links);
}

Test(link_costs, within_a_node_costs_less_than_between_nodes_and_a_file_most)
{
    eepi_links *links = links_of_nodes(4, 2);
    const uint64_t near = pair_rate(links, 0, 1, EEPI_LINK_SLOT);
    const uint64_t far = pair_rate(links, 0, 2, EEPI_LINK_SLOT);

    cr_assert_gt(near, far);
    cr_assert_gt(far, pair_rate(links, 0, 2, EEPI_LINK_FILE));
    eepi_links_free(links);
}

Test(link_costs, unknown_rates_are_defaults_and_no_rate_is_0)
{
    eepi_links *links = links_new(3);

    cr_assert_eq(eepi_links_count(links), 3 * EEPI_LINK_OF_SEAT + 2);
    for (int seat = 0; seat < 3; seat++) {
        for (int type = 0; type < EEPI_LINK_TYPES; type++) {
            cr_assert_eq(eepi_links_rate(links, eepi_links_resource(links, seat, (eepi_link)type)),
                         eepi_links_default_rate((eepi_link)type));
        }
    }
    for (int32_t r = 0; r < eepi_links_count(links); r++) {
        cr_assert_gt(eepi_links_rate(links, r), 0);
    }
    eepi_links_free(links);
}

Test(link_costs, what_a_rank_tells_counts_until_it_is_forgotten)
{
    const uint32_t slow[EEPI_NUM_RATES] = {[EEPI_RATE_OUT] = 100, [EEPI_RATE_PCIE] = 50};
    eepi_links *links = links_new(2);

    eepi_links_set_seat(links, 0, slow);
    cr_assert_eq(pair_rate(links, 0, 1, EEPI_LINK_SLOT), 100000000);
    cr_assert_eq(pair_rate(links, 0, 0, EEPI_LINK_BACKUP), 50000000);
    eepi_links_forget_seat(links, 0);
    cr_assert_eq(pair_rate(links, 0, 1, EEPI_LINK_SLOT),
                 eepi_links_default_rate(EEPI_LINK_RANK_OUT));
    eepi_links_free(links);
}

Test(link_costs, ranks_share_a_nic_by_its_number)
{
    uint32_t rates[EEPI_NUM_RATES] = {[EEPI_RATE_NIC] = 25000};
    eepi_links *links = links_new(4);

    for (int seat = 0; seat < 4; seat++) { /* none is named: one for all */
        cr_assert_eq(eepi_links_resource(links, seat, EEPI_LINK_NIC_OUT),
                     eepi_links_resource(links, 0, EEPI_LINK_NIC_OUT));
    }
    for (int seat = 0; seat < 4; seat++) { /* two NICs of two ranks each */
        rates[EEPI_RATE_NIC_AT] = 1 + (uint32_t)seat / 2;
        eepi_links_set_seat(links, seat, rates);
    }
    cr_assert_eq(eepi_links_resource(links, 1, EEPI_LINK_NIC_IN),
                 eepi_links_resource(links, 0, EEPI_LINK_NIC_IN));
    cr_assert_eq(eepi_links_resource(links, 3, EEPI_LINK_NIC_IN),
                 eepi_links_resource(links, 2, EEPI_LINK_NIC_IN));
    cr_assert_neq(eepi_links_resource(links, 2, EEPI_LINK_NIC_IN),
                  eepi_links_resource(links, 0, EEPI_LINK_NIC_IN));
    rates[EEPI_RATE_NIC] = EEPI_RATE_DOWN; /* rank 3 has seen it go down, rank 2 has not yet */
    eepi_links_set_seat(links, 3, rates);
    cr_assert_eq(eepi_links_rate(links, eepi_links_resource(links, 2, EEPI_LINK_NIC_OUT)),
                 EEPI_LINKS_DOWN_RATE);
    cr_assert_eq(eepi_links_rate(links, eepi_links_resource(links, 0, EEPI_LINK_NIC_OUT)), 25 * GB);
    eepi_links_free(links);
}

Test(link_costs, times_round_up_and_do_not_overflow)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       2,
                                       999,
                                       1000000,
                                       GB,
                                       50 * GB,
                                       UINT32_MAX,
                                       1ull << 40,
                                       1ull << 52,
                                       1ull << 62,
                                       UINT64_MAX,
                                       4294967294000000ull};
    enum { NUM = sizeof numbers / sizeof numbers[0] };

    for (int i = 0; i < NUM; i++) {
        for (int j = 0; j < NUM; j++) {
            uint64_t rate = numbers[j] ? numbers[j] : 1;
            uint64_t ns = eepi_links_time_ns(numbers[i], numbers[j]);
            long double exact = (long double)numbers[i] * 1e9L / (long double)rate;
            if (exact >= (long double)(UINT64_MAX - GB)) {
                cr_assert_geq(ns, UINT64_MAX - 2 * GB);
                continue;
            }
            cr_assert_geq((long double)ns, exact * (1 - 1e-9L));
            cr_assert_leq((long double)ns, ceill(exact) * (1 + 1e-9L) + 1);
        }
    }
    cr_assert_eq(eepi_links_time_ns(3, 2), 1500000000);
    cr_assert_eq(eepi_links_time_ns(1, 3 * GB), 1);
    cr_assert_eq(eepi_links_time_ns(0, 7), 0);
}

Test(link_costs, estimates_follow_the_transfers)
{
    uint64_t estimate = eepi_links_refine(0, 1 << 20, 1000000);

    cr_assert_eq(estimate, (1ull << 20) * 1000);
    cr_assert_eq(eepi_links_refine(estimate, EEPI_LINKS_SAMPLE_BYTES - 1, 1), estimate);
    cr_assert_eq(eepi_links_refine(estimate, 1 << 20, 0), estimate);
    for (int i = 0; i < 1000; i++) { /* ten times slower: it gets there, slowly, never beyond */
        uint64_t next = eepi_links_refine(estimate, 1 << 20, 10000000);
        cr_assert_leq(next, estimate);
        cr_assert_geq(next, (1ull << 20) * 100 - 1);
        estimate = next;
    }
    cr_assert_lt(estimate, (1ull << 20) * 101);
    cr_assert_gt(eepi_links_refine(estimate, 1 << 20, 1000000) - estimate,
                 8 * (estimate - eepi_links_refine(estimate, 1 << 20, 1 << 30)),
                 "faster counts more");
    cr_assert_gt(eepi_links_refine(1, EEPI_LINKS_SAMPLE_BYTES, UINT64_MAX), 0);
    cr_assert_eq(eepi_links_megabytes(0), 0);
    cr_assert_eq(eepi_links_megabytes(1), 1);
    cr_assert_eq(eepi_links_megabytes(12 * GB), 12000);
    cr_assert_eq(eepi_links_megabytes(UINT64_MAX), EEPI_RATE_MAX);
}

/* ------------------------------------------------------------------ against a plain oracle */

enum { MAX_SEATS = 40, CASES = 400 };

typedef struct oracle {
    int max_ranks, ranks_per_node;
    uint32_t told[MAX_SEATS][EEPI_NUM_RATES];
} oracle;

static int node(const oracle *o, int seat)
{
    return o->ranks_per_node ? seat / o->ranks_per_node : 0;
}

static uint64_t said(uint32_t told, eepi_link type)
{
    return told == 0                ? eepi_links_default_rate(type)
           : told == EEPI_RATE_DOWN ? EEPI_LINKS_DOWN_RATE
                                    : told * (uint64_t)1000000;
}

/* The lowest rate that a rank names which uses the same NIC. */
static uint64_t nic(const oracle *o, int seat)
{
    uint64_t least = UINT64_MAX;

    for (int other = 0; other < o->max_ranks; other++) {
        uint32_t told = o->told[other][EEPI_RATE_NIC];
        uint64_t rate = said(told, EEPI_LINK_NIC_IN);
        if (node(o, other) == node(o, seat) && told != 0 && rate < least &&
            o->told[other][EEPI_RATE_NIC_AT] == o->told[seat][EEPI_RATE_NIC_AT]) {
            least = rate;
        }
    }
    return least == UINT64_MAX ? eepi_links_default_rate(EEPI_LINK_NIC_IN) : least;
}

static uint64_t file(const oracle *o, int seat)
{
    uint64_t most = 0;

    for (int other = 0; other < o->max_ranks; other++) {
        uint32_t told = o->told[other][EEPI_RATE_FILE];
        uint64_t rate = told ? said(told, EEPI_LINK_FILES) : 0;
        most = node(o, other) == node(o, seat) && rate > most ? rate : most;
    }
    return most ? most : eepi_links_default_rate(EEPI_LINK_FILES);
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t expected_rate(const oracle *o, int source, int target, int kind)
{
    const bool crosses = node(o, source) != node(o, target);
    uint64_t rate = said(o->told[target][EEPI_RATE_IN], EEPI_LINK_RANK_IN);

    if (crosses || kind != EEPI_LINK_SLOT) {
        rate = least_of(rate, said(o->told[target][EEPI_RATE_PCIE], EEPI_LINK_PCIE_IN));
    }
    if (crosses) {
        rate = least_of(rate, least_of(nic(o, source), nic(o, target)));
    }
    if (crosses && kind == EEPI_LINK_SLOT) {
        rate = least_of(rate, said(o->told[source][EEPI_RATE_PCIE], EEPI_LINK_PCIE_OUT));
    }
    if (source != target && kind != EEPI_LINK_NODE_BACKUP) {
        rate = least_of(rate, said(o->told[source][EEPI_RATE_OUT], EEPI_LINK_RANK_OUT));
    }
    if (kind == EEPI_LINK_BACKUP || kind == EEPI_LINK_NODE_BACKUP) {
        rate = least_of(rate, eepi_links_default_rate(EEPI_LINK_HOST));
    }
    return kind == EEPI_LINK_FILE ? least_of(rate, file(o, source)) : rate;
}

static void check_pair(const eepi_links *links, const oracle *o, int source, int target,
                       uint64_t seed)
{
    for (int kind = 0; kind < EEPI_LINK_KINDS; kind++) {
        int32_t path[EEPI_LINKS_MAX_PATH];
        const int num = eepi_links_path(links, source, target, kind, path);
        cr_assert(num >= 1 && num <= EEPI_LINKS_MAX_PATH, "seed %llu", (unsigned long long)seed);
        for (int i = 0; i < num; i++) {
            cr_assert(path[i] >= 0 && path[i] < eepi_links_count(links), "seed %llu",
                      (unsigned long long)seed);
            for (int j = 0; j < i; j++) {
                cr_assert_neq(path[i], path[j], "seed %llu", (unsigned long long)seed);
            }
        }
        cr_assert_eq(pair_rate(links, source, target, kind), expected_rate(o, source, target, kind),
                     "seed %llu: rank %d to %d, kind %d", (unsigned long long)seed, source, target,
                     kind);
    }
}

/* Ranks tell no rate of host memory; a model does, and what ranks tell afterwards leaves it. */
Test(link_costs, host_memory_is_set_for_all_nodes)
{
    eepi_links *links = links_of_nodes(4, 2);
    const uint32_t told[EEPI_NUM_RATES] = {[EEPI_RATE_FILE] = 7000};

    eepi_links_set_host(links, 600000);
    eepi_links_set_seat(links, 3, told);
    for (int seat = 0; seat < 4; seat += 3) {
        cr_assert_eq(eepi_links_rate(links, eepi_links_resource(links, seat, EEPI_LINK_HOST)),
                     600 * GB);
    }
    eepi_links_set_host(links, 0);
    cr_assert_eq(eepi_links_rate(links, eepi_links_resource(links, 0, EEPI_LINK_HOST)),
                 eepi_links_default_rate(EEPI_LINK_HOST));
    eepi_links_free(links);
}

/* Ranks tell and are forgotten, in any order, on nodes of any size; seeds are 1 .. CASES. */
Test(link_costs, paths_and_rates_of_400_seeds)
{
    for (uint64_t seed = 1; seed <= CASES; seed++) {
        uint64_t state = seed;
        oracle o = {.max_ranks = 1 + (int)(random_next(&state) % MAX_SEATS)};
        o.ranks_per_node = (int)(random_next(&state) % (MAX_SEATS / 2));
        eepi_links *links = links_of_nodes(o.max_ranks, o.ranks_per_node);
        for (int i = 0; i < 2 * o.max_ranks; i++) {
            int seat = (int)(random_next(&state) % (uint64_t)o.max_ranks);
            bool forget = random_next(&state) % 4 == 0;
            for (int rate = 0; rate < EEPI_NUM_RATES; rate++) {
                uint64_t draw = random_next(&state) % 8;
                o.told[seat][rate] = forget || draw < 3 ? 0
                                     : draw == 3        ? EEPI_RATE_DOWN
                                                 : 1 + (uint32_t)(random_next(&state) % 50000);
            }
            o.told[seat][EEPI_RATE_NIC_AT] = forget ? 0 : (uint32_t)(random_next(&state) % 4);
            if (forget) {
                eepi_links_forget_seat(links, seat);
            } else {
                eepi_links_set_seat(links, seat, o.told[seat]);
            }
        }
        for (int i = 0; i < 60; i++) {
            check_pair(links, &o, (int)(random_next(&state) % (uint64_t)o.max_ranks),
                       (int)(random_next(&state) % (uint64_t)o.max_ranks), seed);
        }
        eepi_links_free(links);
    }
}
