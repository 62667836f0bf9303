/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of weights: XXH64 of an expert's tensors, one after the other. */
#ifndef EEPI_CHECKSUM_H
#define EEPI_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Never 0: that stands for "unknown" in a view. */
uint64_t eepi_checksum_bytes(const void *bytes, size_t size);

/* The same of bytes that come one piece after the other. */
typedef struct eepi_checksum eepi_checksum;
/* NULL: no memory. */
eepi_checksum *eepi_checksum_new(void);
void eepi_checksum_free(eepi_checksum *sum);
/* From the beginning again. */
void eepi_checksum_begin(eepi_checksum *sum);
void eepi_checksum_add(eepi_checksum *sum, const void *bytes, size_t size);
uint64_t eepi_checksum_end(const eepi_checksum *sum);
#endif
