/* SPDX-License-Identifier: Apache-2.0 */
/* Windows: receive memory of a rank that its peers map and store into (must 11: an interface, so
 * that a network proxy can stand in for shared memory).
 *
 * A window has a host side, and memory of the device for each colour (rule P7):
 *
 *     host side     eepk_window_header            detector, service and rank threads
 *                   + the dispatch tag lines      of all ranks; a memfd
 *     memory        all of eepk_shape.window_bytes     kernels only; what banks point to
 *
 * Memory is named by its colour and a serial number. The owner renews a colour: it makes other
 * memory with a higher serial, which nobody can name who has not mapped it. What a later view does
 * not name any more is dropped by the owner and its peers. Its pages live until the last process
 * has closed its mapping, whatever becomes of the owner, and no window is ever made of them again.
 *
 * Where host threads can touch what kernels store into (host backend), they read tags and ring
 * doorbells in the memory itself. Elsewhere (cuda) its header's place lies idle, and what a host
 * thread has to say to a peer's host threads (a step that begins) it stores into the host side.
 *
 * A descriptor is what the owner publishes and a peer maps from: bytes of fixed size that begin
 * with the version of their layout. */
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
    size_t bytes;      /* of each memory */
    size_t host_bytes; /* of the host side */
} eepi_window_spec;

typedef struct eepi_window eepi_window;

/* The spec of a seat's window in an instance of that shape. */
eepi_window_spec eepi_window_spec_of(const eepk_shape *shape, uint32_t seat, uint32_t generation);

/* Make a window for the device's kernels, with memory of those serials: zeroed, the host side's
 * header filled with seat and generation. On failure why_out gets one line: EEP_ERR_NO_MEMORY,
 * EEP_ERR_SYSTEM, and of a device whose memory is discrete EEP_ERR_UNSUPPORTED, EEP_ERR_DEVICE. The
 * device stays open longer than the window. Not while the thread captures; may wait for the device
 * (graphs/device/device_share.h). */
EEP_MUST_CHECK eep_status eepi_window_create(eep_device *device, const eepi_window_spec *spec,
                                             const uint32_t serial[EEPK_COLOURS], char *why_out,
                                             size_t why_bytes, eepi_window **window_out);
/* Have memory of that serial for a colour of a created window: what there is stays. As above; and
 * EEP_ERR_STATE: such memory was dropped before, or EEPK_MEMORIES_KEPT of the colour are there. One
 * thread renews, reaches and drops; others may ask for memory that stays meanwhile. */
EEP_MUST_CHECK eep_status eepi_window_renew(eepi_window *window, uint32_t colour, uint32_t serial,
                                            char *why_out, size_t why_bytes);
/* Map the host side of a peer's window and check that it is that seat's and generation's.
 * EEP_ERR_UNREACHABLE: its process is gone or its memory is not ours to map. EEP_ERR_UNSUPPORTED:
 * the two devices, or what the kernel lets us do, do not allow it, or the descriptor has another
 * version. EEP_ERR_NOT_FOUND: the descriptor is all zero. why_out as above. */
EEP_MUST_CHECK eep_status eepi_window_map(eep_device *device,
                                          const eepi_window_descriptor *descriptor,
                                          const eepi_window_spec *spec, char *why_out,
                                          size_t why_bytes, eepi_window **window_out);
/* Map a colour's memory of that serial of a mapped window for the device's kernels, unless it is
 * mapped. EEP_ERR_NOT_FOUND: the descriptor does not name it yet. Else as above. */
EEP_MUST_CHECK eep_status eepi_window_reach(eepi_window *window,
                                            const eepi_window_descriptor *descriptor,
                                            uint32_t colour, uint32_t serial, char *why_out,
                                            size_t why_bytes);
/* Close what memory of the colour has a lower serial, but for that with the serial `but` (0: none).
 * No kernel that uses it may be in flight. */
void eepi_window_drop(eepi_window *window, uint32_t colour, uint32_t serial, uint32_t but);
/* Close all. No kernel that uses it may be in flight. NULL is ignored. */
void eepi_window_close(eepi_window *window);

/* Host side, for host threads. */
eepk_window_header *eepi_window_header(const eepi_window *window);
/* That memory, as kernels of the device reach it; NULL: it is not there. */
void *eepi_window_memory(const eepi_window *window, uint32_t colour, uint32_t serial);
/* Memory of all of these serials is there. */
bool eepi_window_has_all(const eepi_window *window, const uint32_t serial[EEPK_COLOURS]);
/* It dropped one of these, so it can have it no more. */
bool eepi_window_has_dropped(const eepi_window *window, const uint32_t serial[EEPK_COLOURS]);
/* Host threads cannot touch what kernels store into. */
bool eepi_window_is_discrete(const eepi_window *window);
/* That memory's descriptor in this process, of a created window: whoever holds a copy of it
 * (eepi_peer_descriptors_copy) keeps the memory without mapping it. -1: it is not there. */
int eepi_window_memory_fd(const eepi_window *window, uint32_t colour, uint32_t serial);
/* What to publish; of a created window only, and again after it was renewed. */
void eepi_window_describe(const eepi_window *window, eepi_window_descriptor *descriptor_out);
#endif
