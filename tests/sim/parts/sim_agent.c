/* SPDX-License-Identifier: Apache-2.0 */
/* No agent: the ranks of a history see each other's ends and hearts themselves. */
#include "membership/agent/agent_session.h"

#include <stddef.h>

eep_status eepi_agent_session_open(const eepi_agent_session_config *config,
                                   eepi_agent_session **session_out)
{
    (void)config;
    *session_out = NULL;
    return EEP_OK;
}

void eepi_agent_session_close(eepi_agent_session *session)
{
    (void)session;
}

eepi_pulse *eepi_agent_session_pulse(eepi_agent_session *session)
{
    (void)session;
    return NULL;
}

int eepi_agent_session_fd(const eepi_agent_session *session)
{
    (void)session;
    return -1;
}

void eepi_agent_session_progress(eepi_agent_session *session, uint64_t now_us)
{
    (void)session, (void)now_us;
}

uint64_t eepi_agent_session_wake_us(const eepi_agent_session *session)
{
    (void)session;
    return UINT64_MAX;
}

void eepi_agent_session_detach(eepi_agent_session *session)
{
    (void)session;
}

bool eepi_agent_session_kill(eepi_agent_session *session, int32_t seat, uint32_t generation)
{
    (void)session, (void)seat, (void)generation;
    return false;
}

void eepi_agent_session_set_alone(eepi_agent_session *session, bool is_alone)
{
    (void)session, (void)is_alone;
}
