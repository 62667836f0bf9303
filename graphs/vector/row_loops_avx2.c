/* SPDX-License-Identifier: Apache-2.0 */
/* The loops over rows for processors with AVX2. */
#include "graphs/vector/row_loops.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2")
#include <immintrin.h>

enum { WIDE_LANES = 8 };
#define WIDE_FENCE()   _mm_sfence()
#define WIDE_MAX(a, b) ((floats)_mm256_max_ps((__m256)(a), (__m256)(b)))
static inline __attribute__((always_inline)) void stream(uint8_t *to, const uint8_t *from)
{
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)from);
    const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(from + 32));

    _mm256_stream_si256((__m256i *)(void *)to, low);
    _mm256_stream_si256((__m256i *)(void *)(to + 32), high);
}
#define WIDE_STREAM(to, from) stream(to, from)
#include "graphs/vector/row_loops_wide.h"

static const eepi_row_loops loops = {"avx2", copy, quantise, sum};

const eepi_row_loops *eepi_row_loops_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") ? &loops : NULL;
}
#else
const eepi_row_loops *eepi_row_loops_avx2(void)
{
    return NULL;
}
#endif
