/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher of eep-run: store, rank processes, request scheduler, fault script, rows. */
#ifndef EEPX_LAUNCHER_H
#define EEPX_LAUNCHER_H

#include "experiments/setup/options.h"

/* Run the whole job as the options say, with the oracle, the summary and the picture after it.
 * Returns the exit code: 0 good, 1 a token wrong, lost or unfinished, or the run broke, 2 the
 * options cannot be fulfilled. Main thread; it holds back SIGINT and SIGTERM while it runs. */
int launcher_run(const options *given);
#endif
