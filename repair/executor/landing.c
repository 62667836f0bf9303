/* SPDX-License-Identifier: Apache-2.0 */
/* Landing, block by block. */
#include "repair/executor/landing.h"

#include "graphs/device/device_share.h"

#include <assert.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { LINE_BYTES = 64 };

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

/* Weights are larger than caches, and nobody reads them soon. So the stores go past the caches,
 * which saves the read of each line before it is written: twice the rate of memcpy, and other data
 * stays in the caches. order_stores follows them. */
static void store_past_caches(unsigned char *to, const unsigned char *from, size_t size)
{
#ifdef __SSE2__
    const size_t head = least((LINE_BYTES - (uintptr_t)to % LINE_BYTES) % LINE_BYTES, size);

    memcpy(to, from, head);
    to += head;
    from += head;
    size -= head;
    for (; size >= LINE_BYTES; size -= LINE_BYTES) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
        const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
        const __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
        const __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));
        _mm_stream_si128((__m128i *)(void *)to, a);
        _mm_stream_si128((__m128i *)(void *)(to + 16), b);
        _mm_stream_si128((__m128i *)(void *)(to + 32), c);
        _mm_stream_si128((__m128i *)(void *)(to + 48), d);
        to += LINE_BYTES;
        from += LINE_BYTES;
    }
#endif
    memcpy(to, from, size);
}

/* Stores past the caches are in no order with later ones. Partner: whoever reads the slot after it
 * was told, by a store of this thread, that it is filled. */
static void order_stores(void)
{
#ifdef __SSE2__
    _mm_sfence();
#endif
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

/* The block is summed and stored out of the nearest cache, into which the sum has brought it.
 * Nobody writes it meanwhile: it is private, or sealed, or in a chunk whose sequence is looked at
 * again. */
static void put_block(const eepi_landing_place *place, size_t offset, const unsigned char *block,
                      size_t size)
{
    eepi_checksum_blocks(place->sum, offset, block, size);
    for (size_t at = 0, piece; at < size; at += piece) {
        piece = size - at;
        unsigned char *to = piece_at(place->tensors, place->num_tensors, offset + at, &piece);
        store_past_caches(to, block + at, piece);
    }
}

void eepi_landing_put(const eepi_landing_place *place, size_t offset, const void *bytes,
                      size_t size)
{
    for (size_t at = 0; at < size; at += EEPI_CHECKSUM_BLOCK_BYTES) {
        put_block(place, offset + at, (const unsigned char *)bytes + at,
                  least(size - at, EEPI_CHECKSUM_BLOCK_BYTES));
    }
    order_stores();
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
    order_stores();
}
