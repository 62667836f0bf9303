/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes of a context's steps: what a caller asks about them, and the graphs of each. */
#include "eep/shapes.h"

#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/step/capture_state.h"
#include "membership/step/step_shapes.h"

int32_t eep_num_shapes(const eep_context *context)
{
    return context ? (int32_t)context->shape.num_shapes : 0;
}

eep_status eepi_shape_check(eep_context *context, const char *call, int32_t shape)
{
    if (shape < 0 || shape >= (int32_t)context->shape.num_shapes) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: shape is %d: 0 to %u are possible (shapes of eep_config)", call,
                         shape, context->shape.num_shapes - 1);
    }
    return EEP_OK;
}

eep_status eep_shape_get(eep_context *context, int32_t shape, eep_shape_info *info_out)
{
    eep_status status = eepi_check_context("eep_shape_get", context);
    const eepk_step_shape *of;

    if (status == EEP_OK) {
        status = EEPI_STRUCT_CHECK(eep_shape_info, info_out);
    }
    if (status == EEP_OK && (shape < 0 || shape >= (int32_t)context->shape.num_shapes)) {
        status = eepi_refuse(EEP_ERR_INVALID,
                             "eep_shape_get: shape is %d: 0 to %u are possible (shapes of "
                             "eep_config)",
                             shape, context->shape.num_shapes - 1);
    }
    if (status != EEP_OK) {
        return status;
    }
    of = &context->shape.shapes[shape];
    EEPI_STRUCT_GIVE(
        eep_shape_info, info_out,
        (&(eep_shape_info){.max_tokens = shape == 0 ? context->config.num_max_tokens_per_rank
                                                    : context->config.shapes[shape - 1].max_tokens,
                           .num_chunks = (int32_t)of->num_chunks,
                           .chunk_tokens = (int32_t)of->chunk_tokens,
                           .rows_capacity = (uint64_t)context->shape.max_ranks * of->chunk_tokens *
                                            eepk_rows_per_token(&context->shape)}));
    return EEP_OK;
}

eep_status eep_step_latch_shape(eep_context *context, int32_t shape, eep_stream *stream)
{
    eep_status status = eepi_capture_check_stream(context, "eep_step_latch_shape", stream);

    if (status == EEP_OK) {
        status = eepi_shape_check(context, "eep_step_latch_shape", shape);
    }
    return status == EEP_OK ? eepi_capture_latch(context, "eep_step_latch_shape", shape, stream)
                            : status;
}
