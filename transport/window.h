/* Windows: receive memory of a rank that its peers map and store into (must 11: an interface, so
 * that a network proxy can stand in for shared memory).
 *
 * A descriptor is what the owner publishes and a peer maps from; opaque bytes of fixed size. */
#ifndef EEPI_WINDOW_H
#define EEPI_WINDOW_H

#include "eep/status.h"

#include <stddef.h>
#include <stdint.h>

enum { EEPI_WINDOW_DESCRIPTOR_BYTES = 64 };

typedef struct eepi_window_descriptor {
    uint8_t bytes[EEPI_WINDOW_DESCRIPTOR_BYTES];
} eepi_window_descriptor;

typedef struct eepi_window eepi_window;

/* Make a window: zeroed, header filled with seat and generation. EEP_ERR_NO_MEMORY,
 * EEP_ERR_SYSTEM. */
EEP_MUST_CHECK eep_status eepi_window_create(uint32_t seat, uint32_t generation, size_t bytes,
                                             eepi_window **window_out);
/* Map a peer's window and check that it is that seat's and generation's. EEP_ERR_UNREACHABLE: its
 * process is gone or its memory is not ours to map. */
EEP_MUST_CHECK eep_status eepi_window_map(const eepi_window_descriptor *descriptor, uint32_t seat,
                                          uint32_t generation, size_t bytes,
                                          eepi_window **window_out);
void eepi_window_close(eepi_window *window);

void *eepi_window_address(const eepi_window *window);
/* What to publish; of a created window only. */
void eepi_window_describe(const eepi_window *window, eepi_window_descriptor *descriptor_out);
#endif
