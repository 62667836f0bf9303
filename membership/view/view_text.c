/* SPDX-License-Identifier: Apache-2.0 */
/* A view as one line of text, for logs and for failures of tests. */
#include "membership/view/view.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* Append to `text` at *length; what does not fit is cut there. */
__attribute__((format(printf, 4, 5))) static void append(char *text, size_t size, size_t *length,
                                                         const char *format, ...)
{
    va_list args;

    if (*length >= size) {
        return;
    }
    va_start(args, format);
    const int n = vsnprintf(text + *length, size - *length, format, args);
    va_end(args);
    if (n > 0) {
        *length += (size_t)n;
    }
}

void eepi_view_print(const eepi_view *view, char *text_out, size_t size)
{
    static const char *const causes[] = {"?", "initial", "fault", "repaired", "planned"};
    const char *cause = view->cause <= EEPI_VIEW_PLANNED ? causes[view->cause] : "?";
    const char *phase = view->phase == EEPI_VIEW_SERVING     ? "SERVING"
                        : view->phase == EEPI_VIEW_REPAIRING ? "REPAIRING"
                                                             : "?";
    size_t length = 0;

    append(text_out, size, &length, "epoch %llu %s %s:", (unsigned long long)view->epoch, phase,
           cause);
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *s = eepi_view_seat_at(view, seat);
        if (s->generation == 0) {
            continue;
        }
        append(text_out, size, &length, " %s%d.%u%s", eepi_view_is_member(view, seat) ? "" : "-",
               seat, s->generation,
               s->state == EEP_SEAT_RETIRING      ? "(retiring)"
               : s->state == EEP_SEAT_QUARANTINED ? "(quarantined)"
                                                  : "");
    }
}
