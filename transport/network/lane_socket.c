/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets and channels of lanes. Nothing here blocks. */
#include "transport/network/network_state.h"
#include "transport/secure/secure_socket.h"
#include "transport/secure/tcp_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_UNSENT = 4096 };

/* IPv4 comes first: an address of IPv6 that is valid on one link alone says too little. */
static bool take_address(const struct sockaddr *from, eepi_lane_path *out)
{
    if (from->sa_family == AF_INET) {
        memcpy(out->ip, &((const struct sockaddr_in *)from)->sin_addr, 4);
        out->ip_bytes = 4;
        return true;
    }
    if (from->sa_family == AF_INET6 && out->ip_bytes == 0 &&
        !IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)from)->sin6_addr)) {
        memcpy(out->ip, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
        out->ip_bytes = 16;
    }
    return false;
}

static void address_of(const char *interface, eepi_lane_path *out)
{
    struct ifaddrs *all = NULL;

    if (inet_pton(AF_INET, interface, out->ip) == 1) {
        out->ip_bytes = 4;
        return;
    }
    if (inet_pton(AF_INET6, interface, out->ip) == 1) {
        out->ip_bytes = 16;
        return;
    }
    if (getifaddrs(&all) != 0) {
        return;
    }
    for (const struct ifaddrs *one = all; one; one = one->ifa_next) {
        if (one->ifa_addr && strcmp(one->ifa_name, interface) == 0 &&
            take_address(one->ifa_addr, out)) {
            break;
        }
    }
    freeifaddrs(all);
}

static const char *ip_text(const eepi_lane_path *path, char text[INET6_ADDRSTRLEN])
{
    const int family = path->ip_bytes == 4 ? AF_INET : AF_INET6;

    return inet_ntop(family, path->ip, text, INET6_ADDRSTRLEN) ? text : "?";
}

eep_status eepi_lane_listen(const char *interface, bool has_key, int *fd_out,
                            eepi_lane_path *path_out, char *why, size_t why_bytes)
{
    eepi_lane_path path = {0};
    struct sockaddr_storage bound = {0};
    socklen_t bytes = sizeof bound;
    char ip[INET6_ADDRSTRLEN], text[200];
    eep_status status;

    address_of(interface, &path);
    if (path.ip_bytes == 0) {
        snprintf(why, why_bytes,
                 "EEP_NETWORK_INTERFACE is \"%.40s\": that is neither an address nor an interface "
                 "of this host that has one",
                 interface);
        return EEP_ERR_INVALID;
    }
    status = eepi_tcp_check_host(ip_text(&path, ip), has_key, text, sizeof text);
    if (status != EEP_OK) {
        snprintf(why, why_bytes, "EEP_NETWORK_INTERFACE is \"%.40s\": %s", interface, text);
        return status;
    }
    status = eepi_tcp_listen(ip, 0, why, why_bytes, fd_out);
    if (status != EEP_OK) {
        return status;
    }
    if (getsockname(*fd_out, (struct sockaddr *)&bound, &bytes) != 0) {
        snprintf(why, why_bytes, "getsockname: %s", strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    path.port =
        ntohs(bound.ss_family == AF_INET ? ((const struct sockaddr_in *)&bound)->sin_port
                                         : ((const struct sockaddr_in6 *)&bound)->sin6_port);
    *path_out = path;
    return EEP_OK;
}

int eepi_lane_connect(const eepi_lane_path *from, const eepi_lane_path *to)
{
    char ip[INET6_ADDRSTRLEN], from_ip[INET6_ADDRSTRLEN];
    int fd = -1;

    return eepi_tcp_connect_from(from && from->ip_bytes == to->ip_bytes ? ip_text(from, from_ip)
                                                                        : NULL,
                                 ip_text(to, ip), to->port, 0, &fd) == EEP_OK
               ? fd
               : -1;
}

/* ------------------------------------------------------------------ channels */

eep_status eepi_lane_secure(const eepi_network *network, const eepi_lane *lane,
                            eepi_secure_channel *channel_out)
{
    eepi_secure_config config = {
        .key = network->key,
        .is_server = lane == NULL,
        .own = {.service = "rows",
                .role = "rank",
                .seat = (int32_t)network->shape.self,
                .generation = network->config.generation,
                .newest = EEPI_LANE_VERSION,
                .oldest = EEPI_LANE_VERSION},
        .wanted_seat = lane ? (int32_t)lane->seat : -1,
        .wanted_generation = lane ? lane->generation : 0,
        /* a batch that is a byte short of full takes each word, one slot and talk (lane_send.c) */
        .max_message_bytes = EEPI_LANE_SEALED_BYTES + EEPK_RING_WORDS * sizeof(eepk_put) +
                             (size_t)network->slot_bytes + EEPI_LANE_TALK_BYTES,
        .max_unsent_bytes = MOST_UNSENT,
    };
    eep_status status;

    snprintf(config.own.instance, sizeof config.own.instance, "%016llx",
             (unsigned long long)network->config.instance);
    status = eepi_secure_start(channel_out, &config);
    eepi_secure_key_wipe(&config.key);
    return status;
}
