/* SPDX-License-Identifier: Apache-2.0 */
/* The placements that the options name: each file is read before the run, and again when it is
 * ordered. */
#include "experiments/setup/options.h"

#include <stdio.h>

eep_status options_read_placement(const options *self, const char *file, bool is_first,
                                  uint64_t *number_out, char *error)
{
    const placement_shape shape = {
        .num_layers = (int)self->num_layers,
        .max_ranks = (int)self->max_ranks,
        .num_slots = (int)self->num_slots,
        .num_experts = (int)self->num_experts,
        .num_members = (int)(is_first ? self->num_ranks : self->max_ranks),
    };
    placement_order order;
    eep_status status = placement_load(file, &shape, &order, error);
    if (status == EEP_OK) {
        *number_out = order.number;
        placement_free(&order);
    }
    return status == EEP_OK ? EEP_OK : EEP_ERR_INVALID;
}

static eep_status check_first(const options *self, char error[OPTIONS_ERROR_BYTES])
{
    char why[PLACEMENT_ERROR_BYTES];
    uint64_t number = 0;
    for (int i = 0; i < self->first_placement.num; i++) {
        int seat = self->first_placement.of[i].seat;
        if (seat >= self->max_ranks) {
            return args_fail(error,
                             "--first-placement: rank %d does not exist: the seats are 0 to "
                             "%d",
                             seat, (int)self->max_ranks - 1);
        }
        if (options_read_placement(self, self->first_placement.of[i].file, true, &number, why) !=
            EEP_OK) {
            return args_fail(error, "--first-placement: %s", why);
        }
    }
    return EEP_OK;
}

eep_status options_check_placements(const options *self, char error[OPTIONS_ERROR_BYTES])
{
    char why[PLACEMENT_ERROR_BYTES], place[32] = "";
    uint64_t number = 0;
    eep_status status = check_first(self, error);
    for (int i = 0; i < self->script.num_events && status == EEP_OK; i++) {
        const script_event *event = &self->script.event[i];
        if (event->verb != VERB_PLACEMENT) {
            continue;
        }
        if (event->line) {
            snprintf(place, sizeof place, "%d:%d: ", event->line, event->column);
        }
        if (self->background_mb_s == 0) {
            return args_fail(error,
                             "%s--placement: --background-rate is 0, and so nothing is moved "
                             "while ranks serve",
                             place);
        }
        if (options_read_placement(self, event->value.file, false, &number, why) != EEP_OK) {
            return args_fail(error, "%s--placement: %s", place, why);
        }
    }
    return status;
}
