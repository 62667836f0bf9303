/* SPDX-License-Identifier: Apache-2.0 */
/* What is said on the holder's socket: messages of one size, each with at most one descriptor
 * (SCM_RIGHTS). The sizes and numbers below are the protocol of version 2.
 *
 *     client                                         holder
 *     HELLO(seat, generation, identity)       --->
 *                                             <---   ANSWER(status, version, age_us)
 *     HOLD(name, bytes) + memfd               --->   kept until RELEASE or the client's end
 *                                             <---   ANSWER(status)
 *     LOOK_UP(name)                           --->
 *                                             <---   ANSWER(status, bytes, whose) + memfd
 *     CONNECT(identity)                       --->   makes a pair of sockets
 *                                             <---   ANSWER(status) + one end
 *                            to the other client:    CALLED(seat, generation, identity) + other end
 *     RELEASE(name)                           --->
 *                                             <---   ANSWER(status)
 *     HOLD(RETAINED, name, bytes) + memfd     --->   kept until RELEASE, whoever put it there
 *                                             <---   ANSWER(status)
 *     NEXT(name, sequence)                    --->   retained, begins with that name, is younger
 *                                             <---   ANSWER(status, name, bytes, whose, sequence)
 *                                                    + memfd; NOT_FOUND: there is none
 *     RELEASE(RETAINED, name)                 --->   all that begins with the name
 *                                             <---   ANSWER(status)
 *     ATTACH(seat, generation, host, home,
 *            name of its pulse) + pidfd       --->   an agent watches that process from now on
 *                                             <---   ANSWER(status) + its board
 *     DETACH(seat, generation)                --->   nothing of it stores any more
 *                                             <---   ANSWER(status)
 *     KILL(seat, generation)                  --->   of a rank of another host
 *                                             <---   ANSWER(status: it was passed on)
 *
 * An ANSWER with id 0 says why a connection is turned away, and its end follows: SYSTEM (no
 * descriptor left), STATE (another user's), NO_MEMORY (no room).
 *
 * Requests may be sent without waiting for answers, which come in order. HELLO is the first. An
 * identity is 16 random bytes that a client chooses for its life: process numbers mean nothing
 * across pid namespaces. What a client says of itself is not proven by anything but its user.
 *
 * Retained memory has a name of several parts, such as backup/INSTANCE/..., and outlives who put it
 * there. Memory of another instance, that is with another second part behind an equal first one, is
 * let go, where its client has ended, when memory of a new instance comes. A sequence counts what
 * this holder was given to retain, from 1; so a client that asks for what is younger than the last
 * one hears of each once. */
#ifndef EEPI_HOLDER_WIRE_H
#define EEPI_HOLDER_WIRE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define EEPI_HOLDER_MAGIC 0x444c4845u /* "EHLD", little-endian */

enum {
    EEPI_HOLDER_VERSION = 2,
    EEPI_HOLDER_NAME_BYTES = 56, /* with the 0 behind it; printable ASCII */
    EEPI_HOLDER_IDENTITY_BYTES = 16
};

typedef enum eepi_holder_kind {
    EEPI_HOLDER_HELLO = 1,
    EEPI_HOLDER_HOLD,
    EEPI_HOLDER_LOOK_UP,
    EEPI_HOLDER_RELEASE,
    EEPI_HOLDER_CONNECT,
    EEPI_HOLDER_ANSWER,
    EEPI_HOLDER_CALLED,
    EEPI_HOLDER_NEXT,
    EEPI_HOLDER_ATTACH, /* this one and the next two: to a holder that is an agent's */
    EEPI_HOLDER_DETACH,
    EEPI_HOLDER_KILL
} eepi_holder_kind;

/* Flags of a request; others must be 0. */
#define EEPI_HOLDER_RETAINED 1u

/* Unused fields are zero. */
typedef struct eepi_holder_message {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint64_t id;    /* of a request, chosen by the client; an answer repeats it */
    int32_t status; /* of an answer: an eep_status */
    int32_t seat;   /* of a hello, a call; of who holds what was looked up */
    uint32_t generation;
    uint32_t flags;
    uint8_t identity[EEPI_HOLDER_IDENTITY_BYTES]; /* the same; of a connect: whom */
    uint64_t bytes;  /* of the memory; of ATTACH: the client's home (eepi_process_home) */
    uint64_t age_us; /* of an answer: since the holder was opened */
    /* Of retained memory; of a request: after which; of ATTACH: the client's host. */
    uint64_t sequence;
    char name[EEPI_HOLDER_NAME_BYTES];
} eepi_holder_message;
static_assert(sizeof(eepi_holder_message) == 128, "the message has no padding");
static_assert(offsetof(eepi_holder_message, identity) == 32, "the message has no padding");
static_assert(offsetof(eepi_holder_message, name) == 72, "the message has no padding");

/* Seals that memory must have to be held: nobody but who has mapped it can write it, and it does
 * not shrink under who reads it. */
#define EEPI_HOLDER_SEALS (F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#endif
