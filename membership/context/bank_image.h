/* SPDX-License-Identifier: Apache-2.0 */
/* A view as the bytes of a table bank. Pure. */
#ifndef EEPI_BANK_IMAGE_H
#define EEPI_BANK_IMAGE_H

#include "graphs/kernels/table_layout.h"
#include "membership/view/view.h"

/* Fill `image` (shape->bank_bytes) for rank shape->self: how it splits tokens over replicas is its
 * own (repair/split.h). `windows[max_ranks]` are the members' windows of the view's
 * colour, mapped here; this rank's own is among them. */
void eepi_bank_image(const eepk_shape *shape, const eepi_view *view, void *const *windows,
                     uint8_t *image);
/* The same with peers of all kinds: `peers[max_ranks]`, of which those of members count. */
void eepi_bank_image_of(const eepk_shape *shape, const eepi_view *view, const eepk_peer *peers,
                        uint8_t *image);
#endif
