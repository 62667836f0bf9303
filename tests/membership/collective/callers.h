/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that call collectives for the ranks of a world, beside the threads that step. */
#ifndef CALLERS_H
#define CALLERS_H

#include "eep/collectives.h"
#include "tests/lib/context_fixture.h"

enum {
    CALLER_STRIDE = 64,
    CALLER_PATIENT_US = 20000000, /* no healthy collective comes near */
    CALLER_UNTOUCHED = 0x5a
};

typedef enum caller_kind {
    CALL_BARRIER,
    CALL_BROADCAST,
    CALL_ALLGATHER,
    CALL_ALLREDUCE
} caller_kind;

/* One call of one rank. */
typedef struct caller {
    rank *r;
    caller_kind kind;
    int32_t root;
    size_t bytes; /* broadcast, allgather; allreduce: of all elements */
    uint64_t timeout_us;
    eep_status status;
    eep_collective_result result;
    uint8_t sent[CALLER_STRIDE];
    uint8_t received[WORLD_SEATS * CALLER_STRIDE]; /* CALLER_UNTOUCHED before */
    uint64_t sizes[WORLD_SEATS];
    pthread_t thread;
    int runs;
} caller;

/* A patient call of that kind; what is sent depends on seat and `salt`. Broadcasts come from 0. */
caller caller_of(rank *r, caller_kind kind, int salt);
/* Make it in this thread. */
eep_status caller_call(caller *c);
/* Make it in a thread of its own; and wait for its end. */
void caller_start(caller *c);
eep_status caller_wait(caller *c);
/* The same, until its contribution is given. It must not be the last that others wait for. */
void caller_start_given(caller *c);
/* Until another thread's call has given its contribution. */
void caller_await_given(const caller *c);
/* Make all of them at once. */
void callers_run(caller *callers, int num);
/* Wait until the rank sees an epoch from that one on. */
void caller_await_epoch(const rank *r, uint64_t epoch);
/* Nothing was written to what it receives. */
int caller_is_untouched(const caller *c);
#endif
