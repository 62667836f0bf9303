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

/* An eepi_checksum is XXH64's own state, whose size only its library knows. */
static XXH64_state_t *state_of(eepi_checksum *sum)
{
    return (XXH64_state_t *)sum;
}

eepi_checksum *eepi_checksum_new(void)
{
    return (eepi_checksum *)XXH64_createState();
}

void eepi_checksum_free(eepi_checksum *sum)
{
    XXH64_freeState(state_of(sum));
}

void eepi_checksum_begin(eepi_checksum *sum)
{
    (void)XXH64_reset(state_of(sum), 0);
}

void eepi_checksum_add(eepi_checksum *sum, const void *bytes, size_t size)
{
    (void)XXH64_update(state_of(sum), bytes, size);
}

uint64_t eepi_checksum_end(const eepi_checksum *sum)
{
    uint64_t end = XXH64_digest((const XXH64_state_t *)sum);

    return end ? end : 1;
}
