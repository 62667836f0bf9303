/* SPDX-License-Identifier: Apache-2.0 */
/* The host bodies of the kernels of gpu_smoke and gpu_probe, by the names of graphs/cuda/smoke_*.cu
 * and probe_*.cu: for running both over the fake GPU (tests/run/gpu_check_fake.sh). */
#include "tests/gpu/probe/probe_kernels.h"
#include "tests/gpu/smoke/smoke_expert.h"
#include "tests/fake_gpu/fake_gpu.h"

#include <cuda_runtime_api.h>

#define PROBE_LIST(X) X(store) X(fill) X(count) X(ring) X(gaps) X(fence) X(load) X(pass) X(stamp)

#define PROBE_BODY(name)                                                                           \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        probe_##name##_body(args, grid);                                                           \
    }
PROBE_LIST(PROBE_BODY)
static void expert_host(const void *args, eep_grid grid)
{
    smoke_expert_body(args, grid);
}

static const fake_gpu_body bodies[] = {
#define PROBE_ENTRY(name) {"probe_" #name "_cuda", name##_host, sizeof(probe_##name##_args)},
    PROBE_LIST(PROBE_ENTRY){"probe_stamp_early_cuda", stamp_host, sizeof(probe_stamp_args)},
    {"smoke_expert_cuda", expert_host, sizeof(smoke_expert_args)},
};

__attribute__((constructor)) static void add_bodies(void)
{
    fake_gpu_add_bodies(bodies, sizeof bodies / sizeof bodies[0]);
}

/* The fake does nothing early: attributes are left out. */
__attribute__((visibility("default"), weak)) cudaError_t
cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function, void **parameters)
{
    return cudaLaunchKernel(function, config->gridDim, config->blockDim, parameters,
                            config->dynamicSmemBytes, config->stream);
}
