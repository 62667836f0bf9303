/* SPDX-License-Identifier: Apache-2.0 */
/* Times and policies of a configuration, in one table: what holds by default, while an engine is
 * brought up, and where faults are to be seen within a second. docs/DEFAULTS.md has the reasons. */
#include "eep/eep.h"
#include "graphs/base/public_call.h"

#include <stddef.h>
#include <string.h>

#define SECOND_US 1000000ull

typedef struct profile_field {
    uint32_t offset, bytes;
    uint64_t values[3]; /* by eep_profile */
} profile_field;

#define FIELD(name, normal, bring_up, quick)                                                       \
    {                                                                                              \
        offsetof(eep_config, name), sizeof(((eep_config *)0)->name),                               \
        {                                                                                          \
            normal, bring_up, quick                                                                \
        }                                                                                          \
    }
static const profile_field fields[] = {
    FIELD(heartbeat_period_us, 10000, 10000, 10000),
    FIELD(heartbeat_suspect_us, 30000, 30000, 30000),
    FIELD(step_deadline_us, 40 * SECOND_US, 3600 * SECOND_US, 1 * SECOND_US),
    FIELD(warmup_deadline_us, 120 * SECOND_US, 3600 * SECOND_US, 10 * SECOND_US),
    FIELD(expel_floor_us, 40 * SECOND_US, 3600 * SECOND_US, 1 * SECOND_US),
    FIELD(drain_bound_us, 40 * SECOND_US, 3600 * SECOND_US, 1 * SECOND_US),
    FIELD(propose_delay_us, 20000, 20000, 20000),
    FIELD(join_timeout_us, 300 * SECOND_US, 3600 * SECOND_US, 60 * SECOND_US),
    FIELD(background_bytes_per_s, 1000000000, 1000000000, 1000000000),
    FIELD(loads_period_us, 10 * SECOND_US, 10 * SECOND_US, 1 * SECOND_US),
    FIELD(kill_fence, 1, 0, 1),
    FIELD(bind_threads, 0, 0, 0),
};

eep_status eep_config_profile(eep_config *config, eep_profile profile)
{
    eep_status status = EEPI_STRUCT_CHECK(eep_config, config);

    if (status != EEP_OK) {
        return status;
    }
    if (profile < EEP_PROFILE_DEFAULT || profile > EEP_PROFILE_QUICK) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_config_profile: profile is %d: it must be EEP_PROFILE_DEFAULT (%d) "
                           "to EEP_PROFILE_QUICK (%d)",
                           (int)profile, EEP_PROFILE_DEFAULT, EEP_PROFILE_QUICK);
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const profile_field *field = &fields[i];
        uint64_t value = field->values[profile];
        int32_t flag = (int32_t)value;
        const void *from = field->bytes == sizeof flag ? (const void *)&flag : &value;
        if (field->offset + field->bytes <= config->struct_bytes) { /* a caller's may be shorter */
            memcpy((unsigned char *)config + field->offset, from, field->bytes);
        }
    }
    return EEP_OK;
}
