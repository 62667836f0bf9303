/* SPDX-License-Identifier: Apache-2.0 */
/* Balance of a layer (step 3 of eepi_background_layer). */
#ifndef EEPI_LEVEL_H
#define EEPI_LEVEL_H

#include "repair/background/outlook.h"

void eepi_background_level(eepi_outlook *o);
#endif
