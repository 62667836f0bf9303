/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU check's program: the same steps, on the host backend and on the GPU, must leave the same
 * bits. Prints a table; writes rows for experiments/results. */
#include "tests/gpu/smoke/smoke_run.h"

#include "graphs/kernels/compiler_macros.h"
#include "tests/gpu/gpu_rows.h"
#include "tests/gpu/smoke/smoke_expert.h"
#include "graphs/cuda/cuda_environment.h"
#include "experiments/base/args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_SKIPPED = 77, NODES_PER_LAYER = 8, NODES_AROUND = 2 };

typedef struct options {
    const char *device, *csv, *commit, *driver;
    bool is_loopback;
    args_given given;
} options;

typedef struct report {
    gpu_rows rows;
    const options *with;
    int num_failed;
} report;

static const smoke_case cases[] = {
    {"fp32-2ranks", 2, 1, 256, EEP_FP32, 12, 1, 0},
    {"bf16-2ranks", 2, 1, 256, EEP_BF16, 12, 2, 0},
    {"fp32-odd-row", 2, 2, 77, EEP_FP32, 9, 3, 0},
    {"bf16-odd-row", 3, 2, 77, EEP_BF16, 9, 4, 0},
    {"bf16-8ranks", 8, 2, 512, EEP_BF16, 12, 5, 0},
    {"fp8-odd-row", 3, 2, 333, EEP_BF16, 9, 6, 1},
    {"fp8-8ranks", 8, 2, 512, EEP_BF16, 12, 7, 1},
    {"fp32-changes", 4, 1, 8, EEP_FP32, 1002, 8, 0, 1},
};
/* For compute-sanitizer, under which ranks that wait for each other do not get on. */
static const smoke_case loopback = {"loopback", 1, 2, 333, EEP_BF16, 6, 9, 1};

/* ------------------------------------------------------------------ the report */

static void add_row(report *to, const smoke_case *test, const char *check, double value, bool ok)
{
    printf("%-14s %-24s %14.6g  %s\n", test->name, check, value, ok ? "ok" : "FAILED");
    gpu_rows_add(&to->rows, test->name, check, value, ok);
    to->num_failed += !ok;
}

/* ------------------------------------------------------------------ what is compared */

static size_t differing(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    size_t count = 0;

    for (size_t i = 0; i < bytes; i++) {
        count += a[i] != b[i];
    }
    return count;
}

static const uint8_t *outputs_at(const smoke_case *test, const smoke_result *result, int step,
                                 int rank)
{
    size_t cell = (size_t)step * (size_t)test->num_ranks + (size_t)rank;

    return result->outputs + cell * result->layout.bytes;
}

/* Steps, and those in which a rank stopped and which were run again. */
static int num_cells(const smoke_case *test)
{
    return test->num_steps + (test->num_ranks > 1 ? SMOKE_STOPS : 0);
}

static int takes_part(const smoke_case *test, int step, int rank)
{
    return step >= test->num_steps || smoke_is_member(test, smoke_epoch_of(step), rank);
}

typedef struct differences {
    size_t out, rows, slot_begin, compared;
} differences;

static differences compare(const smoke_case *test, const smoke_result *a, const smoke_result *b)
{
    const smoke_layout *at = &a->layout;
    differences d = {0, 0, 0, 0};

    for (int step = 0; step < num_cells(test); step++) {
        for (int rank = 0; rank < test->num_ranks; rank++) {
            const uint8_t *x = outputs_at(test, a, step, rank);
            const uint8_t *y = outputs_at(test, b, step, rank);
            for (int layer = 0; layer < test->num_layers; layer++) {
                d.out += differing(x + at->out[layer], y + at->out[layer], at->out_bytes);
                d.rows += differing(x + at->rows[layer], y + at->rows[layer], at->rows_bytes);
                d.rows += differing(x + at->scales[layer], y + at->scales[layer], at->scales_bytes);
                d.slot_begin += differing(x + at->slot_begin[layer], y + at->slot_begin[layer],
                                          at->slot_begin_bytes);
                d.compared +=
                    at->out_bytes + at->rows_bytes + at->scales_bytes + at->slot_begin_bytes;
            }
        }
    }
    return d;
}

