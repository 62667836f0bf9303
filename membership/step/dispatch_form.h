/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of a dispatch (eep/forms.h): whether arguments make one, and its nodes. */
#ifndef EEPI_DISPATCH_FORM_H
#define EEPI_DISPATCH_FORM_H

#include "eep/eep.h"
#include "graphs/kernels/kernel_args.h"

#include <stdbool.h>

/* EEP_ERR_INVALID, and the text: layout, slot_align or scale_form cannot be. Pure. */
EEP_MUST_CHECK eep_status eepi_form_check_sizes(const char *call, const eepk_shape *shape,
                                                const eep_dispatch_args *args);
/* The same for the buffers: what the form needs is there, and nothing that it leaves unused. */
EEP_MUST_CHECK eep_status eepi_form_check_buffers(const char *call, const eepk_shape *shape,
                                                  const eep_dispatch_args *args);
/* Sizes of a form that was checked. */
eep_form_sizes eepi_form_sizes(const eepk_shape *shape, const eep_dispatch_args *args);
/* What the form adds to the node's arguments. */
void eepi_form_fill(const eepk_shape *shape, const eep_dispatch_args *args,
                    eepk_dispatch_node_args *node);

/* Ids that the plain route node does not take. */
static inline bool eepi_form_has_ids(const eepk_dispatch_node_args *node)
{
    return node->topk_idx_int64 || node->is_physical;
}
/* Rows are not one behind the other. */
static inline bool eepi_form_has_gaps(const eepk_dispatch_node_args *node)
{
    return node->slot_rows != 0 || node->slot_align > 1;
}
/* Rows, scales or what is told of them that the plain receive does not give. */
static inline bool eepi_form_has_rows(const eepk_dispatch_node_args *node)
{
    return eepi_form_has_gaps(node) || node->scale_form != EEP_SCALES_ROWS || node->slot_counts ||
           node->source_tokens || node->layout_range;
}
#endif
