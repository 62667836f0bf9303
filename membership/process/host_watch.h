/* SPDX-License-Identifier: Apache-2.0 */
/* Is a rank of another host alive? Judged from the board of this host's agent, and from a board of
 * what this rank has heard itself (board.h). Pure: time is passed in. Its owner locks.
 *
 * Three clocks, all of the reader (rule N11):
 *
 * This host's agent stands still for agent_silence_us: it says nothing, and time stands still for
 * all that only it could tell. Nobody is suspected for that. The rank is alone, and speaks and
 * hears for itself.
 *
 * Nothing at all comes from a host for host_silence_us, while the own agent runs: evidence against
 * each of its ranks.
 *
 * The beats of a rank stand still for expel_us of the time in which its host spoke: evidence
 * against it.
 *
 * So a host's agent that stops for a moment makes none of its ranks look silent, and one rank that
 * hangs is told from its neighbours. */
#ifndef EEPI_HOST_WATCH_H
#define EEPI_HOST_WATCH_H

#include "membership/process/board.h"

#include <stdbool.h>

typedef struct eepi_host_watch eepi_host_watch;

typedef enum eepi_host_sign {
    EEPI_HOST_SIGN_NONE,
    EEPI_HOST_SIGN_ALIVE,  /* behind a silence that was told */
    EEPI_HOST_SIGN_SILENT, /* the rank, or its whole host */
    EEPI_HOST_SIGN_CLOSED,
    EEPI_HOST_SIGN_ENDED
} eepi_host_sign;

typedef struct eepi_host_watch_config {
    int32_t max_ranks;
    uint64_t period_us; /* a look that comes later than twice that says nothing (rule M6) */
    uint64_t agent_silence_us, host_silence_us;
} eepi_host_watch_config;

/* NULL: out of memory. */
eepi_host_watch *eepi_host_watch_open(const eepi_host_watch_config *config);
void eepi_host_watch_close(eepi_host_watch *watch);
/* The boards from now on; either may be NULL. They must stay mapped until they are replaced. */
void eepi_host_watch_set_boards(eepi_host_watch *watch, const eepi_board *agents,
                                const eepi_board *own);
/* Watch that generation of a seat, which is on that host; no change for one that is watched. What
 * another host says of it is void (rule N12): a process there may have taken the same generation,
 * and ended before the store knew of it. */
void eepi_host_watch_seat(eepi_host_watch *watch, int32_t seat, uint32_t generation, uint64_t host,
                          uint64_t now);
void eepi_host_watch_forget(eepi_host_watch *watch, int32_t seat);
/* A message of that rank came over the data plane, which is a beat, too. Any thread, no lock. */
void eepi_host_watch_hear(eepi_host_watch *watch, int32_t seat);
/* Begin a look at all: how the hosts and the own agent do. */
void eepi_host_watch_look(eepi_host_watch *watch, uint64_t now);
/* What that look shows of a seat; `generation_out`: of whom. Each sign is told once. */
eepi_host_sign eepi_host_watch_sign(eepi_host_watch *watch, int32_t seat, uint64_t expel_us,
                                    uint32_t *generation_out);
/* Until when that process says, as of its host's newest word, that it will not answer; 0: it says
 * no such thing. By the clock of the looks. */
uint64_t eepi_host_watch_busy_until(const eepi_host_watch *watch, int32_t seat,
                                    uint32_t generation);
/* The own agent has said nothing for too long, or there is none: what this rank has to say, and
 * wants to hear, is its own affair. */
bool eepi_host_watch_is_alone(const eepi_host_watch *watch);
int32_t eepi_host_watch_num(const eepi_host_watch *watch);
#endif
