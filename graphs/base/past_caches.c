/* SPDX-License-Identifier: Apache-2.0 */
/* Stores past the caches, where the processor has them, and when they are worth it. */
#include "graphs/base/past_caches.h"

#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { LINE_BYTES = 64 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Whole lines only, so that none is written in two pieces. */
void eepi_past_caches_copy(void *to_any, const void *from_any, size_t bytes)
{
    unsigned char *to = to_any;
    const unsigned char *from = from_any;
#ifdef __SSE2__
    const size_t head = least((LINE_BYTES - (uintptr_t)to % LINE_BYTES) % LINE_BYTES, bytes);

    memcpy(to, from, head);
    to += head;
    from += head;
    bytes -= head;
    for (; bytes >= LINE_BYTES; bytes -= LINE_BYTES) {
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
    memcpy(to, from, bytes);
}

void eepi_past_caches_order(void)
{
#ifdef __SSE2__
    _mm_sfence();
#endif
}

/* A kind of which nothing is known has taken no time, so each is made once. */
static bool prefers_past(const eepi_copy_times *times)
{
    return times->took_ns[true] < times->took_ns[false] / 2;
}

bool eepi_copy_goes_past(const eepi_copy_times *times)
{
    const uint32_t retry = (uint32_t)EEPI_COPY_RETRY << times->num_tries;

    return times->since < retry ? prefers_past(times) : !prefers_past(times);
}

/* The last copy counts. But what a kind takes grows by a sixteenth for each copy at most, and falls
 * at once: a copy that was interrupted is rarely followed by more of them. */
void eepi_copy_took(eepi_copy_times *times, bool went_past, uint64_t ns)
{
    uint64_t *took_ns = &times->took_ns[went_past];
    const uint64_t most_ns = *took_ns == 0 ? UINT64_MAX : *took_ns + *took_ns / 16 + 1;
    const bool is_other = went_past != prefers_past(times);

    times->since = is_other ? 0 : times->since + 1;
    times->num_tries += is_other && times->num_tries < EEPI_COPY_RETRY_DOUBLED;
    *took_ns = ns < most_ns ? ns : most_ns;
    *took_ns += *took_ns == 0;
}
