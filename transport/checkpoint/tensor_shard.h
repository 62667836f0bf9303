/* SPDX-License-Identifier: Apache-2.0 */
/* One safetensors file: open for reading, with the size that its header was checked against.
 *
 * Bytes are read with pread and are not mapped. A file may shrink while it is open, and a mapped
 * page behind its end kills the process that touches it (SIGBUS); pread returns too few bytes,
 * which is an error with a name. The copy is the same in both ways: bytes go into a staging buffer.
 */
#ifndef EEPI_TENSOR_SHARD_H
#define EEPI_TENSOR_SHARD_H

#include "transport/checkpoint/tensor_list.h"

typedef struct eepi_tensor_shard {
    int fd; /* -1: none */
    uint64_t bytes;
    char *path;
} eepi_tensor_shard;

/* Open a regular file; `why` names it on failure. EEP_ERR_NOT_FOUND, EEP_ERR_SYSTEM,
 * EEP_ERR_PROTOCOL (no regular file), EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_tensor_shard_open(const char *path, eepi_tensor_shard *shard_out,
                                                 char why[EEPI_TENSOR_WHY_BYTES]);
void eepi_tensor_shard_close(eepi_tensor_shard *shard);
/* Exactly those bytes. EEP_ERR_PROTOCOL: the file ends before. Any thread. */
EEP_MUST_CHECK eep_status eepi_tensor_shard_read(const eepi_tensor_shard *shard, uint64_t offset,
                                                 void *to, size_t bytes,
                                                 char why[EEPI_TENSOR_WHY_BYTES]);
/* Tell the system that these bytes are about to be read. */
void eepi_tensor_shard_expect(const eepi_tensor_shard *shard, uint64_t offset, uint64_t bytes);
/* Its whole text with a '\0' behind it, at most `most` bytes; free(). */
EEP_MUST_CHECK eep_status eepi_tensor_shard_text(const eepi_tensor_shard *shard, uint64_t offset,
                                                 uint64_t bytes, char **text_out,
                                                 char why[EEPI_TENSOR_WHY_BYTES]);
/* Read its header and add its tensors to the list. */
EEP_MUST_CHECK eep_status eepi_tensor_shard_tensors(const eepi_tensor_shard *shard, uint32_t number,
                                                    eepi_tensor_list *list,
                                                    char why[EEPI_TENSOR_WHY_BYTES]);
#endif
