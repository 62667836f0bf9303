/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of a step one by one. */
#include "tests/lib/put_nodes.h"

#include <string.h>

eep_status step_put_node(rank *r, char node, int32_t layer, eep_stream *stream)
{
    eep_dispatch_args dispatch = {.struct_bytes = sizeof dispatch,
                                  .x = r->x,
                                  .topk_idx = r->topk_idx,
                                  .num_tokens = r->num_tokens,
                                  .rows = r->chain[0].rows,
                                  .slot_begin = r->chain[0].slot_begin};
    eep_combine_args combine = {.struct_bytes = sizeof combine,
                                .rows = r->chain[0].results,
                                .topk_weights = r->topk_weights,
                                .num_tokens = r->num_tokens,
                                .out = r->out,
                                .out_dtype = EEP_FP32};

    switch (node) {
    case 'L':
        return eep_step_latch(r->context, stream);
    case 'D':
        return eep_dispatch(r->context, layer, stream, &dispatch);
    case 'C':
        return eep_combine(r->context, layer, stream, &combine);
    default:
        return eep_step_finish(r->context, stream);
    }
}

eep_status step_put_nodes(rank *r, const char *nodes, eep_stream *stream)
{
    eep_status status = EEP_OK;

    for (const char *at = nodes; *at; at++) {
        if (!strchr("LDCF", *at)) {
            continue;
        }
        cr_assert_eq(status, EEP_OK, "%s before %s: %s", nodes, at, eep_last_error(r->context));
        status = step_put_node(r, *at, at[1] - '0', stream);
    }
    return status;
}
