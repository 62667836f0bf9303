/* SPDX-License-Identifier: Apache-2.0 */
/* Files of placements become orders of this rank, and what comes of them is told. */
#include "experiments/rank/rank_placement.h"

#include "experiments/base/monotonic.h"
#include "experiments/rank/rank_link.h"
#include "experiments/script/placement_file.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- order */

/* *number_out is the file's, once it could be read. */
static eep_status order(rank *self, const char *file, int64_t num_members, uint64_t *number_out)
{
    char error[PLACEMENT_ERROR_BYTES] = "";
    const rank_setup *setup = &self->config.setup;
    const placement_shape shape = {.num_layers = (int)setup->num_layers,
                                   .max_ranks = (int)setup->max_ranks,
                                   .num_slots = (int)setup->num_slots,
                                   .num_experts = (int)setup->num_experts,
                                   .num_members = (int)num_members};
    placement_order read;
    eep_placement given;
    eep_status status = placement_load(file, &shape, &read, error);
    if (status != EEP_OK) {
        rank_complain(self, "placement", status, error);
        return status;
    }
    (void)EEP_SIZED(&given);
    given.number = *number_out = read.number;
    given.experts = read.experts;
    given.pinned = read.pinned;
    status = eep_placement_set(self->context, &given);
    placement_free(&read);
    if (status != EEP_OK) {
        rank_complain(self, "placement", status, eep_error_text());
    }
    return status;
}

eep_status rank_order_first(rank *self)
{
    const rank_setup *setup = &self->config.setup;
    const char *file = placement_first_of(&setup->first_placement, self->config.seat);
    uint64_t number = 0;
    return file ? order(self, file, setup->num_ranks, &number) : EEP_OK;
}

void rank_order_placements(rank *self)
{
    for (int i = 0; i < self->num_ordered; i++) {
        wire_placement told = {.header = {WIRE_PLACEMENT, sizeof told},
                               .own_state = EEP_ORDER_REFUSED};
        if (order(self, self->ordered[i], self->config.setup.max_ranks, &told.own_number) !=
            EEP_OK) {
            told.time_ns = now_ns();
            rank_tell(self, &told, sizeof told);
        }
    }
    self->num_ordered = 0;
}

/* ---------------------------------------------------------------- tell */

/* Pinned slots of members; they hold an expert. */
static int count_pinned(const rank *self)
{
    const rank_setup *setup = &self->config.setup;
    const size_t num =
        (size_t)setup->num_layers * (size_t)setup->max_ranks * (size_t)setup->num_slots;
    int32_t *experts = malloc(num * sizeof *experts);
    uint8_t *pinned = malloc(num);
    eep_placement_info info;
    int count = 0;
    if (experts && pinned &&
        eep_placement_get(self->context, EEP_SIZED(&info), experts, pinned) == EEP_OK) {
        for (size_t i = 0; i < num; i++) {
            count += experts[i] >= 0 && pinned[i];
        }
    }
    free(experts);
    free(pinned);
    return count;
}

static bool is_same(const wire_placement *a, const wire_placement *b)
{
    return a->number == b->number && a->own_number == b->own_number &&
           a->own_state == b->own_state && a->num_unmet == b->num_unmet &&
           a->num_unreachable == b->num_unreachable && a->num_pinned == b->num_pinned;
}

void rank_tell_placement(rank *self)
{
    eep_placement_info info;
    if (eep_placement_get(self->context, EEP_SIZED(&info), NULL, NULL) != EEP_OK) {
        return;
    }
    wire_placement now = {.header = {WIRE_PLACEMENT, sizeof now},
                          .time_ns = now_ns(),
                          .epoch = info.epoch,
                          .number = info.number,
                          .own_number = info.own_number,
                          .own_state = (int32_t)info.own_state,
                          .num_unmet = info.num_unmet,
                          .num_unreachable = info.num_unreachable,
                          .num_pinned = info.number ? count_pinned(self) : 0};
    if (self->placement.epoch == 0 || !is_same(&now, &self->placement)) {
        rank_tell(self, &now, sizeof now);
        self->placement = now;
    }
}
