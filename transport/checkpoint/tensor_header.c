/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a safetensors header. The file may come from anybody: every number is checked before it
 * is used, and what a rule of the format forbids is refused. */
#include "transport/checkpoint/tensor_header.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    uint32_t bits; /* of an element */
} dtypes[] = {
    {"BOOL", 8},    {"U8", 8},   {"I8", 8},      {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"I16", 16},
    {"U16", 16},    {"F16", 16}, {"BF16", 16},   {"I32", 32},    {"U32", 32},
    {"F32", 32},    {"F64", 64}, {"I64", 64},    {"U64", 64},    {"C64", 64},
};

cJSON *eepi_json_object(const char *text, size_t bytes)
{
    const char *end = NULL;
    cJSON *object;

    if (bytes == 0 || text[0] != '{') {
        return NULL;
    }
    /* with the '\0', which the parser looks for: releases before 1.7.18 read one byte too far */
    object = cJSON_ParseWithLengthOpts(text, bytes + 1, &end, false);
    while (object && end < text + bytes && *end == ' ') {
        end++;
    }
    if (object && (end != text + bytes || !cJSON_IsObject(object))) {
        cJSON_Delete(object);
        object = NULL;
    }
    return object;
}

/* A whole number that a double holds exactly. */
static bool whole(const cJSON *item, uint64_t *number_out)
{
    const double most = 9007199254740992.0; /* 2^53 */

    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0.0 && item->valuedouble <= most)) {
        return false;
    }
    *number_out = (uint64_t)item->valuedouble;
    return (double)*number_out == item->valuedouble;
}

/* The member of that name, which must occur once. */
static const cJSON *member(const cJSON *object, const char *name, bool *twice_out)
{
    const cJSON *found = NULL, *item;

    cJSON_ArrayForEach(item, object)
    {
        if (strcmp(item->string, name) == 0) {
            *twice_out |= found != NULL;
            found = item;
        }
    }
    return found;
}

static uint32_t bits_of(const char *dtype)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(dtypes[i].name, dtype) == 0) {
            return dtypes[i].bits;
        }
    }
    return 0;
}

/* The shape, and the bytes that its elements take. */
static eep_status read_shape(const cJSON *shape, uint32_t bits, eepi_tensor *tensor,
                             uint64_t *bytes_out, char *why)
{
    uint64_t bits_in_all = bits;
    const cJSON *item;

    cJSON_ArrayForEach(item, shape)
    {
        uint64_t size;
        if (tensor->num_dims == EEPI_TENSOR_DIMS) {
            return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                    "tensor %.200s has more than %d dimensions", tensor->name,
                                    EEPI_TENSOR_DIMS);
        }
        if (!whole(item, &size)) {
            return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                    "tensor %.200s: its shape has what is no whole number",
                                    tensor->name);
        }
        if (__builtin_mul_overflow(bits_in_all, size, &bits_in_all)) {
            return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                    "tensor %.200s: its shape has more elements than there can be",
                                    tensor->name);
        }
        tensor->shape[tensor->num_dims++] = size;
    }
    if (bits_in_all % 8 != 0) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                "tensor %.200s: its elements do not fill whole bytes",
                                tensor->name);
    }
    *bytes_out = bits_in_all / 8;
    return EEP_OK;
}

/* data_offsets, as place in the file. */
static eep_status read_place(const cJSON *offsets, uint64_t data_begin, uint64_t file_bytes,
                             uint64_t bytes, eepi_tensor *tensor, char *why)
{
    uint64_t begin, end;

    if (cJSON_GetArraySize(offsets) != 2 || !whole(cJSON_GetArrayItem(offsets, 0), &begin) ||
        !whole(cJSON_GetArrayItem(offsets, 1), &end) || begin > end) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                "tensor %.200s: its data_offsets are not two ascending numbers",
                                tensor->name);
    }
    if (end > file_bytes - data_begin) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                "tensor %.200s ends at byte %" PRIu64
                                " of the data, of which there are %" PRIu64
                                ": the file is truncated, or its header wrong",
                                tensor->name, end, file_bytes - data_begin);
    }
    if (end - begin != bytes) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                "tensor %.200s has %" PRIu64
                                " bytes, and its shape of %s wants %" PRIu64,
                                tensor->name, end - begin, tensor->dtype, bytes);
    }
    tensor->offset = data_begin + begin;
    tensor->bytes = bytes;
    return EEP_OK;
}

