/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded loads of the experts of a layer, for whoever models or measures placements. Pure. */
#ifndef EEPX_EXPERT_LOADS_H
#define EEPX_EXPERT_LOADS_H

#include "eep/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Laws as --help lists them: z0.5 and z1 are Zipf's law, ln is lognormal with sigma 1, un draws all
 * experts alike. */
#define EXPERT_LOADS_LAWS "un|z0.5|z1|ln"

/* Multinomial counts: each of 100,000 draws chooses one of `num` experts by the law, which is dealt
 * out in a random order. Advances `random_io`. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status expert_loads_draw(const char *law, int num, uint64_t *random_io,
                                            uint32_t *loads_out);
#endif
