/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the wide simulation share. */
#ifndef TESTS_SIM_WIDE_PARTS_H
#define TESTS_SIM_WIDE_PARTS_H

#include "membership/core/core.h"
#include "tests/sim/wide/wide.h"

#include <stddef.h>

typedef struct wide_rank {
    eepi_core *core;
    bool alive, frozen; /* frozen: it takes no input, and lives */
    bool wedged, listens, is_faulty;
    uint64_t installed_epoch, promised, highest_step;
    uint64_t up_us, down_us, wake_us; /* newest times of its two channels; the next tick */
    uint64_t num_cas;
    uint64_t wedge_revision;
    eepi_wedge told_wedge;
} wide_rank;

typedef enum wide_event_kind {
    WIDE_INPUT,   /* to a core */
    WIDE_REQUEST, /* to the store: what its input says */
    WIDE_DRAINED,
    WIDE_TICK,
    WIDE_DIE,
    WIDE_FREEZE,
} wide_event_kind;

typedef struct wide_event {
    uint64_t at_us, sequence, cas;
    wide_event_kind kind;
    int rank;
    eepi_input input;
} wide_event;

typedef struct wide_world {
    wide_options options;
    wide_cost cost;
    uint64_t random, now_us, sequence, last_fault_us;
    int num_ranks;
    bool failed, blind; /* blind: few ranks see an end themselves */
    wide_rank rank[WIDE_MAX_RANKS];
    wide_event *events; /* a heap */
    size_t num_events, capacity;
    void **kept; /* what inputs point to */
    size_t num_kept, kept_capacity;
    /* the store */
    const eepi_view *view;
    uint64_t revision, wedge_revision, next_revision;
    eepi_wedge wedge;
    eepi_input reports[WIDE_MAX_RANKS], acks[WIDE_MAX_RANKS];
    uint64_t store_us, flip_us; /* the store is busy until then; all flip at the end of that step */
    int die_at_cas;             /* the proposer of that compare-and-swap dies with it; -1: none */
} wide_world;

uint64_t wide_draw(wide_world *w, uint64_t limit);
void *wide_keep(wide_world *w, const void *bytes, size_t size);
void wide_push(wide_world *w, wide_event_kind kind, int rank, uint64_t at_us, eepi_input input);
/* `rule` is broken: the first time that is printed. */
void wide_fail(wide_world *w, const char *rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The process ends, and those who can see it do so soon. */
void wide_die(wide_world *w, int rank);

/* ---- wide_hosts.c */
uint64_t wide_host_of(const wide_world *w, int rank);
/* When a message is through, by what it costs. */
uint64_t wide_up_us(wide_world *w, const eepi_input *input, size_t bytes);
uint64_t wide_down_us(const wide_world *w, const eepi_input *input, size_t bytes);
/* The event that is asked for. */
void wide_strike(wide_world *w);
/* What concerns planned views; false: the action does not. */
bool wide_perform_plan(wide_world *w, int rank, const eepi_action *action);

/* ---- wide_store.c */
/* To the store, in order. */
void wide_ask(wide_world *w, int rank, eepi_input input);
/* It arrives there. */
void wide_serve(wide_world *w, const wide_event *event);
#endif
