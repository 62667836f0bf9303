/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of weights: XXH64 of an expert's tensors, one after the other. */
#ifndef EEPI_CHECKSUM_H
#define EEPI_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Never 0: that stands for "unknown" in a view. */
uint64_t eepi_checksum_bytes(const void *bytes, size_t size);
#endif
