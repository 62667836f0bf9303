/* SPDX-License-Identifier: Apache-2.0 */
/* The model as a checkpoint: sharded safetensors with their index. */
#ifndef EEPX_MODEL_FILE_H
#define EEPX_MODEL_FILE_H

#include "experiments/model/model.h"

enum { MODEL_FILE_ERROR_BYTES = 512 };

/* Write all tensors (model_tensors.h) into files of about `shard_bytes` in a folder, which is made
 * if it is not there: model-00001-of-0000N.safetensors and model.safetensors.index.json. Each file
 * is written under another name, brought to the disk and then renamed, the index last: a folder
 * with an index is whole. On failure nothing that this call wrote is left, and `error_out` names
 * file and cause. EEP_ERR_CONFLICT: the folder has an index already; EEP_ERR_SYSTEM: a full disk,
 * for one; EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status model_file_write(const model_config *config, const char *folder,
                                           uint64_t shard_bytes,
                                           char error_out[MODEL_FILE_ERROR_BYTES]);
#endif
