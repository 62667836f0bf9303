/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks of a worker's host: child processes with the sockets of wire.h. One thread. */
#ifndef EEPX_WORKER_RANKS_H
#define EEPX_WORKER_RANKS_H

#include "experiments/hosts/host_wire.h"
#include "experiments/wire/send_queue.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { WORKER_MAX_VARIABLES = 64 };

/* What the front has said about all of them (BEGIN). */
typedef struct worker_begin {
    char *body; /* what the rest points into; NULL: nothing yet */
    const char *text[HOST_BEGIN_TEXTS];
    const char *variable[WORKER_MAX_VARIABLES];
    int num_variables;
} worker_begin;

/* EEP_ERR_PROTOCOL: it is no such body; EEP_ERR_NO_MEMORY. The former one is freed. */
EEP_MUST_CHECK eep_status worker_begin_set(worker_begin *self, const void *body, size_t bytes);
/* The environment of a program of this host: ours, the host's variables, then `own`; what comes
 * later wins. The caller frees the array alone. NULL: no memory. */
char **worker_environment(const worker_begin *self, char *const *own, int num_own);

typedef struct worker_rank {
    pid_t pid; /* 0: none */
    int pidfd, fd;
    send_queue queue; /* to it */
    uint32_t process; /* as the front counts */
    bool is_halted;
    bool has_stopped; /* it said STOPPED */
    bool has_hung_up; /* it has closed its end: no more comes, though it may live for a while */
} worker_rank;

typedef struct worker_ranks {
    worker_rank seat[EEP_MAX_RANKS];
    int num; /* that live */
} worker_ranks;

void worker_ranks_init(worker_ranks *self);
/* EEP_ERR_SYSTEM with errno; EEP_ERR_STATE: there is one. */
EEP_MUST_CHECK eep_status worker_ranks_start(worker_ranks *self, const worker_begin *begin,
                                             const host_message *order);
/* Send a signal to the rank, if that process is in the seat. */
void worker_ranks_signal(worker_ranks *self, int seat, uint32_t process, int signal_number);
/* The same to each. */
void worker_ranks_signal_all(worker_ranks *self, int signal_number);
/* The rank has changed between stopped and running since the last call: true, with what it is. */
bool worker_ranks_halted(worker_ranks *self, int seat, bool *is_halted_out);
/* Its process has ended: true, reaped, with its wait status. What it sent is still to be read, and
 * worker_ranks_forget is due. */
bool worker_ranks_ended(worker_ranks *self, int seat, int *wait_status_out);
void worker_ranks_forget(worker_ranks *self, int seat);
/* A packet for all: WIRE_STOP. Then nothing more is sent to any. */
void worker_ranks_stop(worker_ranks *self);
void worker_ranks_shut(worker_ranks *self);
#endif
