/* SPDX-License-Identifier: Apache-2.0 */
/* e4m3: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinity, largest 448, NaN 0x7f.
 * Integer code for both backends, so that they agree on every bit. */
#ifndef EEPK_FP8_H
#define EEPK_FP8_H

#include "eep/eep.h"
#include "graphs/kernels/compiler_macros.h"

enum { EEPK_FP8_GROUP = EEP_FP8_GROUP, EEPK_E4M3_NAN = 0x7f, EEPK_E4M3_LARGEST = 0x7e };
#define EEPK_E4M3_MAX      448.0f
#define EEPK_FP8_LEAST     1e-4f /* a group of smaller values is scaled as if it had this one */
#define EEPK_FP8_NO_NORMAL 0x3c800000u /* 2^-6 as a binary32: below it e4m3 is subnormal */

typedef union eepk_float_bits {
    float value;
    uint32_t bits;
} eepk_float_bits;

/* The scale of a group and what its values are multiplied by. */
typedef struct eepk_group_scale {
    float scale, inverse;
} eepk_group_scale;

/* Of a group whose largest magnitude is that, at least EEPK_FP8_LEAST. With `powers` the scale is
 * rounded up to a power of two (source: DeepEP's round_scale), at most 2^126: an infinity becomes
 * 448 then, and neither number is subnormal. */
EEPK_FN eepk_group_scale eepk_scale_group(float largest, uint32_t powers)
{
    eepk_group_scale group;
    eepk_float_bits u;
    uint32_t exponent;

    if (!powers) {
        group.inverse = EEPK_FDIV(EEPK_E4M3_MAX, largest);
        group.scale = EEPK_FMUL(largest, 1.0f / EEPK_E4M3_MAX);
        return group;
    }
    u.value = EEPK_FMUL(largest, 1.0f / EEPK_E4M3_MAX);
    exponent = (u.bits + 0x7fffffu) >> 23; /* rounded up */
    exponent = exponent < 253 ? exponent : 253;
    u.bits = exponent << 23;
    group.scale = u.value;
    u.bits = (254 - exponent) << 23;
    group.inverse = u.value;
    return group;
}

/* The exponent of a scale that is a power of two, as UE8M0 has it. */
EEPK_FN uint32_t eepk_scale_exponent(float scale)
{
    eepk_float_bits u;

    u.value = scale;
    return u.bits >> 23 & 0xffu;
}

/* Round to nearest, ties to even; what is larger than 448 becomes 448; NaN stays NaN. */
EEPK_FN uint8_t eepk_float_to_e4m3(float value)
{
    eepk_float_bits u, sum;
    uint32_t sign, magnitude;

    u.value = value;
    sign = u.bits >> 24 & 0x80u;
    magnitude = u.bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (uint8_t)(sign | EEPK_E4M3_NAN);
    }
    if (magnitude >= 0x43e00000u) { /* 448 */
        return (uint8_t)(sign | EEPK_E4M3_LARGEST);
    }
    if (magnitude < EEPK_FP8_NO_NORMAL) { /* 2^14 has an ulp of 2^-9, e4m3's smallest step */
        u.bits = magnitude;
        sum.value = EEPK_FADD(u.value, 16384.0f);
        return (uint8_t)(sign | (sum.bits - 0x46800000u));
    }
    magnitude += 0x7ffffu + (magnitude >> 20 & 1u);
    return (uint8_t)(sign | ((magnitude >> 20) - (120u << 3)));
}

EEPK_FN float eepk_e4m3_to_float(uint8_t code)
{
    uint32_t exponent = code >> 3 & 15u, mantissa = code & 7u;
    eepk_float_bits u;

    if ((code & 0x7fu) == EEPK_E4M3_NAN) {
        u.bits = 0x7fc00000u;
    } else if (exponent == 0) {
        u.value = EEPK_FMUL((float)mantissa, 0.001953125f); /* 2^-9 */
    } else {
        u.bits = (exponent + 120u) << 23 | mantissa << 20;
    }
    u.bits |= (uint32_t)(code & 0x80u) << 24;
    return u.value;
}
#endif
