/* SPDX-License-Identifier: Apache-2.0 */
/* Landing, block by block. */
#include "repair/executor/landing.h"

#include "graphs/base/past_caches.h"
#include "graphs/device/device_share.h"

#include <assert.h>
#include <string.h>

eepi_memory_place eepi_memory_place_of(const eep_device *device)
{
    if (!eepi_device_is_discrete(device)) {
        return EEPI_MEMORY_OF_HOST;
    }
    return eepi_device_is_cuda(device) ? EEPI_MEMORY_OF_CUDA : EEPI_MEMORY_OF_OTHER;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The byte at `offset` of the tensors one after the other. *piece is cut to what its tensor has
 * from there on. */
static unsigned char *piece_at(const eep_tensor *tensors, int num, size_t offset, size_t *piece)
{
    int at = 0;

    for (; at < num && offset >= tensors[at].bytes; at++) {
        offset -= tensors[at].bytes;
    }
    assert(at < num);
    *piece = least(*piece, tensors[at].bytes - offset);
    return (unsigned char *)tensors[at].data + offset;
}

/* The block is summed and stored out of the nearest cache, into which the sum has brought it. The
 * stores go past the caches: weights are larger, and nobody reads them soon. That is twice the rate
 * of memcpy. Nobody writes the block meanwhile: it is private, or sealed, or in a chunk whose
 * sequence is looked at again. */
static void put_block(const eepi_landing_place *place, size_t offset, const unsigned char *block,
                      size_t size)
{
    eepi_checksum_blocks(place->sum, offset, block, size);
    for (size_t at = 0, piece; at < size; at += piece) {
        piece = size - at;
        unsigned char *to = piece_at(place->tensors, place->num_tensors, offset + at, &piece);
        eepi_past_caches_copy(to, block + at, piece);
    }
}

void eepi_landing_put(const eepi_landing_place *place, size_t offset, const void *bytes,
                      size_t size)
{
    for (size_t at = 0; at < size; at += EEPI_CHECKSUM_BLOCK_BYTES) {
        put_block(place, offset + at, (const unsigned char *)bytes + at,
                  least(size - at, EEPI_CHECKSUM_BLOCK_BYTES));
    }
    eepi_past_caches_order();
}

/* A block that lies in several tensors, in one piece. */
static const unsigned char *joined(const eepi_landing_place *place, const eep_tensor *from,
                                   int num_from, size_t offset, size_t size)
{
    for (size_t at = 0, piece; at < size; at += piece) {
        piece = size - at;
        const unsigned char *part = piece_at(from, num_from, offset + at, &piece);
        if (piece == size) {
            return part;
        }
        memcpy(place->block + at, part, piece);
    }
    return place->block;
}

void eepi_landing_copy(const eepi_landing_place *place, size_t offset, const eep_tensor *from,
                       int num_from, size_t size)
{
    for (size_t at = 0; at < size; at += EEPI_CHECKSUM_BLOCK_BYTES) {
        const size_t take = least(size - at, EEPI_CHECKSUM_BLOCK_BYTES);
        put_block(place, offset + at, joined(place, from, num_from, offset + at, take), take);
    }
    eepi_past_caches_order();
}
