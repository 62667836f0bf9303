/* SPDX-License-Identifier: Apache-2.0 */
/* What the lanes over UCX of one rank share. */
#ifndef EEPI_UCX_LANE_H
#define EEPI_UCX_LANE_H

#include "transport/network/ucx_port.h"

/* In the epoll of the receiver thread. */
enum { EEPI_UCX_TAG_WAKE, EEPI_UCX_TAG_SENDER, EEPI_UCX_TAG_RECEIVER, EEPI_UCX_TAG_LINKS };

typedef struct eepi_ucx {
    struct {
        eepi_ucx_port *sender, *receiver;
    } path[EEPI_MAX_PATHS];
    uint64_t *words; /* of a message of receipts; the sender thread's */
} eepi_ucx;

/* ucx_lane.c: what comes for a sender, and a lane's part of eepi_carrier. */
ucs_status_t eepi_ucx_lane_is_answered(void *port, const void *header, size_t header_bytes,
                                       void *data, size_t bytes, const ucp_am_recv_param_t *param);
ucs_status_t eepi_ucx_lane_hears(void *port, const void *header, size_t header_bytes, void *data,
                                 size_t bytes, const ucp_am_recv_param_t *param);
void eepi_ucx_lane_begin(eepi_network *network, eepi_lane *lane, uint64_t now_us);
void eepi_ucx_lane_go_on(eepi_network *network, eepi_lane *lane, uint32_t events, uint64_t now_us);
bool eepi_ucx_lane_carry(eepi_network *network, eepi_lane *lane, uint32_t events, uint64_t now_us,
                         uint64_t *next_us);
void eepi_ucx_lane_drop(eepi_network *network, eepi_lane *lane);
bool eepi_ucx_lane_progress(eepi_network *network);
bool eepi_ucx_lane_may_sleep(eepi_network *network);

/* ucx_incoming.c: what comes for a receiver, and its thread. */
ucs_status_t eepi_ucx_incoming_hello(void *port, const void *header, size_t header_bytes,
                                     void *data, size_t bytes, const ucp_am_recv_param_t *param);
ucs_status_t eepi_ucx_incoming_rows(void *port, const void *header, size_t header_bytes, void *data,
                                    size_t bytes, const ucp_am_recv_param_t *param);
void *eepi_ucx_receiver_run(void *network);
/* All who send to this rank are told that nobody takes rows any more. */
void eepi_ucx_incoming_say_bye(eepi_ucx_port *port);
#endif
