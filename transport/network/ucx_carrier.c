/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing the ports of UCX of one rank. */
#include "transport/network/ucx_lane.h"

#include "graphs/base/clock.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { CLOSE_US = 100000 }; /* longest time that peers have to hear of the end */

static bool watch(const eepi_network *network, int fd, uint32_t events, uint64_t tag)
{
    struct epoll_event event = {.events = events, .data.u64 = tag};

    return epoll_ctl(network->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static eep_status open_path(eepi_network *network, uint32_t i, char *why, size_t why_bytes)
{
    const char *interface = network->path[i].interface.name;
    static const eepi_ucx_ear of_receiver[] = {{UCX_HELLO, eepi_ucx_incoming_hello},
                                               {UCX_ROWS, eepi_ucx_incoming_rows}};
    static const eepi_ucx_ear of_sender[] = {{UCX_ANSWER, eepi_ucx_lane_is_answered},
                                             {UCX_PLACED, eepi_ucx_lane_hears}};
    eepi_ucx *ucx = network->ucx;
    eep_status status = eepi_ucx_port_open(network, interface, true, of_receiver, why, why_bytes,
                                           &ucx->path[i].receiver);

    if (status == EEP_OK) {
        network->address.path[i] = ucx->path[i].receiver->at;
        ucx->path[i].receiver->path = i;
        status = eepi_ucx_port_open(network, interface, false, of_sender, why, why_bytes,
                                    &ucx->path[i].sender);
    }
    if (status == EEP_OK &&
        (!watch(network, ucx->path[i].receiver->fd, EPOLLIN, EEPI_UCX_TAG_RECEIVER) ||
         !watch(network, ucx->path[i].sender->fd, EPOLLONESHOT, EEPI_UCX_TAG_SENDER))) {
        snprintf(why, why_bytes, "epoll_ctl: %s", strerror(errno));
        status = EEP_ERR_SYSTEM;
    }
    return status;
}

static eep_status open_all(eepi_network *network, char *why, size_t why_bytes)
{
    eep_status status = EEP_OK;

    network->address.kind = EEPI_LANE_UCX;
    network->ucx = calloc(1, sizeof *network->ucx);
    if (network->ucx) {
        network->ucx->words =
            calloc(eepi_lane_receipts_most(network->shape.ring_slots), sizeof(uint64_t));
    }
    if (!network->ucx || !network->ucx->words) {
        snprintf(why, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    if (!watch(network, network->wake_fd, EPOLLIN, EEPI_UCX_TAG_WAKE)) {
        snprintf(why, why_bytes, "epoll_ctl: %s", strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    for (uint32_t i = 0; i < network->address.num_paths && status == EEP_OK; i++) {
        status = open_path(network, i, why, why_bytes);
    }
    return status == EEP_OK ? eepi_ways_open(network, EEPI_UCX_TAG_LINKS) : status;
}

/* ------------------------------------------------------------------ closing */

/* Until nothing of the network's own is under way, bounded: those who do not answer are abandoned
 * (rule N6). */
static void settle(eepi_ucx_port *port, uint64_t until_us)
{
    uint32_t busy = 1;

    while (busy > 0 && eepi_now_us() < until_us) {
        if (!eepi_ucx_port_progress(port)) {
            sched_yield();
        }
        busy = 0;
        for (const eepi_ucx_link *link = port->links; link; link = link->next) {
            busy += link->closing != NULL || (link->owes && link->num_sends > 0);
        }
    }
}

static void close_sender(eepi_ucx_port *port, uint64_t until_us)
{
    for (eepi_ucx_link *link = port->links; link; link = link->next) {
        link->lane = NULL;
        if (link->answer.magic == EEPI_LANE_MAGIC && link->num_sends == 0) {
            eepi_ucx_link_close(link);
        }
    }
    settle(port, until_us);
    eepi_ucx_port_park(port);
}

static void close_receiver(eepi_ucx_port *port, uint64_t until_us)
{
    eepi_ucx_incoming_say_bye(port);
    settle(port, until_us);
    for (eepi_ucx_link *link = port->links; link; link = link->next) {
        link->is_greeted = link->owes = false;
        eepi_lane_receipts_close(&link->receipts);
    }
    eepi_ucx_port_park(port);
}

static void close_all(eepi_network *network)
{
    const uint64_t until_us = eepi_now_us() + CLOSE_US;

    for (uint32_t i = 0; network->ucx && i < network->address.num_paths; i++) {
        if (network->ucx->path[i].receiver) {
            close_receiver(network->ucx->path[i].receiver, until_us);
        }
        if (network->ucx->path[i].sender) {
            close_sender(network->ucx->path[i].sender, until_us);
        }
    }
    if (network->ucx) {
        free(network->ucx->words);
    }
    free(network->ucx);
}

const eepi_carrier eepi_ucx_carrier = {
    .open = open_all,
    .close = close_all,
    .begin = eepi_ucx_lane_begin,
    .go_on = eepi_ucx_lane_go_on,
    .carry = eepi_ucx_lane_carry,
    .drop = eepi_ucx_lane_drop,
    .receive = eepi_ucx_receiver_run,
    .progress = eepi_ucx_lane_progress,
    .may_sleep = eepi_ucx_lane_may_sleep,
};
