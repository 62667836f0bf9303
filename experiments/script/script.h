/* SPDX-License-Identifier: Apache-2.0 */
/* The fault script of a run: what is done to which seats, and when. Pure: the launcher tells what
 * happens, asks what is due and does it. One thread owns a script. */
#ifndef EEPX_SCRIPT_H
#define EEPX_SCRIPT_H

#include "eep/eep.h"
#include "experiments/script/verbs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCRIPT_MAX_EVENTS = 2048,
    SCRIPT_MAX_SEATS = 64,
    SCRIPT_ERROR_BYTES = 512,
};

typedef enum script_target {
    TARGET_NONE,     /* the verb has no seat */
    TARGET_SEATS,    /* the seats listed */
    TARGET_LOWEST,   /* lowest active seat */
    TARGET_PROPOSER, /* who proposed the present view */
    TARGET_RANDOM,   /* `count` active seats, by the seed */
    TARGET_COVERED,  /* the same, such that the others' slots still hold every expert */
    TARGET_SOURCE,   /* seats that the present REPAIRING view copies from; the lowest, at most
                        `count` */
    TARGET_JOINER,   /* the youngest process that has not joined yet */
    TARGET_VACANT,   /* the `count` lowest seats without a process */
    TARGET_SAME,     /* all seats of an earlier event */
    NUM_TARGETS
} script_target;

typedef enum script_when {
    WHEN_TIME,  /* delay_ms after serving started */
    WHEN_STEP,  /* delay_ms after a step numbered `step` or higher was reported */
    WHEN_STATE, /* delay_ms after a state was seen so many times */
} script_when;

/* What a script can wait for. Each is counted from the start of serving. */
typedef enum script_state {
    STATE_SPAWNED,     /* a process was started in the seat */
    STATE_OPENED,      /* it has taken its seat: eep_open returned */
    STATE_READY,       /* its weights are in and its graph captured: it asked to be let in */
    STATE_STAGED,      /* it has staged a planned view */
    STATE_COMMITTED,   /* the first view that has it was committed */
    STATE_JOINED,      /* it serves */
    STATE_SUSPECTED,   /* it suspects another rank */
    STATE_WEDGED,      /* it stopped serving an epoch */
    STATE_PROPOSED,    /* it won a compare-and-swap */
    STATE_REPAIRING,   /* a view was committed in which it fills slots while no rank serves */
    STATE_REPAIRED,    /* it has filled them */
    STATE_INSTALLED,   /* it installed a fault view */
    STATE_FLIPPED,     /* it flipped to a planned view */
    STATE_REBALANCING, /* it fills slots behind live traffic */
    STATE_PLACED,      /* it told first that a placement is reached, or is so again */
    STATE_EXITED,      /* its process has ended */
    STATE_EXPELLED,    /* a view without it was committed while it had not asked to leave */
    NUM_STATES
} script_state;

/* How long what is done lasts: the sum of both; 0: until it is undone by another event. */
typedef struct script_duration {
    double ms;
    double expels; /* multiples of the script's expel_ms */
} script_duration;

/* A target by name. */
typedef struct script_named {
    int count;    /* how many ranks; at least 1 */
    bool counted; /* the count was given */
} script_named;

/* The ranks of an earlier event. */
typedef struct script_same {
    int partner;          /* index of that event; -1: it was dropped */
    script_target target; /* what these ranks are called in messages: the target of that event */
    int count;
} script_same;

/* A state to wait for. */
typedef struct script_awaited {
    script_state state;
    int seat;  /* -1: of any seat */
    int count; /* at least 1 */
} script_awaited;

/* How far an event has come; script_append sets it to the beginning. */
typedef struct script_progress {
    double trigger_ms; /* when its step or state was seen; < 0: not yet */
    int states_seen;
    bool resolved;          /* seat[0 .. num_seats-1] are the seats it is done to */
    uint64_t seats_done;    /* bit i: seat[i] */
    uint64_t seats_applied; /* of seats_done: not passed over */
    uint64_t seats_undo;    /* of seats_applied: the end is still to come */
    double undo_ms;         /* when the end comes */
    double applied_ms;      /* when it was applied to the first seat; < 0: to none */
    bool done;
    bool withdrawn;  /* done only because script_withdraw or script_cancel gave it up */
    bool told;       /* script_ended has handed it out */
    bool is_dropped; /* within script_compact */
} script_progress;

typedef struct script_event {
    verb verb;
    verb_value value;      /* by verb_table[verb].value */
    script_duration lasts; /* stop, slow, freeze, store-stop, and verbs of hosts */
    script_target target;
    union {
        script_named named; /* TARGET_LOWEST to TARGET_VACANT */
        script_same same;   /* TARGET_SAME */
    };
    int num_seats; /* TARGET_SEATS: given; else chosen when the event is due */
    int seat[SCRIPT_MAX_SEATS];
    script_when when;
    double delay_ms; /* WHEN_TIME: the time itself */
    union {
        uint64_t step;          /* WHEN_STEP */
        script_awaited awaited; /* WHEN_STATE */
    };
    /* where it comes from: for messages about it */
    int line, column; /* of a scenario; 0: not from one */
    int order;        /* as appended: sorting moves events */
    script_progress progress;
} script_event;

/* Index of the event whose ranks this one takes; -1: it takes no other event's. */
static inline int script_partner(const script_event *event)
{
    return event->target == TARGET_SAME ? event->same.partner : -1;
}

/* A cycle of kills, besides the events: seat after seat. Each rank is in the view again before the
 * next one is killed. */
