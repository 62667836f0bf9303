/* SPDX-License-Identifier: Apache-2.0 */
/* The host bodies of libeep's own kernels, by the names of graphs/cuda/cuda_kernels.cu. */
#include "graphs/kernels/kernels.h"
#include "tests/fake_gpu/fake_gpu.h"

enum { CLOCK_STEP_NS = 32 };

/* As fine as some GPU's %globaltimer. */
static void clock_host(const void *args, eep_grid grid)
{
    uint64_t *step_ns = *(uint64_t *const *)args;

    (void)grid;
    *step_ns = CLOCK_STEP_NS;
}

#define HOST_BODY(name, args_type)                                                                 \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        eepi_host_kernels[EEPI_KERNEL_##name].host(args, grid);                                    \
    }
EEPK_KERNEL_LIST(HOST_BODY)
#undef HOST_BODY

static const fake_gpu_body bodies[] = {
#define BODY_ENTRY(name, args_type) {"eepk_" #name "_cuda", name##_host, sizeof(args_type)},
    EEPK_KERNEL_LIST(BODY_ENTRY)
#undef BODY_ENTRY
        {"eepi_clock_cuda", clock_host, sizeof(uint64_t *)},
};

__attribute__((constructor)) static void add_bodies(void)
{
    fake_gpu_add_bodies(bodies, sizeof bodies / sizeof bodies[0]);
}
