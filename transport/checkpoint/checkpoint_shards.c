/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a checkpoint, and who uses them. */
#include "transport/checkpoint/checkpoint_files.h"

#include <stdlib.h>

eep_status eepi_checkpoint_add_shard(eep_checkpoint *checkpoint, const char *path,
                                     char why[EEPI_TENSOR_WHY_BYTES])
{
    eepi_tensor_shard shard, *more;
    eep_status status = eepi_tensor_shard_open(path, &shard, why);

    if (status != EEP_OK) {
        return status;
    }
    more = realloc(checkpoint->shards, (checkpoint->num_shards + 1) * sizeof *more);
    if (!more) {
        eepi_tensor_shard_close(&shard);
        return eepi_tensor_fail(EEP_ERR_NO_MEMORY, why, "out of memory");
    }
    checkpoint->shards = more;
    checkpoint->shards[checkpoint->num_shards++] = shard;
    return EEP_OK;
}

void eepi_checkpoint_use(eep_checkpoint *checkpoint)
{
    __atomic_add_fetch(&checkpoint->num_users, 1, __ATOMIC_RELAXED);
}

void eepi_checkpoint_leave(eep_checkpoint *checkpoint)
{
    /* acq_rel: the last one sees what the others did before they left */
    if (!checkpoint || __atomic_sub_fetch(&checkpoint->num_users, 1, __ATOMIC_ACQ_REL) > 0) {
        return;
    }
    for (uint32_t i = 0; i < checkpoint->num_shards; i++) {
        eepi_tensor_shard_close(&checkpoint->shards[i]);
    }
    free(checkpoint->shards);
    eepi_tensor_list_free(&checkpoint->tensors);
    free(checkpoint);
}
