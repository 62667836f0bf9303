/* The kernels of libeep as launchable objects. Host bodies are in kernels_host.c; a CUDA plugin
 * hands in the addresses of its __global__ twins once, when its device is opened. */
#ifndef EEPI_KERNELS_H
#define EEPI_KERNELS_H

#include "eep/device.h"
#include "graphs/kernel_args.h"

typedef enum eepi_kernel_id {
#define EEPI_KERNEL_ID(name, args) EEPI_KERNEL_##name,
    EEPK_KERNEL_LIST(EEPI_KERNEL_ID)
#undef EEPI_KERNEL_ID
    EEPI_NUM_KERNELS
} eepi_kernel_id;

/* The kernel with its host body; `.cuda` is NULL. Never NULL itself. */
const eep_kernel *eepi_host_kernel(eepi_kernel_id id);
#endif
