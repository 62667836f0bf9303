/* SPDX-License-Identifier: Apache-2.0 */
/* Names of experts that cannot be restored, as text of bounded length: "layer 3: experts 5 17 have
 * no live copy or backup; layer 4: ..." */
#ifndef EEPI_PLAN_REASONS_H
#define EEPI_PLAN_REASONS_H

#include <stddef.h>

typedef struct eepi_plan_reasons {
    char *text; /* may be NULL if size is 0 */
    size_t size, length;
    int num_named, num_in_clause;
} eepi_plan_reasons;

void eepi_plan_reasons_name(eepi_plan_reasons *r, int layer, int expert);
/* What those have who were named since the last clause. */
void eepi_plan_reasons_end_clause(eepi_plan_reasons *r, const char *predicate);
/* A text that was cut ends after a whole word, with "...". */
void eepi_plan_reasons_finish(eepi_plan_reasons *r);
#endif
