/* SPDX-License-Identifier: Apache-2.0 */
/* All connections to other hosts, and the thread that tells a beat on each of them every period.
 *
 * An agent dials the agents of hosts with a higher number, and listens for the others. A rank that
 * speaks for itself dials them all, and does not listen. Whoever is at the other end is told the
 * same, so a rank without an agent hears all that the other agents know. */
#ifndef EEPI_AGENT_LINKS_H
#define EEPI_AGENT_LINKS_H

#include "membership/agent/agent_link.h"

#include <poll.h>
#include <pthread.h>

typedef struct eepi_agent_links eepi_agent_links;

enum { EEPI_AGENT_PERIOD_US = 20000 };

typedef struct eepi_agent_links_config {
    eepi_agent_self self;
    const char *listen;      /* ADDRESS:PORT; NULL: a rank. Read during the open alone */
    const eepi_board *board; /* names the other agents and their addresses */
    eepi_agent_table *table; /* guarded by `lock` */
    pthread_mutex_t *lock;
    /* All of these in the links' thread; each may be NULL. What the table is to say is new: with
     * the lock held. */
    void (*refresh)(void *user);
    /* More descriptors to poll, at most EEP_MAX_RANKS + 1. */
    int (*watch)(void *user, struct pollfd *fds_out);
    /* After each poll. True: there is news, to be told at once. */
    bool (*polled)(void *user, const struct pollfd *fds, int num);
    void (*kill)(void *user, int32_t seat, uint32_t generation);
    void (*note)(void *user, const char *text);
    void *user;
} eepi_agent_links_config;

/* EEP_ERR_INVALID, EEP_ERR_CONFLICT (the port is taken), EEP_ERR_SYSTEM, EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_agent_links_open(const eepi_agent_links_config *config,
                                                char *error_out, size_t error_bytes,
                                                eepi_agent_links **links_out);
void eepi_agent_links_close(eepi_agent_links *links);
/* Tell and hear nothing from now on. Any thread, the links' own too. */
void eepi_agent_links_stop(eepi_agent_links *links);
/* Tell the others at once. Any thread. */
void eepi_agent_links_hurry(eepi_agent_links *links);
/* Ask the agent that speaks for that process to kill it (rule N13). EEP_ERR_NOT_FOUND: none does.
 * EEP_ERR_UNREACHABLE: too many such requests wait. Any thread, without `lock`. */
EEP_MUST_CHECK eep_status eepi_agent_links_kill(eepi_agent_links *links, int32_t seat,
                                                uint32_t generation);
#endif
