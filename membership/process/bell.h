/* SPDX-License-Identifier: Apache-2.0 */
/* The death bell: the kernel tells peers that a process begins to end, before its memory goes.
 *
 * A thread holds robust futexes in its rank's window (eepk_window_header.bell). When the process is
 * killed, the kernel marks them FUTEX_OWNER_DIED as that thread ends, and wakes a waiter of each.
 * That takes 0.06 to 0.5 ms however much memory the process has. A pidfd and /proc speak later, by
 * some 70 us per MB.
 *
 * The bell is a first sign, and not the end (rule P8): other threads of the process may still store
 * for a moment. It does not ring when a process stops, forks, ends other threads or is debugged. It
 * rings when the process executes another program. Of ranks that are threads of one process all
 * bells ring together, when that process ends.
 *
 * The kernel wakes one waiter of a futex, and that waiter may be stopped or die itself. So there
 * are several words, waiters are spread over them, and each waiter that hears wakes all others.
 * What is missed nevertheless, the heartbeat thread reads within its period (eepi_bell_says).
 *
 * futex_waitv (Linux 5.16) waits for at most 127 peers, those that follow the own seat; without it
 * nobody waits, and the period counts. */
#ifndef EEPI_BELL_H
#define EEPI_BELL_H

#include "eep/eep.h"
#include "graphs/kernels/table_layout.h"

#include <stdbool.h>

typedef struct eepi_bell eepi_bell;
typedef enum eepi_bell_word { EEPI_BELL_HANGS, EEPI_BELL_ENDS, EEPI_BELL_CLOSED } eepi_bell_word;

typedef struct eepi_bell_config {
    int32_t seat, max_ranks;
    /* That process begins to end, or says that it has closed. Bell thread; once per watch. */
    void (*rang)(void *user, int32_t seat, uint32_t generation, eepi_bell_word said);
    void *user;
} eepi_bell_config;

/* Hang the bell in the own window's header and start the thread, which never calls the device
 * runtime. EEP_ERR_NO_MEMORY, EEP_ERR_SYSTEM (no thread). */
EEP_MUST_CHECK eep_status eepi_bell_open(const eepi_bell_config *config, eepk_window_header *own,
                                         eepi_bell **bell_out);
/* Take it down. `rings`: peers hear that this rank has closed, and stores nothing any more. NULL is
 * ignored. */
void eepi_bell_close(eepi_bell *bell, bool rings);
/* Listen to a peer, whose header must stay mapped until it is unwatched. Any thread. */
void eepi_bell_watch(eepi_bell *bell, int32_t seat, uint32_t generation,
                     const eepk_window_header *header);
void eepi_bell_unwatch(eepi_bell *bell, int32_t seat);
/* What the bell in that window says. Any thread. */
eepi_bell_word eepi_bell_says(const eepk_window_header *header);
#endif