static eep_status read_tensor(const cJSON *item, uint64_t data_begin, uint64_t file_bytes,
                              eepi_tensor *tensor, char *why)
{
    const cJSON *object = cJSON_IsObject(item) ? item : NULL; /* an array's items have no names */
    bool twice = false;
    const cJSON *dtype = member(object, "dtype", &twice);
    const cJSON *shape = member(object, "shape", &twice);
    const cJSON *offsets = member(object, "data_offsets", &twice);
    uint64_t bytes = 0;
    eep_status status;

    if (twice || !cJSON_IsString(dtype) || !cJSON_IsArray(shape) || !cJSON_IsArray(offsets)) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                "tensor %.200s does not have one dtype, shape and data_offsets",
                                tensor->name);
    }
    if (bits_of(dtype->valuestring) == 0) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why, "tensor %.200s: unknown dtype %.40s",
                                tensor->name, dtype->valuestring);
    }
    strncpy(tensor->dtype, dtype->valuestring, sizeof tensor->dtype - 1);
    status = read_shape(shape, bits_of(dtype->valuestring), tensor, &bytes, why);
    if (status == EEP_OK) {
        status = read_place(offsets, data_begin, file_bytes, bytes, tensor, why);
    }
    return status;
}

static bool is_metadata(const cJSON *item)
{
    const cJSON *entry;
    bool is_text = cJSON_IsObject(item);

    cJSON_ArrayForEach(entry, item)
    {
        is_text &= cJSON_IsString(entry);
    }
    return is_text;
}

static int by_offset(const void *a, const void *b)
{
    const eepi_tensor *x = a, *y = b;

    if (x->offset != y->offset) {
        return x->offset < y->offset ? -1 : 1;
    }
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* One behind the other, up to the end of the file. */
static eep_status check_dense(eepi_tensor *tensors, size_t num, uint64_t data_begin,
                              uint64_t file_bytes, char *why)
{
    uint64_t end = data_begin;

    if (num > 0) {
        qsort(tensors, num, sizeof *tensors, by_offset);
    }
    for (size_t i = 0; i < num; i++) {
        if (tensors[i].offset != end) {
            return eepi_tensor_fail(
                EEP_ERR_PROTOCOL, why,
                "tensor %.200s begins at byte %" PRIu64
                " of the data, where the one before it ends at %" PRIu64 ": %s",
                tensors[i].name, tensors[i].offset - data_begin, end - data_begin,
                tensors[i].offset < end ? "they share bytes" : "there is a hole");
        }
        end += tensors[i].bytes;
    }
    if (end != file_bytes) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                "%" PRIu64 " bytes lie behind the last tensor", file_bytes - end);
    }
    return EEP_OK;
}

/* The tensors are behind `first` in the list, in the order of the header. */
static eep_status check_names(eepi_tensor_list *list, size_t first, char *why)
{
    eepi_tensor_list own = {list->tensors + first, list->num - first, 0};
    const char *twice;

    eepi_tensor_list_sort(&own);
    twice = eepi_tensor_list_twice(&own);
    if (twice) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why, "tensor %.200s is named twice", twice);
    }
    return EEP_OK;
}

eep_status eepi_tensor_header_parse(const char *text, size_t bytes, uint64_t file_bytes,
                                    uint32_t shard, eepi_tensor_list *list,
                                    char why[EEPI_TENSOR_WHY_BYTES])
{
    const uint64_t data_begin = EEPI_HEADER_LENGTH_BYTES + (uint64_t)bytes;
    const size_t first = list->num;
    eep_status status = EEP_OK;
    cJSON *header;
    const cJSON *item;

    if (data_begin > file_bytes) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why, "the file ends inside its header");
    }
    header = eepi_json_object(text, bytes);
    if (!header) {
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why, "its header is no JSON object");
    }
    cJSON_ArrayForEach(item, header)
    {
        eepi_tensor tensor = {.name = item->string, .shard = shard};
        if (strcmp(item->string, "__metadata__") == 0) {
            status = is_metadata(item) ? EEP_OK
                                       : eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                                          "its __metadata__ has what is no text");
        } else {
            status = read_tensor(item, data_begin, file_bytes, &tensor, why);
            if (status == EEP_OK && !eepi_tensor_list_add(list, &tensor)) {
                status = eepi_tensor_fail(EEP_ERR_NO_MEMORY, why, "out of memory");
            }
        }
        if (status != EEP_OK) {
            break;
        }
    }
    cJSON_Delete(header);
    if (status == EEP_OK && list->num > first) {
        status = check_names(list, first, why);
    }
    if (status == EEP_OK) {
        status = check_dense(list->tensors + first, list->num - first, data_begin, file_bytes, why);
    }
    return status;
}
