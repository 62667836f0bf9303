/* SPDX-License-Identifier: Apache-2.0 */
/* What this rank sends to repairs of others. Service thread, but for its beginning and end. */
#ifndef EEPI_SERVE_H
#define EEPI_SERVE_H

#include "transport/bulk/bulk.h"

struct eepi_serving;

enum { EEPI_SERVED_AT_ONCE = 2 }; /* experts that wait in pinned memory to be sent */

/* In eep_open: EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_serving_new(eep_context *context);
/* In eep_join, before the executor. */
EEP_MUST_CHECK eep_status eepi_serving_open(eep_context *context);
void eepi_serving_close(eep_context *context);
/* The bulk's functions. Name the tensors of an expert, 0: they are not available now. They were
 * sent. */
int eepi_serve(void *context, const eepi_blob *blob, uint64_t bytes, eepi_bulk_part *parts_out);
void eepi_served(void *context, const eepi_bulk_part *parts, int num_parts);
#endif
