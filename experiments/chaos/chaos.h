/* SPDX-License-Identifier: Apache-2.0 */
/* Random faults for eep-chaos: which fault comes to which rank, and when, as flags of eep-run.
 * Pure: seed and round determine every flag. */
#ifndef EEPX_CHAOS_H
#define EEPX_CHAOS_H

#include "experiments/script/verbs.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CHAOS_MAX_RANKS = 64,
    CHAOS_MAX_FAULTS = 200,
    CHAOS_MAX_FLAGS = 4 * CHAOS_MAX_FAULTS,
    CHAOS_TEXT_BYTES = 64,
    CHAOS_FEWEST_RANKS = 4 /* two may have ended at once, and a victim needs another one */
};

typedef enum chaos_kind {
    CHAOS_KILL,
    CHAOS_ABORT,
    CHAOS_DIE,   /* inside a step */
    CHAOS_PAUSE, /* SIGSTOP, then SIGCONT */
    CHAOS_SLOW,
    CHAOS_STORE_STOP,    /* it does not answer for a while */
    CHAOS_STORE_RESTART, /* it is killed and comes back empty */
    /* of hosts and the network between them */
    CHAOS_HOST_FREEZE,
    CHAOS_HOST_KILL, /* it starts again after a while */
    CHAOS_PARTITION,
    CHAOS_ONE_WAY,
    CHAOS_DELAY,
    CHAOS_RESET,
    CHAOS_NIC_DOWN,
    CHAOS_AGENT_KILL,
    NUM_CHAOS_KINDS
} chaos_kind;
extern const char *const chaos_kind_names[NUM_CHAOS_KINDS];

/* How a fault relates to the one before it. */
typedef enum chaos_scope {
    SCOPE_SINGLE,   /* the world had settled */
    SCOPE_DOUBLE,   /* another rank, at the same moment (within 20 ms), or inside a store outage */
    SCOPE_RECOVERY, /* another rank, while the first one is recovered from */
    SCOPE_JOINER,   /* the process that took the seat, before it had joined */
    SCOPE_RELAPSE,  /* the same, right after it had joined */
    NUM_CHAOS_SCOPES
} chaos_scope;
extern const char *const chaos_scope_names[NUM_CHAOS_SCOPES];

typedef enum chaos_fate {
    FATE_STAYS, /* nobody may be expelled for it */
    FATE_MAY,   /* its rank may be expelled, and is killed later if it was not */
    FATE_DIES,  /* its rank must be expelled */
} chaos_fate;

typedef struct chaos_fault {
    chaos_kind kind;
    chaos_scope scope;
    chaos_fate fate;
    int seat;       /* -1: the store, or hosts */
    uint64_t hosts; /* bit i: host i of --hosts; it may lose its ranks, if `fate` lets it */
    double duration_ms, factor;
} chaos_fault;

/* How a fault of --hosts is made: through the control socket of the run. */
typedef struct chaos_order {
    verb verb;
    char text[VERB_FILE_BYTES];
    double after_ms; /* since the fault before it, with which it goes together */
} chaos_order;

typedef struct chaos_flag {
    verb verb;
    char text[CHAOS_TEXT_BYTES];
} chaos_flag;

/* Faults are in the order in which they come to each seat. */
typedef struct chaos_round {
    uint64_t run_seed; /* of eep-run: weights, prompts, arrivals */
    int num_faults, num_flags;
    chaos_fault fault[CHAOS_MAX_FAULTS];
    chaos_flag flag[CHAOS_MAX_FLAGS];
    chaos_order order[CHAOS_MAX_FAULTS]; /* with --hosts in place of flags: of fault[i] */
    double expected_ms;                  /* about how long the flags take */
} chaos_round;

typedef struct chaos_config {
    uint64_t seed, round;
    int num_ranks;   /* CHAOS_FEWEST_RANKS .. CHAOS_MAX_RANKS */
    int num_faults;  /* 0: 12 to 20, drawn; else 1 .. CHAOS_MAX_FAULTS */
    double expel_ms; /* least silence for which a living rank is expelled */
    bool store_race; /* ranks may die in the instant in which the store comes back empty */
} chaos_config;

void chaos_draw(const chaos_config *config, chaos_round *round_out);
#endif
