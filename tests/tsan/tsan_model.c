/* SPDX-License-Identifier: Apache-2.0 */
/* The model's kernels as a GPU runs them, under ThreadSanitizer: a plain program, since it does not
 * run under Criterion. What nvcc would compile is compiled for CPU threads (gpu_form.h); the bits
 * must be those of the host's kernels, and a read of another thread's number with no meeting of the
 * block between is reported as a race. */
#include "tests/gpu/model/model_case.h"
#include "tests/emulated/gpu_form_model.h"

#include <stdio.h>

static void launch_threads(void *user, model_kernel_id id, uint32_t num_blocks, const void *args)
{
    gpu_form_launch(id, num_blocks, *(const uint32_t *)user, args);
}

/* 1 if blocks of that many threads leave other bits than the host's kernels. */
static int differs(int32_t type, int32_t corrupt, uint32_t num_threads, int *fired)
{
    static model_case host, gpu;

    model_case_fill(&host, type, corrupt);
    model_case_run(&host, model_case_on_host, NULL);
    model_case_fill(&gpu, type, corrupt);
    model_case_run(&gpu, launch_threads, &num_threads);
    *fired += host.results.control.fired;
    if (memcmp(&host.results, &gpu.results, sizeof host.results) == 0) {
        return 0;
    }
    fprintf(stderr, "type %d, corruption %d: %u threads give other bits\n", type, corrupt,
            num_threads);
    return 1;
}

int main(void)
{
    static const uint32_t sizes[] = {1, 3, 8};
    int wrong = 0, fired = 0;

    for (int32_t type = 0; type < CASE_TYPES; type++) {
        for (int32_t corrupt = 0; corrupt <= MODEL_CORRUPT_DROP; corrupt++) {
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                wrong += differs(type, corrupt, sizes[i], &fired);
            }
        }
    }
    if (fired == 0) {
        fprintf(stderr, "no corruption was made\n");
    }
    return wrong != 0 || fired == 0;
}
