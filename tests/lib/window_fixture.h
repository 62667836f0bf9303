/* SPDX-License-Identifier: Apache-2.0 */
/* A window with the memory that a first view names, made or mapped whole, and looked at by its
 * first colour. */
#ifndef TESTS_WINDOW_FIXTURE_H
#define TESTS_WINDOW_FIXTURE_H

#include "transport/window/window.h"

static inline eep_status window_make(eep_device *device, const eepi_window_spec *spec,
                                     char *why_out, size_t why_bytes, eepi_window **window_out)
{
    static const uint32_t first[EEPK_COLOURS] = {1, 1};

    return eepi_window_create(device, spec, first, why_out, why_bytes, window_out);
}

static inline eep_status window_map_whole(eep_device *device,
                                          const eepi_window_descriptor *descriptor,
                                          const eepi_window_spec *spec, char *why_out,
                                          size_t why_bytes, eepi_window **window_out)
{
    eepi_window *window = NULL;
    eep_status status = eepi_window_map(device, descriptor, spec, why_out, why_bytes, &window);

    for (uint32_t colour = 0; colour < EEPK_COLOURS && status == EEP_OK; colour++) {
        status = eepi_window_reach(window, descriptor, colour, 1, why_out, why_bytes);
    }
    if (status != EEP_OK) {
        eepi_window_close(window);
        window = NULL;
    }
    *window_out = window;
    return status;
}

static inline void *window_memory(const eepi_window *window)
{
    return eepi_window_memory(window, 0, 1);
}
#endif
