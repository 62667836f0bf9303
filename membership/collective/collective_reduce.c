/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions. Sums of integers wrap, so they are made without a sign. */
#include "membership/collective/collective_reduce.h"

size_t eepi_reduce_type_bytes(eep_reduce_type type)
{
    switch (type) {
    case EEP_REDUCE_INT32:
    case EEP_REDUCE_FP32:
        return 4;
    case EEP_REDUCE_INT64:
    case EEP_REDUCE_FP64:
        return 8;
    default:
        return 0;
    }
}

bool eepi_reduce_is_possible(eep_reduce_type type, eep_reduce_op op)
{
    const bool is_int = type == EEP_REDUCE_INT32 || type == EEP_REDUCE_INT64;

    return eepi_reduce_type_bytes(type) != 0 && op >= EEP_REDUCE_SUM && op <= EEP_REDUCE_OR &&
           (is_int || op <= EEP_REDUCE_MAX);
}

#define INTEGERS(name, type, unsigned_type)                                                        \
    static type name(type a, type b, eep_reduce_op op)                                             \
    {                                                                                              \
        switch (op) {                                                                              \
        case EEP_REDUCE_SUM:                                                                       \
            return (type)((unsigned_type)a + (unsigned_type)b);                                    \
        case EEP_REDUCE_MIN:                                                                       \
            return a < b ? a : b;                                                                  \
        case EEP_REDUCE_MAX:                                                                       \
            return a > b ? a : b;                                                                  \
        case EEP_REDUCE_AND:                                                                       \
            return a & b;                                                                          \
        default:                                                                                   \
            return a | b;                                                                          \
        }                                                                                          \
    }
INTEGERS(of_int32, int32_t, uint32_t)
INTEGERS(of_int64, int64_t, uint64_t)

/* A NaN is not equal to itself. */
#define FLOATS(name, type)                                                                         \
    static type name(type a, type b, eep_reduce_op op)                                             \
    {                                                                                              \
        if (op == EEP_REDUCE_SUM) {                                                                \
            return a + b;                                                                          \
        }                                                                                          \
        if (a != a || b != b) {                                                                    \
            return a != a ? b : a;                                                                 \
        }                                                                                          \
        return (op == EEP_REDUCE_MIN) == (a < b) ? a : b;                                          \
    }
FLOATS(of_fp32, float)
FLOATS(of_fp64, double)

#define ALL(type, one)                                                                             \
    do {                                                                                           \
        type *to_all = to;                                                                         \
        const type *from_all = from;                                                               \
        for (size_t i = 0; i < count; i++) {                                                       \
            to_all[i] = one(to_all[i], from_all[i], op);                                           \
        }                                                                                          \
    } while (0)

void eepi_reduce(void *to, const void *from, size_t count, eep_reduce_type type, eep_reduce_op op)
{
    switch (type) {
    case EEP_REDUCE_INT32:
        ALL(int32_t, of_int32);
        break;
    case EEP_REDUCE_INT64:
        ALL(int64_t, of_int64);
        break;
    case EEP_REDUCE_FP32:
        ALL(float, of_fp32);
        break;
    default:
        ALL(double, of_fp64);
        break;
    }
}
