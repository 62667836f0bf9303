/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors by name: an array that is sorted once. */
#include "transport/checkpoint/tensor_list.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool eepi_tensor_list_add(eepi_tensor_list *list, const eepi_tensor *tensor)
{
    char *name = strdup(tensor->name);

    if (name && list->num == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        eepi_tensor *more = realloc(list->tensors, capacity * sizeof *more);
        if (!more) {
            free(name);
            return false;
        }
        list->tensors = more;
        list->capacity = capacity;
    }
    if (!name) {
        return false;
    }
    list->tensors[list->num] = *tensor;
    list->tensors[list->num++].name = name;
    return true;
}

void eepi_tensor_list_free(eepi_tensor_list *list)
{
    for (size_t i = 0; i < list->num; i++) {
        free(list->tensors[i].name);
    }
    free(list->tensors);
    *list = (eepi_tensor_list){0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const eepi_tensor *)a)->name, ((const eepi_tensor *)b)->name);
}

void eepi_tensor_list_sort(eepi_tensor_list *list)
{
    if (list->num > 0) {
        qsort(list->tensors, list->num, sizeof *list->tensors, by_name);
    }
}

const eepi_tensor *eepi_tensor_list_find(const eepi_tensor_list *list, const char *name)
{
    size_t low = 0, high = list->num;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, list->tensors[middle].name);
        if (order == 0) {
            return &list->tensors[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const char *eepi_tensor_list_twice(const eepi_tensor_list *list)
{
    for (size_t i = 1; i < list->num; i++) {
        if (strcmp(list->tensors[i - 1].name, list->tensors[i].name) == 0) {
            return list->tensors[i].name;
        }
    }
    return NULL;
}

eep_status eepi_tensor_fail(eep_status status, char why[EEPI_TENSOR_WHY_BYTES], const char *format,
                            ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, EEPI_TENSOR_WHY_BYTES, format, args);
    va_end(args);
    return status;
}
