/* The GPU check of the model: its kernels on the GPU must leave the bits of its host kernels. */
#include "experiments/cuda/model_case.h"
#include "experiments/model_plugin.h"

#include <stdio.h>
#include <stdlib.h>

enum { EXIT_SKIPPED = 77, BOUND_US = 60000000, WHY_BYTES = 512 };

/* A GPU, and what of it failed. */
typedef struct gpu {
    eep_stream *stream;
    const model_plugin *plugin;
    uint32_t num_threads; /* of a block */
    const char *why;      /* NULL: nothing */
} gpu;

static void launch_gpu(void *user, model_kernel_id id, uint32_t num_blocks, const void *args)
{
    gpu *g = user;

    if (!g->why)
        g->why = g->plugin->launch(0, eep_stream_native(g->stream), (uint32_t)id, num_blocks,
                                   g->num_threads, args);
}

/* The first result that differs, as a place in the results; -1: none does. */
static long first_difference(const model_case *host, const model_case *other)
{
    const uint8_t *a = (const uint8_t *)&host->results, *b = (const uint8_t *)&other->results;
    long at = 0;

    while (at < (long)sizeof(host->results) && a[at] == b[at])
        at++;
    return at < (long)sizeof(host->results) ? at : -1;
}

/* 1 if the GPU's bits are not the host's. */
static int check(gpu *g, model_case *on_gpu, int32_t type, int32_t corrupt)
{
    static const char *const types[CASE_TYPES] = {"fp32", "bf16", "fp8"};
    static model_case on_host;
    long at;

    model_case_fill(&on_host, type, corrupt);
    model_case_run(&on_host, model_case_on_host, NULL);
    model_case_fill(on_gpu, type, corrupt);
    model_case_run(on_gpu, launch_gpu, g);
    if (!g->why && eep_stream_synchronize(g->stream, BOUND_US) != EEP_OK)
        g->why = "the kernels did not end";
    at = g->why ? 0 : first_difference(&on_host, on_gpu);
    printf("model-%s corruption %d, %u threads: %s", types[type], corrupt, g->num_threads,
           at < 0 ? "ok\n" : "FAILED");
    if (at >= 0)
        printf(" (%s, byte %ld of the results)\n", g->why ? g->why : "other bits", at);
    return at >= 0;
}

static int check_all(gpu *g, model_case *on_gpu)
{
    static const uint32_t sizes[] = {1, 32, 96, 256};
    int failed = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && !g->why; i++) {
        g->num_threads = sizes[i];
        for (int32_t type = 0; type < CASE_TYPES && !g->why; type++) {
            for (int32_t corrupt = 0; corrupt <= MODEL_CORRUPT_DROP && !g->why; corrupt++)
                failed += check(g, on_gpu, type, corrupt);
        }
    }
    return failed;
}

int main(void)
{
    char why[WHY_BYTES] = "";
    eep_device *device = NULL;
    gpu g = {0};
    void *memory = NULL;
    int failed;
    eep_status status = eep_device_open("cuda", 0, &device);

    if (status != EEP_OK) {
        fprintf(stderr, "model_check: %s\n", eep_device_error_text());
        return status == EEP_ERR_UNSUPPORTED ? EXIT_SKIPPED : EXIT_FAILURE;
    }
    g.plugin = model_plugin_open(0, why, sizeof(why));
    if (!g.plugin || eep_stream_open(device, &g.stream) != EEP_OK ||
        eep_device_alloc(device, EEP_MEMORY_PINNED, sizeof(model_case), &memory) != EEP_OK) {
        fprintf(stderr, "model_check: %s\n", g.plugin ? "no stream or memory" : why);
        return EXIT_FAILURE;
    }
    failed = check_all(&g, memory);
    eep_stream_close(g.stream);
    eep_device_free(device, EEP_MEMORY_PINNED, memory);
    eep_device_close(device);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
