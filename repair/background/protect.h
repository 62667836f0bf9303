/* SPDX-License-Identifier: Apache-2.0 */
/* Redundancy and distance of a layer (steps 1, 2 and 4 of eepi_background_layer). */
#ifndef EEPI_PROTECT_H
#define EEPI_PROTECT_H

#include "repair/background/outlook.h"

/* Experts on too few seats, or on seats too near. `order` is scratch, [num_experts]. */
void eepi_background_protect(eepi_outlook *o, int32_t *order);
/* EMPTY slots that are left. */
void eepi_background_use_empty(eepi_outlook *o);
#endif
