/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of an expert: XXH64 over its tensors. 0 means that none is known, so it is never
 * one. */
#include "repair/checksum.h"

#include <xxhash.h>

uint64_t eepi_checksum_bytes(const void *bytes, size_t size)
{
    uint64_t sum = XXH64(bytes, size, 0);

    return sum ? sum : 1;
}
