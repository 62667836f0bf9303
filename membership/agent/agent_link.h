/* SPDX-License-Identifier: Apache-2.0 */
/* One connection between two agents, or an agent and a rank that speaks for itself. The channel
 * proves the key, and who the other end is; each message must come from that one. */
#ifndef EEPI_AGENT_LINK_H
#define EEPI_AGENT_LINK_H

#include "membership/agent/agent_table.h"
#include "transport/secure/secure_channel.h"

/* The speaker at this end. */
typedef struct eepi_agent_self {
    uint64_t host, generation;
    int32_t speaker; /* EEPI_AGENT_SPEAKER, or a rank's seat */
    eepi_secure_key key;
} eepi_agent_self;

typedef struct eepi_agent_link {
    int fd; /* -1: there is none */
    bool is_open;
    uint64_t heard_us; /* when it was made, or something came */
    eepi_secure_channel channel;
} eepi_agent_link;

enum { EEPI_AGENT_ADDRESS_HOST_BYTES = 48 };
/* "ADDRESS:PORT" or "[ADDRESS]:PORT". */
bool eepi_agent_address_parse(const char *text, char host_out[EEPI_AGENT_ADDRESS_HOST_BYTES],
                              uint16_t *port_out);
/* Begin to connect; EEP_ERR_UNREACHABLE, EEP_ERR_INVALID, EEP_ERR_SYSTEM, EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_agent_link_dial(eepi_agent_link *link, const eepi_agent_self *self,
                                               const char *address);
/* It is dialled, and in doubt: nobody has answered for longer than a slow network takes,
 * `num_before` attempts in a row having been so before. */
bool eepi_agent_link_is_unanswered(const eepi_agent_link *link, uint32_t num_before);
/* Serve a connection that was accepted. The descriptor is taken over, whatever comes. */
EEP_MUST_CHECK eep_status eepi_agent_link_serve(eepi_agent_link *link, const eepi_agent_self *self,
                                                int fd);
void eepi_agent_link_close(eepi_agent_link *link);
/* The next message, which has the form of one, and names its sender. EEP_ERR_TIMEOUT: none now. All
 * else: close it; `why` says the reason for people, "" where there is none worth a line. */
EEP_MUST_CHECK eep_status eepi_agent_link_take(eepi_agent_link *link,
                                               eepi_agent_message *message_out, char *why,
                                               size_t why_bytes);
/* Send it, unless much of what was said before is unsent yet: the next beat says it all again. */
void eepi_agent_link_say(eepi_agent_link *link, const eepi_agent_message *message);
bool eepi_agent_link_wants_write(const eepi_agent_link *link);
#endif
