/* SPDX-License-Identifier: Apache-2.0 */
/* The table of retries. */
#include "membership/context/retries.h"

void eepi_retry_set(eepi_retries *retries, eepi_retry_kind kind, uint64_t due_us, uint64_t digest,
                    eepi_retry_run run)
{
    retries->entries[kind] = (eepi_retry){.due_us = due_us, .digest = digest, .run = run};
}

void eepi_retry_drop(eepi_retries *retries, eepi_retry_kind kind)
{
    retries->entries[kind] = (eepi_retry){0};
}

void eepi_retry_hurry(eepi_retries *retries, eepi_retry_kind kind)
{
    retries->entries[kind].due_us = 0;
}

void eepi_retry_run_due(eep_context *context, eepi_retries *retries, eepi_retry_kind kind,
                        uint64_t now_us)
{
    eepi_retry *retry = &retries->entries[kind];
    const eepi_retry due = *retry;

    if (!due.run || now_us < due.due_us) {
        return;
    }
    *retry = (eepi_retry){0};
    if (!due.run(context, due.digest) && !retry->run) {
        *retry = due;
        retry->is_blocked = true;
    }
}

uint64_t eepi_retries_wake_us(const eepi_retries *retries)
{
    uint64_t wake_us = UINT64_MAX;

    for (int kind = 0; kind < EEPI_NUM_RETRIES; kind++) {
        const eepi_retry *retry = &retries->entries[kind];
        if (kind != EEPI_RETRY_FILL && retry->run && retry->due_us != 0 && !retry->is_blocked &&
            retry->due_us < wake_us) {
            wake_us = retry->due_us;
        }
    }
    return wake_us;
}
