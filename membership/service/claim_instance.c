/* SPDX-License-Identifier: Apache-2.0 */
/* The instance that the store names. All of its ranks have the same numbers: those of the first
 * that was opened. */
#include "membership/service/claim_instance.h"

#include "graphs/base/clock.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/context/records.h"
#include "membership/process/seat_file.h"
#include "membership/claim/claim_ask.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void log_advice(const eep_context *context, const eepi_instance *own,
                       const eepi_instance *theirs)
{
    const char *field;

    for (int at = 0; (field = eepi_instance_advises(own, theirs, &at)) != NULL; at++) {
        eepi_log(context, EEP_LOG_WARN,
                 "%s is %llu here and %llu on the rank that opened first: ranks will not judge "
                 "each other alike",
                 field, (unsigned long long)own->advice[at],
                 (unsigned long long)theirs->advice[at]);
    }
}

/* Names what the ranks of this instance leave in shared memory. Whoever puts the instance into the
 * store has chosen it: no two processes of a machine begin one in the same nanosecond. */
static uint64_t new_identity(const eep_context *context)
{
    const uint64_t named[4] = {(uint64_t)getpid(), context->process.start, context->process.home,
                               eepi_now_ns()};
    uint64_t mixed = 0;

    for (int i = 0; i < 4; i++) {
        mixed = (mixed ^ named[i]) * 0x9e3779b97f4a7c15u;
        mixed ^= mixed >> 29;
    }
    return mixed;
}

/* Is a process left that holds a seat? */
static bool anybody_holds(const eep_context *context, int32_t num_seats)
{
    for (int32_t seat = 0; seat < num_seats && seat < EEP_MAX_RANKS; seat++) {
        eepi_seat_holder holder;
        if (eepi_seat_look(context->store_path, seat, &holder) != EEP_OK ||
            !eepi_seat_has_ended(context->store_path, seat, context->process.home, &holder)) {
            return true;
        }
    }
    return false;
}

eep_status eepi_begins_just_now(eep_context *context)
{
    return eepi_fail(context, EEP_ERR_INVALID, "another instance begins just now: try again");
}

/* The instance in the store has another configuration. If it has ended, ours takes its place. The
 * numbers are written first and decide between several new instances; the view follows
 * (claim_view.c). */
static eep_status replace_instance(eep_context *context, const eepi_instance *own,
                                   const char *difference, int32_t num_seats, uint64_t revision,
                                   eepi_instance *instance_out)
{
    uint64_t view_revision = 0;
    const char *why = "";
    void *value = NULL;
    size_t size = 0;
    bool has_ended;
    eep_status status;

    if (anybody_holds(context, num_seats)) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s, which runs: give all ranks the same configuration, or another store",
                         difference);
    }
    status = eepi_ask_store(context, eepi_store_get(context->store, EEPI_KEY_VIEW), &value, &size,
                            &view_revision);
    has_ended =
        value && eepi_view_check(value, size, &why) == EEP_OK && eepi_view_num_active(value) == 0;
    free(value);
    value = NULL;
    if (status == EEP_OK && !has_ended) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s that used this store: none of its processes is left, and it has not "
                         "ended in order (eep_instance_end); eep_store_forget, or eep-store "
                         "--forget, removes what it left",
                         difference);
    }
    if (status == EEP_OK) {
        status = eepi_ask_store(
            context, eepi_store_cas(context->store, EEPI_KEY_INSTANCE, revision, own, sizeof *own),
            &value, &size, &revision);
    }
    free(value);
    if (status == EEP_ERR_CONFLICT) {
        return eepi_begins_just_now(context);
    }
    *instance_out = *own;
    return status == EEP_OK ? EEP_OK : eepi_store_is_silent(context, status);
}

eep_status eepi_check_instance(eep_context *context, eepi_instance *instance_out)
{
    eepi_instance own = eepi_instance_of(&context->config);
    char difference[EEPI_INSTANCE_TEXT_BYTES];
    bool differs;
    uint64_t revision;
    int32_t num_seats = 0;
    void *value = NULL;
    size_t size = 0;
    eep_status status;

    own.identity = new_identity(context);
    status = eepi_ask_store(context,
                            eepi_store_cas(context->store, EEPI_KEY_INSTANCE, 0, &own, sizeof own),
                            &value, &size, &revision);

    if (status == EEP_ERR_CONFLICT) {
        status = eepi_ask_store(context, eepi_store_get(context->store, EEPI_KEY_INSTANCE), &value,
                                &size, &revision);
    }
    if (status != EEP_OK) {
        return eepi_store_is_silent(context, status);
    }
    differs = value && eepi_instance_differs(&own, value, size, difference);
    if (value && !differs && size == sizeof own) {
        memcpy(instance_out, value, size);
        log_advice(context, &own, instance_out);
    } else {
        *instance_out = own;
    }
    num_seats = value ? eepi_instance_seats(value, size) : 0;
    free(value);
    return differs ? replace_instance(context, &own, difference, num_seats, revision, instance_out)
                   : EEP_OK;
}

eep_status eepi_check_numbers(eep_context *context)
{
    eepi_instance own = eepi_instance_of(&context->config);
    char difference[EEPI_INSTANCE_TEXT_BYTES];
    uint64_t revision;
    void *value = NULL;
    size_t size = 0;
    eep_status status = eepi_ask_store(context, eepi_store_get(context->store, EEPI_KEY_INSTANCE),
                                       &value, &size, &revision);

    if (status != EEP_OK) {
        status = eepi_store_is_silent(context, status);
    } else if (value && eepi_instance_differs(&own, value, size, difference)) {
        status = eepi_begins_just_now(context);
    }
    free(value);
    return status;
}
