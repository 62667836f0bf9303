/* SPDX-License-Identifier: Apache-2.0 */
/* What was wrong with a step's input, by name. */
#include "membership/step/bad_input.h"

#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/step/capture.h"
#include "membership/step/step.h"

eep_status eepi_step_say_bad_input(eep_context *context, const eepk_status *s)
{
    const char *const about[] = {
        [EEP_BAD_NUM_TOKENS] = "",
        [EEP_BAD_EXPERT_RANGE] = "is out of range",
        [EEP_BAD_EXPERT_TWICE] = "was named by this token at a lower k already (twice)",
        [EEP_BAD_EXPERT_UNCOVERED] = "has no replica in this view",
        [EEP_BAD_PLACEMENT] = "",
        [EEP_BAD_SEAT_INACTIVE] = "is of a seat that is not active",
        [EEP_BAD_SLOT_EMPTY] = "is of a slot that is empty or being filled"};
    static const eep_bad_kind kinds[] = {
        [EEPK_INPUT_TOPK] = EEP_BAD_EXPERT_RANGE,
        [EEPK_INPUT_TOKENS] = EEP_BAD_NUM_TOKENS,
        [EEPK_INPUT_TWICE] = EEP_BAD_EXPERT_TWICE,
        [EEPK_INPUT_UNCOVERED] = EEP_BAD_EXPERT_UNCOVERED,
        [EEPK_INPUT_PLACEMENT] = EEP_BAD_PLACEMENT,
        [EEPK_INPUT_NO_SEAT] = EEP_BAD_SEAT_INACTIVE,
        [EEPK_INPUT_NO_EXPERT] = EEP_BAD_SLOT_EMPTY,
    };
    eep_bad_input *bad = &context->steps->bad;
    const bool is_physical = eepi_capture_has_physical_ids(context, (int32_t)s->bad_chain);

    *bad = (eep_bad_input){.struct_bytes = sizeof *bad,
                           .kind = kinds[s->bad_input],
                           .layer = (int32_t)s->bad_layer,
                           .chain = (int32_t)s->bad_chain,
                           .chunk = (int32_t)s->bad_chunk,
                           .token = -1,
                           .k = -1,
                           .value = s->bad_value,
                           .step = context->stepper.step};
    if (bad->kind == EEP_BAD_NUM_TOKENS) {
        return eepi_fail(context, EEP_ERR_BAD_STEP_INPUT,
                         "layer %d: num_tokens is %d: 0 to %u are possible", bad->layer, bad->value,
                         s->max_tokens);
    }
    if (bad->kind == EEP_BAD_PLACEMENT) {
        return eepi_fail(context, EEP_ERR_BAD_STEP_INPUT,
                         "layer %d: the physical ids were made under placement %016llx, and the "
                         "step goes by %016llx: make them under that of eep_live_placement_get",
                         bad->layer, (unsigned long long)s->bad_placement,
                         (unsigned long long)eepi_tables_slot_map(context->tables)->placement);
    }
    bad->token = (int32_t)s->bad_token;
    bad->k = (int32_t)s->bad_k;
    bad->num_bad_tokens = (int32_t)s->num_bad;
    return eepi_fail(context, EEP_ERR_BAD_STEP_INPUT,
                     "layer %d, token %d, k %d: %s id %d %s (%s 0 to %d, -1 for none); %d tokens "
                     "are bad: drop this one's request",
                     bad->layer, bad->token, bad->k, is_physical ? "physical" : "expert",
                     bad->value, about[bad->kind], is_physical ? "ids" : "experts",
                     is_physical ? context->config.max_ranks * context->config.num_slots - 1
                                 : context->config.num_experts - 1,
                     bad->num_bad_tokens);
}

eep_status eep_bad_input_get(eep_context *context, eep_bad_input *bad_out)
{
    eep_status status = eepi_check_own("eep_bad_input_get", context);

    if (status == EEP_OK && EEPI_STRUCT_CHECK(eep_bad_input, bad_out) != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status != EEP_OK) {
        return status;
    }
    if (context->steps->bad.step == 0) {
        return eepi_fail(context, EEP_ERR_NOT_FOUND,
                         "eep_bad_input_get: no step ended with EEP_ERR_BAD_STEP_INPUT so far");
    }
    EEPI_STRUCT_GIVE(eep_bad_input, bad_out, &context->steps->bad);
    return EEP_OK;
}
