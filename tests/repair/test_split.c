/* SPDX-License-Identifier: Apache-2.0 */
/* Splits of an expert's tokens, of all members together: each replica gets its share, and what can
 * stay on a rank or a node does. A failure names the seed. */
#include "repair/split.h"

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/rows.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { MAX_RANKS = 40, MAX_REPLICAS = 12, NUM_CASES = 400 };
static const double NEAR = 1e-4; /* parts are multiples of 2^-16 */

typedef struct split_case {
    eepi_view *view;
    eepk_replica replicas[MAX_REPLICAS];
    uint32_t num;
    double part[MAX_RANKS][MAX_REPLICAS]; /* of a source's tokens */
} split_case;

static uint32_t below(uint64_t *random, uint32_t n)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33) % n;
}

static bool is_node_of(const split_case *c, int seat, int node)
{
    return eepi_view_node_of(&c->view->shape, seat) == node;
}

static double weight(const split_case *c, uint32_t i)
{
    double sum = 0.0;

    for (uint32_t j = 0; j < c->num; j++) {
        sum += c->replicas[j].from;
    }
    return sum == 0.0 ? 1.0 / c->num : c->replicas[i].from / sum;
}

/* Members, some seats vacant; replicas on some of them in order of seat, shares of all kinds. */
static void open_case(split_case *c, uint64_t seed)
{
    uint64_t random = seed * 1000003u;
    const int ranks = 1 + (int)below(&random, MAX_RANKS);
    const eepi_view_shape shape = {ranks, 1, 1, 1, (int)below(&random, (uint32_t)ranks + 1), 0};
    const uint32_t kind = below(&random, 4), density = 1 + below(&random, 8);

    *c = (split_case){.view = eepi_view_new(&shape)};
    for (int seat = 0; seat < ranks; seat++) {
        if (seat > 0 && below(&random, 4) == 0) {
            continue;
        }
        *eepi_view_seat_at(c->view, seat) =
            (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
        while (c->num < MAX_REPLICAS && (c->num == 0 || below(&random, density) == 0)) {
            const uint32_t share = kind == 0   ? 0
                                   : kind == 1 ? 7
                                   : kind == 2 ? below(&random, 65536)
                                               : below(&random, 3) * 1000;
            c->replicas[c->num++] = (eepk_replica){(uint16_t)seat, 0, (uint16_t)share, 0};
            if (density == 1) {
                break;
            }
        }
    }
}

static void split(split_case *c)
{
    for (int seat = 0; seat < c->view->shape.max_ranks; seat++) {
        eepk_replica list[MAX_REPLICAS];
        eepi_split_sources sources;
        uint32_t n, at = 0;
        if (!eepi_view_is_member(c->view, seat)) {
            continue;
        }
        for (uint32_t i = 0; i < c->num; i++) {
            list[i] = c->replicas[i];
            list[i].slot = (uint16_t)i;
        }
        eepi_split_sources_fill(c->view, seat, &sources);
        n = eepi_split_expert(&sources, list, c->num);
        cr_assert(n >= 1 && n <= c->num && list[0].from == 0);
        for (; at < n; at++) {
            uint32_t end = at + 1 < n ? list[at + 1].from : 65536;
            cr_assert(end > list[at].from && (at == 0 || list[at].slot > list[at - 1].slot));
            c->part[seat][list[at].slot] = (end - list[at].from) / 65536.0;
        }
    }
}

static void check(const split_case *c, uint64_t seed)
{
    const int ranks = c->view->shape.max_ranks;
    const double members = eepi_view_num_active(c->view);

    for (uint32_t i = 0; i < c->num; i++) {
        double sum = 0.0;
        for (int seat = 0; seat < ranks; seat++) {
            sum += c->part[seat][i];
        }
        cr_assert(fabs(sum - members * weight(c, i)) <= NEAR * members, "seed %llu, replica %u",
                  (unsigned long long)seed, i);
    }
    for (int seat = 0; seat < ranks; seat++) {
        double wanted = 0.0, own = 0.0;
        for (uint32_t i = 0; i < c->num && eepi_view_is_member(c->view, seat); i++) {
            bool here = c->replicas[i].seat == seat;
            wanted += here ? members * weight(c, i) : 0.0;
            own += here ? c->part[seat][i] : 0.0;
        }
        cr_assert(fabs(own - fmin(1.0, wanted)) <= NEAR, "seed %llu, seat %d",
                  (unsigned long long)seed, seat);
    }
    for (int node = 0; node < eepi_view_num_nodes(&c->view->shape); node++) {
        double wanted = 0.0, stays = 0.0, has = 0.0;
        for (int seat = 0; seat < ranks; seat++) {
            bool sends = is_node_of(c, seat, node) && eepi_view_is_member(c->view, seat);
            has += sends;
            for (uint32_t i = 0; i < c->num; i++) {
                bool here = is_node_of(c, c->replicas[i].seat, node);
                wanted += here && seat == c->replicas[i].seat ? members * weight(c, i) : 0.0;
                stays += here && sends ? c->part[seat][i] : 0.0;
            }
        }
        cr_assert(fabs(stays - fmin(has, wanted)) <= NEAR * (has + 1), "seed %llu, node %d",
                  (unsigned long long)seed, node);
    }
}

Test(split, shares_hold_and_what_is_near_is_preferred)
{
    for (uint64_t seed = 1; seed <= NUM_CASES; seed++) {
        split_case c;
        open_case(&c, seed);
        split(&c);
        check(&c, seed);
        free(c.view);
    }
}

/* Each source's rows to a replica are within one of its share of them, whatever their number; those
 * of all members, each with the same small number, are within two. */
Test(split, small_batches_follow_the_shares)
{
    for (uint64_t seed = 1; seed <= NUM_CASES; seed++) {
        uint64_t random = seed;
        const uint32_t sources = 1 + below(&random, 64), num = 1 + below(&random, 12);
        const uint32_t from = below(&random, 65536), expert = below(&random, 288);
        int64_t sum = 0;
        for (uint32_t seat = 0; seat < sources; seat++) {
            const uint32_t offset = eepk_share_offset(seat, expert);
            for (uint32_t n = 0; n <= 65535; n = n * 3 + 1) {
                const uint32_t begin = eepk_share_begin(from, n, offset);
                cr_assert(begin <= n && fabs(begin - from / 65536.0 * n) < 1.0);
                cr_assert_eq(eepk_share_begin(0, n, offset), 0);
            }
            sum += eepk_share_begin(from, num, offset);
        }
        cr_assert(fabs((double)sum - from / 65536.0 * num * sources) <= 2.0,
                  "seed %llu: %u sources, %u rows each, part %u: %lld rows",
                  (unsigned long long)seed, sources, num, from, (long long)sum);
    }
}
