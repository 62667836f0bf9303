/* SPDX-License-Identifier: Apache-2.0 */
/* The index of a sharded checkpoint: {"metadata": {...}, "weight_map": {"tensor": "file", ...}}.
 * Files stand in the index's folder. Of a shard's tensors those count that the index finds there.
 */
#include "transport/checkpoint/checkpoint_files.h"
#include "transport/checkpoint/tensor_header.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One entry of the weight map. */
typedef struct entry {
    const char *tensor, *file;
} entry;

static int by_file_and_tensor(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int order = strcmp(x->file, y->file);

    return order ? order : strcmp(x->tensor, y->tensor);
}

/* A name in the index's own folder. */
static bool is_plain_name(const char *file)
{
    return file[0] != '\0' && !strchr(file, '/') && strcmp(file, ".") != 0 &&
           strcmp(file, "..") != 0;
}

/* All entries, ordered by file; free(). NULL: `why` says it. */
static entry *read_entries(const char *path, const cJSON *map, size_t *num_out,
                           eep_status *status_out, char *why)
{
    const cJSON *item;
    size_t num = 0;
    entry *entries = malloc(((size_t)cJSON_GetArraySize(map) + 1) * sizeof *entries);

    *status_out = EEP_OK;
    if (!entries) {
        *status_out = eepi_tensor_fail(EEP_ERR_NO_MEMORY, why, "out of memory");
        return NULL;
    }
    cJSON_ArrayForEach(item, map)
    {
        if (!cJSON_IsString(item) || !is_plain_name(item->valuestring)) {
            *status_out = eepi_tensor_fail(EEP_ERR_PROTOCOL, why,
                                           "%.150s: tensor %.150s: its file is no plain name in "
                                           "the index's folder",
                                           path, item->string);
            free(entries);
            return NULL;
        }
        entries[num++] = (entry){item->string, item->valuestring};
    }
    qsort(entries, num, sizeof *entries, by_file_and_tensor);
    *num_out = num;
    return entries;
}

/* Open the file of entries[0 .. num - 1], and add each of their tensors. */
static eep_status add_file(eep_checkpoint *checkpoint, const char *folder, const entry *entries,
                           size_t num, char *why)
{
    const uint32_t number = checkpoint->num_shards;
    eepi_tensor_list there = {0};
    char path[PATH_MAX];
    eep_status status;

    if (snprintf(path, sizeof path, "%s%s", folder, entries[0].file) >= (int)sizeof path) {
        return eepi_tensor_fail(EEP_ERR_INVALID, why, "the path of %.150s is too long",
                                entries[0].file);
    }
    status = eepi_checkpoint_add_shard(checkpoint, path, why);
    if (status == EEP_OK) {
        status = eepi_tensor_shard_tensors(&checkpoint->shards[number], number, &there, why);
    }
    eepi_tensor_list_sort(&there);
    for (size_t i = 0; i < num && status == EEP_OK; i++) {
        const eepi_tensor *tensor = eepi_tensor_list_find(&there, entries[i].tensor);
        if (!tensor) {
            status = eepi_tensor_fail(EEP_ERR_NOT_FOUND, why,
                                      "tensor %.150s is not in %.150s, where the index has it",
                                      entries[i].tensor, path);
        } else if (!eepi_tensor_list_add(&checkpoint->tensors, tensor)) {
            status = eepi_tensor_fail(EEP_ERR_NO_MEMORY, why, "out of memory");
        }
    }
    eepi_tensor_list_free(&there);
    return status;
}

static eep_status add_files(eep_checkpoint *checkpoint, const char *path, const cJSON *map,
                            char *why)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX] = "";
    size_t num = 0;
    eep_status status;
    entry *entries = read_entries(path, map, &num, &status, why);

    if (slash) {
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    }
    for (size_t i = 0; i < num && status == EEP_OK;) {
        size_t end = i + 1;
        while (end < num && strcmp(entries[end].file, entries[i].file) == 0) {
            end++;
        }
        status = add_file(checkpoint, folder, entries + i, end - i, why);
        i = end;
    }
    free(entries);
    return status;
}

static eep_status read_map(eep_checkpoint *checkpoint, const char *path, const char *text,
                           size_t bytes, char *why)
{
    cJSON *index = eepi_json_object(text, bytes);
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map");
    const char *twice;
    eep_status status;

    if (!cJSON_IsObject(map)) {
        cJSON_Delete(index);
        return eepi_tensor_fail(EEP_ERR_PROTOCOL, why, "%.150s is no JSON object with a weight_map",
                                path);
    }
    status = add_files(checkpoint, path, map, why);
    cJSON_Delete(index);
    eepi_tensor_list_sort(&checkpoint->tensors);
    twice = eepi_tensor_list_twice(&checkpoint->tensors);
    if (status == EEP_OK && twice) {
        status = eepi_tensor_fail(EEP_ERR_PROTOCOL, why, "%.150s: tensor %.200s is named twice",
                                  path, twice);
    }
    return status;
}

/* Ends of lines behind the object are no part of it. */
static size_t without_space(const char *text, uint64_t bytes)
{
    while (bytes > 0 && text[bytes - 1] != '\0' && strchr(" \t\r\n", text[bytes - 1])) {
        bytes--;
    }
    return (size_t)bytes;
}

eep_status eepi_checkpoint_read_index(eep_checkpoint *checkpoint, const char *path,
                                      char why[EEPI_TENSOR_WHY_BYTES])
{
    eepi_tensor_shard file;
    char *text = NULL;
    eep_status status = eepi_tensor_shard_open(path, &file, why);

    if (status != EEP_OK) {
        return status;
    }
    status = eepi_tensor_shard_text(&file, 0, file.bytes, &text, why);
    if (status == EEP_OK) {
        size_t bytes = without_space(text, file.bytes);
        text[bytes] = '\0';
        status = read_map(checkpoint, path, text, bytes, why);
    }
    free(text);
    eepi_tensor_shard_close(&file);
    return status;
}
