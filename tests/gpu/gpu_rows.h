/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the GPU programs (gpu_smoke, gpu_probe, model_check): one form, complete after each row,
 * so that a program which is killed leaves what it had found. */
#ifndef GPU_ROWS_H
#define GPU_ROWS_H

#include <stdio.h>

enum { GPU_NAME_BYTES = 128 };

typedef struct gpu_rows {
    FILE *file; /* NULL: no file is wanted */
    const char *commit, *driver;
    char gpu[GPU_NAME_BYTES]; /* set by gpu_rows_name */
} gpu_rows;

/* Open the file for rows behind those that it has; a new one gets a header. NULL is no file. 0, or
 * -1 with errno. */
int gpu_rows_open(gpu_rows *rows, const char *path);
/* The GPU's name, as rows have it: without commas. */
void gpu_rows_name(gpu_rows *rows, const char *name);
/* `test`/`check` had that value; flushed at once. `test` may be "". */
void gpu_rows_add(gpu_rows *rows, const char *test, const char *check, double value, int ok);
/* 0, or -1 with errno: not everything could be written. */
int gpu_rows_close(gpu_rows *rows);
#endif
