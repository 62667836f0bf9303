/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays of a record that grow, and what a new view says of a process. */
#include "experiments/rows/record.h"

#include "membership/view/view.h"

#include <stdlib.h>
#include <string.h>

/* Arrays grow by powers of two: full when the number is one. NULL: no memory, nothing changed. */
static void *append(void *array_pointer, size_t *num, size_t bytes)
{
    char *array = NULL;
    memcpy(&array, array_pointer, sizeof array);
    if ((*num & (*num - 1)) == 0) {
        char *bigger = realloc(array, (*num ? 2 * *num : 1) * bytes);
        if (!bigger) {
            return NULL;
        }
        memcpy(array_pointer, &bigger, sizeof bigger);
        array = bigger;
    }
    void *last = array + *num * bytes;
    memset(last, 0, bytes);
    ++*num;
    return last;
}

record_process *record_add_process(record *self)
{
    return append(&self->processes, &self->num_processes, sizeof *self->processes);
}

record_restart *record_add_restart(record *self)
{
    return append(&self->restarts, &self->num_restarts, sizeof *self->restarts);
}

record_event *record_add_event(record *self)
{
    return append(&self->events, &self->num_events, sizeof *self->events);
}

record_placement *record_add_placement(record *self)
{
    return append(&self->placements, &self->num_placements, sizeof *self->placements);
}

record_view *record_add_view(record *self)
{
    uint32_t *generation = calloc((size_t)self->max_ranks, sizeof *generation);
    record_view *view =
        generation ? append(&self->views, &self->num_views, sizeof *self->views) : NULL;
    if (!view) {
        free(generation);
        return NULL;
    }
    view->generation = generation;
    return view;
}

record_fault *record_add_fault(record *self, size_t max_survivors)
{
    record_survivor *survivors = calloc(max_survivors + 1, sizeof *survivors);
    record_fault *fault =
        survivors ? append(&self->faults, &self->num_faults, sizeof *self->faults) : NULL;
    if (!fault) {
        free(survivors);
        return NULL;
    }
    fault->survivors = survivors;
    return fault;
}

record_change record_see_view(record_process *process, const record_view *view)
{
    bool is_in = process->generation && view->generation[process->seat] == process->generation;
    if (is_in && !process->seen_in_view) {
        process->seen_in_view = true;
        return RECORD_CAME;
    }
    if (!is_in && process->seen_in_view && !process->left_view) {
        process->left_view = true;
        process->left_by_fault = view->cause == EEPI_VIEW_FAULT;
        return RECORD_LEFT;
    }
    return RECORD_SAME;
}

bool record_left_as_asked(const record_process *process)
{
    return process->drain_ns && process->left_view && !process->left_by_fault;
}

void record_free(record *self)
{
    for (size_t i = 0; i < self->num_views; i++) {
        free(self->views[i].generation);
    }
    for (size_t i = 0; i < self->num_faults; i++) {
        free(self->faults[i].survivors);
    }
    free(self->processes);
    free(self->views);
    free(self->faults);
    free(self->restarts);
    free(self->events);
    free(self->placements);
    rows_free(&self->rows);
    *self = (record){0};
}
