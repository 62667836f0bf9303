/* SPDX-License-Identifier: Apache-2.0 */
/* Choose the loops by the processor; the names that kernel bodies call. */
#include "graphs/vector/row_loops.h"

/* Threads that come at once store the same pointer. */
static const eepi_row_loops *chosen(void)
{
    static const eepi_row_loops *widest;
    const eepi_row_loops *loops = __atomic_load_n(&widest, __ATOMIC_RELAXED);

    if (loops) {
        return loops;
    }
    loops = eepi_row_loops_avx512();
    loops = loops ? loops : eepi_row_loops_avx2();
    loops = loops ? loops : &eepi_row_loops_plain;
    __atomic_store_n(&widest, loops, __ATOMIC_RELAXED);
    return loops;
}

void eepk_rows_copy(void *const *to, const void *const *from, uint32_t num, size_t bytes)
{
    chosen()->copy(to, from, num, bytes);
}

void eepk_rows_quantise(const eepk_rows_quantise_args *a)
{
    chosen()->quantise(a);
}

void eepk_rows_sum(const eepk_rows_sum_args *a)
{
    chosen()->sum(a);
}
