/* SPDX-License-Identifier: Apache-2.0 */
/* The host bodies of the laboratory's kernels, by the names of experiments/model/model_kernels.cu.
 */
#include "experiments/model/fault_kernels.h"
#include "experiments/model/model_kernels.h"
#include "tests/fake_gpu/fake_gpu.h"

#define MODEL_BODY(name, args_type)                                                                \
    static void model_##name##_host(const void *args, eep_grid grid)                               \
    {                                                                                              \
        model_kernels[MODEL_KERNEL_##name].host(args, grid);                                       \
    }
#define FAULT_BODY(name, args_type)                                                                \
    static void fault_##name##_host(const void *args, eep_grid grid)                               \
    {                                                                                              \
        fault_kernels[FAULT_KERNEL_##name].host(args, grid);                                       \
    }
MODEL_KERNEL_LIST(MODEL_BODY)
FAULT_KERNEL_LIST(FAULT_BODY)

static const fake_gpu_body bodies[] = {
#define MODEL_ENTRY(name, args_type)                                                               \
    {"model_" #name "_cuda", model_##name##_host, sizeof(args_type)},
#define FAULT_ENTRY(name, args_type)                                                               \
    {"fault_" #name "_cuda", fault_##name##_host, sizeof(args_type)},
    MODEL_KERNEL_LIST(MODEL_ENTRY) FAULT_KERNEL_LIST(FAULT_ENTRY)};

__attribute__((constructor)) static void add_bodies(void)
{
    fake_gpu_add_bodies(bodies, sizeof bodies / sizeof bodies[0]);
}
