/* SPDX-License-Identifier: Apache-2.0 */
/* A rank and its host's agent. */
#include "membership/agent/rank_agent.h"

#include "membership/agent/agent_session.h"
#include "membership/context/context.h"
#include "membership/context/log.h"

#include <stdlib.h>

static const uint64_t LOOK_PERIOD_US = 20000;

struct eepi_rank_agent {
    eepi_agent_session *session; /* NULL: none, in the simulator */
    uint64_t looked_us;          /* when members were last sorted by host */
};

static void on_boards(void *user, const eepi_board *agents, const eepi_board *own)
{
    eepi_detector_set_boards(((eep_context *)user)->detector, agents, own);
}

static void on_note(void *user, const char *text)
{
    eepi_log(user, EEP_LOG_INFO, "%s", text);
}

eep_status eepi_rank_agent_open(eep_context *context)
{
    const eepi_agent_session_config config = {.path = context->store_path,
                                              .seat = context->config.rank,
                                              .generation = context->generation,
                                              .host = context->process.host,
                                              .home = context->process.home,
                                              .boards = on_boards,
                                              .note = on_note,
                                              .user = context};
    eep_status status;

    context->agent = calloc(1, sizeof *context->agent);
    if (!context->agent) {
        return EEP_ERR_NO_MEMORY;
    }
    status = eepi_agent_session_open(&config, &context->agent->session);
    if (status == EEP_OK && context->agent->session) {
        eepi_detector_set_pulse(context->detector,
                                eepi_agent_session_pulse(context->agent->session));
    }
    return status;
}

void eepi_rank_agent_close(eep_context *context, bool has_ended)
{
    if (context->agent && context->agent->session && has_ended) {
        eepi_agent_session_detach(context->agent->session);
    }
    if (context->agent) {
        eepi_agent_session_close(context->agent->session);
    }
    free(context->agent);
}

static eepi_agent_session *session_of(const eep_context *context)
{
    return context->agent ? context->agent->session : NULL;
}

int eepi_rank_agent_fd(const eep_context *context)
{
    return session_of(context) ? eepi_agent_session_fd(session_of(context)) : -1;
}

uint64_t eepi_rank_agent_wake_us(const eep_context *context)
{
    return session_of(context) ? eepi_agent_session_wake_us(session_of(context)) : UINT64_MAX;
}

bool eepi_rank_agent_progress(eep_context *context)
{
    const uint64_t now_us = eepi_now_us();

    if (!session_of(context)) {
        return false;
    }
    eepi_agent_session_progress(session_of(context), now_us);
    if (now_us - context->agent->looked_us < LOOK_PERIOD_US) {
        return false;
    }
    context->agent->looked_us = now_us;
    eepi_agent_session_set_alone(session_of(context), eepi_detector_is_alone(context->detector),
                                 now_us);
    return true;
}

bool eepi_rank_agent_kill(eep_context *context, const eepi_suspect *suspect)
{
    return session_of(context) &&
           eepi_agent_session_kill(session_of(context), suspect->seat, suspect->generation);
}
