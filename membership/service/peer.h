/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of the process in a seat. Service thread. */
#ifndef EEPI_PEER_H
#define EEPI_PEER_H

#include "membership/context/records.h"

#include <stdbool.h>

typedef struct eepi_peer {
    void *record_bytes; /* NULL: none */
    eepi_record record; /* points into them */
    bool is_heard;      /* it came on this connection to the store */
    int pidfd;          /* -1: not watched */
    uint32_t pidfd_generation;
    eepi_window *window;
    eepi_window *retired_window; /* of the process before, in a bank that may be live still */
    uint32_t window_generation;
    int32_t window_pid; /* whose window it is */
    uint64_t window_pid_start;
} eepi_peer;
#endif
