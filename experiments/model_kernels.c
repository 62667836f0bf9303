/* Host twins of the model's kernels: the bodies, compiled for the CPU. */
#include "experiments/model_bodies.h"

#define MODEL_HOST_KERNEL(name, args_type)                                                         \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        model_##name##_body((const args_type *)args, grid);                                        \
    }
MODEL_KERNEL_LIST(MODEL_HOST_KERNEL)
#undef MODEL_HOST_KERNEL

const eep_kernel model_kernels[MODEL_NUM_KERNELS] = {
#define MODEL_KERNEL_ENTRY(name, args) {"model_" #name, name##_host, NULL},
    MODEL_KERNEL_LIST(MODEL_KERNEL_ENTRY)
#undef MODEL_KERNEL_ENTRY
};
