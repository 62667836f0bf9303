/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of lanes, all of them non-blocking. */
#include "transport/network/network_state.h"

#include "graphs/base/descriptors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 512 };

static socklen_t to_socket_address(const eepi_lane_address *address, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (address->ip_bytes == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        memcpy(&in->sin_addr, address->ip, 4);
        return sizeof *in;
    }
    ((struct sockaddr_in6 *)out)->sin6_family = AF_INET6;
    ((struct sockaddr_in6 *)out)->sin6_port = htons(address->port);
    memcpy(&((struct sockaddr_in6 *)out)->sin6_addr, address->ip, 16);
    return sizeof(struct sockaddr_in6);
}

/* IPv4 comes first: an address of IPv6 that is valid on one link alone says too little. */
static bool take_address(const struct sockaddr *from, eepi_lane_address *out)
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

static void address_of(const char *interface, eepi_lane_address *out)
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

eep_status eepi_lane_listen(const char *interface, int *fd_out, eepi_lane_address *address_out,
                            char *why, size_t why_bytes)
{
    eepi_lane_address address = {.kind = EEPI_LANE_TCP};
    struct sockaddr_storage bound;
    socklen_t bytes;
    char text[160];
    int fd, error;

    address_of(interface, &address);
    if (address.ip_bytes == 0) {
        snprintf(why, why_bytes,
                 "EEP_NETWORK_INTERFACE is \"%.40s\": that is neither an address nor an interface "
                 "of this host that has one",
                 interface);
        return EEP_ERR_INVALID;
    }
    bytes = to_socket_address(&address, &bound);
    fd = socket(bound.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&bound, bytes) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &bytes) != 0) {
        error = errno;
        snprintf(why, why_bytes, "listening on %.40s: %s", interface,
                 eepi_descriptors_error(error, text, sizeof text));
        if (fd >= 0) {
            close(fd);
        }
        return EEP_ERR_SYSTEM;
    }
    address.port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                                                    : ((struct sockaddr_in6 *)&bound)->sin6_port);
    *fd_out = fd;
    *address_out = address;
    return EEP_OK;
}

void eepi_lane_prepare(int fd)
{
    const int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int eepi_lane_connect(const eepi_lane_address *address)
{
    struct sockaddr_storage to;
    const socklen_t bytes = to_socket_address(address, &to);
    const int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error;

    if (fd < 0) {
        return -1;
    }
    eepi_lane_prepare(fd);
    if (connect(fd, (struct sockaddr *)&to, bytes) != 0 && errno != EINPROGRESS) {
        error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}
