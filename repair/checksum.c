/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of an expert: XXH3 in two levels. 0 means that none is known, so it is never one. */
#include "repair/checksum.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* a streaming state on the stack */
#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> /* the widest vectors of the processor that runs */
#endif

struct eepi_checksum {
    size_t size;
    size_t num_added;                               /* bytes that came one after the other */
    unsigned char block[EEPI_CHECKSUM_BLOCK_BYTES]; /* of these, such as fill no block yet */
    uint64_t sums[];                                /* of the blocks */
};

static size_t num_blocks(size_t size)
{
    return size / EEPI_CHECKSUM_BLOCK_BYTES + (size % EEPI_CHECKSUM_BLOCK_BYTES > 0);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static uint64_t known(uint64_t sum)
{
    return sum ? sum : 1;
}

uint64_t eepi_checksum_bytes(const void *bytes, size_t size)
{
    XXH3_state_t state;

    (void)XXH3_64bits_reset(&state);
    for (size_t at = 0; at < size; at += EEPI_CHECKSUM_BLOCK_BYTES) {
        const uint64_t sum = XXH3_64bits((const unsigned char *)bytes + at,
                                         least(size - at, EEPI_CHECKSUM_BLOCK_BYTES));
        (void)XXH3_64bits_update(&state, &sum, sizeof sum);
    }
    return known(XXH3_64bits_digest(&state));
}

eepi_checksum *eepi_checksum_new(size_t size)
{
    eepi_checksum *sum = calloc(1, sizeof *sum + num_blocks(size) * sizeof *sum->sums);

    if (sum) {
        sum->size = size;
    }
    return sum;
}

void eepi_checksum_free(eepi_checksum *sum)
{
    free(sum);
}

void eepi_checksum_begin(eepi_checksum *sum)
{
    sum->num_added = 0;
}

void eepi_checksum_add(eepi_checksum *sum, const void *bytes, size_t size)
{
    const unsigned char *from = bytes;

    assert(size <= sum->size - sum->num_added);
    while (size > 0) {
        const size_t used = sum->num_added % EEPI_CHECKSUM_BLOCK_BYTES;
        const size_t begin = sum->num_added - used;
        const size_t whole = least(sum->size - begin, EEPI_CHECKSUM_BLOCK_BYTES);
        const size_t take = least(size, whole - used);
        if (take == whole) {
            eepi_checksum_blocks(sum, begin, from, whole);
        } else {
            memcpy(sum->block + used, from, take);
        }
        if (take < whole && used + take == whole) {
            eepi_checksum_blocks(sum, begin, sum->block, whole);
        }
        sum->num_added += take;
        from += take;
        size -= take;
    }
}

void eepi_checksum_blocks(eepi_checksum *sum, size_t offset, const void *bytes, size_t size)
{
    const unsigned char *from = bytes;

    assert(offset % EEPI_CHECKSUM_BLOCK_BYTES == 0 && offset <= sum->size &&
           size <= sum->size - offset &&
           (size % EEPI_CHECKSUM_BLOCK_BYTES == 0 || size == sum->size - offset));
    for (size_t at = 0; at < size; at += EEPI_CHECKSUM_BLOCK_BYTES) {
        sum->sums[(offset + at) / EEPI_CHECKSUM_BLOCK_BYTES] =
            XXH3_64bits(from + at, least(size - at, EEPI_CHECKSUM_BLOCK_BYTES));
    }
}

uint64_t eepi_checksum_end(const eepi_checksum *sum)
{
    return known(XXH3_64bits(sum->sums, num_blocks(sum->size) * sizeof *sum->sums));
}
