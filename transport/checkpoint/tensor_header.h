/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a safetensors file, as text:
 *
 *   uint64 little-endian   N, bytes of the header
 *   N bytes                {"__metadata__": {"key": "text"}, "name": {"dtype": "F32",
 *                          "shape": [2, 3], "data_offsets": [begin, end]}, ...}, then spaces
 *   the rest               data; offsets count from its first byte
 *
 * Tensors lie one behind the other, without a hole and without sharing a byte, up to the end of the
 * file. Nothing here reads a file. Source of the format: the README of safetensors 0.4. */
#ifndef EEPI_TENSOR_HEADER_H
#define EEPI_TENSOR_HEADER_H

#include "transport/checkpoint/tensor_list.h"

#include <cjson/cJSON.h>

enum { EEPI_HEADER_LENGTH_BYTES = 8, EEPI_HEADER_MAX_BYTES = 100000000 };

/* A JSON object that fills `text` but for spaces behind it. `text` has `bytes` bytes and a '\0'
 * behind them. NULL: it is none, or there is no memory. cJSON_Delete. */
cJSON *eepi_json_object(const char *text, size_t bytes);

/* Add the tensors of a file of `file_bytes` to the list, with `shard` as their file's number; its
 * header has `bytes` bytes and a '\0' behind them. On failure `why` names tensor and cause, and
 * some may have been added. EEP_ERR_PROTOCOL, or EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_tensor_header_parse(const char *text, size_t bytes,
                                                   uint64_t file_bytes, uint32_t shard,
                                                   eepi_tensor_list *list,
                                                   char why[EEPI_TENSOR_WHY_BYTES]);
#endif
