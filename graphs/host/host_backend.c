/* SPDX-License-Identifier: Apache-2.0 */
/* The host backend: the tables of operations of its two devices, "host" and "guarded". */
#include "graphs/device/device_share.h"
#include "graphs/host/host_memory.h"
#include "graphs/host/host_stream.h"
#include "graphs/kernels/kernels.h"

/* All but how it is opened, and how memory is shared, is the same with a guard and without. */
#define HOST_OPS(open_function, make_function, map_function, close_function)                       \
    {                                                                                              \
        .open = (open_function), .share_make = (make_function), .share_map = (map_function),       \
        .share_close = (close_function), .close = eepi_host_close, .alloc = eepi_host_alloc,       \
        .free = eepi_host_free, .stream_open = eepi_host_stream_open,                              \
        .stream_close = eepi_host_stream_close,                                                    \
        .stream_synchronize = eepi_host_stream_synchronize,                                        \
        .stream_adopt = eepi_host_stream_adopt, .stream_disown = eepi_host_stream_disown,          \
        .stream_is_captured = eepi_host_stream_is_captured,                                        \
        .stream_native = eepi_host_stream_native,                                                  \
        .stream_wait_event = eepi_host_stream_wait_event,                                          \
        .stream_run_on_worker = eepi_host_stream_run_on_worker,                                    \
        .stream_set_limit = eepi_host_stream_set_limit, .event_open = eepi_host_event_open,        \
        .event_close = eepi_host_event_close, .event_record = eepi_host_event_record,              \
        .event_synchronize = eepi_host_event_synchronize, .copy = eepi_host_copy,                  \
        .launch = eepi_host_launch, .capture_begin = eepi_host_capture_begin,                      \
        .capture_end = eepi_host_capture_end, .graph_replay = eepi_host_graph_replay,              \
        .graph_close = eepi_host_graph_close                                                       \
    }
static const eepi_device_ops host_ops =
    HOST_OPS(eepi_host_open, eepi_host_share_make, eepi_host_share_map, eepi_host_share_close);
static const eepi_device_ops guarded_ops =
    HOST_OPS(eepi_host_guarded_open, eepi_host_guarded_share_make, eepi_host_guarded_share_map,
             eepi_host_guarded_share_close);

const eepi_device_backend eepi_host_backend = {
    .version = EEPI_BACKEND_VERSION,
    .num_kernels = EEPI_NUM_KERNELS,
    .name = "host",
    .ops = &host_ops,
    .kernels = eepi_host_kernels,
};

const eepi_device_backend eepi_guarded_backend = {
    .version = EEPI_BACKEND_VERSION,
    .num_kernels = EEPI_NUM_KERNELS,
    .name = "guarded",
    .ops = &guarded_ops,
    .kernels = eepi_host_kernels,
    .is_discrete = true,
};
