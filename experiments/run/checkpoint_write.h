/* SPDX-License-Identifier: Apache-2.0 */
/* eep-run --checkpoint-write. */
#ifndef EEPX_CHECKPOINT_WRITE_H
#define EEPX_CHECKPOINT_WRITE_H

#include "experiments/setup/options.h"

/* Write the weights that a run with these options would have. The exit status: 0, or 1 after a line
 * on stderr that names file and cause. */
int checkpoint_write(const options *given);
#endif
