/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of others: read, and what is made of them. */
#include "experiments/avail/avail_rows.h"

#include "experiments/base/decimal.h"
#include "experiments/base/run_file.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    const char *path;
    const char *const *columns;
    int num_columns;
    avail_rows *rows;
    char *error;
} reader;

static eep_status fail(const reader *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static eep_status fail(const reader *self, const char *format, ...)
{
    char text[AVAIL_ROWS_ERROR_BYTES / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(self->error, AVAIL_ROWS_ERROR_BYTES, "%.180s: %s", self->path, text);
    return EEP_ERR_INVALID;
}

/* What a path is read below. */
static const char *folder_of(const reader *self)
{
    return self->path[0] == '/' ? "" : ".";
}

static eep_status append(reader *self, const double *row)
{
    avail_rows *rows = self->rows;
    double(*grown)[AVAIL_ROWS_COLUMNS] = realloc(rows->row, (rows->num + 1) * sizeof *grown);
    if (!grown) {
        snprintf(self->error, AVAIL_ROWS_ERROR_BYTES, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    rows->row = grown;
    memcpy(rows->row[rows->num++], row, sizeof *grown);
    return EEP_OK;
}

/* ---------------------------------------------------------------- CSV */

/* The number of a column in the header; -1: it is not there. The header is cut. */
static int find_column(char *header, const char *name)
{
    int number = 0;
    for (char *rest = header, *cell = NULL; (cell = strsep(&rest, ",")); number++) {
        if (strcmp(cell, name) == 0) {
            return number;
        }
    }
    return -1;
}

static eep_status read_header(reader *self, const char *line, int *number_out)
{
    for (int i = 0; i < self->num_columns; i++) {
        char *header = strdup(line);
        number_out[i] = header ? find_column(header, self->columns[i]) : -1;
        free(header);
        if (number_out[i] < 0) {
            return fail(self, "no column '%s'", self->columns[i]);
        }
    }
    return EEP_OK;
}

static eep_status read_line(reader *self, char *line, int line_number, const int *number)
{
    double row[AVAIL_ROWS_COLUMNS] = {0};
    int num_found = 0, at = 0;
    for (char *rest = line, *cell = NULL; (cell = strsep(&rest, ",")); at++) {
        for (int i = 0; i < self->num_columns; i++) {
            if (number[i] != at || *cell == '\0') {
                continue;
            }
            if (!decimal_is(cell, &row[i])) {
                return fail(self, "line %d: %s: '%.40s' is not a number of 0 or more", line_number,
                            self->columns[i], cell);
            }
            num_found++;
        }
    }
    return num_found == self->num_columns ? append(self, row) : EEP_OK;
}

static eep_status read_csv(reader *self)
{
    int number[AVAIL_ROWS_COLUMNS] = {0}, line_number = 0;
    bool has_header = false;
    eep_status status = EEP_OK;
    char *text = run_file_text(folder_of(self), self->path);
    if (!text) {
        return fail(self, "%s", errno == EINVAL ? "not a regular file" : strerror(errno));
    }
    for (char *rest = text, *line = NULL; status == EEP_OK && (line = strsep(&rest, "\n"));) {
        line[strcspn(line, "\r")] = '\0';
        line_number++;
        if (*line == '\0' || *line == '#') {
            continue;
        }
        status = has_header ? read_line(self, line, line_number, number)
                            : read_header(self, line, number);
        has_header = true;
    }
    free(text);
    return status;
}

/* ---------------------------------------------------------------- JSON */

static eep_status read_json(reader *self, const char *list)
{
    cJSON *root = run_file_json(folder_of(self), self->path);
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(root, list), *object = NULL;
    eep_status status = EEP_OK;
    if (!root) {
        return fail(self, "it cannot be read, or is not JSON");
    }
    cJSON_ArrayForEach(object, array)
    {
        double row[AVAIL_ROWS_COLUMNS] = {0};
        int num_found = 0;
        for (int i = 0; i < self->num_columns; i++) {
            const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, self->columns[i]);
            num_found += cJSON_IsNumber(item) && item->valuedouble >= 0;
            row[i] = cJSON_IsNumber(item) ? item->valuedouble : 0;
        }
        if (num_found == self->num_columns && status == EEP_OK) {
            status = append(self, row);
        }
    }
    cJSON_Delete(root);
    return status;
}

eep_status avail_rows_read(const char *path, const char *list, const char *const *columns,
                           int num_columns, avail_rows *rows_out,
                           char error[AVAIL_ROWS_ERROR_BYTES])
{
    avail_rows rows = {0};
    reader self = {path, columns, num_columns, &rows, error};
    const char *end = strrchr(path, '.');
    const bool is_json = end && strcmp(end, ".json") == 0;
    assert(num_columns <= AVAIL_ROWS_COLUMNS);
    eep_status status = is_json ? read_json(&self, list) : read_csv(&self);
    if (status == EEP_OK && rows.num == 0) {
        status = is_json ? fail(&self, "'%s' has no entry with %s", list, columns[0])
                         : fail(&self, "no rows");
    }
    if (status != EEP_OK) {
        avail_rows_free(&rows);
        return status;
    }
    *rows_out = rows;
    return EEP_OK;
}

void avail_rows_free(avail_rows *self)
{
    free(self->row);
    *self = (avail_rows){0};
}

/* ---------------------------------------------------------------- what is made of them */

static int by_size(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/* Nearest rank, as the figures and measurements have it. */
double avail_rows_median(const avail_rows *self, int column, int less)
{
    double *value = malloc(self->num * sizeof *value);
    if (!value) {
        return -1;
    }
    for (size_t i = 0; i < self->num; i++) {
        value[i] = self->row[i][column] - (less < 0 ? 0 : self->row[i][less]);
    }
    qsort(value, self->num, sizeof *value, by_size);
    const double median = value[(self->num + 1) / 2 - 1];
    free(value);
    return median;
}

avail_curve avail_curve_plateau(const avail_rows *curve, double tolerance, double *most_out)
{
    avail_curve least = {0};
    double most = 0;
    for (size_t i = 0; i < curve->num; i++) {
        most = curve->row[i][1] > most ? curve->row[i][1] : most;
    }
    for (size_t i = 0; i < curve->num; i++) {
        const double width = curve->row[i][0], throughput = curve->row[i][1];
        if (throughput >= (1 - tolerance) * most && (least.width == 0 || width < least.width)) {
            least = (avail_curve){width, throughput};
        }
    }
    *most_out = most;
    return least;
}

bool avail_curve_at(const avail_rows *curve, double width, double *throughput_out)
{
    const double *below = NULL, *above = NULL;
    for (size_t i = 0; i < curve->num; i++) {
        const double *point = curve->row[i];
        below = point[0] <= width && (!below || point[0] > below[0]) ? point : below;
        above = point[0] >= width && (!above || point[0] < above[0]) ? point : above;
    }
    if (!below || !above) {
        return false;
    }
    const double span = above[0] - below[0], part = span > 0 ? (width - below[0]) / span : 0;
    *throughput_out = below[1] + part * (above[1] - below[1]);
    return true;
}
