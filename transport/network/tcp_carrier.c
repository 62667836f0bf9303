/* SPDX-License-Identifier: Apache-2.0 */
/* What the lanes over TCP of one rank share: its key, its port, and what wakes its threads. */
#include "transport/network/network_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

eep_status eepi_tcp_open(eepi_network *network, char *why, size_t why_bytes)
{
    eep_status status = eepi_secure_key_read(NULL, &network->key, why, why_bytes);

    network->has_key = status == EEP_OK;
    if (status != EEP_OK && status != EEP_ERR_NOT_FOUND) {
        return status;
    }
    network->incoming = eepi_incoming_open(network);
    if (!network->incoming) {
        snprintf(why, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    network->address.kind = EEPI_LANE_TCP;
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        status =
            eepi_lane_listen(network->path[i].interface.name, network->has_key,
                             &network->path[i].listener, &network->address.path[i], why, why_bytes);
        if (status != EEP_OK) {
            return status;
        }
    }
    network->epoll = epoll_create1(EPOLL_CLOEXEC);
    network->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (network->epoll < 0 || network->wake_fd < 0) {
        snprintf(why, why_bytes, "epoll or eventfd: %s", strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    return eepi_ways_open(network, EEPI_LANE_EPOLL_LINKS);
}

void eepi_tcp_close(eepi_network *network)
{
    eepi_incoming_close(network->incoming);
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        if (network->path[i].listener >= 0) {
            close(network->path[i].listener);
        }
    }
    if (network->epoll >= 0) {
        close(network->epoll);
    }
    if (network->wake_fd >= 0) {
        close(network->wake_fd);
    }
}

void eepi_tcp_wake(eepi_network *network)
{
    const uint64_t one = 1;

    (void)!write(network->wake_fd, &one, sizeof one);
}
