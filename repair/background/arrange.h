/* SPDX-License-Identifier: Apache-2.0 */
/* The placement that an engine ordered (step 0 of eepi_background_layer). */
#ifndef EEPI_ARRANGE_H
#define EEPI_ARRANGE_H

#include "repair/background/outlook.h"

/* Fill slots that do not hold what the order gives them (rule R3). `wanted_by` is scratch,
 * [num_experts]. */
void eepi_background_arrange(eepi_outlook *o, int32_t *wanted_by);
#endif
