/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent's own files share. `lock` guards the table and the attached processes: the
 * holder's thread attaches, the agent's own thread looks at them. */
#ifndef EEPI_AGENT_STATE_H
#define EEPI_AGENT_STATE_H

#include "membership/agent/agent.h"
#include "membership/agent/agent_links.h"
#include "membership/agent/agent_lock.h"
#include "membership/agent/agent_table.h"
#include "membership/store/store_socket.h"
#include "transport/holder/holder.h"

#include <poll.h>
#include <pthread.h>
#include <sys/types.h>

/* A process that has handed over a descriptor of itself (rules N8, N9). */
typedef struct agent_process {
    uint32_t generation; /* 0: none */
    int pidfd;           /* -1: it has ended */
    const eepi_pulse *pulse;
} agent_process;

struct eepi_agent {
    eepi_agent_lock file;
    pid_t pid; /* who opened it: a forked child has no thread */
    eepi_store_listener listener;
    char socket_path[EEPI_HOLDER_ADDRESS_BYTES];
    int socket_directory; /* that socket_path goes through; -1: none */
    eepi_holder *holder;  /* under the lock; NULL: closed, or not open yet */
    bool is_outlived;     /* under the lock: a newer agent serves this host */
    uint64_t host, home;
    eepi_board *board;
    int board_fd;
    pthread_mutex_t lock;
    eepi_agent_table *table;
    agent_process processes[EEP_MAX_RANKS];
    eepi_agent_links *links; /* NULL: no other hosts */
    struct eepi_agent_roll *roll;
    char *path;          /* what this host's files are named after */
    uint64_t adopted_us; /* when the seats' files were last looked at; links' thread */
    void (*note)(void *user, const char *text);
    void *user;
};

/* ---- agent_local.c: the ranks of this host. */
eepi_holder_agent eepi_agent_local(eepi_agent *agent);
/* Let go of all. */
void eepi_agent_local_end(eepi_agent *agent);
/* Read all pulses into the table. Called with the lock held. */
void eepi_agent_read_pulses(eepi_agent *agent);
/* The descriptors to poll for ends; returns how many of [EEP_MAX_RANKS]. */
int eepi_agent_processes(eepi_agent *agent, struct pollfd *fds_out);
/* Look at those that polled readable. True: somebody has ended. */
bool eepi_agent_take_ends(eepi_agent *agent, const struct pollfd *fds, int num);
/* Rule N13: on behalf of a rank of another host. */
void eepi_agent_kill(eepi_agent *agent, int32_t seat, uint32_t generation);
/* What the files of seats prove: ranks of this host that have ended before this agent came (M7). */
void eepi_agent_adopt_ends(eepi_agent *agent, const char *path);
#endif
