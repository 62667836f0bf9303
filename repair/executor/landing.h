/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of an expert on their way to where they land, a slot or a staging buffer: each block is
 * summed, and stored while it is in the nearest cache. */
#ifndef EEPI_LANDING_H
#define EEPI_LANDING_H

#include "repair/checksum.h"
#include "repair/executor/lane.h"

/* What is written, and what is summed meanwhile. */
typedef struct eepi_landing_place {
    const eep_tensor *tensors; /* of a slot, or one that is a staging buffer */
    int num_tensors;
    eepi_checksum *sum;
    unsigned char *block; /* [EEPI_CHECKSUM_BLOCK_BYTES]: a block that lies in two tensors */
} eepi_landing_place;

/* Where a device's memory is. */
eepi_memory_place eepi_memory_place_of(const eep_device *device);
/* Write `size` bytes to `offset` of the tensors one after the other. The offset is a multiple of
 * EEPI_CHECKSUM_BLOCK_BYTES, and the size as well unless they are the last bytes. All is visible to
 * whom this thread tells of it afterwards. */
void eepi_landing_put(const eepi_landing_place *place, size_t offset, const void *bytes,
                      size_t size);
/* The same, of bytes that lie at the same offset of other tensors. */
void eepi_landing_copy(const eepi_landing_place *place, size_t offset, const eep_tensor *from,
                       int num_from, size_t size);
#endif
