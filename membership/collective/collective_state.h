/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef EEPI_COLLECTIVE_STATE_H
#define EEPI_COLLECTIVE_STATE_H

#include "membership/collective/collective_area.h"
#include "membership/collective/collective.h"

#include <pthread.h>

/* How the members of an epoch read each other's contributions. All of them find the same: a host is
 * the same for all that are on it. */
typedef enum eepi_collective_reach {
    EEPI_REACH_UNKNOWN, /* the memory of a member is not known yet */
    EEPI_REACH_NEAR,    /* all on one host: by one ledger, that of the holder */
    EEPI_REACH_FAR,     /* on several: by a promise of each (collective_between.h) */
} eepi_collective_reach;

/* The members of one epoch. */
typedef struct eepi_collective_group {
    int num_users; /* with the lock */
    uint64_t epoch;
    uint64_t least_number; /* of its view: the newest that has ended is not below it */
    int max_ranks, self;
    eepi_collective_reach reach;
    int holder;    /* near: the member whose memory has the ledger and the futex */
    bool is_begun; /* this rank has seen to the ledger, and gives under this epoch */
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
    bool has_stopped; /* for a fault, and no view has come since */
    bool is_numbered; /* `last` is known */
    eep_status ended; /* why this rank serves no more; EEP_OK */
    char why[EEPI_WHY_ENDED_BYTES];
    uint64_t last; /* newest number that has ended */
    eepi_collective_area *own;
    eepi_collective_group *group; /* of the newest view; NULL: this rank is in none */
    eepi_collective_group *from;  /* this rank's promise under it is in doubt; NULL: none is */
    uint64_t version;             /* of what other hosts are told */
    eep_context *context;
    eepi_collective_pending pending;
    eepi_collective_area **peers; /* [max_ranks]; service thread */
};

static inline bool eepi_collective_has(const eepi_collective_group *group, int seat)
{
    return group->member[seat].generation != 0;
}
static inline eepi_collective_reach eepi_collective_reach_of(const eepi_collective_group *group)
{
    return group->reach;
}

/* ---- the members of an epoch; all with the lock */

eepi_collective_area *eepi_collective_area_hold(eepi_collective_area *area);
void eepi_collective_area_drop(eepi_collective_area *area); /* NULL is ignored */
eepi_collective_group *eepi_collective_group_hold(eepi_collective_group *group);
void eepi_collective_group_drop(eepi_collective_group *group); /* NULL is ignored */
/* As its members' areas say now. */
eepi_collective_reach eepi_collective_find_reach(const eepi_collective_group *group);
/* Whose ledger and futex this rank uses; NULL: not known yet. */
eepi_collective_memory *eepi_collective_holder(const eepi_collective_group *group);
/* Those who wait for contributions to a number of that group look again: of all its members that
 * share memory with this rank. */
void eepi_collective_ring(const eepi_collective_group *group);
/* The call of this rank looks again, wherever it waits; `waited_in`: as ring. NULL: nowhere. */
void eepi_collective_wake_in(const struct eepi_collectives *all,
                             const eepi_collective_group *waited_in);
/* The same, if it waits for members of other hosts. */
void eepi_collective_wake(struct eepi_collectives *all);
/* This rank's memory has changed: members of other hosts are told. */
void eepi_collective_tell(struct eepi_collectives *all);
/* Over all that a head says, but for its epoch. */
uint64_t eepi_contribution_checksum(const eepi_contribution *head, uint64_t number);
/* Whose contribution it is and what it says, if that is sound. */
bool eepi_contribution_is_sound(const eepi_contribution *head, uint64_t number, int seat,
                                uint32_t generation, uint64_t slot_bytes);
/* Under that number and epoch all members have contributed. */
bool eepi_collective_all_have_given(const eepi_collective_group *group, uint64_t number);
/* The number that is under way has ended, if it is not above `last`; if not, it is aborted where
 * that `is_final`. */
void eepi_collective_judge(struct eepi_collectives *all, bool is_final);

/* ---- the next number; all with the lock */

void eepi_collective_learn(struct eepi_collectives *all);
void eepi_collective_take_over(struct eepi_collectives *all);
/* What the newest view and the others' words allow by now: end a doubt, learn the number, begin. */
void eepi_collective_settle(struct eepi_collectives *all);
/* This rank's own memory has an area for each member of its view, and it knows the next number. */
bool eepi_collective_may_give(struct eepi_collectives *all);
/* That process's memory, which the newest view may have named before. Keeps the area. */
void eepi_collective_take_area(struct eepi_collectives *all, int seat, eepi_collective_area *area);
#endif
