/* SPDX-License-Identifier: Apache-2.0 */
/* The table of avail_constants.h. */
#include "experiments/avail/avail_constants.h"

#include <stddef.h>

#define ROW(name, unit, source) {#name, unit, source, name},
static const avail_constant constants[] = {AVAIL_CONSTANTS(ROW)};
enum { NUM_CONSTANTS = sizeof constants / sizeof constants[0] };

const avail_constant *avail_constant_at(int number)
{
    return number >= 0 && number < NUM_CONSTANTS ? &constants[number] : NULL;
}
