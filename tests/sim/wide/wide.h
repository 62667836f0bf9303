/* SPDX-License-Identifier: Apache-2.0 */
/* Membership cores of up to 1,024 ranks and a store, under virtual time: a fault at that width, and
 * what it costs in messages (rule N22). There is no data plane; eep-sim without --wide has one. */
#ifndef TESTS_SIM_WIDE_H
#define TESTS_SIM_WIDE_H

#include <stdbool.h>
#include <stdint.h>

enum { WIDE_MAX_RANKS = 1024 };

extern uint64_t wide_seed; /* of the history that runs */

typedef enum wide_event_name {
    WIDE_EVENT_KILL,
    WIDE_EVENT_JOIN,
    WIDE_EVENT_HOST,
    WIDE_NUM_EVENTS,
} wide_event_name;
extern const char *const wide_event_names[WIDE_NUM_EVENTS];

typedef struct wide_options {
    uint64_t seed;
    int num_ranks; /* 0: 4 to 1,024, by seed */
    bool plain;    /* one rank is killed, all see it and nobody is slow */
    bool trace;
    int num_hosts; /* of one event and its costs, plain; 0: one host, and nobody counts time */
    wide_event_name event; /* there */
} wide_options;

/* What a history cost from its first fault on. Documents are the views themselves. */
typedef struct wide_cost {
    int num_ranks, num_kills, num_views;
    uint64_t messages, bytes, documents, document_bytes;
    uint64_t agreed_us; /* virtual time from the last fault until all run the newest view */
} wide_cost;

/* The histories of seeds `first` to `last`, and one line about them; the exit status. */
int wide_run_seeds(const wide_options *options, uint64_t first, uint64_t last, bool goes_on);

/* One line of comma-separated values. */
void wide_print_row(const wide_options *options, const wide_cost *cost);

/* A history of one seed; false: a property was broken, which was printed. */
bool wide_run(const wide_options *options, wide_cost *cost_out);
#endif
