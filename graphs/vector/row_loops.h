/* SPDX-License-Identifier: Apache-2.0 */
/* The host's loops over rows, compiled once per width of vector registers. Kernel bodies call the
 * widest that the processor has, by the names at the end of graphs/kernels/compiler_host.h. All of
 * them give the bits of the plain ones, which are the definition.
 *
 * They are chosen by a pointer and not by the loader (`target_clones`): sanitizers are not ready
 * when the loader chooses, and a test calls each of them by hand. */
#ifndef EEPI_ROW_LOOPS_H
#define EEPI_ROW_LOOPS_H

#include "graphs/kernels/compiler_macros.h"

#include <stddef.h>

typedef struct eepi_row_loops {
    const char *name;
    void (*copy)(void *const *to, const void *const *from, uint32_t num, size_t bytes);
    void (*quantise)(const eepk_rows_quantise_args *a);
    void (*sum)(const eepk_rows_sum_args *a);
} eepi_row_loops;

extern const eepi_row_loops eepi_row_loops_plain;
/* NULL where the compiler or the processor lacks them. Any thread. */
const eepi_row_loops *eepi_row_loops_avx2(void);
const eepi_row_loops *eepi_row_loops_avx512(void);

/* Columns first .. of a sum, one by one: what no whole vector is left for. */
void eepi_row_sum_columns(const eepk_rows_sum_args *a, uint32_t first);
#endif
