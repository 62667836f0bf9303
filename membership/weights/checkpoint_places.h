/* SPDX-License-Identifier: Apache-2.0 */
/* Where each expert lies in the checkpoint that the engine has named. Rank thread until eep_join;
 * nothing changes from then on. */
#ifndef EEPI_CHECKPOINT_PLACES_H
#define EEPI_CHECKPOINT_PLACES_H

#include "eep/eep.h"
#include "transport/checkpoint/tensor_list.h"

#include <stdbool.h>

typedef struct eepi_places eepi_places;

/* A checkpoint was named. */
bool eepi_places_known(const eep_context *context);
/* The file is cut off, cannot be read or has other bytes than the instance: the rank's record says
 * from now on that it has none. True: it did not yet. Service thread, and no other from eep_join
 * on. */
bool eepi_places_distrust(eep_context *context);
bool eepi_places_trusted(const eep_context *context);
/* In eep_join: the tensors there have the bytes of the slots' tensors. */
EEP_MUST_CHECK eep_status eepi_places_check(eep_context *context);
/* Of an expert, in all its tensors; a checkpoint was named. */
uint64_t eepi_places_bytes(const eep_context *context);
/* Read `bytes` bytes of an expert, from byte `offset` of its tensors on, laid one behind the other,
 * into host memory. `why` names file and cause. After eep_join; any thread. */
EEP_MUST_CHECK eep_status eepi_places_read(const eep_context *context, int32_t layer,
                                           int32_t expert, uint64_t offset, size_t bytes, void *to,
                                           char why[EEPI_TENSOR_WHY_BYTES]);
void eepi_places_close(eep_context *context);
#endif
