/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of waits, deadlines and records: CLOCK_MONOTONIC, the same for all processes of a
 * machine. Kernels have eepk_now_ns (compiler_macros.h). Any thread. */
#ifndef EEPI_CLOCK_H
#define EEPI_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t eepi_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t eepi_now_us(void)
{
    return eepi_now_ns() / 1000u;
}
#endif
