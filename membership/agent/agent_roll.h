/* SPDX-License-Identifier: Apache-2.0 */
/* Where other hosts' agents are: each puts its address into the store, under its host, and watches
 * those of the others. The store says no more than that, and its loss costs nothing but new ones.
 *
 *   agent/HOST          version, host, generation, address
 *   agent/lease/HOST    host, home: at a store that several hosts reach, with a lease
 *
 * The value names the agent's generation (rules N12, N20): an older one's, put late, is passed over
 * by all, and its successor puts its own again. The links' thread alone uses it. */
#ifndef EEPI_AGENT_ROLL_H
#define EEPI_AGENT_ROLL_H

#include "membership/process/board.h"

#define EEPI_KEY_AGENT "agent/"

typedef struct eepi_agent_roll eepi_agent_roll;

typedef struct eepi_agent_roll_config {
    const char *store; /* read during the open alone */
    uint64_t host, home, generation;
    const char *address;
    void (*found)(void *user, uint64_t host, uint64_t generation, const char *address);
    /* A newer agent of this host has put its address: our words are void (rule N12). Once. */
    void (*outlived)(void *user, uint64_t generation);
    void *user;
} eepi_agent_roll_config;

/* Connect, and ask for the own entry, each at most for 5 s. `generation_out`: that of the config,
 * or a higher one, where the store knows an agent of this host that was as new: its file is gone.
 * EEP_ERR_CONFLICT: an agent of this host's name holds its lease, and runs elsewhere.
 * EEP_ERR_UNREACHABLE, EEP_ERR_STATE, EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_agent_roll_open(const eepi_agent_roll_config *config,
                                               uint64_t *generation_out,
                                               eepi_agent_roll **roll_out);
void eepi_agent_roll_close(eepi_agent_roll *roll);
/* To poll for reading; -1: there is no connection. */
int eepi_agent_roll_fd(const eepi_agent_roll *roll);
/* Take what has come; to be called every so often, too: it connects again. */
void eepi_agent_roll_progress(eepi_agent_roll *roll);
#endif
