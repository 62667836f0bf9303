/* SPDX-License-Identifier: Apache-2.0 */
/* Hot functions are compiled once per vector width and chosen when the program is loaded; not under
 * sanitizers, whose runtime does not exist yet at that moment. */
#ifndef EEPX_CLONES_H
#define EEPX_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES_FLOAT __attribute__((target_clones("avx512f", "avx2", "default")))
/* Plain loops over numbers, left to the vectoriser; the attribute forgets the command line's word
 * on contraction, so it is said again. */
#define CLONES_EXACT                                                                               \
    __attribute__((optimize("O3", "fp-contract=off"), target_clones("avx512f", "avx2", "default")))
/* With 64-bit integer products, left to the vectoriser; floating-point must be exact in it. */
#define CLONES_INTEGER                                                                             \
    __attribute__((optimize("O3"), target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define CLONES_FLOAT
#define CLONES_EXACT
#define CLONES_INTEGER
#endif
#endif
