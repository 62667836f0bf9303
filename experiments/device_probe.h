/* Can ranks run on a device? Asked before they are started, so that a machine without one is told
 * about once and plainly. */
#ifndef EEPX_DEVICE_PROBE_H
#define EEPX_DEVICE_PROBE_H

#include <stdbool.h>

enum { DEVICE_PROBE_BYTES = 768 };

/* Open the device and load the model's kernels on it as a rank would, in a child process that ends
 * with it: a GPU's runtime stays out of the caller, which will fork. True at once for devices that
 * are always there. False: why_out has one line. At most a minute; before the first thread. */
bool device_probe(const char *device, char why_out[DEVICE_PROBE_BYTES]);
#endif
