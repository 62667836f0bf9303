/* SPDX-License-Identifier: Apache-2.0 */
/* The agent of a host (docs/AGENT.md): it outlives ranks, keeps their shared memory by name
 * (transport/holder), sees their ends, kills those that others ask it to, and tells other hosts how
 * its ranks do. It decides nothing about membership.
 *
 * Embedded in whatever serves a store or starts ranks, unless another agent has the host's lock;
 * or alone, as eep-agent. When it ends ranks serve on, and attach to the next one by themselves. */
#ifndef EEPI_AGENT_H
#define EEPI_AGENT_H

#include "eep/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct eepi_agent eepi_agent;

typedef struct eepi_agent_config {
    const char *path; /* what this host's files are named after (eepi_store_local_path) */
    uint64_t host;    /* 0: eepi_host_id */
    /* Other hosts; NULL: the agent serves its own host alone, with no port and no thread for them.
     */
    const char *listen;   /* ADDRESS:PORT, an address that other hosts reach */
    const char *store;    /* address of the store in which agents find each other */
    const char *key_file; /* NULL: EEP_KEY_FILE */
    /* What operators should know, one line each. Any thread. May be NULL. */
    void (*note)(void *user, const char *text);
    void *user;
} eepi_agent_config;

/* EEP_ERR_CONFLICT: another agent serves this host. EEP_ERR_INVALID, EEP_ERR_SYSTEM,
 * EEP_ERR_NO_MEMORY, EEP_ERR_UNREACHABLE (no store answers). `error_out` says why. */
EEP_MUST_CHECK eep_status eepi_agent_open(const eepi_agent_config *config, char *error_out,
                                          size_t error_bytes, eepi_agent **agent_out);
/* Stop; all memory that it keeps is let go. In a forked child only its copies are. NULL is ignored.
 */
void eepi_agent_close(eepi_agent *agent);
#endif
