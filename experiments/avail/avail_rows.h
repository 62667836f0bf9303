/* SPDX-License-Identifier: Apache-2.0 */
/* Figures that others have measured: kept rows (CSV with comment lines), or the summary of a run.
 */
#ifndef EEPX_AVAIL_ROWS_H
#define EEPX_AVAIL_ROWS_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { AVAIL_ROWS_ERROR_BYTES = 400, AVAIL_ROWS_COLUMNS = 3 };

/* Numbers of some columns. A row without one of them is left out. */
typedef struct avail_rows {
    double (*row)[AVAIL_ROWS_COLUMNS];
    size_t num;
} avail_rows;

/* The columns of a CSV file; of FILE.json the members of those names, in each object of the list
 * `list`. EEP_ERR_INVALID with `error`, also if nothing is left, EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status avail_rows_read(const char *path, const char *list,
                                          const char *const *columns, int num_columns,
                                          avail_rows *rows_out, char error[AVAIL_ROWS_ERROR_BYTES]);
/* The median of a column, or of `column` less `less` (-1: of nothing). */
double avail_rows_median(const avail_rows *self, int column, int less);
void avail_rows_free(avail_rows *self);

/* Throughput per GPU, in any unit, by width. */
typedef struct avail_curve {
    double width, throughput;
} avail_curve;

/* The point of the least width whose throughput is at least (1 - tolerance) of the most. */
avail_curve avail_curve_plateau(const avail_rows *curve, double tolerance, double *most_out);
/* Throughput at a width, between its neighbours in a straight line. False: no point is so low or
 * so high. */
bool avail_curve_at(const avail_rows *curve, double width, double *throughput_out);
#endif
