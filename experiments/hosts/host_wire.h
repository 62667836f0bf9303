/* SPDX-License-Identifier: Apache-2.0 */
/* What eep-run and its worker on a host tell each other: a host_message each, and for some of them
 * bytes behind it. The channel proves the job's key and keeps their order (transport/secure).
 *
 *   front -> worker   BEGIN or RESUME, then START, SIGNAL, PACKET, SHUT, HOST, AGENT, PING; END
 *   worker -> front   WELCOME or REFUSED, READY or REFUSED, then PACKET, ENDED, HALTED, PONG, NOTE
 *
 * Both are of one build, which BEGIN says. */
#ifndef EEPX_HOST_WIRE_H
#define EEPX_HOST_WIRE_H

#include "experiments/wire/wire.h"

#include <assert.h>
#include <stdint.h>

#define HOST_SERVICE "worker"

enum {
    HOST_VERSION = 2,
    HOST_BODY_BYTES = WIRE_MAX_BYTES, /* of what follows a message */
    HOST_UNSENT_BYTES = 64 << 20,     /* more than that is not kept for the other end */
    HOST_NOTE_BYTES = 512,
    HOST_PING_MS = 100,
    HOST_SILENCE_MS = 5000, /* the other end has said nothing for so long: it is gone */
    HOST_DOUBT_MS = 2000,   /* and after so long the front makes another connection */
    HOST_RESUME_MS = 5000,  /* after a reset the front tries to connect for so long */
    HOST_AWAIT_MS = 7000,   /* and the worker waits for it */
};

typedef enum host_message_kind {
    /* to the worker */
    REMOTE_BEGIN = 1, /* host_begin's texts: what ranks and agent are told. `value`: 1: the worker
                       was started by this front, and ends with it */
    REMOTE_START,  /* a rank in `seat`, as its process number `process`; `value`: it is a joiner */
    REMOTE_SIGNAL, /* the signal `value` */
    REMOTE_SHUT,   /* nothing more comes for the rank */
    REMOTE_ALL,    /* the signal `value`, to each rank and to the agent */
    REMOTE_AGENT,  /* the signal `value`, to the agent; 0: start it */
    REMOTE_PING,   /* `time_ns`: the front's clock */
    REMOTE_END,    /* end all ranks and the agent, then the connection */
    REMOTE_RESUME, /* instead of BEGIN: what has no receipt is sent again, by both */
    /* both ways */
    REMOTE_PACKET, /* wire.h's, to or from the rank */
    /* to the front */
    REMOTE_WELCOME = 64, /* the front may say BEGIN; `value`: 1: it has ranks of this front, which
                          * may say RESUME */
    REMOTE_READY,
    REMOTE_REFUSED, /* a text: why; the worker ends the connection */
    REMOTE_ENDED,   /* the rank has ended, with wait status `value`; all it said came before */
    REMOTE_HALTED,  /* `value`: 1: it is stopped (SIGSTOP); 0: it runs again */
    REMOTE_PONG,    /* `time_ns` as it came, `own_ns`: the worker's clock */
    REMOTE_NOTE,    /* a text for a person */
} host_message_kind;

typedef struct host_message {
    uint32_t kind;
    int32_t seat;
    uint32_t process; /* of the seat: what is said of one before it is void */
    int32_t value;
    uint64_t time_ns, own_ns;
    uint64_t number; /* of those that count (host_journal.h), from BEGIN on; 0: none */
    uint64_t taken;  /* the newest number that has come from the other end */
} host_message;
static_assert(sizeof(host_message) % 16 == 0, "what follows it is aligned as the payload is");

/* The body of BEGIN: texts with their NULs, in this order, then "NAME=VALUE" as often as wanted. */
typedef enum host_begin_text {
    HOST_BEGIN_BUILD,   /* commit_text: the worker's own has to be the same */
    HOST_BEGIN_SIZE,    /* ranks of the first view */
    HOST_BEGIN_STORE,   /* the store's address */
    HOST_BEGIN_OPTIONS, /* rank_setup_to_text */
    HOST_BEGIN_AGENT,   /* where the agent listens; "": the worker starts none */
    HOST_BEGIN_TEXTS,
} host_begin_text;
#endif
