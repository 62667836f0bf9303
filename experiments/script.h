/* The fault script of a run: which rank is killed, drained or started again, and when. Pure: the
 * launcher asks what is due and does it. One thread owns a script. */
#ifndef EEPX_SCRIPT_H
#define EEPX_SCRIPT_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SCRIPT_MAX_EVENTS = 512, SCRIPT_ERROR_BYTES = 512 };

typedef enum script_verb {
    SCRIPT_KILL,   /* SIGKILL the seat's process */
    SCRIPT_REJOIN, /* start a new process in the seat */
    SCRIPT_DRAIN,  /* ask the seat's process to hand back its requests and leave */
    SCRIPT_BURN,   /* start a process that only burns CPU, for comparison with a join */
} script_verb;

typedef enum script_target {
    SCRIPT_SEAT,     /* the number given */
    SCRIPT_LOWEST,   /* lowest active seat */
    SCRIPT_PROPOSER, /* who proposed the present view */
    SCRIPT_RANDOM,   /* any active seat, by the seed */
} script_target;

typedef struct script_event {
    script_verb verb;
    script_target target;
    int seat;       /* SCRIPT_SEAT: given; else resolved when a kill is done, before it -1 */
    double time_ms; /* after serving started */
    double seconds; /* of a burn */
    int pairs_with; /* a rejoin by name: index of the kill whose seat it takes; else -1 */
    bool done;
} script_event;

/* A cycle of kills, besides the events: seat after seat, each in the view again before the next. */
typedef struct script_cycle {
    int num_kills; /* 0: none */
    double kill_every_ms, rejoin_after_ms;
} script_cycle;

typedef struct script {
    script_event event[SCRIPT_MAX_EVENTS];
    int num_events;
    script_cycle cycle;
    int num_seats; /* of the first view: what the cycle goes over */
    /* progress of the cycle */
    int kills_done;
    int dead_seat;  /* -1: none */
    bool respawned; /* dead_seat's new process is on its way */
    double last_kill_ms;
} script;

/* What the script must know of the world when it is asked. */
typedef struct script_world {
    double now_ms;
    int proposer; /* of the present view; -1: unknown */
    int max_ranks;
    bool (*active)(const void *user, int seat);  /* in the view, process alive */
    bool (*running)(const void *user, int seat); /* a process of the seat exists */
    const void *user;
    uint64_t *random; /* splitmix64 state */
} script_world;

/* Parse "R@TIME" (TIME in s, or with suffix s or ms; R a seat below max_ranks, or `lowest`,
 * `proposer`, `random`) or, for a burn, "SECONDS@TIME", and append it. EEP_ERR_INVALID with a
 * line in `error`. */
EEP_MUST_CHECK eep_status script_add(script *self, script_verb verb, const char *text,
                                     char error[SCRIPT_ERROR_BYTES]);
/* Sort the events by time and check that every rejoin takes a seat that is free by then:
 * seats 0 .. num_ranks-1 are taken at the start. EEP_ERR_INVALID with a line in `error`. */
EEP_MUST_CHECK eep_status script_prepare(script *self, int num_ranks, int max_ranks,
                                         char error[SCRIPT_ERROR_BYTES]);

/* The next thing that is due now, with its seat resolved: true and *verb_out, *seat_out,
 * *seconds_out (burn). It counts as done. Call until false. A rejoin waits until the seat's
 * process is gone; a kill by name waits while nobody is active; a kill or drain of a seat whose
 * process is already gone is passed over. */
bool script_next(script *self, const script_world *world, script_verb *verb_out, int *seat_out,
                 double *seconds_out);
/* Milliseconds until something may be due; a bound for the launcher's wait. */
double script_wait_ms(const script *self, double now_ms);
/* Everything was done (and the cycle's last seat is in the view again). */
bool script_is_done(const script *self);
/* There are kills, drains or rejoins in it (done or not). */
bool script_has_faults(const script *self);
#endif
