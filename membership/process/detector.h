/* SPDX-License-Identifier: Apache-2.0 */
/* The heartbeat thread of a rank: beats in its own window, listens to the members' beats, and looks
 * at once at a process whose bell has rung (bell.h).
 *
 * It never calls the device runtime (rule M6): a rank that warms up for minutes stays alive. Three
 * limits differ (rule M5): a beat that is suspect_us late makes it look at the process in
 * /proc (a dead one is EXIT evidence at once), and only silence for expel_us is evidence against a
 * living process. A round in which this thread itself was not scheduled for longer than a period is
 * discarded, and all limits are extended by its own gap. */
#ifndef EEPI_DETECTOR_H
#define EEPI_DETECTOR_H

#include "eep/eep.h"
#include "graphs/kernels/table_layout.h"
#include "membership/process/board.h"

#include <stdbool.h>

typedef struct eepi_detector eepi_detector;

typedef struct eepi_detector_config {
    uint64_t period_us, suspect_us;
    /* Ranks of other hosts (host_watch.h); 0: 100 ms and 200 ms. */
    uint64_t agent_silence_us, host_silence_us;
    int32_t seat, max_ranks;
    /* Evidence that this process begins to end (a first sign), or is silent. Heartbeat thread, or
     * the bell's. */
    void (*suspect)(void *user, int32_t seat, uint32_t generation, eep_fault_kind kind);
    /* It has no memory any more, so none of its threads stores. Heartbeat thread. */
    void (*ended)(void *user, int32_t seat, uint32_t generation);
    /* Its host's agent saw its whole end. Heartbeat thread. May be NULL. */
    void (*gone)(void *user, int32_t seat, uint32_t generation);
    /* It says that it has closed and stores nothing any more, though its process may live.
     * Heartbeat thread. */
    void (*closed)(void *user, int32_t seat, uint32_t generation);
    /* It beats again, or says that it is busy, behind a silence that was told. Heartbeat thread. */
    void (*alive)(void *user, int32_t seat, uint32_t generation);
    /* A peer is about to kill this process: its word, once. Heartbeat thread. May be NULL. */
    void (*warned)(void *user, uint64_t warning);
    /* Run once in the thread when it starts. */
    void (*started)(void *user);
    void *user;
} eepi_detector_config;

EEP_MUST_CHECK eep_status eepi_detector_open(const eepi_detector_config *config,
                                             eepk_window_header *own, eepi_detector **detector_out);
/* `rings`: peers hear at once that this rank serves no more. NULL is ignored. */
void eepi_detector_close(eepi_detector *detector, bool rings);
/* Listen to a member (its mapped window's header must stay mapped until it is unwatched). */
void eepi_detector_watch(eepi_detector *detector, int32_t seat, uint32_t generation, int32_t pid,
                         uint64_t pid_start, const eepk_window_header *header);
void eepi_detector_unwatch(eepi_detector *detector, int32_t seat);
/* Beat on this pulse, too, which an agent reads; NULL: on none. Any thread. */
void eepi_detector_set_pulse(eepi_detector *detector, eepi_pulse *pulse);
/* What other hosts' ranks are judged by from now on (eepi_host_watch_set_boards). Any thread. */
void eepi_detector_set_boards(eepi_detector *detector, const eepi_board *agents,
                              const eepi_board *own);
/* Listen to a member on another host, until it is unwatched. Any thread. */
void eepi_detector_watch_remote(eepi_detector *detector, int32_t seat, uint32_t generation,
                                uint64_t host);
/* A message of that rank came over the data plane. Any thread; no lock. */
void eepi_detector_hear(eepi_detector *detector, int32_t seat);
/* There are members on other hosts, and this host's agent says nothing of them. Any thread. */
bool eepi_detector_is_alone(eepi_detector *detector);
/* The rank says that it will be silent until then (CLOCK_MONOTONIC); any thread. */
void eepi_detector_set_busy(eepi_detector *detector, uint64_t until_ns);
/* Is that rank busy by its own word, at `now_us`? */
static inline bool eepi_is_busy(const eepk_window_header *header, uint64_t now_us)
{
    return __atomic_load_n(&header->busy_until_ns, __ATOMIC_ACQUIRE) > now_us * 1000u;
}
/* The same of a member on another host, by its host's newest word: until when; 0: it is not busy.
 * Any thread. */
uint64_t eepi_detector_remote_busy_until_us(eepi_detector *detector, int32_t seat,
                                            uint32_t generation);
/* What a killer leaves in its victim's window. */
static inline uint64_t eepi_warning_of(int32_t by, int32_t kind, uint32_t generation)
{
    return (uint64_t)generation << 32 | (uint64_t)(kind + 1) << 16 | (uint64_t)(by + 1);
}
static inline int32_t eepi_warning_by(uint64_t warning)
{
    return (int32_t)(warning & 0xffffu) - 1;
}
static inline int32_t eepi_warning_kind(uint64_t warning)
{
    return (int32_t)(warning >> 16 & 0xffffu) - 1;
}
/* The bell of a member says that its process begins to end. Any thread. */
bool eepi_detector_any_ends(eepi_detector *detector);
/* expel_us follows the observed steps (rule M5). */
void eepi_detector_set_expel_us(eepi_detector *detector, uint64_t expel_us);
#endif
