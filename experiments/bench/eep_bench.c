/* eep-bench: what the data plane costs on one device. Ranks are threads of this process. */
#include "experiments/bench/bench.h"
#include "experiments/base/output.h"

#include "graphs/cuda/cuda_environment.h"
#include "graphs/device/device_ops.h"
#include "experiments/base/commit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, EXIT_MISSED = 3, EXIT_SKIPPED = 77 };

static const struct {
    const char *name;
    void (*run)(const bench_run *run);
    const char *what;
} cases[] = {
    {"overhead", bench_overhead, "a decode step against the same with fixed membership"},
    {"flip", bench_flips, "a step that flips to a planned view against its neighbours"},
    {"abort", bench_aborts, "from the abort word to the drained graph"},
    {"memory", bench_memory, "bytes of windows, tables and scratch per rank (computed)"},
    {"deepep", bench_deepep, "128 tokens, 7168, top 8 of 256: dispatch, combine, memory floor"},
    {"exchange", bench_exchange, "dispatch and combine, each timed alone, beside a device copy"},
};
enum { NUM_CASES = sizeof cases / sizeof cases[0] };

static int usage(FILE *to, int result)
{
    fputs("usage: eep-bench [OPTION...] CASE...\n"
          "Measure the data plane with ranks as threads of this process on one device. What each\n"
          "figure means, and how it is taken: docs/BENCH.md.\n\n",
          to);
    for (size_t i = 0; i < NUM_CASES; i++) {
        fprintf(to, "  %-10s %s\n", cases[i].name, cases[i].what);
    }
    fputs(
        "  all        all of them\n\n"
        "  --device host|guarded|cuda   (host)\n"
        "  --csv FILE           keep rows, with how they were made\n"
        "  --append             behind those that the file has\n"
        "  --commit ID          for the rows, where the build does not know it\n"
        "  --driver VERSION     for the rows\n"
        "  --ranks N, --layers N, --tokens N,N.., --hidden N, --experts N, --topk N\n"
        "  --blocks N,N..       of the grids (default: the library's, and one per\n"
        "                       multiprocessor)\n"
        "  --dtype bf16|fp8     of dispatched rows (default: both, where a case does both)\n"
        "  --repeats N          replays, blocks, flips or aborts\n"
        "  --nodes              exchange, deepep: time every node; slower in all\n"
        "  --quick              tiny: shows that it works, measures nothing\n\n"
        "Exit status: 0 done, 1 a check failed or it could not be measured, 2 usage, 3 measured,\n"
        "but a bar is missed, 77 no such device here.\n",
        to);
    return result;
}

/* ------------------------------------------------------------------ options */

/* A whole number from 1; 0: it is none. */
static int number_of(const char *text, const char **end_out)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    *end_out = end;
    return errno || end == text || value < 1 || value > 1 << 20 ? 0 : (int)value;
}

static int parse_number(const char *text, int *to)
{
    const char *end;

    *to = number_of(text, &end);
    return *to && !*end ? 0 : -1;
}

static int parse_list(const char *text, bench_list *to)
{
    for (to->n = 0; to->n < BENCH_MAX_LIST; text++) {
        to->value[to->n] = number_of(text, &text);
        if (!to->value[to->n++] || (*text && *text != ',')) {
            return -1;
        }
        if (!*text) {
            return 0;
        }
    }
    return -1;
}

static int bad_option(const char *name, const char *value, const char *wanted)
{
    fprintf(stderr, "eep-bench: %s %s: %s\n", name, value ? value : "", wanted);
    return -1;
}

/* One option with a value. */
static int parse_value(const char *name, const char *value, bench_options *o)
{
    const struct {
        const char *name, **to;
    } texts[] = {{"--device", &o->device}, {"--csv", &o->csv},     {"--commit", &o->commit},
                 {"--driver", &o->driver}, {"--dtype", &o->dtype}, {NULL, NULL}};
    const struct {
        const char *name;
        int *to;
    } numbers[] = {{"--ranks", &o->ranks},
                   {"--layers", &o->layers},
                   {"--hidden", &o->hidden},
                   {"--experts", &o->experts},
                   {"--topk", &o->topk},
                   {"--repeats", &o->repeats},
                   {NULL, NULL}};
    const bool is_list = strcmp(name, "--tokens") == 0 || strcmp(name, "--blocks") == 0;

    for (int i = 0; texts[i].name; i++) {
        if (strcmp(name, texts[i].name) == 0 && value) {
            *texts[i].to = value;
            return 0;
        }
    }
    for (int i = 0; numbers[i].name; i++) {
        if (strcmp(name, numbers[i].name) == 0 && value) {
            return parse_number(value, numbers[i].to) ? bad_option(name, value, "a number from 1")
                                                      : 0;
        }
    }
    if (is_list && value) {
        return parse_list(value, name[2] == 't' ? &o->tokens : &o->blocks)
                   ? bad_option(name, value, "numbers from 1, at most 16, such as 1,8,64")
                   : 0;
    }
    return bad_option(name, NULL, value ? "no such option" : "no such option, or it needs a value");
}

