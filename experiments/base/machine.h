/* SPDX-License-Identifier: Apache-2.0 */
/* How busy the machine is, and with whom: a step beside a full machine takes as long as the load
 * makes it. */
#ifndef EEPX_MACHINE_H
#define EEPX_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* CPU time in seconds since the machine, or each process, was started. */
typedef struct machine_time {
    double all, busy; /* of all CPUs, idle or not; and of that what was used */
    double own;       /* by this process, its ended children, and the given processes */
} machine_time;

typedef struct machine_use {
    int num_cpus;       /* 0: unknown */
    double own, others; /* of all CPU time, 0 to 1 */
} machine_use;

/* `pids` (children that live; 0 and repeated ones are left out) count as our own. False: the system
 * does not tell. */
bool machine_time_now(const pid_t *pids, size_t num, machine_time *time_out);
/* Between two moments; num_cpus 0 where there is no time between them. */
machine_use machine_use_between(const machine_time *begin, const machine_time *end);
/* The letter of /proc/PID/stat: 'T' stands still, 'Z' has ended; 0: there is none. */
char machine_process_state(pid_t pid);
#endif
