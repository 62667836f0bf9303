/* SPDX-License-Identifier: Apache-2.0 */
/* Which network rows take, from the environment:
 *
 *   EEP_NETWORK            off; tcp; unset: tcp where the store spans hosts or EEP_HOST_ID names
 *                          this one, else off
 *   EEP_NETWORK_PEERS      hosts: those of other hosts (default); all: those of this one, too
 *   EEP_NETWORK_INTERFACE  name of an interface, or an address of this host; default: lo */
#include "transport/network/network_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *from_environment(const char *name)
{
    const char *text = getenv(name);

    return text && *text ? text : NULL;
}

eep_status eepi_network_choose(bool spans_hosts, eepi_network_choice *choice_out, char *why,
                               size_t why_bytes)
{
    const char *network = from_environment("EEP_NETWORK");
    const char *peers = from_environment("EEP_NETWORK_PEERS");
    const char *interface = from_environment("EEP_NETWORK_INTERFACE");
    eepi_network_choice choice = {.interface = interface ? interface : "lo"};

    if (network && strcmp(network, "off") != 0 && strcmp(network, "tcp") != 0) {
        snprintf(why, why_bytes, "EEP_NETWORK is \"%.40s\": off and tcp are possible", network);
        return EEP_ERR_INVALID;
    }
    if (peers && strcmp(peers, "hosts") != 0 && strcmp(peers, "all") != 0) {
        snprintf(why, why_bytes, "EEP_NETWORK_PEERS is \"%.40s\": hosts and all are possible",
                 peers);
        return EEP_ERR_INVALID;
    }
    choice.all_peers = peers && strcmp(peers, "all") == 0;
    if (network ? strcmp(network, "tcp") == 0
                : spans_hosts || choice.all_peers || from_environment("EEP_HOST_ID")) {
        choice.kind = EEPI_NETWORK_TCP;
    }
    *choice_out = choice;
    return EEP_OK;
}
