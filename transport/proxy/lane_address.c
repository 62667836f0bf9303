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
    return address->kind < EEPI_NUM_LANE_KINDS && address->port != 0 &&
           (address->ip_bytes == 4 || address->ip_bytes == 16);
}

bool eepi_lane_address_is_loopback(const eepi_lane_address *address)
{
    static const uint8_t loopback[16] = {[15] = 1};

    return address->ip_bytes == 4 ? address->ip[0] == 127
                                  : memcmp(address->ip, loopback, sizeof loopback) == 0;
}

const char *eepi_lane_address_text(const eepi_lane_address *address,
                                   char text[EEPI_LANE_TEXT_BYTES])
{
    char ip[INET6_ADDRSTRLEN] = "?";

    if (address->kind == EEPI_LANE_NONE) {
        return "nowhere";
    }
    (void)inet_ntop(address->ip_bytes == 4 ? AF_INET : AF_INET6, address->ip, ip, sizeof ip);
    snprintf(text, EEPI_LANE_TEXT_BYTES, address->ip_bytes == 4 ? "%s:%u" : "[%s]:%u", ip,
             address->port);
    return text;
}
