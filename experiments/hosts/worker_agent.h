/* SPDX-License-Identifier: Apache-2.0 */
/* The agent of a worker's host: eep-agent as a child process, started again where it ends unasked.
 * One thread. */
#ifndef EEPX_WORKER_AGENT_H
#define EEPX_WORKER_AGENT_H

#include "experiments/hosts/worker_ranks.h"

#include <stdint.h>

typedef enum worker_agent_state {
    WORKER_AGENT_NONE,     /* not wanted: of another program, or killed by a verb */
    WORKER_AGENT_BEGINS,   /* it runs, and is not ready yet */
    WORKER_AGENT_SERVES,   /* ready */
    WORKER_AGENT_ELSEWHERE /* another agent serves this host already */
} worker_agent_state;

typedef struct worker_agent {
    worker_agent_state state;
    pid_t pid;         /* 0: none */
    int pidfd, output; /* of its standard output and standard error */
    char said[256];    /* the last that it has said there */
    uint64_t again_ns; /* when it is started again; 0: it need not be */
} worker_agent;

#define WORKER_AGENT_INITIAL ((worker_agent){.pidfd = -1, .output = -1})

/* EEP_ERR_SYSTEM with errno. Nothing is done where it runs, or `begin` names no address for it. */
EEP_MUST_CHECK eep_status worker_agent_start(worker_agent *self, const worker_begin *begin);
/* What has happened to it; `why` (HOST_NOTE_BYTES) is "" if nothing is to be told. */
void worker_agent_look(worker_agent *self, const worker_begin *begin, char *why);
/* A signal for it. After SIGKILL it stays away until worker_agent_start. */
void worker_agent_signal(worker_agent *self, int signal_number);
/* In order, within 2 s. */
void worker_agent_end(worker_agent *self);
#endif
