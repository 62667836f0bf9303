/* SPDX-License-Identifier: Apache-2.0 */
/* Windows: receive memory of a rank that its peers map and store into (must 11: an interface, so
 * that a network proxy can stand in for shared memory).
 *
 * A window has two sides:
 *
 *     host side     eepk_window_header            detector, service and rank threads
 *                   + the dispatch tag lines      of all ranks; a memfd
 *     device side   all of eepk_shape.window_bytes     kernels only; what banks point to
 *
 * On the host backend both are one mapping, at one address. Where host threads cannot touch what
 * kernels store into (cuda), there are two: the device side is memory of the device, its header's
 * place lies idle, and what a host thread has to say to a peer's host threads (a beat, a ring, a
 * step that begins) it stores into the host side.
 *
 * A descriptor is what the owner publishes and a peer maps from: bytes of fixed size that begin
 * with the version of their layout. Both sides live until the last process has closed its mapping,
 * whatever becomes of the owner. */
#ifndef EEPI_WINDOW_H
#define EEPI_WINDOW_H

#include "eep/device.h"
#include "eep/status.h"
#include "graphs/kernels/table_layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EEPI_WINDOW_DESCRIPTOR_BYTES = 256, EEPI_WINDOW_DESCRIPTOR_VERSION = 2 };

typedef struct eepi_window_descriptor {
    uint8_t bytes[EEPI_WINDOW_DESCRIPTOR_BYTES];
} eepi_window_descriptor;

/* Whose window it is, and its size: owner and peer must agree. */
typedef struct eepi_window_spec {
    uint32_t seat, generation;
    size_t bytes;
    size_t host_bytes; /* of these the first, on the host side, where there are two sides */
} eepi_window_spec;

typedef struct eepi_window eepi_window;

/* The spec of a seat's window in an instance of that shape. */
eepi_window_spec eepi_window_spec_of(const eepk_shape *shape, uint32_t seat, uint32_t generation);

/* Make a window for the device's kernels: zeroed, header filled with seat and generation. On
 * failure why_out gets one line: EEP_ERR_NO_MEMORY, EEP_ERR_SYSTEM, and of a device whose memory is
 * discrete EEP_ERR_UNSUPPORTED, EEP_ERR_DEVICE. The device stays open longer than the window. Not
 * while the thread captures; may wait for the device (graphs/device/device_share.h). */
EEP_MUST_CHECK eep_status eepi_window_create(eep_device *device, const eepi_window_spec *spec,
                                             char *why_out, size_t why_bytes,
                                             eepi_window **window_out);
/* Map a peer's window for the device's kernels and check that it is that seat's and generation's.
 * EEP_ERR_UNREACHABLE: its process is gone or its memory is not ours to map. EEP_ERR_UNSUPPORTED:
 * the two devices, or what the kernel lets us do, do not allow it, or the descriptor has another
 * version. EEP_ERR_NOT_FOUND: the descriptor is all zero. why_out as above. */
EEP_MUST_CHECK eep_status eepi_window_map(eep_device *device,
                                          const eepi_window_descriptor *descriptor,
                                          const eepi_window_spec *spec, char *why_out,
                                          size_t why_bytes, eepi_window **window_out);
/* No kernel that uses it may be in flight. NULL is ignored. */
void eepi_window_close(eepi_window *window);

/* Host side; a layout as the device side's beginning. For host threads. */
eepk_window_header *eepi_window_header(const eepi_window *window);
/* Device side, as kernels of the device reach it. */
void *eepi_window_device_address(const eepi_window *window);
/* 1: the two sides are not the same memory. */
bool eepi_window_is_discrete(const eepi_window *window);
/* The device side's descriptor in this process, of a created window: whoever holds a copy of it
 * (eepi_peer_descriptors_copy) keeps the memory without mapping it. */
int eepi_window_device_fd(const eepi_window *window);
/* What to publish; of a created window only. */
void eepi_window_describe(const eepi_window *window, eepi_window_descriptor *descriptor_out);
#endif
