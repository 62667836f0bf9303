/* SPDX-License-Identifier: Apache-2.0 */
/* What a host's agent and its ranks show each other in shared memory (docs/AGENT.md).
 *
 *     rank  --- pulse: its beats ------->  agent      one page, written by the rank alone
 *     rank  <-- board: other hosts ------  agent      written by the agent alone
 *
 * Both are sealed, so that nobody but their owner can write them. The board says what the agent has
 * heard, and judges nothing: each reader compares counts with what it saw before, by its own clock
 * (rule N11). A mapping stays when the agent ends; its counts then stand still. */
#ifndef EEPI_BOARD_H
#define EEPI_BOARD_H

#include "eep/eep.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    EEPI_BOARD_HOSTS = 256,
    EEPI_BOARD_VERSION = 1,
    EEPI_BOARD_ADDRESS_BYTES = 64, /* HOST:PORT with the 0 behind it */
    EEPI_PULSE_BYTES = 4096
};
#define EEPI_BOARD_MAGIC 0x44524245u /* "EBRD", little-endian */

typedef struct eepi_pulse {
    uint64_t beats;         /* of the heartbeat thread */
    uint64_t busy_until_ns; /* it said that it will be silent until then; CLOCK_MONOTONIC */
} eepi_pulse;

typedef enum eepi_seat_state {
    EEPI_SEAT_UNKNOWN,
    EEPI_SEAT_RUNS,
    EEPI_SEAT_CLOSED, /* it said that nothing of it stores any more */
    EEPI_SEAT_ENDED   /* its agent saw its process end, by a descriptor or a lock that it held */
} eepi_seat_state;

/* `who` names the rest: a reader loads it before and after, and takes nothing if it changed. */
typedef struct eepi_board_seat {
    uint64_t who;     /* generation << 32 | host's place << 8 | eepi_seat_state; 0: nobody */
    uint64_t beats;   /* changes while the rank's heart beats */
    uint64_t busy_us; /* it announced a silence, which lasts so long */
} eepi_board_seat;

typedef struct eepi_board_host {
    uint64_t host;       /* eepi_host_id; 0: free */
    uint64_t signs;      /* changes with each message from there, of its agent or of a rank */
    uint64_t generation; /* of its agent; 0: only ranks have spoken */
    char address[EEPI_BOARD_ADDRESS_BYTES]; /* of its agent */
} eepi_board_host;

typedef struct eepi_board {
    uint32_t magic, version;
    uint64_t host, generation; /* of the agent that writes this */
    uint64_t rounds;           /* changes while that agent runs */
    uint64_t unused[3];
    eepi_board_host hosts[EEPI_BOARD_HOSTS];
    eepi_board_seat seats[EEP_MAX_RANKS];
} eepi_board;
static_assert(offsetof(eepi_board, hosts) == 56, "the board has no padding");
static_assert(sizeof(eepi_board_host) == 88 && sizeof(eepi_board_seat) == 24, "nor its parts");

static inline uint64_t eepi_board_who(uint32_t generation, int place, eepi_seat_state state)
{
    return (uint64_t)generation << 32 | (uint64_t)place << 8 | (uint64_t)state;
}
static inline uint32_t eepi_board_generation(uint64_t who)
{
    return (uint32_t)(who >> 32);
}
static inline int eepi_board_place(uint64_t who)
{
    return (int)(who >> 8 & 0xffffffu);
}
static inline eepi_seat_state eepi_board_state(uint64_t who)
{
    return (eepi_seat_state)(who & 0xffu);
}

/* The agent writes; ranks read at any time. Each store pairs with the load in the other one. */
static inline void eepi_board_write(eepi_board_seat *seat, const eepi_board_seat *now)
{
    if (__atomic_load_n(&seat->who, __ATOMIC_RELAXED) != now->who) {
        __atomic_store_n(&seat->who, 0, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&seat->beats, now->beats, __ATOMIC_SEQ_CST);
    __atomic_store_n(&seat->busy_us, now->busy_us, __ATOMIC_SEQ_CST);
    __atomic_store_n(&seat->who, now->who, __ATOMIC_SEQ_CST);
}
/* False: nobody is there, or it is just being written. */
static inline bool eepi_board_read(const eepi_board_seat *seat, eepi_board_seat *out)
{
    const uint64_t who = __atomic_load_n(&seat->who, __ATOMIC_SEQ_CST);

    out->beats = __atomic_load_n(&seat->beats, __ATOMIC_SEQ_CST);
    out->busy_us = __atomic_load_n(&seat->busy_us, __ATOMIC_SEQ_CST);
    out->who = __atomic_load_n(&seat->who, __ATOMIC_SEQ_CST);
    return who != 0 && who == out->who && eepi_board_place(who) < EEPI_BOARD_HOSTS;
}
#endif
