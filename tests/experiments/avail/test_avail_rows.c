/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of others: medians, refusals by line, and the plateau of a curve. */
#include "experiments/avail/avail_rows.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const columns[] = {"detect_ms", "pause_ms"};

/* Read a file with that text; what it says about it. */
static const char *read_text(const char *ending, const char *text, avail_rows *rows_out)
{
    static char error[AVAIL_ROWS_ERROR_BYTES];
    char path[64];
    snprintf(path, sizeof path, "/tmp/avail-rows-XXXXXX%s", ending);
    const int fd = mkstemps(path, (int)strlen(ending));
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    *error = '\0';
    const eep_status status = avail_rows_read(path, "faults", columns, 2, rows_out, error);
    cr_assert_eq(status == EEP_OK, *error == '\0');
    unlink(path);
    return error;
}

Test(avail_rows, medians_of_kept_rows)
{
    avail_rows rows = {0};
    const char *error = read_text(".csv",
                                  "# commit 1\nrun,pause_ms,detect_ms\n1,10,4\n2,,9\n3,30,6\n"
                                  "4,20,5.5\n",
                                  &rows);
    cr_assert_str_empty(error);
    cr_assert_eq(rows.num, 3);
    cr_assert_float_eq(avail_rows_median(&rows, 0, -1), 5.5, 1e-12);
    cr_assert_float_eq(avail_rows_median(&rows, 1, 0), 14.5, 1e-12);
    avail_rows_free(&rows);
}

Test(avail_rows, medians_of_a_summary)
{
    avail_rows rows = {0};
    const char *error = read_text(".json",
                                  "{\"faults\": [{\"detect_ms\": 1, \"pause_ms\": 3}, "
                                  "{\"detect_ms\": null, \"pause_ms\": 8}]}",
                                  &rows);
    cr_assert_str_empty(error);
    cr_assert_eq(rows.num, 1);
    cr_assert_float_eq(avail_rows_median(&rows, 1, 0), 2, 1e-12);
    avail_rows_free(&rows);
}

Test(avail_rows, what_is_wrong_is_named)
{
    const struct {
        const char *ending, *text, *error;
    } wrong[] = {
        {".csv", "", "no rows"},
        {".csv", "detect_ms,other\n1,2\n", "no column 'pause_ms'"},
        {".csv", "detect_ms,pause_ms\n", "no rows"},
        {".csv", "detect_ms,pause_ms\n1,2\n1,-2\n",
         "line 3: pause_ms: '-2' is not a number of 0 or more"},
        {".csv", "detect_ms,pause_ms\nnan,2\n", "line 2: detect_ms: 'nan' is not a number"},
        {".json", "{", "it cannot be read, or is not JSON"},
        {".json", "{\"faults\": []}", "'faults' has no entry with detect_ms"},
        {".json", "{\"faults\": [{\"detect_ms\": \"1\", \"pause_ms\": 3}]}", "no entry"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        avail_rows rows = {0};
        const char *error = read_text(wrong[i].ending, wrong[i].text, &rows);
        cr_assert(strstr(error, wrong[i].error), "'%s', not '%s'", error, wrong[i].error);
        cr_assert_eq(rows.num, 0);
    }
}

Test(avail_rows, the_plateau_begins_at_its_least_width)
{
    double points[][AVAIL_ROWS_COLUMNS] = {{96, 2.0}, {8, 1.0}, {32, 1.91}, {16, 1.5}, {72, 1.8}};
    const avail_rows curve = {.row = points, .num = 5};
    double most = 0, throughput = 0;

    cr_assert_float_eq(avail_curve_plateau(&curve, 0.05, &most).width, 32, 0);
    cr_assert_float_eq(most, 2.0, 0);
    cr_assert_float_eq(avail_curve_plateau(&curve, 0, &most).width, 96, 0);
    cr_assert_float_eq(avail_curve_plateau(&curve, 0.25, &most).width, 16, 0);
    cr_assert(avail_curve_at(&curve, 12, &throughput));
    cr_assert_float_eq(throughput, 1.25, 1e-12);
    cr_assert(avail_curve_at(&curve, 96, &throughput));
    cr_assert_float_eq(throughput, 2.0, 1e-12);
    cr_assert_not(avail_curve_at(&curve, 97, &throughput));
    cr_assert_not(avail_curve_at(&curve, 7, &throughput));
}
