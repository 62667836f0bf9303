/* What the files of the device layer share: graphs/device.c, graphs/device_share.c. */
#ifndef EEPI_DEVICE_INTERNAL_H
#define EEPI_DEVICE_INTERNAL_H

#include "graphs/capture_guard.h"
#include "graphs/device_ops.h"
#include "graphs/kernel_fields.h"

struct eep_device {
    const eepi_device_backend *backend;
    const eepi_device_ops *ops;
    void *impl;
    uint64_t captures;
    int ordinal;
    eepi_fixed *fixed;                    /* memory that graphs may refer to */
    eep_kernel kernels[EEPI_NUM_KERNELS]; /* the backend's, with what their arguments are */
    int is_apart; /* set before the device is used for windows, read only afterwards */
    /* what sharing cost so far; written with atomics, by any thread */
    uint64_t share_calls, share_us, share_longest_us;
};
#endif
