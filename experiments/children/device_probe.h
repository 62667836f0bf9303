/* SPDX-License-Identifier: Apache-2.0 */
/* Can ranks run on a device, and how do processes share it? Asked before ranks are started, so that
 * a machine without one is told about once and plainly. */
#ifndef EEPX_DEVICE_PROBE_H
#define EEPX_DEVICE_PROBE_H

#include <stdbool.h>

enum { DEVICE_PROBE_BYTES = 768 };

typedef struct device_probe_result {
    int num_devices;              /* of this kind; 0: it could not be told */
    double slice_ms;              /* 0: not measured */
    char why[DEVICE_PROBE_BYTES]; /* one line, if it cannot be used */
} device_probe_result;

/* Open the device and load the driver's kernels on it as a rank would, in child processes that end
 * with it: a GPU's runtime stays out of the caller, which will fork. With `shared`, two of them
 * then spin on it at the same time: slice_ms is the longest time for which one stood still. False:
 * why. At most two and a half minutes; before the first thread. */
bool device_probe(const char *device, bool shared, device_probe_result *out);
#endif
