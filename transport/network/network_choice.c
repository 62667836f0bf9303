/* SPDX-License-Identifier: Apache-2.0 */
/* Which network rows take, from the environment:
 *
 *   EEP_NETWORK            off; tcp; ucx; unset: tcp where the store spans hosts or EEP_HOST_ID
 * names this one, else off EEP_NETWORK_PEERS      hosts: those of other hosts (default); all: those
 * of this one, too EEP_NETWORK_INTERFACE  names of interfaces, or addresses of this host; default:
 * lo. Of several, with commas between them, the first is taken while it is well. A name may be
 * NAME@DEVICE, where DEVICE is the RDMA device of that interface. */
#include "transport/network/network_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *from_environment(const char *name)
{
    const char *text = getenv(name);

    return text && *text ? text : NULL;
}

/* The list as it was given, cut at its commas. */
static bool take_interfaces(const char *text, eepi_network_choice *choice)
{
    for (const char *at = text; *at;) {
        const size_t bytes = strcspn(at, ",");
        eepi_network_interface *next = &choice->interface[choice->num_interfaces];
        const char *device = memchr(at, '@', bytes);
        const size_t name_bytes = device ? (size_t)(device - at) : bytes;
        if (choice->num_interfaces == EEPI_MAX_PATHS || name_bytes == 0 ||
            name_bytes >= sizeof next->name || bytes - name_bytes >= sizeof next->device) {
            return false;
        }
        memcpy(next->name, at, name_bytes);
        if (device) {
            memcpy(next->device, device + 1, bytes - name_bytes - 1);
        }
        choice->num_interfaces++;
        at += bytes;
        if (*at == ',' && *++at == '\0') {
            return false;
        }
    }
    return choice->num_interfaces > 0;
}

static bool take_kind(const char *network, bool is_wanted, eepi_network_choice *choice)
{
    if (!network) {
        choice->kind = is_wanted ? EEPI_NETWORK_TCP : EEPI_NETWORK_OFF;
        return true;
    }
    choice->kind = strcmp(network, "tcp") == 0   ? EEPI_NETWORK_TCP
                   : strcmp(network, "ucx") == 0 ? EEPI_NETWORK_UCX
                                                 : EEPI_NETWORK_OFF;
    return choice->kind != EEPI_NETWORK_OFF || strcmp(network, "off") == 0;
}

eep_status eepi_network_choose(bool spans_hosts, eepi_network_choice *choice_out, char *why,
                               size_t why_bytes)
{
    const char *network = from_environment("EEP_NETWORK");
    const char *peers = from_environment("EEP_NETWORK_PEERS");
    const char *interface = from_environment("EEP_NETWORK_INTERFACE");
    eepi_network_choice choice = {.all_peers = peers && strcmp(peers, "all") == 0};

    if (peers && strcmp(peers, "hosts") != 0 && strcmp(peers, "all") != 0) {
        snprintf(why, why_bytes, "EEP_NETWORK_PEERS is \"%.40s\": hosts and all are possible",
                 peers);
        return EEP_ERR_INVALID;
    }
    if (!take_kind(network, spans_hosts || choice.all_peers || from_environment("EEP_HOST_ID"),
                   &choice)) {
        snprintf(why, why_bytes, "EEP_NETWORK is \"%.40s\": off, tcp and ucx are possible",
                 network);
        return EEP_ERR_INVALID;
    }
    if (choice.kind == EEPI_NETWORK_UCX && !interface) {
        snprintf(why, why_bytes,
                 "EEP_NETWORK=ucx trusts each process that reaches its ports, with a key too "
                 "(SECURITY.md): name the interface of a network that only this job can reach, by "
                 "EEP_NETWORK_INTERFACE");
        return EEP_ERR_INVALID;
    }
    if (!take_interfaces(interface ? interface : "lo", &choice)) {
        snprintf(why, why_bytes,
                 "EEP_NETWORK_INTERFACE is \"%.60s\": one to %d interfaces are possible, with "
                 "commas between them",
                 interface ? interface : "", EEPI_MAX_PATHS);
        return EEP_ERR_INVALID;
    }
    *choice_out = choice;
    return EEP_OK;
}
