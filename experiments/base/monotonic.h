/* SPDX-License-Identifier: Apache-2.0 */
/* The laboratory's clock, in the units that its programs count in: libeep's, which all processes of
 * a machine share. Any thread. */
#ifndef EEPX_MONOTONIC_H
#define EEPX_MONOTONIC_H

#include "graphs/base/clock.h"

static inline uint64_t now_ns(void)
{
    return eepi_now_ns();
}

static inline double now_ms(void)
{
    return (double)eepi_now_ns() / 1e6;
}

static inline double now_s(void)
{
    return (double)eepi_now_ns() / 1e9;
}
#endif
