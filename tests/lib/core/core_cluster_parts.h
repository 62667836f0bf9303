/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of the cluster share: core_cluster.c has events, the store and the life of
 * processes; core_rank.c what a rank does, and the checks of it. */
#ifndef CORE_CLUSTER_PARTS_H
#define CORE_CLUSTER_PARTS_H

#include "tests/lib/core/core_cluster.h"

#define MUST(c, condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            cluster_fail(c, #condition, __VA_ARGS__);                                              \
    } while (0)

enum { STEP_DEADLINE_US = 100000, EXPEL_US = 150000, TICK_US = 100000 };

typedef enum event_kind {
    EVENT_INPUT, /* to a core */
    EVENT_TICK,
    EVENT_RANK,    /* the rank thread looks around */
    EVENT_DRAINED, /* it has ended its step */
    EVENT_FILLED,
    EVENT_DIE,
    EVENT_PUT, /* arrives at the store */
    EVENT_CAS,
    EVENT_READ,
    EVENT_WEDGE,  /* a compare-and-swap of the key that all watch */
    EVENT_LISTEN, /* to reports and acknowledgements, and no more: */
    EVENT_IGNORE,
} event_kind;

struct cluster_event {
    uint64_t at_us, sequence, cas;
    event_kind kind;
    int process;
    eepi_input input;
};

__attribute__((format(printf, 3, 4))) void cluster_fail(cluster *c, const char *what,
                                                        const char *format, ...);
/* A copy that lives as long as the cluster. */
void *cluster_keep(cluster *c, const void *bytes, size_t size);
void cluster_push(cluster *c, event_kind kind, const cluster_process *p, uint64_t at_us,
                  eepi_input input);
void cluster_push_in(cluster *c, event_kind kind, const cluster_process *p, uint64_t delay_us);
/* Send to the store, in order. */
void cluster_to_store(cluster *c, cluster_process *p, event_kind kind, eepi_input input);
cluster_process *cluster_process_of(cluster *c, int seat, uint32_t generation);
/* The process of a member's seat; NULL: no member. */
cluster_process *cluster_member(cluster *c, const eepi_view *view, int seat);
/* The file of that member proves bad, and it says so, or it was bad before. */
bool cluster_read_is_bad(cluster *c, const eepi_view *view, int seat);
/* The process ends, and those that live see it soon. */
void cluster_die(cluster *c, cluster_process *p);

/* core_checks.c: S2, S7, R1, S12, M2, M7 at the moment of a compare-and-swap; S1, S2, S6 when a
 * view goes live; M2, S3, S4 in a step */
void cluster_check_commit(cluster *c, const eepi_view *view);
void cluster_check_install(cluster *c, cluster_process *p, const eepi_view *view);
void cluster_check_step(cluster *c, const cluster_process *p);
/* The rank thread looks around; it has ended its step; its slots are filled. */
void cluster_run_rank(cluster *c, cluster_process *p);
void cluster_drain(cluster *c, cluster_process *p);
void cluster_filled(cluster *c, cluster_process *p, const eepi_view *view);
void cluster_publish(cluster *c, cluster_process *p);
void cluster_tell_wedge(cluster *c, cluster_process *p);
/* Feed the core an input and carry out what it asks for. */
void cluster_feed_to(cluster *c, cluster_process *p, eepi_input input);
#endif
