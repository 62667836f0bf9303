/* SPDX-License-Identifier: Apache-2.0 */
/* eep-bench: what the data plane costs on one device. Ranks are threads of this process. */
#include "experiments/bench/bench.h"
#include "experiments/base/output.h"

#include "graphs/cuda/cuda_environment.h"
#include "graphs/device/device_ops.h"
#include "experiments/base/commit.h"
#include "experiments/base/args.h"

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
    {"forms", bench_forms, "padded rows and counts against packed rows: 128 tokens, 8 ranks"},
    {"chunks", bench_chunks, "a prefill of 4,096 tokens in 8 chunks against one exchange"},
    {"flip", bench_flips, "a step that flips to a planned view against its neighbours"},
    {"abort", bench_aborts, "from the abort word to the drained graph"},
    {"memory", bench_memory, "bytes of windows, tables and scratch per rank (computed)"},
    {"deepep", bench_deepep, "128 tokens, 7168, top 8 of 256: dispatch, combine, memory floor"},
    {"exchange", bench_exchange, "dispatch and combine, each timed alone, beside a device copy"},
};
enum { NUM_CASES = sizeof cases / sizeof cases[0] };

/* ------------------------------------------------------------------ options */

enum { LARGEST = 1 << 20 };

/* "1,8,64" */
static eep_status parse_list(const args_row *row, const char *text, void *options, char *error)
{
    bench_list *list = (bench_list *)(void *)((char *)options + row->offset);
    char number[16];
    uint64_t value = 0;
    list->n = 0;
    for (const char *at = text; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        snprintf(number, sizeof number, "%.*s", (int)strcspn(at, ","), at);
        if (list->n == BENCH_MAX_LIST || strcspn(at, ",") >= sizeof number ||
            !args_whole(number, 1, LARGEST, &value)) {
            return args_fail(error, "%s: '%s' is not a list of at most %d numbers from 1 to %d",
                             row->name, text, BENCH_MAX_LIST, LARGEST);
        }
        list->value[list->n++] = (int)value;
    }
    return EEP_OK;
}

static eep_status parse_case(const args_row *row, const char *text, void *options, char *error)
{
    bench_options *o = options;
    bool all = strcmp(text, "all") == 0, found = all;
    for (size_t c = 0; c < NUM_CASES; c++) {
        bool is = all || strcmp(text, cases[c].name) == 0;
        o->cases |= (uint32_t)is << c;
        found |= is;
    }
    return found ? EEP_OK
                 : args_fail(error, "%s: '%s': there is none of this name", row->name, text);
}

#define AT(field) ARGS_AT(bench_options, field)
static const args_row rows[] = {
    {"--device", ARGS_ONE_OF, AT(device), 0, 0, "host|guarded|cuda", "NAME", "host",
     "the device backend"},
    {"--csv", ARGS_TEXT, AT(csv), 0, 0, NULL, "FILE", NULL, "keep rows, with how they were made"},
    {"--append", ARGS_FLAG, AT(append), 0, 0, NULL, NULL, NULL, "behind those that the file has"},
    {"--commit", ARGS_TEXT, AT(commit), 0, 0, NULL, "ID", NULL,
     "for the rows, where the build does not know it"},
    {"--driver", ARGS_TEXT, AT(driver), 0, 0, NULL, "VERSION", "-", "for the rows"},
    {"--ranks", ARGS_WHOLE, AT(ranks), 1, BENCH_MAX_RANKS, NULL, "N", NULL, "ranks"},
    {"--layers", ARGS_WHOLE, AT(layers), 1, LARGEST, NULL, "N", NULL, "MoE layers"},
    {"--tokens", ARGS_PARSED, AT(tokens), 0, 0, NULL, "N,N...", NULL,
     "tokens per rank, each in turn", parse_list},
    {"--hidden", ARGS_WHOLE, AT(hidden), 1, LARGEST, NULL, "N", NULL, "elements per row"},
    {"--experts", ARGS_WHOLE, AT(experts), 1, LARGEST, NULL, "N", NULL, "experts per layer"},
    {"--topk", ARGS_WHOLE, AT(topk), 1, LARGEST, NULL, "N", NULL, "experts per token"},
    {"--blocks", ARGS_PARSED, AT(blocks), 0, 0, NULL, "N,N...", NULL,
     "blocks of the grids; default: the library's, and one per multiprocessor", parse_list},
    {"--dtype", ARGS_ONE_OF, AT(dtype), 0, 0, "bf16|fp8", "TYPE", NULL,
     "of dispatched rows; default: both, where a case does both"},
    {"--repeats", ARGS_WHOLE, AT(repeats), 1, LARGEST, NULL, "N", NULL,
     "replays, blocks, flips or aborts"},
    {"--nodes", ARGS_FLAG, AT(nodes), 0, 0, NULL, NULL, NULL,
     "exchange, deepep: time every node; slower in all"},
    {"--quick", ARGS_FLAG, AT(quick), 0, 0, NULL, NULL, NULL,
     "tiny: shows that it works, measures nothing"},
};

static args_row case_rows[NUM_CASES + 2];

static const args_table *table(void)
{
    static const args_table all = {
        .program = "eep-bench",
        .synopsis = "[OPTION]... CASE...",
        .about =
            "Measure the data plane with ranks as threads of this process on one device. What\n"
            "each figure means, and how it is taken: docs/BENCH.md.",
        .section = {ARGS_SECTION("Cases", case_rows), ARGS_SECTION(NULL, rows)},
        .notes = "Options without a default have one of each case on each device.\n\n"
                 "Exit status: 0 done; 1 a check failed, or it could not be measured; 2 usage;\n"
                 "3 measured, but a bar is missed; 77 no such device here.",
        .given = offsetof(bench_options, given),
    };
    for (size_t i = 0; i < NUM_CASES; i++) {
        case_rows[i] = (args_row){cases[i].name, ARGS_NOTE, .doc = cases[i].what};
    }
    case_rows[NUM_CASES] = (args_row){"all", ARGS_NOTE, .doc = "all of them"};
    case_rows[NUM_CASES + 1] = (args_row){
        "CASE", ARGS_PARSED, .doc = "one of these; several are run", .parse = parse_case};
    return &all;
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

static int run_cases(bench_run *run)
{
    const bench_report *report = run->report;

    printf("%s, driver %s, commit %s\n", report->device, report->driver, report->commit);
    for (size_t i = 0; i < NUM_CASES; i++) {
        const uint64_t begin = eepk_now_ns();
        if (!(run->options->cases >> i & 1u)) {
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
    bench_options o = {.commit = commit_text()};
    bench_report report = {.csv = NULL};
    bench_run run = {.options = &o, .report = &report};
    int result = 0;

    output_begin();
    if (!args_begin(table(), &o, argc, argv, &result)) {
        return result;
    }
    if (!o.cases) {
        args_print_help(table(), stderr);
        return EXIT_USAGE;
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
        result = run_cases(&run);
    }
    if (bench_report_close(&report) != 0) {
        perror(o.csv);
        result = EXIT_FAILURE;
    }
    eep_device_close(run.device);
    return result;
}
