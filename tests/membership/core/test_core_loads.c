/* SPDX-License-Identifier: Apache-2.0 */
/* What one core knows of the experts' loads, and what it makes of them. */
#include "tests/lib/one_core.h"

#include "membership/core/core_common.h"

enum { EXPERTS = 3, LAYERS = 2 };

static void open_core(void)
{
    eepi_core_config config = {
        .generation = 1, .num_ranks = RANKS, .shape = {RANKS, LAYERS, EXPERTS, 2}};
    open_empty(&config);
}

Test(core_loads, the_newest_loads_count_and_can_be_taken_back)
{
    static const uint32_t first[] = {5, 0, 7, 0, 0, 0}, second[] = {0, 0, 0, 1, 2, 3};
    open_core();
    cr_expect_null(eepi_core_loads(t.core, 0));
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = first});
    cr_assert_not_null(eepi_core_loads(t.core, 0));
    cr_expect_arr_eq(eepi_core_loads(t.core, 0), first, EXPERTS * sizeof first[0]);
    cr_expect_null(eepi_core_loads(t.core, 1), "no token came to that layer");
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = second});
    cr_expect_null(eepi_core_loads(t.core, 0));
    cr_assert_not_null(eepi_core_loads(t.core, 1));
    cr_expect_arr_eq(eepi_core_loads(t.core, 1), second + EXPERTS, EXPERTS * sizeof first[0]);
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = NULL});
    cr_expect_null(eepi_core_loads(t.core, 1));
    eepi_core_close(t.core);
}
