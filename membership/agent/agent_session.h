/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's side of its host's agent: it attaches, with a descriptor of its own process and its
 * pulse, to whichever agent serves, and to the next one by itself. While no agent runs it speaks
 * for itself to those of other hosts (rule N11). Owner's thread; nothing here waits, but for the
 * end of what it says itself. */
#ifndef EEPI_AGENT_SESSION_H
#define EEPI_AGENT_SESSION_H

#include "eep/status.h"
#include "membership/process/board.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct eepi_agent_session eepi_agent_session;

typedef struct eepi_agent_session_config {
    const char *path; /* what this host's files are named after; read during the open alone */
    int32_t seat;
    uint32_t generation;
    uint64_t host, home;
    /* The boards from now on: the agent's, and that of what this rank hears itself. What they
     * replace is unmapped behind the call. */
    void (*boards)(void *user, const eepi_board *agents, const eepi_board *own);
    void (*note)(void *user, const char *text);
    void *user;
} eepi_agent_session_config;

/* EEP_ERR_SYSTEM (errno), EEP_ERR_NO_MEMORY. The agent need not be there. */
EEP_MUST_CHECK eep_status eepi_agent_session_open(const eepi_agent_session_config *config,
                                                  eepi_agent_session **session_out);
/* NULL is ignored. `boards` is called no more: nobody may read them. */
void eepi_agent_session_close(eepi_agent_session *session);
/* What the rank's heartbeat thread writes; lives as long as the session. */
eepi_pulse *eepi_agent_session_pulse(eepi_agent_session *session);
/* Poll it for reading, and call progress when it is, and at the wake time. */
int eepi_agent_session_fd(const eepi_agent_session *session);
void eepi_agent_session_progress(eepi_agent_session *session, uint64_t now_us);
uint64_t eepi_agent_session_wake_us(const eepi_agent_session *session);
/* Nothing of this rank stores any more: its last word, which needs no answer. */
void eepi_agent_session_detach(eepi_agent_session *session);
/* Have a process of another host killed by its agent. False: there is no agent here now. */
bool eepi_agent_session_kill(eepi_agent_session *session, int32_t seat, uint32_t generation);
/* In each look: while the agent says nothing this rank speaks and listens itself, and goes on with
 * it for EEPI_AGENT_GOES_ON_US behind that. By then the others have found the next agent, by a
 * store that may be slow and by connections that nobody has reset. Who had heard this rank alone,
 * and then nobody, would take it for silent. */
enum { EEPI_AGENT_GOES_ON_US = 3000000 };
void eepi_agent_session_set_alone(eepi_agent_session *session, bool is_alone, uint64_t now_us);
#endif
