/* SPDX-License-Identifier: Apache-2.0 */
/* The mask of the active ranks, in both polarities. libeep's word is active; who masks is told the
 * other one here and nowhere else. */
#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/step/capture_state.h"

static eep_status check_kind(const char *call, eep_mask_kind kind)
{
    return kind == EEP_MASK_ACTIVE || kind == EEP_MASK_MASKED
               ? EEP_OK
               : eepi_refuse(EEP_ERR_INVALID,
                             "%s: kind is %d: EEP_MASK_ACTIVE and EEP_MASK_MASKED are possible",
                             call, (int)kind);
}

const int32_t *eep_active_mask(const eep_context *context)
{
    return context ? eepi_tables_active_mask(context->tables) : NULL;
}

eep_status eep_mask_get(eep_context *context, eep_mask_kind kind, int32_t *mask_out,
                        uint64_t *epoch_out)
{
    eep_status status = eepi_check_context("eep_mask_get", context);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_mask_get", "mask_out", mask_out);
    }
    if (status == EEP_OK) {
        status = check_kind("eep_mask_get", kind);
    }
    if (status != EEP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->lock);
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        const eep_seat_state state = context->observed.seats[seat].state;
        const bool is_active = state == EEP_SEAT_ACTIVE || state == EEP_SEAT_RETIRING;
        mask_out[seat] = is_active == (kind == EEP_MASK_ACTIVE);
    }
    if (epoch_out) {
        *epoch_out = context->observed.seats_epoch;
    }
    pthread_mutex_unlock(&context->lock);
    return EEP_OK;
}

eep_status eep_mask_put(eep_context *context, eep_stream *stream, eep_mask_kind kind,
                        int32_t *mask_out)
{
    eep_status status = eepi_capture_check_stream(context, "eep_mask_put", stream);
    eepk_mask_args args;

    if (status == EEP_OK) {
        status = eepi_check_argument(context, "eep_mask_put", "mask_out", mask_out);
    }
    if (status == EEP_OK && check_kind("eep_mask_put", kind) != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status != EEP_OK) {
        return status;
    }
    args =
        (eepk_mask_args){eepi_tables_world(context->tables), mask_out, kind == EEP_MASK_MASKED, 0};
    return eepi_capture_put(context, stream, EEPI_KERNEL_mask, 1, EEPI_EXCHANGE_THREADS, &args,
                            sizeof args);
}
