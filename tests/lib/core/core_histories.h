/* SPDX-License-Identifier: Apache-2.0 */
/* What the histories of the membership core share: instances, and running a history over seeds. */
#ifndef CORE_HISTORIES_H
#define CORE_HISTORIES_H

#include "tests/lib/core/core_cluster.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { SEEDS = 100, RANDOM_SEEDS = 20000, SECOND = 1000000 };

/* 4 ranks of 6 seats; 8 experts, twice each: one rank may die. */
static const cluster_options covered = {
    .num_ranks = 4, .max_ranks = 6, .num_experts = 8, .num_slots = 4};
/* 12 experts on 16 slots: a death uncovers some; backups in host memory restore them. */
static const cluster_options tight = {
    .num_ranks = 4, .max_ranks = 6, .num_experts = 12, .num_slots = 4, .backups = 1};

/* Nobody is killed: a rank that hangs stays as it is. */
static const cluster_options hung = {
    .num_ranks = 4, .max_ranks = 6, .num_experts = 8, .num_slots = 4, .no_kill_fence = 1};
/* 5 ranks, 8 experts on 20 slots, backups: two may die one after the other. */
static const cluster_options wide = {
    .num_ranks = 5, .max_ranks = 6, .num_experts = 8, .num_slots = 4, .backups = 1};

static inline uint64_t first_seed(void)
{
    const char *text = getenv("EEP_TEST_SEED");

    return text ? strtoull(text, NULL, 0) : 1;
}

static inline uint64_t last_seed(uint64_t count)
{
    return getenv("EEP_TEST_SEED") ? first_seed() : count;
}

/* How many histories by chance: EEP_TEST_HISTORIES, or all. */
static inline uint64_t num_histories(void)
{
    const char *text = getenv("EEP_TEST_HISTORIES");

    return text ? strtoull(text, NULL, 0) : RANDOM_SEEDS;
}

#define EXPECT(c, condition)                                                                       \
    cr_assert(condition, "%s: seed %llu (replay: EEP_TEST_SEED=%llu and this test)%s", #condition, \
              (unsigned long long)(c)->options.seed, (unsigned long long)(c)->options.seed,        \
              cluster_text(c))

static inline cluster *serving(const cluster_options *options, uint64_t seed)
{
    cluster_options seeded = *options;
    cluster *c;

    seeded.seed = seed;
    c = cluster_open(&seeded);
    EXPECT(c, cluster_until(c, cluster_is_serving, SECOND));
    cluster_run(c, cluster_random(c, 20000));
    return c;
}

static inline void expect_serving(cluster *c, int num_active)
{
    EXPECT(c, cluster_until(c, cluster_is_serving, 3 * SECOND));
    cluster_run(c, SECOND);
    EXPECT(c, cluster_is_serving(c));
    EXPECT(c, eepi_view_num_active(c->view) == num_active);
}

/* Start `c` serving once per seed; the block that follows is the history. */
#define FOR_SEEDS(options, c)                                                                      \
    for (uint64_t seed = first_seed(); seed <= last_seed(SEEDS); seed++)                           \
        for (cluster *c = serving(options, seed); c; cluster_close(c), c = NULL)

static inline int num_wedges(cluster *c)
{
    int n = 0;

    for (int i = 0; i < c->num_processes; i++) {
        n += (int)c->process[i].num_wedges;
    }
    return n;
}

static inline int num_aborted(cluster *c)
{
    int n = 0;

    for (int i = 0; i < c->num_processes; i++) {
        n += (int)c->process[i].num_aborted;
    }
    return n;
}

static inline int is_repairing(cluster *c)
{
    return c->view->phase == EEPI_VIEW_REPAIRING;
}

static inline int is_wedged(cluster *c)
{
    return num_wedges(c) > 0;
}

static inline int has_six(cluster *c)
{
    return c->view && eepi_view_num_active(c->view) == 6;
}

static inline int has_five(cluster *c)
{
    return c->view && eepi_view_num_active(c->view) == 5;
}

static inline int has_four(cluster *c)
{
    return c->view && eepi_view_num_active(c->view) == 4;
}

static inline int has_three(cluster *c)
{
    return c->view && eepi_view_num_active(c->view) == 3;
}

static inline int has_two(cluster *c)
{
    return c->view && eepi_view_num_active(c->view) == 2;
}

static inline int has_joined_4(cluster *c)
{
    return c->view && eepi_view_is_member(c->view, 4);
}

static inline int is_at_epoch_2(cluster *c)
{
    return c->view->epoch == 2;
}

static inline int has_failed_closed(cluster *c)
{
    return c->num_uncovered > 0;
}
#endif
