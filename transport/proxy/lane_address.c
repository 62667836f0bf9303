/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/proxy/lane_address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool eepi_lane_address_is_sane(const eepi_lane_address *address)
{
    static const eepi_lane_address none;

    if (address->kind == EEPI_LANE_NONE) {
        return memcmp(address, &none, sizeof none) == 0;
    }
    for (uint32_t i = 0; i < address->num_paths && i < EEPI_MAX_PATHS; i++) {
        const eepi_lane_path *path = &address->path[i];
        if (path->port == 0 || (path->ip_bytes != 4 && path->ip_bytes != 16)) {
            return false;
        }
    }
    return address->kind < EEPI_NUM_LANE_KINDS && address->num_paths > 0 &&
           address->num_paths <= EEPI_MAX_PATHS;
}

bool eepi_lane_path_is_loopback(const eepi_lane_path *path)
{
    static const uint8_t loopback[16] = {[15] = 1};

    return path->ip_bytes == 4 ? path->ip[0] == 127
                               : memcmp(path->ip, loopback, sizeof loopback) == 0;
}

const char *eepi_lane_path_text(const eepi_lane_path *path, char text[EEPI_LANE_TEXT_BYTES])
{
    char ip[INET6_ADDRSTRLEN] = "?";

    if (path->ip_bytes == 0) {
        return "nowhere";
    }
    (void)inet_ntop(path->ip_bytes == 4 ? AF_INET : AF_INET6, path->ip, ip, sizeof ip);
    snprintf(text, EEPI_LANE_TEXT_BYTES, path->ip_bytes == 4 ? "%s:%u" : "[%s]:%u", ip, path->port);
    return text;
}
