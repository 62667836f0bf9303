/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of lanes over a table of what a machine could have. No GPU is needed, or asked. */
#include "repair/executor/lane.h"

#include <criterion/criterion.h>

Test(lane, every_combination_has_its_lane)
{
    static const struct {
        eepi_lane_facts facts;
        eepi_lane lane;
    } table[] = {
        {{EEPI_MEMORY_OF_HOST, EEP_BULK_AUTO, 0, false}, EEPI_LANE_SHM},
        {{EEPI_MEMORY_OF_HOST, EEP_BULK_SHM, 0, false}, EEPI_LANE_SHM},
        {{EEPI_MEMORY_OF_HOST, EEP_BULK_UCX, EEPI_UCX_VERSION(1, 13), false}, EEPI_LANE_UCX_HOST},
        {{EEPI_MEMORY_OF_HOST, EEP_BULK_UCX, EEPI_UCX_VERSION(1, 22), true}, EEPI_LANE_UCX_HOST},
        {{EEPI_MEMORY_OF_CUDA, EEP_BULK_AUTO, 0, false}, EEPI_LANE_STAGED},
        {{EEPI_MEMORY_OF_CUDA, EEP_BULK_SHM, 0, true}, EEPI_LANE_STAGED},
        {{EEPI_MEMORY_OF_CUDA, EEP_BULK_UCX, EEPI_UCX_VERSION(1, 13), false}, EEPI_LANE_STAGED},
        {{EEPI_MEMORY_OF_CUDA, EEP_BULK_UCX, EEPI_UCX_VERSION(1, 15), true}, EEPI_LANE_STAGED},
        {{EEPI_MEMORY_OF_CUDA, EEP_BULK_UCX, EEPI_UCX_VERSION(1, 16), true}, EEPI_LANE_UCX_CUDA},
        {{EEPI_MEMORY_OF_CUDA, EEP_BULK_UCX, EEPI_UCX_VERSION(1, 22), true}, EEPI_LANE_UCX_CUDA},
        {{EEPI_MEMORY_OF_CUDA, EEP_BULK_UCX, EEPI_UCX_VERSION(1, 22), false}, EEPI_LANE_STAGED},
        {{EEPI_MEMORY_OF_CUDA, EEP_BULK_UCX, EEPI_UCX_VERSION(2, 0), true}, EEPI_LANE_UCX_CUDA},
        {{EEPI_MEMORY_OF_OTHER, EEP_BULK_UCX, EEPI_UCX_VERSION(1, 22), true}, EEPI_LANE_STAGED},
        {{EEPI_MEMORY_OF_OTHER, EEP_BULK_SHM, 0, false}, EEPI_LANE_STAGED},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const eepi_lane lane = eepi_lane_of(&table[i].facts);
        cr_expect_eq(lane, table[i].lane, "case %zu: lane %d, not %d", i, (int)lane,
                     (int)table[i].lane);
    }
}

/* Behind live traffic a slot gets checked bytes only (rules R1 and M2). */
Test(lane, weights_land_in_a_slot_in_a_pause_only)
{
    static const eepi_memory_place places[] = {EEPI_MEMORY_OF_HOST, EEPI_MEMORY_OF_CUDA,
                                               EEPI_MEMORY_OF_OTHER};

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const eepi_lane_facts facts = {.memory = places[i]};
        cr_expect_eq(eepi_landing_of(&facts, true), EEPI_LANDING_STAGED, "place %zu", i);
        cr_expect_eq(eepi_landing_of(&facts, false),
                     places[i] == EEPI_MEMORY_OF_HOST ? EEPI_LANDING_SLOT : EEPI_LANDING_STAGED,
                     "place %zu", i);
    }
}
