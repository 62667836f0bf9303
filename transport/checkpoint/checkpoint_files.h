/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint of safetensors: one file, or shards that an index names. Nothing of it changes after
 * it was opened, so any thread may read. */
#ifndef EEPI_CHECKPOINT_FILES_H
#define EEPI_CHECKPOINT_FILES_H

#include "eep/checkpoint.h"
#include "transport/checkpoint/tensor_list.h"
#include "transport/checkpoint/tensor_shard.h"

struct eep_checkpoint {
    int32_t opened_by; /* process */
    int32_t num_users; /* who opened it, and contexts; atomic */
    eepi_tensor_shard *shards;
    uint32_t num_shards;
    eepi_tensor_list tensors; /* by name */
};

/* `why` names file, tensor and cause. */
EEP_MUST_CHECK eep_status eepi_checkpoint_open(const char *path, eep_checkpoint **checkpoint_out,
                                               char why[EEPI_TENSOR_WHY_BYTES]);
/* One user more, one user less; the last one closes it. */
void eepi_checkpoint_use(eep_checkpoint *checkpoint);
void eepi_checkpoint_leave(eep_checkpoint *checkpoint);

/* Add a shard's file; `why` on failure. */
EEP_MUST_CHECK eep_status eepi_checkpoint_add_shard(eep_checkpoint *checkpoint, const char *path,
                                                    char why[EEPI_TENSOR_WHY_BYTES]);
/* The shards and tensors that an index names. */
EEP_MUST_CHECK eep_status eepi_checkpoint_read_index(eep_checkpoint *checkpoint, const char *path,
                                                     char why[EEPI_TENSOR_WHY_BYTES]);
#endif
