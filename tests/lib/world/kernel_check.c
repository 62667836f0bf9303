/* SPDX-License-Identifier: Apache-2.0 */
/* A step of a kernel_world, checked. */
#include "tests/lib/world/kernel_check.h"

#include <criterion/criterion.h>
#include <stdlib.h>

uint64_t kernel_first_seed(void)
{
    const char *text = getenv("EEP_TEST_SEED");

    return text ? strtoull(text, NULL, 0) : 20260511;
}

void kernel_check_step(kernel_world *w, uint64_t step, uint64_t seed)
{
    kernel_world_step(w, step);
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        const eepk_status *status = eepi_tables_status(w->rank[seat].tables);
        if (!kernel_is_member(w, seat)) {
            continue;
        }
        cr_assert_eq(status->result, EEPK_STEP_OK, "seat %d, " KERNEL_REPLAY, seat,
                     KERNEL_SEED(seed));
        cr_assert_eq(status->stale_dropped, 0, KERNEL_REPLAY, KERNEL_SEED(seed));
        cr_assert_eq(status->bad_input, EEPK_INPUT_OK, KERNEL_REPLAY, KERNEL_SEED(seed));
        cr_assert_lt(kernel_rank_compare(w, seat, false), 0, "seat %d, step %llu, " KERNEL_REPLAY,
                     seat, (unsigned long long)step, KERNEL_SEED(seed));
    }
}
