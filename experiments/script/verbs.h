/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done to a running instance: the one table of verbs behind the command line's fault
 * flags, scenarios, eep-ctl, plans and chaos. Pure. */
#ifndef EEPX_VERBS_H
#define EEPX_VERBS_H

#include <stdbool.h>

typedef enum verb {
    VERB_KILL,   /* SIGKILL the seat's process */
    VERB_ABORT,  /* SIGABRT it: it dies with the default action, as after a failed assertion */
    VERB_STOP,   /* SIGSTOP it; SIGCONT after the duration, if one is given */
    VERB_CONT,   /* SIGCONT it */
    VERB_SLOW,   /* its steps take `value` times as long; 1 ends that */
    VERB_DIE,    /* it kills itself at a `place` inside its next step with work */
    VERB_FREEZE, /* it stops itself (SIGSTOP) there; SIGCONT after the duration, if one is given */
    VERB_REJOIN, /* start a new process in a seat whose process has ended */
    VERB_ADD,    /* start a process in a free seat (`vacant`: the lowest) */
    VERB_DRAIN,  /* it hands its requests back and leaves */
    VERB_PLACEMENT,   /* it orders the placement of a file (eep_placement_set) */
    VERB_BURN,        /* burn one CPU for `value` seconds at a joiner's priority; no seat */
    VERB_STORE_KILL,  /* SIGKILL the store's process; no seat */
    VERB_STORE_STOP,  /* SIGSTOP it; SIGCONT after the duration, if one is given; no seat */
    VERB_STORE_CONT,  /* SIGCONT it; no seat */
    VERB_STORE_START, /* start it again, empty; no seat */
    /* With --hosts; their names are the value. No seat. */
    VERB_HOST_KILL,   /* SIGKILL all ranks and the agent of a host, or what the file says */
    VERB_HOST_START,  /* what the file says; its agent is started */
    VERB_HOST_FREEZE, /* SIGSTOP all ranks and the agent; host-cont after the duration */
    VERB_HOST_CONT,   /* SIGCONT them */
    VERB_AGENT_KILL,  /* SIGKILL the agent of a host; agent-start after the duration */
    VERB_AGENT_START, /* start it again */
    VERB_PARTITION,   /* what the file says, as all below; heal after the duration */
    VERB_ONE_WAY,     /* nothing gets from the first hosts to the second */
    VERB_DELAY,       /* frames between them take so many milliseconds longer */
    VERB_RESET,       /* connections between them are reset */
    VERB_HEAL,        /* the four above are over; of an end of one: between its hosts */
    VERB_NIC_DOWN,    /* the host's interface goes down; nic-up after the duration */
    VERB_NIC_UP,
    NUM_VERBS
} verb;

/* Where in a step VERB_DIE and VERB_FREEZE take place: in the middle layer, between two nodes of
 * the graph; in chain 0, or behind those in chain 1 of a step that has two. */
typedef enum verb_place {
    PLACE_DISPATCH, /* rows are sent, tags are not published */
    PLACE_EXPERTS,  /* dispatched rows are here, the experts have not run */
    PLACE_COMBINE,  /* some expert outputs are sent back, tags are not published */
    NUM_PLACES_OF_CHAIN,
    NUM_PLACES = 2 * NUM_PLACES_OF_CHAIN
} verb_place;

/* Of a file's name, with its end: a value is copied with its event. */
enum { VERB_FILE_BYTES = 256 };

/* What a verb takes besides seats and a duration. `value` of its verb_info says which it is. */
typedef union verb_value {
    double seconds;              /* VERB_SECONDS */
    double factor;               /* VERB_FACTOR */
    verb_place place;            /* VERB_PLACE, VERB_PLACE_DURATION */
    char file[VERB_FILE_BYTES];  /* VERB_FILE */
    char hosts[VERB_FILE_BYTES]; /* VERB_HOST to VERB_SIDES_MS: host_names.h; "": none */
} verb_value;

typedef struct verb_info {
    const char *name;   /* "store-kill": in scenarios and eep-ctl */
    const char *option; /* "--store-kill" */
    bool has_seat;      /* it is done to seats */
    bool wants_free;    /* the seat must be without a process (rejoin, add) */
    enum {
        VERB_NO_VALUE,
        VERB_SECONDS,
        VERB_FACTOR,
        VERB_PLACE,
        VERB_PLACE_DURATION,
        VERB_DURATION,
        VERB_FILE, /* without ranks it is done to the lowest one */
        VERB_HOST, /* one host, or none */
        VERB_HOSTS,
        VERB_HOSTS_DURATION,
        VERB_SIDES,    /* two lists of hosts, and a duration */
        VERB_SIDES_MS, /* the same with milliseconds */
    } value;
    bool takes_command; /* the file of --hosts may say how it is done */
    const char *doc;    /* one line for --help */
} verb_info;

extern const verb_info verb_table[NUM_VERBS];
/* "dispatch", "experts", "combine", and those of chain 1: "dispatch.1" and so on */
extern const char *const place_names[NUM_PLACES];

/* It is done to hosts, and for --hosts alone. */
bool verb_is_of_hosts(verb what);
/* What it takes names hosts. */
bool verb_takes_hosts(verb what);
/* It changes who is a member on purpose: nothing for an instance whose membership is fixed. */
bool verb_is_of_elastic(verb what);
/* The verb of that name; false: there is none. */
bool verb_find(const char *name, verb *verb_out);
#endif
