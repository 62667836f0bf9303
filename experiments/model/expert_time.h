/* SPDX-License-Identifier: Apache-2.0 */
/* An emulated expert time (docs/MODEL.md): a node behind the experts of each layer waits for so
 * long per row that this rank's experts had. It changes no bit. Hosts only. */
#ifndef EEPX_EXPERT_TIME_H
#define EEPX_EXPERT_TIME_H

#include "eep/device.h"
#include "experiments/model/model_kernels.h"

/* Put the node into a stream. `slot_begin` [num_slots + 1] is read at replay, and the words now and
 * then while it waits. */
EEP_MUST_CHECK eep_status expert_time_put(eep_stream *stream, const int32_t *slot_begin,
                                          int32_t num_slots, int32_t row_us,
                                          const model_words *words);
#endif
