/* SPDX-License-Identifier: Apache-2.0 */
/* What one fault did to those that were left. The definitions are in docs/SUMMARY.md. Pure. */
#ifndef EEPX_SUMMARY_FAULT_H
#define EEPX_SUMMARY_FAULT_H

#include "experiments/rows/record.h"
#include "experiments/rows/summary.h"

/* All but `detections` and `weights_bytes_in_pause`. The fault must be one of run->faults. */
summary_fault summary_fault_measure(const record *run, const record_fault *fault);
/* How long it took until each survivor suspected the process, of those that did: into `ms_out`
 * (room for all survivors); returns how many. */
size_t summary_fault_detections(const record *run, const record_fault *fault, double *ms_out);
/* Count every repaired byte at one fault, the first in whose pause it was: faults of one moment
 * share a repair. */
void summary_fault_share_bytes(const record *run, summary_fault *faults, size_t num);
/* A peer ended the process while it lived, since it suspected it of something other than its end.
 * False: it was killed from outside (or ended otherwise), and peers learned that it had ended. */
bool summary_fault_was_fenced(const record *run, const record_process *process);
#endif
