/* SPDX-License-Identifier: Apache-2.0 */
/* splitmix64 (Steele, Lea, Flood 2014): the random numbers of arrivals, targets, faults, inputs and
 * tests. The same state gives the same numbers on every machine. The model's weights and the oracle
 * have their own, which docs/MODEL.md defines. */
#ifndef EEPX_RANDOM_H
#define EEPX_RANDOM_H

#include <stdint.h>

/* The next number; any state is a good one to begin with. */
static inline uint64_t random_next(uint64_t *state_io)
{
    uint64_t z = *state_io += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
#endif
