/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a checkpoint: which files it has. */
#include "transport/checkpoint/checkpoint_files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static eep_status read_single(eep_checkpoint *checkpoint, const char *path, char *why)
{
    eep_status status = eepi_checkpoint_add_shard(checkpoint, path, why);

    if (status == EEP_OK) {
        status = eepi_tensor_shard_tensors(&checkpoint->shards[0], 0, &checkpoint->tensors, why);
    }
    eepi_tensor_list_sort(&checkpoint->tensors);
    return status;
}

/* The index of a folder, else its only file. */
static eep_status read_folder(eep_checkpoint *checkpoint, const char *folder, char *why)
{
    char index[PATH_MAX], single[PATH_MAX];

    if (snprintf(index, sizeof index, "%s/model.safetensors.index.json", folder) >=
            (int)sizeof index ||
        snprintf(single, sizeof single, "%s/model.safetensors", folder) >= (int)sizeof single) {
        return eepi_tensor_fail(EEP_ERR_INVALID, why, "%.150s: the path is too long", folder);
    }
    if (access(index, F_OK) == 0) {
        return eepi_checkpoint_read_index(checkpoint, index, why);
    }
    if (access(single, F_OK) == 0) {
        return read_single(checkpoint, single, why);
    }
    return eepi_tensor_fail(EEP_ERR_NOT_FOUND, why,
                            "%.150s has neither model.safetensors.index.json nor model.safetensors",
                            folder);
}

static bool ends_with(const char *text, const char *end)
{
    size_t have = strlen(text), want = strlen(end);

    return have >= want && strcmp(text + have - want, end) == 0;
}

eep_status eepi_checkpoint_open(const char *path, eep_checkpoint **checkpoint_out,
                                char why[EEPI_TENSOR_WHY_BYTES])
{
    eep_checkpoint *checkpoint;
    struct stat facts;
    eep_status status;

    if (stat(path, &facts) != 0) {
        return eepi_tensor_fail(errno == ENOENT || errno == ENOTDIR ? EEP_ERR_NOT_FOUND
                                                                    : EEP_ERR_SYSTEM,
                                why, "%.150s: %s", path, strerror(errno));
    }
    checkpoint = calloc(1, sizeof *checkpoint);
    if (!checkpoint) {
        return eepi_tensor_fail(EEP_ERR_NO_MEMORY, why, "out of memory");
    }
    checkpoint->opened_by = (int32_t)getpid();
    checkpoint->num_users = 1;
    if (S_ISDIR(facts.st_mode)) {
        status = read_folder(checkpoint, path, why);
    } else if (ends_with(path, ".json")) {
        status = eepi_checkpoint_read_index(checkpoint, path, why);
    } else {
        status = read_single(checkpoint, path, why);
    }
    if (status != EEP_OK) {
        eepi_checkpoint_leave(checkpoint);
        return status;
    }
    *checkpoint_out = checkpoint;
    return EEP_OK;
}
