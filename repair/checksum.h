/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of weights, over an expert's tensors one after the other: XXH3 (64 bits) of each block
 * of 16 KiB, the last one shorter, and XXH3 of these sums in order.
 *
 * A block is small enough to be summed while it is in the nearest cache, and blocks may be summed
 * in any order, as they arrive. */
#ifndef EEPI_CHECKSUM_H
#define EEPI_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

enum { EEPI_CHECKSUM_BLOCK_BYTES = 16384 };

/* Never 0: that stands for "unknown" in a view. */
uint64_t eepi_checksum_bytes(const void *bytes, size_t size);

/* The same of bytes that come in pieces. */
typedef struct eepi_checksum eepi_checksum;
/* Of so many bytes in all. NULL: no memory. */
eepi_checksum *eepi_checksum_new(size_t size);
void eepi_checksum_free(eepi_checksum *sum);
/* Pieces one after the other, of any size. */
void eepi_checksum_begin(eepi_checksum *sum);
void eepi_checksum_add(eepi_checksum *sum, const void *bytes, size_t size);
/* Or whole blocks in any order: `offset` is a multiple of EEPI_CHECKSUM_BLOCK_BYTES, `size` as well
 * unless the bytes are the last ones. What is there already of the blocks is replaced. */
void eepi_checksum_blocks(eepi_checksum *sum, size_t offset, const void *bytes, size_t size);
/* Of all bytes, which must be there. */
uint64_t eepi_checksum_end(const eepi_checksum *sum);
#endif