/* Cases go to `chosen` [NUM_CASES]. */
static int parse(int argc, char **argv, bench_options *o, bool *chosen)
{
    for (int i = 1; i < argc; i++) {
        size_t found = 0;
        if (strcmp(argv[i], "--nodes") == 0) {
            o->nodes = 1;
        } else if (strcmp(argv[i], "--quick") == 0) {
            o->quick = 1;
        } else if (strcmp(argv[i], "--append") == 0) {
            o->append = 1;
        } else if (strncmp(argv[i], "--", 2) == 0 && strchr(argv[i], '=')) {
            char *equals = strchr(argv[i], '=');
            *equals = '\0';
            if (parse_value(argv[i], equals + 1, o)) {
                return -1;
            }
            *equals = '='; /* the rows tell the command */
        } else if (argv[i][0] == '-') {
            if (parse_value(argv[i], i + 1 < argc ? argv[i + 1] : NULL, o)) {
                return -1;
            }
            i++;
        } else {
            for (size_t c = 0; c < NUM_CASES; c++) {
                const bool is = strcmp(argv[i], cases[c].name) == 0 || strcmp(argv[i], "all") == 0;
                chosen[c] |= is;
                found += is;
            }
            if (!found) {
                return bad_option("case", argv[i], "there is none of this name");
            }
        }
    }
    if (o->ranks > BENCH_MAX_RANKS) {
        fprintf(stderr, "eep-bench: %d ranks: at most %d\n", o->ranks, BENCH_MAX_RANKS);
        return -1;
    }
    if (o->dtype && strcmp(o->dtype, "bf16") != 0 && strcmp(o->dtype, "fp8") != 0) {
        return bad_option("--dtype", o->dtype, "bf16 or fp8");
    }
    return 0;
}

/* ------------------------------------------------------------------ the run */

/* Exit status. */
static int open_device(bench_run *run)
{
    const bench_options *o = run->options;
    const char *why = NULL;
    eep_status status;

    run->is_cuda = strcmp(o->device, "cuda") == 0;
    snprintf(run->report->device, sizeof run->report->device, "%s", o->device);
    status = eep_device_open(o->device, 0, &run->device);
    if (status != EEP_OK) {
        fprintf(stderr, "eep-bench: device %s: %s: %s\n", o->device, eep_strerror(status),
                eep_device_error_text());
        return status == EEP_ERR_UNSUPPORTED ? EXIT_SKIPPED
               : status == EEP_ERR_INVALID   ? EXIT_USAGE
                                             : EXIT_FAILURE;
    }
    if (run->is_cuda) {
        why = bench_native_load(0, run->report->device, sizeof run->report->device,
                                &run->num_multiprocessors);
    }
    if (why) {
        fprintf(stderr, "eep-bench: the benchmark's own kernels: %s\n", why);
    }
    for (char *c = run->report->device; *c; c++) {
        *c = *c == ',' ? ' ' : *c;
    }
    return why ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_cases(bench_run *run, const bool *chosen)
{
    const bench_report *report = run->report;

    printf("%s, driver %s, commit %s\n", report->device, report->driver, report->commit);
    for (size_t i = 0; i < NUM_CASES; i++) {
        const uint64_t begin = eepk_now_ns();
        if (!chosen[i]) {
            continue;
        }
        cases[i].run(run);
        fprintf(stderr, "eep-bench: %s done in %.1f s\n", cases[i].name,
                (double)(eepk_now_ns() - begin) / 1e9);
    }
    printf("\n%d checks failed, %d bars missed\n", report->checks_failed, report->bars_missed);
    return report->checks_failed ? EXIT_FAILURE : report->bars_missed ? EXIT_MISSED : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    bench_options o = {.device = "host", .commit = commit_text(), .driver = "-"};
    bench_report report = {.csv = NULL};
    bench_run run = {.options = &o, .report = &report};
    bool chosen[NUM_CASES] = {false};
    int result = 0, any = 0;

    output_begin();
    if (output_version(argc, argv)) {
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        return usage(stdout, EXIT_SUCCESS);
    }
    if (parse(argc, argv, &o, chosen) != 0) {
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < NUM_CASES; i++) {
        any |= chosen[i];
    }
    if (!any) {
        return usage(stderr, EXIT_USAGE);
    }
    /* before the first context, of this program's own runtime too */
    eepi_cuda_environment_set();
    report.commit = o.commit;
    report.driver = o.driver;
    result = open_device(&run);
    if (result == EXIT_SUCCESS && bench_report_open(&report, o.csv, o.append, argc, argv) != 0) {
        fprintf(stderr, "eep-bench: --csv: %s: %s\n", o.csv,
                errno == EWOULDBLOCK ? "another eep-bench writes into it now" : strerror(errno));
        result = EXIT_FAILURE;
    }
    if (result == EXIT_SUCCESS) {
        result = run_cases(&run, chosen);
    }
    if (bench_report_close(&report) != 0) {
        perror(o.csv);
        result = EXIT_FAILURE;
    }
    eep_device_close(run.device);
    return result;
}
