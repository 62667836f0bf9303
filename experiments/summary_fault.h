/* What one fault did to those that were left. The definitions are in docs/SUMMARY.md. Pure. */
#ifndef EEPX_SUMMARY_FAULT_H
#define EEPX_SUMMARY_FAULT_H

#include "experiments/record.h"
#include "experiments/summary.h"

/* All but `detections`. The fault must be one of run->faults. */
summary_fault summary_fault_measure(const record *run, const record_fault *fault);
/* How long it took until each survivor suspected the process, of those that did: into `ms_out`
 * (room for all survivors); returns how many. */
size_t summary_fault_detections(const record *run, const record_fault *fault, double *ms_out);
#endif
