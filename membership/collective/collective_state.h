/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef EEPI_COLLECTIVE_STATE_H
#define EEPI_COLLECTIVE_STATE_H

#include "membership/collective/collective_area.h"
#include "membership/collective/collective.h"

#include <pthread.h>

/* The members of one epoch. */
typedef struct eepi_collective_group {
    int num_users; /* with the lock */
    uint64_t epoch;
    int max_ranks, holder; /* the member whose memory has the ledger and the futex */
    bool is_begun;         /* this rank has seen to the ledger */
    struct {
        uint32_t generation; /* 0: no member */
        eepi_collective_area *area;
    } member[];
} eepi_collective_group;

typedef enum eepi_collective_verdict {
    EEPI_COLLECTIVE_UNDER_WAY,
    EEPI_COLLECTIVE_ENDED,  /* all contributions are there for good */
    EEPI_COLLECTIVE_ABORTED /* a fault came before */
} eepi_collective_verdict;

/* The number that this rank has contributed to, and whose result it does not have yet. */
typedef struct eepi_collective_pending {
    bool is_given;
    eepi_collective_verdict verdict;
    uint64_t number;
    eepi_collective_what what;
    size_t bytes;
    eepi_collective_group *group;
} eepi_collective_pending;

struct eepi_collectives {
    const char *call; /* that a thread is in; NULL; atomic */
    uint8_t *staging; /* that thread's: contributions, before anything is delivered */
    size_t staging_bytes;
    size_t *sizes; /* [max_ranks] of what lies there */

    pthread_mutex_t lock; /* guards what follows; taken with no other lock held */
    pthread_cond_t changed;
    bool is_closing;
    bool has_joined;
    bool is_open;     /* a view is in force */
    bool is_numbered; /* `last` is known */
    eep_status ended; /* why this rank serves no more; EEP_OK */
    char why[EEPI_WHY_ENDED_BYTES];
    uint64_t last; /* newest number that has ended */
    eepi_collective_area *own;
    eepi_collective_group *group; /* of the newest view; NULL: this rank is in none */
    eepi_collective_pending pending;
    eepi_collective_area **peers; /* [max_ranks]; service thread */
};

/* All with the lock. */
static inline eepi_collective_memory *eepi_collective_holder(const eepi_collective_group *group)
{
    const eepi_collective_area *area = group->member[group->holder].area;

    return area ? area->memory : NULL;
}
eepi_collective_group *eepi_collective_group_hold(eepi_collective_group *group);
void eepi_collective_group_drop(eepi_collective_group *group); /* NULL is ignored */
/* This rank's own memory has an area for each member of its view, and it knows the next number. */
bool eepi_collective_may_give(struct eepi_collectives *all);
/* Those who wait for contributions to a number of that group look again: of all its members. */
void eepi_collective_ring(const eepi_collective_group *group);
#endif
