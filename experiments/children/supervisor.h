/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks, as processes or as threads of one process: started, signalled, observed to
 * end. One thread owns a supervisor; no call blocks but supervisor_close, and, for up to 200 ms,
 * supervisor_reap where the process of all threads has ended. */
#ifndef EEPX_SUPERVISOR_H
#define EEPX_SUPERVISOR_H

#include "eep/status.h"
#include "experiments/foreign/trace_reader.h"
#include "experiments/hosts/host_links.h"
#include "experiments/setup/options.h"
#include "experiments/wire/send_queue.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* In the run's folder: where a foreign engine's traces are. */
#define SUPERVISOR_TRACES "trace"

typedef struct supervisor_seat {
    bool lives; /* a rank was started and its end not taken yet (supervisor_reap) */
    pid_t pid;  /* its process, of all ranks if they are threads; 0: none */
    int end_fd; /* readable once it has ended; -1: no rank */
    int fd;     /* control socket, non-blocking; -1: none. It outlives the rank until it is
                   closed by supervisor_hang_up, so that what was sent can be read */
    send_queue send_queue; /* to the rank; valid while fd >= 0 */
    bool is_held;          /* a thread that was stopped, or has stopped itself */
    bool has_stopped;      /* it said that it serves no more, or was killed as a thread */
} supervisor_seat;

/* The process whose threads are ranks. */
typedef struct supervisor_host {
    pid_t pid;       /* 0: none */
    int fd;          /* for host_order (rank_main.h) */
    int wait_status; /* of the last one, once it has ended */
} supervisor_host;

typedef struct supervisor {
    int num_seats;
    supervisor_seat *seat;
    const options *options;
    const char *store_path;
    supervisor_host host; /* with --threads */
    host_links *links;    /* with --hosts; NULL: ranks are on this host */
    trace_reader *trace;  /* [num_seats] of a foreign engine's processes; NULL: ranks are ours */
    pid_t *burners;
    int num_burners;
} supervisor;

/* For `options->max_ranks` seats; `options` and `store_path` are borrowed. */
EEP_MUST_CHECK eep_status supervisor_open(const options *given, const char *store_path,
                                          supervisor **supervisor_out);
/* Ranks are on other hosts from here on; `links` is the supervisor's, which closes it. */
void supervisor_use_hosts(supervisor *self, host_links *links);
/* SIGKILL what still runs, reap it, free all. */
void supervisor_close(supervisor *self);

/* Start the seat's rank: fork and exec of this program with --rank-process, or a thread of the one
 * with --rank-host; the process dies with this one. `joiner`: the job serves already.
 * EEP_ERR_STATE: a rank or an open socket is in the seat; EEP_ERR_SYSTEM with errno;
 * EEP_ERR_UNREACHABLE: its host is not reached. */
EEP_MUST_CHECK eep_status supervisor_spawn(supervisor *self, int seat, bool joiner);
/* Send a signal; to a thread, an order that means the same for it alone. CLOCK_MONOTONIC just
 * before the call; 0: there is no rank. */
uint64_t supervisor_signal(supervisor *self, int seat, int signal_number);
/* If the seat's rank has ended: true, reaped, with its wait status. False: none, or it runs. */
bool supervisor_reap(supervisor *self, int seat, int *wait_status_out);
/* As the kernel sees it: 'T' is stopped, 'Z' ended and not reaped; 0 if it cannot be told. Of a
 * thread the same. */
char supervisor_state(const supervisor *self, int seat);
/* The seat's thread says that it has stopped itself. */
void supervisor_on_frozen(supervisor *self, int seat);
/* All ranks that still have their socket said that they serve no more. */
bool supervisor_all_have_stopped(const supervisor *self);
/* Ranks as threads: end their process with all of them; none: nothing is done. */
void supervisor_kill_host(supervisor *self);
/* Nothing more is sent to any of them; what they send still is read. */
void supervisor_shut_all(supervisor *self);
/* Close the seat's socket. */
void supervisor_hang_up(supervisor *self, int seat);
/* Start a process that burns CPU for `seconds` at a joiner's priority. */
EEP_MUST_CHECK eep_status supervisor_burn(supervisor *self, double seconds);
#endif
