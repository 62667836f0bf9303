/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls on a checkpoint that need no context. */
#include "graphs/base/public_call.h"
#include "transport/checkpoint/checkpoint_files.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static_assert((int)EEP_CHECKPOINT_DIMS == (int)EEPI_TENSOR_DIMS &&
                  (int)EEP_CHECKPOINT_DTYPE_BYTES == (int)EEPI_TENSOR_DTYPE_BYTES,
              "a tensor is copied as it is");

eep_status eep_checkpoint_open(const char *path, char *error_out, size_t error_bytes,
                               eep_checkpoint **checkpoint_out)
{
    char why[EEPI_TENSOR_WHY_BYTES];
    eep_status status = eepi_check_given("eep_checkpoint_open", "path", path);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_checkpoint_open", "checkpoint_out", checkpoint_out);
    }
    if (status == EEP_OK) {
        status = eepi_checkpoint_open(path, checkpoint_out, why);
        if (status != EEP_OK) {
            status = eepi_refuse(status, "eep_checkpoint_open: %s", why);
        }
    }
    if (status != EEP_OK && error_out && error_bytes > 0) {
        snprintf(error_out, error_bytes, "%s", eep_error_text());
    }
    return status;
}

void eep_checkpoint_close(eep_checkpoint *checkpoint)
{
    eepi_checkpoint_leave(checkpoint);
}

static eep_status check_checkpoint(const char *call, const eep_checkpoint *checkpoint)
{
    eep_status status = eepi_check_given(call, "checkpoint", checkpoint);

    return status == EEP_OK ? eepi_check_process(call, "checkpoint", checkpoint->opened_by)
                            : status;
}

static eep_status find(const char *call, const eep_checkpoint *checkpoint, const char *name,
                       const eepi_tensor **tensor_out)
{
    eep_status status = check_checkpoint(call, checkpoint);

    if (status == EEP_OK) {
        status = eepi_check_given(call, "name", name);
    }
    if (status != EEP_OK) {
        return status;
    }
    *tensor_out = eepi_tensor_list_find(&checkpoint->tensors, name);
    if (!*tensor_out) {
        return eepi_refuse(EEP_ERR_NOT_FOUND, "%s: the checkpoint has no tensor %.300s", call,
                           name);
    }
    return EEP_OK;
}

eep_status eep_checkpoint_find(const eep_checkpoint *checkpoint, const char *name,
                               eep_checkpoint_tensor *tensor_out)
{
    eep_checkpoint_tensor found = {0};
    const eepi_tensor *tensor = NULL;
    eep_status status = EEPI_STRUCT_CHECK(eep_checkpoint_tensor, tensor_out);

    if (status == EEP_OK) {
        status = find("eep_checkpoint_find", checkpoint, name, &tensor);
    }
    if (status != EEP_OK) {
        return status;
    }
    found.num_dims = tensor->num_dims;
    found.bytes = tensor->bytes;
    memcpy(found.shape, tensor->shape, sizeof found.shape);
    memcpy(found.dtype, tensor->dtype, sizeof found.dtype);
    EEPI_STRUCT_GIVE(eep_checkpoint_tensor, tensor_out, &found);
    return EEP_OK;
}

const char *eep_checkpoint_name(const eep_checkpoint *checkpoint, size_t index)
{
    if (!checkpoint || index >= checkpoint->tensors.num) {
        return NULL;
    }
    return checkpoint->tensors.tensors[index].name;
}

eep_status eep_checkpoint_read(const eep_checkpoint *checkpoint, const char *name, uint64_t offset,
                               size_t bytes, void *to_out)
{
    char why[EEPI_TENSOR_WHY_BYTES];
    const eepi_tensor *tensor = NULL;
    eep_status status = eepi_check_given("eep_checkpoint_read", "to_out", to_out);

    if (status == EEP_OK) {
        status = find("eep_checkpoint_read", checkpoint, name, &tensor);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (offset > tensor->bytes || bytes > tensor->bytes - offset) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_checkpoint_read: tensor %.200s has %" PRIu64
                           " bytes: not %zu from byte %" PRIu64 " on",
                           name, tensor->bytes, bytes, offset);
    }
    status = eepi_tensor_shard_read(&checkpoint->shards[tensor->shard], tensor->offset + offset,
                                    to_out, bytes, why);
    if (status != EEP_OK) {
        return eepi_refuse(status, "eep_checkpoint_read: tensor %.60s: %s", name, why);
    }
    return EEP_OK;
}
