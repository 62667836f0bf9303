/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU check of the model: its kernels on the GPU must leave the bits of its host kernels.
 * Prints a table; writes rows for experiments/results. */
#include "tests/gpu/model/model_case.h"
#include "experiments/model/model_plugin.h"
#include "tests/gpu/gpu_rows.h"
#include "graphs/cuda/cuda_environment.h"
#include "experiments/base/args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_SKIPPED = 77, BOUND_US = 60000000, WHY_BYTES = 512 };

/* A GPU, what of it failed, and where rows go. */
typedef struct gpu {
    const char *csv_path, *commit, *driver, *name, *device;
    gpu_rows rows;
    eep_stream *stream;
    const model_plugin *plugin; /* NULL: the host stands in for the GPU */
    uint32_t num_threads;       /* of a block */
    const char *why;            /* NULL: nothing */
    args_given given;
} gpu;

static void launch_gpu(void *user, model_kernel_id id, uint32_t num_blocks, const void *args)
{
    gpu *g = user;

    if (!g->plugin) {
        model_case_on_host(NULL, id, num_blocks, args);
    } else if (!g->why) {
        g->why = g->plugin->launch(0, eep_stream_native(g->stream), (uint32_t)id, num_blocks,
                                   g->num_threads, args);
    }
}

static long differing_bytes(const model_case *host, const model_case *other)
{
    const uint8_t *a = (const uint8_t *)&host->results, *b = (const uint8_t *)&other->results;
    long count = 0;

    for (size_t i = 0; i < sizeof host->results; i++) {
        count += a[i] != b[i];
    }
    return count;
}

/* Are the GPU's bits not the host's? */
static bool check(gpu *g, model_case *on_gpu, int32_t type, int32_t corrupt)
{
    static const char *const types[CASE_TYPES] = {"fp32", "bf16", "fp8"};
    static model_case on_host;
    char name[64];
    long count;

    model_case_fill(&on_host, type, corrupt);
    model_case_run(&on_host, model_case_on_host, NULL);
    model_case_fill(on_gpu, type, corrupt);
    model_case_run(on_gpu, launch_gpu, g);
    if (!g->why && eep_stream_synchronize(g->stream, BOUND_US) != EEP_OK) {
        g->why = "the kernels did not end";
    }
    count = g->why ? -1 : differing_bytes(&on_host, on_gpu);
    snprintf(name, sizeof name, "model-%s/corruption-%d/threads-%u", types[type], corrupt,
             g->num_threads);
    printf("%-40s %8ld  %s%s\n", name, count, count == 0 ? "ok" : "FAILED: ",
           count == 0 ? ""
           : g->why   ? g->why
                      : "differing bytes");
    gpu_rows_add(&g->rows, "", name, (double)count, count == 0);
    return count != 0;
}

static int check_all(gpu *g, model_case *on_gpu)
{
    static const uint32_t sizes[] = {1, 32, 96, 256};
    int failed = 0;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && !g->why; i++) {
        g->num_threads = sizes[i];
        for (int32_t type = 0; type < CASE_TYPES && !g->why; type++) {
            for (int32_t corrupt = 0; corrupt <= MODEL_CORRUPT_DROP && !g->why; corrupt++) {
                failed += check(g, on_gpu, type, corrupt);
            }
        }
    }
    return failed;
}

/* What is asked of a GPU that is open: 0 if all is well. */
static int run(gpu *g, eep_device *device)
{
    char why[WHY_BYTES] = "";
    void *memory = NULL;
    int failed;
    const bool is_cuda = strcmp(g->device, "cuda") == 0;

    g->plugin = is_cuda ? model_plugin_open(0, why, sizeof why) : NULL;
    if ((is_cuda && !g->plugin) || eep_stream_open(device, &g->stream) != EEP_OK ||
        eep_device_alloc(device, EEP_MEMORY_PINNED, sizeof(model_case), &memory) != EEP_OK) {
        fprintf(stderr, "model_check: %s\n", *why ? why : "no stream or memory");
        return EXIT_FAILURE;
    }
    failed = check_all(g, memory);
    eep_stream_close(g->stream);
    eep_device_free(device, EEP_MEMORY_PINNED, memory);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define AT(field) ARGS_AT(gpu, field)
static const args_row option_rows[] = {
    {"--device", ARGS_ONE_OF, AT(device), 0, 0, "cuda|host", "NAME", "cuda",
     "host: the host with itself, which checks this program"},
    {"--csv", ARGS_TEXT, AT(csv_path), 0, 0, NULL, "FILE", NULL,
     "rows go behind those that the file has"},
    {"--commit", ARGS_TEXT, AT(commit), 0, 0, NULL, "ID", "unknown", "for the rows"},
    {"--driver", ARGS_TEXT, AT(driver), 0, 0, NULL, "VERSION", "unknown", "for the rows"},
    {"--gpu", ARGS_TEXT, AT(name), 0, 0, NULL, "NAME", "cuda", "its name in the rows"},
};
static const args_table table = {
    .program = "model_check",
    .synopsis = "[OPTION]...",
    .about = "Run the model's kernels on the GPU and on the host, and compare the bits.",
    .section = {ARGS_SECTION(NULL, option_rows)},
    .notes = "Exit status: 0 all right; 1 a check failed; 2 usage; 77 no GPU here.",
    .given = offsetof(gpu, given),
};

int main(int argc, char **argv)
{
    gpu g = {0};
    eep_device *device = NULL;
    eep_status status;
    int result;

    if (!args_begin(&table, &g, argc, argv, &result)) {
        return result;
    }
    eepi_cuda_environment_set(); /* before the first context, of the plugin's own runtime too */
    status = eep_device_open(g.device, 0, &device);
    if (status != EEP_OK) {
        fprintf(stderr, "model_check: %s\n", eep_device_error_text());
        return status == EEP_ERR_UNSUPPORTED ? EXIT_SKIPPED : EXIT_FAILURE;
    }
    g.rows.commit = g.commit;
    g.rows.driver = g.driver;
    gpu_rows_name(&g.rows, g.name);
    result = gpu_rows_open(&g.rows, g.csv_path) != 0 ? EXIT_FAILURE : run(&g, device);
    if (gpu_rows_close(&g.rows) != 0) {
        result = EXIT_FAILURE;
    }
    eep_device_close(device);
    return result;
}