typedef struct script_cycle {
    int num_kills; /* 0: none */
    double kill_every_ms, rejoin_after_ms;
} script_cycle;

typedef struct script {
    script_event *event; /* grows; script_free */
    int num_events, num_appended;
    script_cycle cycle;
    double expel_ms; /* what the duration 1x stands for */
    int num_seats;   /* of the first view: what the cycle goes over */
    int max_ranks;   /* 0: not prepared yet */
    /* progress of the cycle */
    int kills_done;
    int dead_seat;  /* -1: none */
    bool respawned; /* dead_seat's new process is on its way */
    double last_kill_ms;
    /* processes started, for `joiner`: the seat with the highest number has the youngest */
    uint32_t num_spawned, spawned[EEP_MAX_RANKS];
} script;

/* What the script must know of the world when it is asked. */
typedef struct script_world {
    double now_ms;
    int proposer; /* of the present view; -1: unknown */
    int max_ranks;
    bool (*active)(const void *user, int seat);  /* in the view, process alive */
    bool (*running)(const void *user, int seat); /* a process of the seat exists */
    bool (*source)(const void *user, int seat);  /* the present REPAIRING view copies from it */
    bool (*joining)(const void *user, int seat); /* its process has not joined yet */
    /* The host that the event starts the seat's process on is reached; NULL: all are. */
    bool (*reached)(const void *user, const script_event *event, int seat);
    /* Without these seats (bools, max_ranks of them) the others' slots hold every expert. */
    bool (*covered)(const void *user, const bool *without);
    const void *user;
    uint64_t seed; /* of random targets: each event draws from its own stream */
} script_world;

/* One thing to do now: the verb on one seat (-1: it has none). */
typedef struct script_action {
    verb verb;
    int seat;
    verb_value value; /* by verb_table[verb].value */
    double duration_ms;
    int order, index;  /* the event and its seat; order -1: an undoing, the cycle's or a plan's */
    bool keeps_freeze; /* the end of a stop: the rank still stops at the place it was told */
} script_action;

/* Append a copy of the event. EEP_ERR_NO_MEMORY, EEP_ERR_INVALID beyond SCRIPT_MAX_EVENTS. A
 * prepared script is compacted as it grows, so that the bound is on pending events. A prepared
 * script refuses more: EEP_ERR_INVALID when a seat does not exist, EEP_ERR_NOT_FOUND when a rejoin
 * or cont by name has no earlier event to take its seats from. */
EEP_MUST_CHECK eep_status script_append(script *self, const script_event *event);
/* script_parse and script_append in one: what a flag does. */
EEP_MUST_CHECK eep_status script_add(script *self, verb what, const char *text,
                                     char error[SCRIPT_ERROR_BYTES]);
/* A script of its own with the same events. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status script_copy(const script *self, script *copy_out);
void script_free(script *self);
/* Sort the events, those at a time first and by it. Pair recoveries by name with their faults.
 * Check that seats exist. Of events at a time on seats by number, check too that a rejoin takes a
 * seat that is free by then, and a fault one that is not; seats 0 .. num_ranks-1 are taken at the
 * start. EEP_ERR_INVALID with a line in `error`, which begins with "LINE:COLUMN: " for an event of
 * a scenario. */
EEP_MUST_CHECK eep_status script_prepare(script *self, int num_ranks, int max_ranks,
                                         char error[SCRIPT_ERROR_BYTES]);

/* A step was reported, or the seat's process got into a state, at now_ms. */
void script_on_step(script *self, uint64_t step, double now_ms);
void script_on_state(script *self, script_state state, int seat, double now_ms);

/* The next thing that is due now: true and *action_out. Call until false. A rejoin waits until the
 * seat's process has ended. An event by name waits while no seat fits. A fault is passed over where
 * the seat's process has ended already. The end of a stop or a slow-down is an action of its own.
 */
bool script_next(script *self, const script_world *world, script_action *action_out);
/* That action was not applied: its process had ended, or was about to. */
void script_not_applied(script *self, const script_action *action);
/* An event that was done with since the last call: true and a copy. Call until false. */
bool script_ended(script *self, script_event *event_out);
/* Give up what is not done yet. Ends of what was begun still come. */
void script_withdraw(script *self);
/* Withdraw the event with that number (its `order`). Where its ranks are not known yet, events that
 * take them are withdrawn too. Ends of what was begun still come. Returns how many events were
 * withdrawn; 0: none of that number is pending. */
int script_cancel(script *self, int order);
/* What an event that is not done yet waits for, in words. */
void script_explain(const script_event *event, double now_ms, char *text_out, size_t size);
/* EEP_ERR_INVALID if the event can never be done with so many seats; `error` says why. */
EEP_MUST_CHECK eep_status script_check(const script_event *event, int max_ranks,
                                       char error[SCRIPT_ERROR_BYTES]);
/* Drop events that are done and were handed out by script_ended, unless a later one may name them.
 */
void script_compact(script *self);
/* Milliseconds until something may be due; a bound for the launcher's wait. */
double script_wait_ms(const script *self, double now_ms);
/* The event's moment has come. */
bool script_is_due(const script_event *event, double now_ms);
/* A process will be started by it, at a time that is known. */
bool script_will_start(const script *self);
/* Everything was done (and the cycle's last seat is in the view again). */
bool script_is_done(const script *self);
/* Events are pending, and all of them wait for a step, a state, or a seat that fits: none becomes
 * due by time alone. */
bool script_waits(const script *self, double now_ms);
/* Something in it is done to the store. */
bool script_has_store(const script *self);
#endif
