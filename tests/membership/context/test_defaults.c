/* SPDX-License-Identifier: Apache-2.0 */
/* docs/DEFAULTS.md says what the code does, value by value. */
#include "eep/eep.h"
#include "experiments/setup/options.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS = 4 }; /* default, bring-up, quick, eep-run */

typedef struct field {
    const char *name;
    size_t offset, bytes;
} field;
#define FIELD(name)                                                                                \
    {                                                                                              \
#name, offsetof(eep_config, name), sizeof(((eep_config *)0)->name)                         \
    }
static const field fields[] = {
    FIELD(heartbeat_period_us), FIELD(heartbeat_suspect_us), FIELD(step_deadline_us),
    FIELD(warmup_deadline_us),  FIELD(expel_floor_us),       FIELD(drain_bound_us),
    FIELD(propose_delay_us),    FIELD(join_timeout_us),      FIELD(background_bytes_per_s),
    FIELD(loads_period_us),     FIELD(kill_fence),           FIELD(bind_threads),
};

static uint64_t value_of(const eep_config *config, const field *f)
{
    uint64_t wide = 0;
    int32_t narrow;

    memcpy(f->bytes == sizeof wide ? (void *)&wide : (void *)&narrow,
           (const char *)config + f->offset, f->bytes);
    return f->bytes == sizeof wide ? wide : (uint64_t)narrow;
}

/* The row of a field in the table; 0: there is none. */
static int row_of(const char *name, uint64_t values_out[COLUMNS])
{
    char line[512], cell[80];
    FILE *file = fopen(EEP_DEFAULTS_TABLE, "r");
    int found = 0;

    cr_assert_not_null(file, "%s", EEP_DEFAULTS_TABLE);
    snprintf(cell, sizeof cell, "| `%s` |", name);
    while (!found && fgets(line, sizeof line, file)) {
        found =
            strncmp(line, cell, strlen(cell)) == 0 &&
            sscanf(line + strlen(cell), " %" SCNu64 " | %" SCNu64 " | %" SCNu64 " | %" SCNu64 " |",
                   &values_out[0], &values_out[1], &values_out[2], &values_out[3]) == COLUMNS;
    }
    fclose(file);
    return found;
}

Test(defaults, the_table_has_the_values_of_the_code)
{
    eep_config configs[COLUMNS];
    options lab;

    for (int i = 0; i < COLUMNS; i++) {
        eep_config_init(&configs[i]);
    }
    cr_assert_eq(eep_config_profile(&configs[1], EEP_PROFILE_BRING_UP), EEP_OK);
    cr_assert_eq(eep_config_profile(&configs[2], EEP_PROFILE_QUICK), EEP_OK);
    options_set_defaults(&lab);
    rank_setup setup;
    options_fill_rank(&lab, &setup);
    rank_setup_fill_context(&setup, &configs[3]);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        uint64_t said[COLUMNS];
        cr_assert(row_of(fields[i].name, said), "no row for %s", fields[i].name);
        for (int column = 0; column < COLUMNS; column++) {
            cr_expect_eq(said[column], value_of(&configs[column], &fields[i]),
                         "%s, column %d: the table says %" PRIu64 ", the code %" PRIu64,
                         fields[i].name, column, said[column],
                         value_of(&configs[column], &fields[i]));
        }
    }
}

/* What an engine must survive, whatever the table says: four seconds between two steps. That it
 * does is run by test_context_pauses, with these values and the pause divided alike. */
Test(defaults, a_pause_of_four_seconds_is_no_fault)
{
    eep_config config;

    eep_config_init(&config);
    cr_expect_gt(config.step_deadline_us, 8000000);
    cr_expect_gt(config.expel_floor_us, 8000000);
    cr_expect_gt(config.drain_bound_us, 8000000);
    cr_expect_eq(config.bind_threads, 0);
}

/* What include/eep/eep.h promises of each: a pause of the whole process, in any place, for so long,
 * beside a fault of somebody else, is no fault. */
Test(defaults, each_profile_gives_the_time_that_it_promises)
{
    static const uint64_t promised_us[] = {30000000, 3599999999, 0};
    eep_config config;

    for (int profile = EEP_PROFILE_DEFAULT; profile <= EEP_PROFILE_QUICK; profile++) {
        eep_config_init(&config);
        cr_assert_eq(eep_config_profile(&config, (eep_profile)profile), EEP_OK);
        const uint64_t least_us[] = {config.step_deadline_us, config.warmup_deadline_us,
                                     config.expel_floor_us, config.drain_bound_us};
        for (int i = 0; i < 4; i++) {
            cr_expect_gt(least_us[i], promised_us[profile], "profile %d, limit %d", profile, i);
        }
        cr_expect_eq(config.kill_fence, profile != EEP_PROFILE_BRING_UP);
    }
}

Test(defaults, a_profile_is_refused_or_whole)
{
    eep_config config;

    eep_config_init(&config);
    cr_expect_eq(eep_config_profile(NULL, EEP_PROFILE_QUICK), EEP_ERR_INVALID);
    cr_expect_eq(eep_config_profile(&config, (eep_profile)7), EEP_ERR_INVALID);
    config.rank = 5;
    config.stores_margin_us = 77;
    cr_expect_eq(eep_config_profile(&config, EEP_PROFILE_QUICK), EEP_OK);
    cr_expect(config.rank == 5 && config.stores_margin_us == 77);
}