/* Elements of `out` that no kernel wrote (the poison is NaN) or that are NaN otherwise. */
static size_t count_unwritten(const smoke_case *test, const smoke_result *result)
{
    size_t count = 0;

    for (int step = 0; step < num_cells(test); step++) {
        for (int rank = 0; rank < test->num_ranks; rank++) {
            const uint8_t *at = outputs_at(test, result, step, rank);
            size_t n = (size_t)smoke_num_tokens(test, step, rank) * (size_t)test->hidden;
            if (!takes_part(test, step, rank)) {
                continue;
            }
            for (int layer = 0; layer < test->num_layers; layer++) {
                const uint8_t *out = at + result->layout.out[layer];
                for (size_t i = 0; i < n; i++) {
                    float value = test->dtype == EEP_FP32
                                      ? ((const float *)out)[i]
                                      : eepk_bf16_to_float(((const uint16_t *)out)[i]);
                    count += value != value;
                }
            }
        }
    }
    return count;
}

/* Flips after which the same inputs gave other rows than before: all of them, or the graph did not
 * see the other bank. */
static int count_flips_seen(const smoke_case *test, const smoke_result *result)
{
    const smoke_layout *at = &result->layout;
    int count = 0;

    for (int step = SMOKE_FLIP_EVERY; step < test->num_steps; step += SMOKE_FLIP_EVERY) {
        size_t moved = 0;
        for (int rank = 0; rank < test->num_ranks; rank++) {
            moved += differing(outputs_at(test, result, step - 1, rank) + at->rows[0],
                               outputs_at(test, result, step, rank) + at->rows[0], at->rows_bytes);
        }
        count += moved > 0;
    }
    return count;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static double median_us(const smoke_case *test, const smoke_result *result)
{
    size_t n = (size_t)test->num_steps * (size_t)test->num_ranks, none = 0;

    qsort(result->step_ns, n, sizeof(uint64_t), compare_u64);
    while (none < n - 1 && result->step_ns[none] == 0) { /* not a member then */
        none++;
    }
    return (double)result->step_ns[none + (n - none) / 2] / 1000.0;
}

/* Bounds in time hold on a GPU only: here all ranks share a few cores. */
static void report_faults(report *to, const smoke_case *test, const smoke_result *device)
{
    static const char *const names[SMOKE_STOPS] = {"stop_in_dispatch_us", "stop_between_us",
                                                   "stop_in_combine_us"};
    const uint64_t wait_us = (uint64_t)SMOKE_WAIT_MS * 1000u;
    const bool is_cuda = strcmp(to->with->device, "cuda") == 0;

    for (int stop = 0; stop < SMOKE_STOPS; stop++) {
        uint64_t us = device->stops[stop].longest_us;
        add_row(to, test, names[stop], (double)us,
                device->stops[stop].num_right == test->num_ranks - 1 &&
                    device->stops[stop].num_accused > 0 && us >= wait_us &&
                    (!is_cuda || us <= wait_us + wait_us / 10));
    }
    add_row(to, test, "deadline_20ms_us", (double)device->deadline_ns / 1000.0,
            device->deadline_right && device->deadline_ns >= wait_us * 1000u);
    add_row(to, test, "abort_to_end_us", (double)device->abort_ns / 1000.0, device->abort_right);
}

static void report_case(report *to, const smoke_case *test, const smoke_result *host,
                        const smoke_result *device)
{
    differences d = compare(test, host, device);
    int flips = test->num_ranks > 1 ? (test->num_steps - 1) / SMOKE_FLIP_EVERY : 0,
        seen = count_flips_seen(test, device);
    size_t unwritten = count_unwritten(test, device);
    uint32_t nodes = NODES_AROUND + NODES_PER_LAYER * (uint32_t)test->num_layers;
    const bool is_alone = test->num_ranks == 1;

    add_row(to, test, "compared_bytes", (double)d.compared, d.compared > 0);
    add_row(to, test, "out_bytes_differ", (double)d.out, d.out == 0);
    add_row(to, test, "rows_bytes_differ", (double)d.rows, d.rows == 0);
    add_row(to, test, "slot_begin_bytes_differ", (double)d.slot_begin, d.slot_begin == 0);
    add_row(to, test, "out_unwritten", (double)unwritten, unwritten == 0);
    add_row(to, test, "flips_seen", seen, seen == flips);
    add_row(to, test, "graph_nodes", device->num_nodes, device->num_nodes == nodes);
    add_row(to, test, "captures", (double)device->captures,
            device->captures == (uint64_t)(test->num_ranks + (is_alone ? 0 : SMOKE_STOPS)));
    add_row(to, test, "captures_after_start", (double)device->captures_after_start,
            device->captures_after_start == 0);
    if (!is_alone) {
        report_faults(to, test, device);
    }
    add_row(to, test, "step_median_us", median_us(test, device), 1);
}

/* ------------------------------------------------------------------ the run */

static void run_case(report *to, eep_device *host, eep_device *device, bool is_cuda,
                     const smoke_case *test)
{
    smoke_result on_host = {.why = ""}, on_device = {.why = ""};

    if (smoke_run(host, 0, test, &on_host)) {
        fprintf(stderr, "gpu_smoke: %s on the host: %s\n", test->name, on_host.why);
        add_row(to, test, "host_run", 0, 0);
    } else if (smoke_run(device, is_cuda, test, &on_device)) {
        fprintf(stderr, "gpu_smoke: %s on the device: %s\n", test->name, on_device.why);
        add_row(to, test, "device_run", 0, 0);
    } else {
        report_case(to, test, &on_host, &on_device);
    }
    smoke_result_free(&on_host);
    smoke_result_free(&on_device);
}

static int open_devices(report *to, eep_device **host_out, eep_device **device_out)
{
    bool is_cuda = strcmp(to->with->device, "cuda") == 0;
    eep_status status = eep_device_open("host", 0, host_out);
    char name[GPU_NAME_BYTES] = "";
    const char *why;

    if (status == EEP_OK) {
        status = eep_device_open(to->with->device, 0, device_out);
    }
    if (status != EEP_OK) {
        fprintf(stderr, "gpu_smoke: device %s: %s: %s\n", to->with->device, eep_strerror(status),
                eep_device_error_text());
        return status == EEP_ERR_UNSUPPORTED ? EXIT_SKIPPED : EXIT_FAILURE;
    }
    snprintf(name, sizeof name, "%s", to->with->device);
    why = is_cuda ? smoke_expert_load(0, name, sizeof name) : NULL;
    if (why) {
        fprintf(stderr, "gpu_smoke: the expert kernel: %s\n", why);
        return EXIT_FAILURE;
    }
    gpu_rows_name(&to->rows, name);
    return EXIT_SUCCESS;
}

static int run_all(report *to)
{
    eep_device *host = NULL, *device = NULL;
    int result = open_devices(to, &host, &device);

    if (result == EXIT_SUCCESS) {
        printf("%s, driver %s, commit %s\n%-14s %-24s %14s\n", to->rows.gpu, to->with->driver,
               to->with->commit, "case", "check", "value");
        if (to->with->is_loopback) {
            run_case(to, host, device, strcmp(to->with->device, "cuda") == 0, &loopback);
        }
        for (size_t i = 0; i < sizeof cases / sizeof cases[0] && !to->with->is_loopback; i++) {
            run_case(to, host, device, strcmp(to->with->device, "cuda") == 0, &cases[i]);
        }
        printf("%d checks failed\n", to->num_failed);
        result = to->num_failed ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    eep_device_close(device);
    eep_device_close(host);
    return result;
}

#define AT(field) ARGS_AT(options, field)
static const args_row rows[] = {
    {"--device", ARGS_ONE_OF, AT(device), 0, 0, "cuda|host", "NAME", "cuda",
     "host: the host with itself, which checks this program"},
    {"--csv", ARGS_TEXT, AT(csv), 0, 0, NULL, "FILE", NULL,
     "rows go behind those that the file has"},
    {"--commit", ARGS_TEXT, AT(commit), 0, 0, NULL, "ID", "unknown", "for the rows"},
    {"--driver", ARGS_TEXT, AT(driver), 0, 0, NULL, "VERSION", "unknown", "for the rows"},
    {"--loopback", ARGS_FLAG, AT(is_loopback), 0, 0, NULL, NULL, NULL,
     "one rank alone, for memory checkers"},
};
static const args_table table = {
    .program = "gpu_smoke",
    .synopsis = "[OPTION]...",
    .about =
        "Run steps with bank flips on the host backend and on the device, and compare the bits.",
    .section = {ARGS_SECTION(NULL, rows)},
    .notes = "Exit status: 0 all right; 1 a check failed; 2 usage; 77 no such device here.",
    .given = offsetof(options, given),
};

int main(int argc, char **argv)
{
    options with = {0};
    report to = {.with = &with};
    int result;

    if (!args_begin(&table, &with, argc, argv, &result)) {
        return result;
    }
    /* before the first context, of this program's own runtime too */
    eepi_cuda_environment_set();
    to.rows.commit = with.commit;
    to.rows.driver = with.driver;
    if (gpu_rows_open(&to.rows, with.csv) != 0) {
        perror(with.csv);
        return EXIT_FAILURE;
    }
    result = run_all(&to);
    if (gpu_rows_close(&to.rows) != 0) {
        perror(with.csv);
        return EXIT_FAILURE;
    }
    return result;
}
