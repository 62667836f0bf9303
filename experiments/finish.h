/* Before and after a run: the output folder, the oracle, the picture. */
#ifndef EEPX_FINISH_H
#define EEPX_FINISH_H

#include "experiments/options.h"
#include "experiments/summary.h"

enum { FINISH_ERROR_BYTES = 1024 };

/* Make the folder `dir`, or take it if it is there and empty (or `force`). EEP_ERR_INVALID,
 * EEP_ERR_SYSTEM with a line in `error`. */
EEP_MUST_CHECK eep_status finish_make_dir(const char *dir, bool force,
                                          char error[FINISH_ERROR_BYTES]);
/* The same with the run's folder; write run.json, which tells the oracle the model. */
EEP_MUST_CHECK eep_status finish_prepare_dir(const options *how, char error[FINISH_ERROR_BYTES]);

/* Run eep-oracle (beside this program) on the folder and read its verdict; blocks until it ends.
 * Without an answer `oracle_out->ran` is false and standard error says why. */
void finish_run_oracle(const char *dir, summary_oracle *oracle_out);

/* Draw timeline.png with python3; says on standard error if that is not possible. */
void finish_draw_timeline(const char *dir);
#endif
