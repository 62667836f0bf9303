/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a process of this machine: does it run, has it begun to end, has it ended? */
#ifndef EEPI_PROCESS_H
#define EEPI_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* In order: a process goes from one to the next, and never back. */
typedef enum eepi_process_state {
    EEPI_PROCESS_RUNS, /* or is stopped, or could not be looked at: only silence tells */
    /* No thread of it has memory any more, so none stores. A device that it opened is given back
     * later, behind its memory, and may store on. */
    EEPI_PROCESS_ENDING,
    EEPI_PROCESS_GONE, /* each of its threads has left the kernel, its files are closed */
} eepi_process_state;

/* A process, for good. */
typedef struct eepi_process_name {
    uint64_t start; /* eepi_process_start */
    uint64_t home;  /* eepi_process_home: where its pid means something */
    uint64_t host;  /* eepi_host_id */
} eepi_process_name;

/* Where this process lives: one number of the machine's boot, of its pid namespace and of its time
 * namespace. A pid and a start time mean something there and nowhere else. In another container, or
 * after a reboot, the same pid is nobody or somebody else. In another time namespace /proc shows
 * another start time of the same process. 0: /proc cannot be read, or shows another pid namespace
 * than ours. */
uint64_t eepi_process_home(void);
/* Start time of a process in clock ticks since boot; 0 if there is none. With the pid it names a
 * process for good. */
uint64_t eepi_process_start(int32_t pid);
/* A pid of 0 is a process of another home: nothing is known of it. One read of /proc: a killed
 * process shows here before its pidfd fires, however large it is. */
eepi_process_state eepi_process_look(int32_t pid, uint64_t start);
/* A descriptor that polls readable once the process is GONE; -1: it is already, or it cannot be
 * watched (no descriptors left): eepi_process_look tells which. */
int eepi_process_watch(int32_t pid, uint64_t start);
/* SIGKILL through a descriptor from eepi_process_watch, so that no other process can be hit. False:
 * it lives and cannot be killed from here. */
bool eepi_process_kill(int pidfd);
#endif
