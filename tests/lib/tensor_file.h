/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors files for tests: whatever header and data a test wants, in a folder of its own. */
#ifndef TENSOR_FILE_H
#define TENSOR_FILE_H

#include <stddef.h>
#include <stdint.h>

typedef struct tensor_folder {
    char path[64];
    char file[128]; /* the path of what was named last */
} tensor_folder;

void tensor_folder_open(tensor_folder *folder);
/* With all that is in it. */
void tensor_folder_close(tensor_folder *folder);
const char *tensor_folder_file(tensor_folder *folder, const char *name);
/* Length, header and data of `data_bytes` bytes of which byte i is i % 251. */
void tensor_file_write(tensor_folder *folder, const char *name, const char *header,
                       size_t data_bytes);
/* The same with a length of the header that may be a lie. */
void tensor_file_write_raw(tensor_folder *folder, const char *name, uint64_t header_bytes,
                           const char *header, size_t text_bytes, const uint8_t *data,
                           size_t data_bytes);
void text_file_write(tensor_folder *folder, const char *name, const char *text);
#endif
