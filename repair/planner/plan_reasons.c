/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a plan that fails. */
#include "repair/planner/plan_reasons.h"

#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 2, 3))) static void add(eepi_plan_reasons *r, const char *format, ...)
{
    va_list args;

    if (r->length >= r->size) {
        return;
    }
    va_start(args, format);
    const int n = vsnprintf(r->text + r->length, r->size - r->length, format, args);
    va_end(args);
    if (n > 0) {
        r->length += (size_t)n;
    }
}

void eepi_plan_reasons_name(eepi_plan_reasons *r, int layer, int expert)
{
    if (r->num_in_clause++ == 0) {
        add(r, "%slayer %d: experts", r->num_named ? "; " : "", layer);
    }
    r->num_named++;
    add(r, " %d", expert);
}

void eepi_plan_reasons_end_clause(eepi_plan_reasons *r, const char *predicate)
{
    if (r->num_in_clause) {
        add(r, " have %s", predicate);
    }
    r->num_in_clause = 0;
}

void eepi_plan_reasons_finish(eepi_plan_reasons *r)
{
    static const char more[] = "...";

    if (r->length < r->size || r->size < sizeof more) {
        return;
    }
    size_t end = r->size - sizeof more;
    while (end > 0 && r->text[end - 1] != ' ') {
        end--;
    }
    snprintf(r->text + end, r->size - end, "%s", more);
}
