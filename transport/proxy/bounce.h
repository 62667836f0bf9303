/* SPDX-License-Identifier: Apache-2.0 */
/* Placing into a window that the host cannot write, in memory of a device (rule N4).
 *
 *     network -> bounce buffer: pinned, as large as a window -> `place` kernel -> window
 *
 * What comes lies in the bounce buffer at its own offset, as it would in a window of the host, so
 * nothing is laid out anew and a piece may come in parts. A kernel of one block, in a stream of its
 * own, copies what is whole, stores a word behind it, and says that it is done. Whoever places
 * waits for that inside the gate.
 *
 * That stream waits for no other one, and nothing here allocates, opens or waits for the device as
 * a whole. A step's kernels may wait for what is placed, so this must never wait for them. */
#ifndef EEPI_BOUNCE_H
#define EEPI_BOUNCE_H

#include "eep/device.h"
#include "transport/proxy/placer.h"

typedef struct eepi_bounce eepi_bounce;

/* A placer's ops whose `user` is a bounce. It tells nobody of begins. */
extern const eepi_placer_ops eepi_placer_bounce_ops;

/* For windows of that many bytes. EEP_ERR_NO_MEMORY; EEP_ERR_UNSUPPORTED: the device has no queue
 * for one more stream; EEP_ERR_DEVICE. May wait for the device. */
EEP_MUST_CHECK eep_status eepi_bounce_open(eep_device *device, uint64_t window_bytes,
                                           eepi_bounce **bounce_out);
/* Nobody places any more. NULL is ignored. */
void eepi_bounce_close(eepi_bounce *bounce);
/* Place there from now on: when eepi_placer_set_user may be called. */
void eepi_bounce_set_window(eepi_bounce *bounce, void *window);
/* What placing took so far. Nobody places now. */
typedef struct eepi_bounce_cost {
    uint64_t launches, stretches, total_us, longest_us;
} eepi_bounce_cost;
eepi_bounce_cost eepi_bounce_cost_of(const eepi_bounce *bounce);
/* NULL: all was placed so far. Else why the device does not place any more; nothing is, from then
 * on. Any thread; the text lives as long as the bounce. */
const char *eepi_bounce_failure(const eepi_bounce *bounce);
#endif
