/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors files for tests. */
#include "tests/lib/tensor_file.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void tensor_folder_open(tensor_folder *folder)
{
    snprintf(folder->path, sizeof folder->path, "/tmp/eep-tensors-XXXXXX");
    cr_assert_not_null(mkdtemp(folder->path));
}

void tensor_folder_close(tensor_folder *folder)
{
    DIR *listing = opendir(folder->path);
    struct dirent *entry;

    cr_assert_not_null(listing);
    while ((entry = readdir(listing)) != NULL) {
        unlinkat(dirfd(listing), entry->d_name, 0);
    }
    closedir(listing);
    cr_assert_eq(rmdir(folder->path), 0);
}

const char *tensor_folder_file(tensor_folder *folder, const char *name)
{
    snprintf(folder->file, sizeof folder->file, "%s/%s", folder->path, name);
    return folder->file;
}

void tensor_file_write_raw(tensor_folder *folder, const char *name, uint64_t header_bytes,
                           const char *header, size_t text_bytes, const uint8_t *data,
                           size_t data_bytes)
{
    FILE *file = fopen(tensor_folder_file(folder, name), "wb");
    uint8_t length[8];

    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)(header_bytes >> (8 * i));
    }
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(length, 1, sizeof length, file), sizeof length);
    cr_assert_eq(fwrite(header, 1, text_bytes, file), text_bytes);
    cr_assert_eq(fwrite(data, 1, data_bytes, file), data_bytes);
    cr_assert_eq(fclose(file), 0);
}

void tensor_file_write(tensor_folder *folder, const char *name, const char *header,
                       size_t data_bytes)
{
    uint8_t *data = malloc(data_bytes + 1);

    for (size_t i = 0; i < data_bytes; i++) {
        data[i] = (uint8_t)(i % 251);
    }
    tensor_file_write_raw(folder, name, strlen(header), header, strlen(header), data, data_bytes);
    free(data);
}

void text_file_write(tensor_folder *folder, const char *name, const char *text)
{
    FILE *file = fopen(tensor_folder_file(folder, name), "wb");

    cr_assert_not_null(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
}
