/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors of a checkpoint by name, and the text of what is wrong with one. */
#ifndef EEPI_TENSOR_LIST_H
#define EEPI_TENSOR_LIST_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EEPI_TENSOR_DIMS = 8, EEPI_TENSOR_DTYPE_BYTES = 16, EEPI_TENSOR_WHY_BYTES = 400 };

typedef struct eepi_tensor {
    char *name; /* owned by the list */
    char dtype[EEPI_TENSOR_DTYPE_BYTES];
    int32_t num_dims;
    uint32_t shard; /* number of its file */
    uint64_t shape[EEPI_TENSOR_DIMS];
    uint64_t offset; /* of its first byte in that file */
    uint64_t bytes;
} eepi_tensor;

typedef struct eepi_tensor_list {
    eepi_tensor *tensors;
    size_t num, capacity;
} eepi_tensor_list;

/* A copy of the tensor, its name too, at the end. False: out of memory. */
EEP_MUST_CHECK bool eepi_tensor_list_add(eepi_tensor_list *list, const eepi_tensor *tensor);
void eepi_tensor_list_free(eepi_tensor_list *list);
/* By name, for the two functions below. */
void eepi_tensor_list_sort(eepi_tensor_list *list);
const eepi_tensor *eepi_tensor_list_find(const eepi_tensor_list *list, const char *name);
/* A name that occurs twice; NULL: none does. */
const char *eepi_tensor_list_twice(const eepi_tensor_list *list);

/* Write the text, and return the status. */
eep_status eepi_tensor_fail(eep_status status, char why[EEPI_TENSOR_WHY_BYTES], const char *format,
                            ...) __attribute__((format(printf, 3, 4)));
#endif
