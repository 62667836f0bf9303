/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine asks of forms: their sizes, and the placement that physical ids are made under. */
#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/step/dispatch_form.h"

eep_status eep_form_sizes_get(eep_context *context, const eep_dispatch_args *args,
                              eep_form_sizes *sizes_out)
{
    eep_status status = eepi_check_context("eep_form_sizes_get", context);
    eep_dispatch_args a = {0};
    eep_form_sizes sizes;

    if (status == EEP_OK) {
        status = EEPI_STRUCT_TAKE(eep_dispatch_args, &a, args);
    }
    if (status == EEP_OK) {
        status = EEPI_STRUCT_CHECK(eep_form_sizes, sizes_out);
    }
    if (status == EEP_OK) {
        status = eepi_form_check_sizes("eep_form_sizes_get", &context->shape, &a);
    }
    if (status != EEP_OK) {
        return status;
    }
    sizes = eepi_form_sizes(&context->shape, &a);
    EEPI_STRUCT_GIVE(eep_form_sizes, sizes_out, &sizes);
    return EEP_OK;
}

/* ------------------------------------------------------------------ the live placement */

/* The bank that is live changes in eep_step_begin only, which this thread calls (rule T2). */
eep_status eep_live_placement_get(eep_context *context, eep_live_placement *live_out,
                                  int32_t *experts_out)
{
    eep_status status = eepi_check_own("eep_live_placement_get", context);
    eep_live_placement live = {.struct_bytes = sizeof live};
    const eepi_slot_map *map;
    const eepk_shape *s;
    size_t num;

    if (status == EEP_OK && EEPI_STRUCT_CHECK(eep_live_placement, live_out) != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status != EEP_OK) {
        return status;
    }
    s = &context->shape;
    map = eepi_tables_slot_map(context->tables);
    if (map->placement == 0) {
        return eepi_fail(context, EEP_ERR_NOT_FOUND,
                         "eep_live_placement_get: no view is live yet: the first eep_step_begin "
                         "switches to one");
    }
    num = (size_t)s->num_layers * s->max_ranks * s->num_slots;
    for (size_t i = 0; i < num && experts_out; i++) {
        experts_out[i] = map->experts[i] == EEPK_NO_EXPERT_HERE ? -1 : (int32_t)map->experts[i];
    }
    live.epoch = map->epoch;
    live.placement = map->placement;
    EEPI_STRUCT_GIVE(eep_live_placement, live_out, &live);
    return EEP_OK;
}
