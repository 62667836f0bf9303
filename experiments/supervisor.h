/* The rank processes: started, struck by signals, observed to end. One thread owns a supervisor; no
 * call blocks but supervisor_close. */
#ifndef EEPX_SUPERVISOR_H
#define EEPX_SUPERVISOR_H

#include "eep/status.h"
#include "experiments/options.h"
#include "experiments/outbox.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct supervisor_seat {
    pid_t pid;     /* 0: no process; it may have exited already without being reaped */
    int pidfd;     /* readable once the process has ended; -1 with pid 0 */
    int fd;        /* control socket, non-blocking; -1: none. It outlives the process until it is
                      closed by supervisor_hang_up, so that what was sent can be read */
    outbox outbox; /* to the rank; valid while fd >= 0 */
} supervisor_seat;

typedef struct supervisor {
    int num_seats;
    supervisor_seat *seat;
    const options *options;
    const char *store_path;
    pid_t *burners;
    int num_burners;
} supervisor;

/* For `options->max_ranks` seats; `options` and `store_path` are borrowed. */
EEP_MUST_CHECK eep_status supervisor_open(const options *how, const char *store_path,
                                          supervisor **supervisor_out);
/* SIGKILL what still runs, reap it, free all. */
void supervisor_close(supervisor *self);

/* Start the seat's process: fork and exec of this program with --rank-process, which dies with us.
 * `joiner`: the job serves already. EEP_ERR_STATE: a process or an open socket is in the seat;
 * EEP_ERR_SYSTEM with errno. */
EEP_MUST_CHECK eep_status supervisor_spawn(supervisor *self, int seat, bool joiner);
/* Send a signal through the pidfd: CLOCK_MONOTONIC just before the call; 0: there is no process. */
uint64_t supervisor_signal(supervisor *self, int seat, int signal_number);
/* If the seat's process has ended: true, reaped, with its wait status. False: none, or it runs. */
bool supervisor_reap(supervisor *self, int seat, int *wait_status_out);
/* Close the seat's socket. */
void supervisor_hang_up(supervisor *self, int seat);
/* Start a process that burns CPU for `seconds` at a joiner's priority. */
EEP_MUST_CHECK eep_status supervisor_burn(supervisor *self, double seconds);
#endif
