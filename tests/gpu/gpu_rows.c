/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the GPU programs. */
#include "tests/gpu/gpu_rows.h"

int gpu_rows_open(gpu_rows *rows, const char *path)
{
    rows->file = path ? fopen(path, "ae") : NULL;
    if (!path) {
        return 0;
    }
    if (!rows->file) {
        return -1;
    }
    if (fseek(rows->file, 0, SEEK_END) != 0 || ftell(rows->file) == 0) { /* a pipe has no end */
        fputs("commit,gpu,driver,check,value,ok\n", rows->file);
    }
    return fflush(rows->file) == 0 ? 0 : -1;
}

void gpu_rows_name(gpu_rows *rows, const char *name)
{
    snprintf(rows->gpu, sizeof rows->gpu, "%.*s", GPU_NAME_BYTES - 1, name);
    for (char *c = rows->gpu; *c; c++) {
        if (*c == ',') {
            *c = ' ';
        }
    }
}

void gpu_rows_add(gpu_rows *rows, const char *test, const char *check, double value, int ok)
{
    fflush(stdout); /* the same line as text */
    if (!rows->file) {
        return;
    }
    fprintf(rows->file, "%s,%s,%s,%s%s%s,%.9g,%d\n", rows->commit, rows->gpu, rows->driver, test,
            *test ? "/" : "", check, value, ok);
    fflush(rows->file);
}

int gpu_rows_close(gpu_rows *rows)
{
    int failed;

    if (!rows->file) {
        return 0;
    }
    failed = ferror(rows->file);
    failed |= fclose(rows->file) != 0;
    rows->file = NULL;
    return failed ? -1 : 0;
}
