/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a context's rings (graphs/kernels/ring_layout.h): pinned, so that a network reads
 * it where kernels have stored, and at fixed addresses, so that captured graphs hold on to it. */
#ifndef EEPI_RINGS_H
#define EEPI_RINGS_H

#include "eep/device.h"
#include "graphs/kernels/ring_layout.h"

typedef struct eepi_rings { /* all zero: a context without rings */
    uint8_t *pinned;        /* [num_queues] rings, then the image of the queues */
    eepk_queue *queue;      /* [num_queues], device memory */
} eepi_rings;

/* The fewest slots of a ring: those of one exchange, which could never be sent with fewer. */
uint32_t eepi_ring_least_slots(const eepk_shape *shape);
/* shape->num_queues rings of shape->ring_slots slots, all zero; with num_queues 0 nothing. Waits
 * for `stream`, at most timeout_us. EEP_ERR_INVALID: too few slots. After a failure:
 * eepi_rings_close.
 */
EEP_MUST_CHECK eep_status eepi_rings_open(eep_device *device, const eepk_shape *shape,
                                          eep_stream *stream, uint64_t timeout_us,
                                          eepi_rings *rings_out);
/* No kernel and no network uses them any more. */
void eepi_rings_close(eep_device *device, eepi_rings *rings);
#endif
