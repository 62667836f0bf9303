/* SPDX-License-Identifier: Apache-2.0 */
/* Write a benchmark's rows and print its tables. */
#include "experiments/bench/report.h"

#include "experiments/base/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The machine's processor, for the header of the rows. */
static void put_machine(FILE *to)
{
    char line[256] = "", model[200] = "unknown processor";
    FILE *file = fopen("/proc/cpuinfo", "re");
    double load[1] = {0};
    struct utsname system;

    while (file && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value) {
            continue;
        }
        snprintf(model, sizeof(model), "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
        break;
    }
    if (file) {
        fclose(file);
    }
    if (getloadavg(load, 1) != 1) {
        load[0] = -1;
    }
    if (uname(&system) != 0) {
        memset(&system, 0, sizeof system);
    }
    fprintf(to, "# machine %s, %ld cores, %s %s, load %.2f when this file was begun\n", model,
            sysconf(_SC_NPROCESSORS_ONLN), system.sysname, system.release, load[0]);
}

/* Another benchmark's file is not emptied under it; a pipe or device is nobody's. -1 with
 * EWOULDBLOCK: another process of ours has it; without a place for the lock nobody is kept out. */
static int hold(bench_report *r, const char *path, int fd)
{
    struct stat info;

    r->held = -1;
    r->held_path = NULL;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || !(r->held_path = realpath(path, NULL))) {
        return 0;
    }
    return folder_hold_file(r->held_path, &r->held) != 0 && errno == EWOULDBLOCK ? -1 : 0;
}

int bench_report_open(bench_report *r, const char *path, bool append, int argc, char **argv)
{
    bool is_new;
    int fd;

    if (!path) {
        return 0;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : 0), 0666);
    r->csv = fd < 0 ? NULL : fdopen(fd, append ? "a" : "w");
    if (!r->csv) {
        return -1;
    }
    if (hold(r, path, fd) != 0) {
        return -1;
    }
    if (!append && ftruncate(fd, 0) != 0 && errno != EINVAL) {
        return -1;
    }
    is_new = fseek(r->csv, 0, SEEK_END) != 0 || ftell(r->csv) == 0; /* a pipe has no end */
    fprintf(r->csv, "# commit %s\n", r->commit);
    put_machine(r->csv);
    fprintf(r->csv, "# device %s, driver %s, compiler %s\n# command %s", r->device, r->driver,
            __VERSION__, basename(argv[0]));
    for (int i = 1; i < argc; i++) {
        fprintf(r->csv, " %s", argv[i]);
    }
    fputs(is_new ? "\ncase,setup,metric,unit,n,value,p99,min,max,low,high,verdict\n" : "\n",
          r->csv);
    return fflush(r->csv);
}

int bench_report_close(bench_report *r)
{
    int failed;

    if (!r->csv) {
        return 0;
    }
    failed = ferror(r->csv);
    failed |= fclose(r->csv) != 0;
    if (r->held_path) {
        folder_release_file(r->held_path, r->held);
    }
    free(r->held_path);
    return failed ? -1 : 0;
}

void bench_report_begin(bench_report *r, const char *case_name, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(r->setup, sizeof r->setup, format, list);
    va_end(list);
    for (char *c = r->setup; *c; c++) {
        if (*c == ',') {
            *c = ';';
        }
    }
    r->case_name = case_name;
    printf("\n%s: %s\n", case_name, r->setup);
    fflush(stdout);
}

static const char *text_of(bench_verdict verdict)
{
    return verdict == BENCH_MET ? "met" : verdict == BENCH_MISSED ? "MISSED" : "";
}

static void put_row(bench_report *r, const char *metric, const char *unit, const char *numbers,
                    const char *verdict)
{
    if (r->csv) {
        fprintf(r->csv, "%s,%s,%s,%s,%s,%s\n", r->case_name, r->setup, metric, unit, numbers,
                verdict);
        fflush(r->csv);
    }
    fflush(stdout);
}

void bench_report_value(bench_report *r, const char *metric, const char *unit, double value)
{
    char numbers[64];

    printf("  %-34s %14.6g %s\n", metric, value, unit);
    snprintf(numbers, sizeof numbers, "1,%.9g,,,,,", value);
    put_row(r, metric, unit, numbers, "");
}

void bench_report_stats(bench_report *r, const char *metric, const char *unit, const bench_stats *s,
                        bench_verdict verdict)
{
    char numbers[160];

    printf("  %-34s n %6zu  p50 %10.3f  p99 %10.3f  min %10.3f  max %10.3f %s %s\n", metric, s->n,
           s->p50, s->p99, s->min, s->max, unit, text_of(verdict));
    snprintf(numbers, sizeof numbers, "%zu,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g", s->n, s->p50, s->p99,
             s->min, s->max, s->low, s->high);
    r->bars_missed += verdict == BENCH_MISSED;
    put_row(r, metric, unit, numbers, text_of(verdict));
}

void bench_report_ratio(bench_report *r, const char *metric, size_t n, double estimate, double low,
                        double high, bench_verdict verdict)
{
    char numbers[128];

    printf("  %-34s n %6zu  %.5f  95 %% interval %.5f .. %.5f  %s\n", metric, n, estimate, low,
           high, text_of(verdict));
    snprintf(numbers, sizeof numbers, "%zu,%.9g,,,,%.9g,%.9g", n, estimate, low, high);
    r->bars_missed += verdict == BENCH_MISSED;
    put_row(r, metric, "ratio", numbers, text_of(verdict));
}

void bench_report_check(bench_report *r, const char *metric, double value, int ok)
{
    char numbers[64];

    printf("  %-34s %14.6g %s\n", metric, value, ok ? "ok" : "FAILED");
    snprintf(numbers, sizeof numbers, "1,%.9g,,,,,", value);
    r->checks_failed += !ok;
    put_row(r, metric, "count", numbers, ok ? "ok" : "FAILED");
}
