/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of an expert on their way into a slot that the CPU can write: each block is summed, and
 * stored while it is in the nearest cache. */
#ifndef EEPI_LANDING_H
#define EEPI_LANDING_H

#include "repair/checksum.h"
#include "repair/executor/lane.h"

/* A slot to be written, and what is summed meanwhile. */
typedef struct eepi_landing_slot {
    const eep_tensor *tensors;
    int num_tensors;
    eepi_checksum *sum;
    unsigned char *block; /* [EEPI_CHECKSUM_BLOCK_BYTES]: a block that lies in two tensors */
} eepi_landing_slot;

/* Where a device's memory is. */
eepi_memory_place eepi_memory_place_of(const eep_device *device);
/* Write `size` bytes to `offset` of the tensors one after the other. The offset is a multiple of
 * EEPI_CHECKSUM_BLOCK_BYTES, and the size as well unless they are the last bytes. All is visible to
 * whom this thread tells of it afterwards. */
void eepi_landing_put(const eepi_landing_slot *slot, size_t offset, const void *bytes, size_t size);
/* The same, of bytes that lie at the same offset of other tensors. */
void eepi_landing_copy(const eepi_landing_slot *slot, size_t offset, const eep_tensor *from,
                       size_t size);
#endif
