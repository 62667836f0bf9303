/* SPDX-License-Identifier: Apache-2.0 */
/* Before and after a run: the output folder, the oracle, the picture. */
#ifndef EEPX_FINISH_H
#define EEPX_FINISH_H

#include "experiments/base/folder.h"
#include "experiments/setup/options.h"
#include "experiments/rows/summary.h"

enum { FINISH_ERROR_BYTES = 1024 };

/* Make the folder `how` names, or take it if it is there, empty and safe from other users (or
 * --force), and no other run has it. Nothing in it is touched. It is this run's until
 * folder_close(). EEP_ERR_INVALID, EEP_ERR_SYSTEM with a line in `error`.
 *
 * A user who may write into the folder's parent can put another folder in its place. So from here
 * on the folder is used by `out->path`, and its name is only told. */
EEP_MUST_CHECK eep_status finish_take_dir(const options *given, folder_opened *out,
                                          char error[FINISH_ERROR_BYTES]);
/* In the run's folder `dir`: remove the results of an older run, and write run.json, which tells
 * the oracle the model. */
EEP_MUST_CHECK eep_status finish_prepare_dir(const options *given, const char *dir,
                                             char error[FINISH_ERROR_BYTES]);

/* Run eep-oracle (beside this program) on the folder and read its verdict; blocks until it ends, or
 * until `signal_fd` can be read, which ends it. Without an answer `oracle_out->ran` is false and
 * standard error says why. */
void finish_run_oracle(const char *dir, int signal_fd, summary_oracle *oracle_out);

/* Draw timeline.png with python3, until `signal_fd` can be read; says on standard error if that is
 * not possible. */
void finish_draw_timeline(const char *dir, int signal_fd);
#endif
