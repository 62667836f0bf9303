/* SPDX-License-Identifier: Apache-2.0 */
/* The word that members agree by, and reductions. */
#include "membership/collective/collective_ledger.h"
#include "membership/collective/collective_reduce.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(collective_ledger, .timeout = 20);

Test(collective_ledger, P13_numbers_end_one_after_the_other)
{
    uint64_t ledger = 0, number = 0;

    cr_assert(!eepi_ledger_end(&ledger, 5, 1), "it was never begun");
    cr_assert(!eepi_ledger_close(&ledger, 5, true, &number));
    eepi_ledger_begin(&ledger, 5, 7);
    eepi_ledger_begin(&ledger, 5, 3); /* the first one said so */
    cr_assert(!eepi_ledger_end(&ledger, 5, 9));
    cr_assert(eepi_ledger_end(&ledger, 5, 7), "long ago");
    cr_assert(eepi_ledger_end(&ledger, 5, 8));
    cr_assert(eepi_ledger_end(&ledger, 5, 8), "another one sees it, too");
    cr_assert(!eepi_ledger_end(&ledger, 4, 9) && !eepi_ledger_end(&ledger, 6, 9));
    cr_assert(eepi_ledger_close(&ledger, 5, false, &number));
    cr_assert_eq(number, 8);
    cr_assert(!eepi_ledger_end(&ledger, 5, 9), "closed");
    cr_assert(eepi_ledger_end(&ledger, 5, 8), "what has ended stays so");
}

Test(collective_ledger, P13_an_older_epoch_never_comes_back)
{
    uint64_t ledger = 0, number = 0;

    eepi_ledger_begin(&ledger, 5, 7);
    eepi_ledger_begin(&ledger, 6, 8);
    eepi_ledger_begin(&ledger, 5, 9);
    cr_assert_eq(eepi_ledger_number(ledger), 8);
    cr_assert(!eepi_ledger_end(&ledger, 5, 8), "whoever still runs it");
    cr_assert(eepi_ledger_close(&ledger, 5, true, &number));
    cr_assert_eq(number, 8, "a member of both");
    cr_assert(!eepi_ledger_close(&ledger, 5, false, &number), "one that is out cannot tell");
    cr_assert(eepi_ledger_end(&ledger, 6, 9), "no older close reaches it");
}

/* S13 */
Test(collective_ledger, epochs_wrap_in_their_bits)
{
    const uint64_t last = ((uint64_t)1 << EEPI_LEDGER_EPOCH_BITS) - 1;
    uint64_t ledger = 0;

    eepi_ledger_begin(&ledger, last, EEPI_LEDGER_MAX_NUMBER - 1);
    cr_assert(eepi_ledger_end(&ledger, last, EEPI_LEDGER_MAX_NUMBER));
    eepi_ledger_begin(&ledger, last + 1, 1);
    cr_assert_eq(eepi_ledger_ahead(ledger, last), 1 << (32 - EEPI_LEDGER_EPOCH_BITS));
    eepi_ledger_begin(&ledger, last, 2);
    cr_assert_eq(eepi_ledger_number(ledger), 1);
}

Test(collective_ledger, reductions_are_made_from_their_definition)
{
    const int32_t small[2] = {INT32_MIN, 6};
    const double numbers[2] = {NAN, -1.0};
    int32_t ints[2] = {-1, 3};
    double doubles[2] = {2.0, NAN};

    eepi_reduce(ints, small, 2, EEP_REDUCE_INT32, EEP_REDUCE_SUM);
    cr_assert(ints[0] == INT32_MAX && ints[1] == 9, "sums wrap");
    eepi_reduce(ints, small, 2, EEP_REDUCE_INT32, EEP_REDUCE_MIN);
    cr_assert(ints[0] == INT32_MIN && ints[1] == 6);
    eepi_reduce(ints, (const int32_t[]){5, 3}, 2, EEP_REDUCE_INT32, EEP_REDUCE_MAX);
    cr_assert(ints[0] == 5 && ints[1] == 6);
    eepi_reduce(ints, (const int32_t[]){3, 3}, 2, EEP_REDUCE_INT32, EEP_REDUCE_AND);
    cr_assert(ints[0] == 1 && ints[1] == 2);
    eepi_reduce(ints, (const int32_t[]){4, 1}, 2, EEP_REDUCE_INT32, EEP_REDUCE_OR);
    cr_assert(ints[0] == 5 && ints[1] == 3);
    eepi_reduce(doubles, numbers, 2, EEP_REDUCE_FP64, EEP_REDUCE_MIN);
    cr_assert(doubles[0] == 2.0 && doubles[1] == -1.0, "a number before a NaN");
    eepi_reduce(doubles, (const double[]){3.0, 0.5}, 2, EEP_REDUCE_FP64, EEP_REDUCE_SUM);
    cr_assert(doubles[0] == 5.0 && doubles[1] == -0.5);
    cr_assert(!eepi_reduce_is_possible(EEP_REDUCE_FP64, EEP_REDUCE_OR));
    cr_assert(!eepi_reduce_is_possible((eep_reduce_type)4, EEP_REDUCE_SUM));
    cr_assert(!eepi_reduce_is_possible(EEP_REDUCE_INT64, (eep_reduce_op)5));
}
