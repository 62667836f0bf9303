/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of libeep as launchable objects. Host bodies are in host_kernels.c; a CUDA plugin
 * hands in the addresses of its __global__ bodies once, when its device is opened. */
#ifndef EEPI_KERNELS_H
#define EEPI_KERNELS_H

#include "eep/device.h"
#include "graphs/kernels/kernel_args.h"

typedef enum eepi_kernel_id {
#define EEPI_KERNEL_ID(name, args) EEPI_KERNEL_##name,
    EEPK_KERNEL_LIST(EEPI_KERNEL_ID)
#undef EEPI_KERNEL_ID
        EEPI_NUM_KERNELS
} eepi_kernel_id;

/* How the nodes are launched where a block has threads. The exchange is one block per rank, the
 * only one that waits for other ranks; route and place are one block; the others have as many
 * as the config says. */
enum {
    EEPI_ROUTE_THREADS = 32 * EEPK_ROUTE_WARPS,
    EEPI_EXCHANGE_THREADS = 128,
    EEPI_PLACE_THREADS = 512,
    EEPI_COPY_THREADS = 256,
    EEPI_COPY_BLOCKS = 24,     /* unless the config says */
    EEPI_COPY_BLOCKS_HOST = 4, /* there blocks run one after the other, so few are enough */
};

/* With their host bodies, in the order of eepi_kernel_id; `.cuda` is NULL. */
extern const eep_kernel eepi_host_kernels[EEPI_NUM_KERNELS];
#endif
