/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher and its ranks tell each other, one message per packet of a
 * SOCK_SEQPACKET socket pair (inherited by a rank process as descriptor EEP_CONTROL_FD). A rank's
 * death loses nothing that it had sent; nobody blocks on a send (rule M9): who cannot send keeps a
 * queue. */
#ifndef EEPX_WIRE_H
#define EEPX_WIRE_H

#include "eep/eep.h"

#include <stdint.h>

enum { WIRE_MAX_TOKENS = 16384, WIRE_MAX_BYTES = 128 * 1024, WIRE_FILE_BYTES = 256 };

typedef enum wire_kind {
    /* launcher -> rank */
    WIRE_ASSIGN = 1, /* wire_assign, then num_emitted uint32 tokens: serve this request */
    WIRE_STOP,       /* wire_header only: finish the step, send counters and STOPPED */
    WIRE_DRAIN,      /* hand all requests back, leave the view, exit 0 */
    WIRE_SLOW,       /* wire_slow: take `factor` times as long for each step from now on */
    WIRE_PLACE,      /* wire_place: order the placement of that file */
    WIRE_DIE,        /* wire_die: kill yourself there in your next step with positions */
    /* rank -> launcher */
    WIRE_HELLO = 64, /* wire_hello: the context is open */
    WIRE_STARTUP,    /* wire_startup: prepared, and about to join */
    WIRE_JOINED,     /* wire_joined: in the view, ready for requests */
    WIRE_STEP,       /* wire_step, then num_tokens wire_token: one step has ended */
    WIRE_EVENT,      /* wire_event */
    WIRE_COUNTERS,   /* wire_counters: at STOP, DRAIN and about every 250 ms */
    WIRE_FAILED,     /* wire_failed: the request ends with an explicit error */
    WIRE_HANDBACK,   /* wire_failed (status OK): the request is given back for another rank */
    WIRE_PLACEMENT,  /* wire_placement: how far the placement in force has come */
    WIRE_FROZEN,     /* wire_header only: a thread has stopped itself inside a step, as told */
    WIRE_STOPPED,    /* wire_header only: serves no more, as told; it ends once its socket is shut
                        down, so that the last ones do not see the first ones go */
} wire_kind;

typedef struct wire_header {
    uint32_t kind;
    uint32_t bytes; /* of the whole message */
} wire_header;
typedef struct wire_assign {
    wire_header header;
    uint32_t request;
    uint32_t input_length, output_length;
    uint32_t num_emitted; /* tokens that are already emitted: re-prefill prompt + these */
} wire_assign;
typedef struct wire_slow {
    wire_header header;
    double factor; /* 1 or less: as usual again */
} wire_slow;
typedef struct wire_die {
    wire_header header;
    uint32_t place; /* verb_place */
    uint32_t stops; /* it only stops there, and may be continued */
} wire_die;
typedef struct wire_place {
    wire_header header;
    char file[WIRE_FILE_BYTES]; /* its name, from where eep-run was started */
} wire_place;
/* Sent once a rank serves, and when one of its numbers has changed, epoch and time aside. */
typedef struct wire_placement {
    wire_header header;
    uint64_t time_ns;
    uint64_t epoch;          /* of the view that it is about */
    uint64_t number;         /* of the placement in force; 0: none */
    uint64_t own_number;     /* of the last one that this rank ordered, or tried to; 0: none */
    int32_t own_state;       /* eep_order_state */
    int32_t num_unmet;       /* slots of members that do not hold what they are given */
    int32_t num_unreachable; /* of these: they will not */
    int32_t num_pinned;      /* pinned slots of members, which hold an expert */
} wire_placement;
typedef struct wire_hello {
    wire_header header;
    int32_t seat;
    uint32_t generation;
    uint64_t time_ns;
} wire_hello;
/* When it had come through each part of its start, by CLOCK_MONOTONIC. */
typedef struct wire_startup {
    wire_header header;
    uint64_t main_ns;     /* its program ran */
    uint64_t open_ns;     /* its context was open: it has a seat */
    uint64_t loaded_ns;   /* weights and backups were in place */
    uint64_t captured_ns; /* its graph was captured */
} wire_startup;
typedef struct wire_joined {
    wire_header header;
    uint64_t epoch;
    uint64_t time_ns;
    uint64_t prepare_ns; /* process start to ready */
    uint64_t captures;   /* graphs this process had captured when it joined */
} wire_joined;
typedef struct wire_token {
    uint32_t request;
    uint32_t position; /* 0: the first emitted token of the request */
    uint32_t token;
    uint32_t pad;
    uint64_t digest; /* of the logits: docs/MODEL.md */
} wire_token;
typedef struct wire_step {
    wire_header header;
    uint64_t step, epoch;
    uint64_t begin_ns, end_ns; /* CLOCK_MONOTONIC */
    int32_t status;            /* of eep_step_end */
    uint32_t num_positions;    /* computed in it, prompt and decode */
    uint32_t num_reprefill;    /* of these: positions whose result had been emitted before */
    uint32_t num_tokens;
} wire_step;
typedef struct wire_event {
    wire_header header;
    eep_event_info record;
    eep_counters counters; /* right behind it, where weights may have come; struct_bytes 0: not */
} wire_event;
typedef struct wire_counters {
    wire_header header;
    uint64_t epoch;
    eep_counters counters;
    uint64_t routed; /* tokens of this rank, once for each expert of each layer that they go to */
    double hottest;  /* the hottest expert of any layer over the mean of its layer; 0: unknown */
} wire_counters;
typedef struct wire_failed {
    wire_header header;
    uint32_t request;
    int32_t status;
} wire_failed;
#endif
