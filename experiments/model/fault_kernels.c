/* Host twins of the driver's own kernels, and what each byte of their arguments is. */
#include "experiments/model/fault_kernels.h"

#include <stddef.h>

#define FIELD(type, member, kind)                                                                  \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)0)->member), kind                         \
    }

static const eep_kernel_arg lab_halt_args_fields[] = {
    FIELD(lab_halt_args, words, EEP_ARG_ADDRESS),
    FIELD(lab_halt_args, world, EEP_ARG_ADDRESS),
    FIELD(lab_halt_args, place, EEP_ARG_CONSTANT),
    FIELD(lab_halt_args, pad, EEP_ARG_CONSTANT),
};

static const eep_kernel_arg lab_gaps_args_fields[] = {
    FIELD(lab_gaps_args, longest_ns, EEP_ARG_ADDRESS),
    FIELD(lab_gaps_args, spin_ns, EEP_ARG_CONSTANT),
};

#define LAB_HOST_KERNEL(name, args_type)                                                           \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        lab_##name##_body((const args_type *)args, grid);                                          \
    }
LAB_KERNEL_LIST(LAB_HOST_KERNEL)
#undef LAB_HOST_KERNEL

#define NUM_FIELDS(list) (sizeof(list) / sizeof((list)[0]))
const eep_kernel lab_kernels[LAB_NUM_KERNELS] = {
#define LAB_KERNEL_ENTRY(name, type)                                                               \
    EEP_KERNEL("lab_" #name, name##_host, NULL, type##_fields, NUM_FIELDS(type##_fields)),
    LAB_KERNEL_LIST(LAB_KERNEL_ENTRY)
#undef LAB_KERNEL_ENTRY
};
