/* SPDX-License-Identifier: Apache-2.0 */
/* The loops over rows for processors with AVX-512. */
#include "graphs/vector/row_loops.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#include <immintrin.h>

enum { WIDE_LANES = 16 };
#define WIDE_FENCE()   _mm_sfence()
#define WIDE_MAX(a, b) ((floats)_mm512_max_ps((__m512)(a), (__m512)(b)))
static inline __attribute__((always_inline)) void stream(uint8_t *to, const uint8_t *from)
{
    _mm512_stream_si512((__m512i *)(void *)to, _mm512_loadu_si512(from));
}
#define WIDE_STREAM(to, from) stream(to, from)
#include "graphs/vector/row_loops_wide.h"

static const eepi_row_loops loops = {"avx512", copy, quantise, sum};

const eepi_row_loops *eepi_row_loops_avx512(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? &loops
               : NULL;
}
#else
const eepi_row_loops *eepi_row_loops_avx512(void)
{
    return NULL;
}
#endif
