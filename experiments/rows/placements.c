/* SPDX-License-Identifier: Apache-2.0 */
/* Placements that were ordered: how far each has come, in summary.json and on the screen. */
#include "experiments/rows/placements.h"

#include "experiments/base/run_file.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const states[] = {
    [PLACEMENT_WAITS] = "waits",     [PLACEMENT_MOVING] = "moving",
    [PLACEMENT_REACHED] = "reached", [PLACEMENT_UNREACHABLE] = "unreachable",
    [PLACEMENT_LOST] = "lost",       [PLACEMENT_REPLACED] = "replaced",
    [PLACEMENT_REFUSED] = "refused",
};

bool placements_give(record *run, uint64_t number, int seat, uint64_t time_ns)
{
    record_placement *added = record_add_placement(run);
    if (added) {
        *added = (record_placement){.number = number, .seat = seat, .given_ns = time_ns};
    }
    return added != NULL;
}

static int hear_refusal(record *run, int seat, const wire_placement *told)
{
    int change = 0;
    for (size_t i = 0; i < run->num_placements; i++) {
        record_placement *placement = &run->placements[i];
        if (told->own_state == EEP_ORDER_REFUSED && placement->number == told->own_number &&
            placement->seat == seat && placement->state != PLACEMENT_REFUSED) {
            placement->state = PLACEMENT_REFUSED;
            change = PLACEMENTS_REFUSED;
        }
    }
    return change;
}

static void update(record_placement *self, const wire_placement *told)
{
    if (self->state == PLACEMENT_REFUSED || self->number > told->number) {
        return;
    }
    if (self->number < told->number) {
        self->state = PLACEMENT_REPLACED;
        return;
    }
    bool reached = told->num_unmet == 0;
    self->state = reached                     ? PLACEMENT_REACHED
                  : told->num_unreachable > 0 ? PLACEMENT_UNREACHABLE
                                              : PLACEMENT_MOVING;
    self->in_force_ns = self->in_force_ns ? self->in_force_ns : told->time_ns;
    self->reached_ns = self->reached_ns || !reached ? self->reached_ns : told->time_ns;
    self->num_unmet = told->num_unmet;
    self->num_unreachable = told->num_unreachable;
    self->num_pinned = told->num_pinned;
}

/* All ranks of the instance have ended, and new ones began another one without an order. */
static void lose(record *run, uint64_t epoch)
{
    for (size_t i = 0; run->in_force.number != 0 && i < run->num_placements; i++) {
        record_placement *placement = &run->placements[i];
        if (placement->number == run->in_force.number && placement->in_force_ns) {
            placement->state = PLACEMENT_LOST;
        }
    }
    run->in_force = (record_in_force){.epoch = epoch};
}

int placements_hear(record *run, int seat, const wire_placement *told)
{
    record_in_force *now = &run->in_force;
    int change = hear_refusal(run, seat, told);
    if (told->epoch < now->epoch) {
        return change;
    }
    if (told->number == 0) {
        lose(run, told->epoch);
        return change;
    }
    bool reached = told->num_unmet == 0, unreachable = told->num_unreachable > 0;
    bool is_other = told->number != now->number;
    if (reached && (is_other || !now->reached)) {
        change |= PLACEMENTS_REACHED;
    }
    if (unreachable && (is_other || !now->unreachable)) {
        change |= PLACEMENTS_UNREACHABLE;
    }
    *now = (record_in_force){told->epoch, told->number, reached, unreachable};
    for (size_t i = 0; i < run->num_placements; i++) {
        update(&run->placements[i], told);
    }
    return change;
}

/* ---------------------------------------------------------------- the summary */

/* From when it was given; 0 for what all had before serving started. */
static double since_given_ms(const record_placement *self, uint64_t time_ns, uint64_t start_ns)
{
    uint64_t from_ns = self->given_ns ? self->given_ns : start_ns;
    return time_ns > from_ns ? (double)(time_ns - from_ns) / 1e6 : 0;
}

static void add_since(cJSON *object, const char *name, const record_placement *self,
                      uint64_t time_ns, uint64_t start_ns)
{
    if (time_ns) {
        run_file_add_ms(object, name, since_given_ms(self, time_ns, start_ns));
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

void placements_add(cJSON *root, const record_placement *placements, size_t num, uint64_t start_ns)
{
    cJSON *array = cJSON_AddArrayToObject(root, "placements");
    for (size_t i = 0; i < num; i++) {
        const record_placement *self = &placements[i];
        cJSON *object = cJSON_CreateObject();
        cJSON_AddItemToArray(array, object);
        run_file_add_count(object, "number", self->number);
        if (self->seat < 0) {
            cJSON_AddNullToObject(object, "rank");
        } else {
            cJSON_AddNumberToObject(object, "rank", self->seat);
        }
        run_file_add_ms(object, "time_ms",
                        self->given_ns > start_ns ? (double)(self->given_ns - start_ns) / 1e6 : 0);
        cJSON_AddStringToObject(object, "state", states[self->state]);
        add_since(object, "in_force_ms", self, self->in_force_ns, start_ns);
        add_since(object, "reached_ms", self, self->reached_ns, start_ns);
        cJSON_AddNumberToObject(object, "num_unmet", self->num_unmet);
        cJSON_AddNumberToObject(object, "num_unreachable", self->num_unreachable);
        cJSON_AddNumberToObject(object, "num_pinned", self->num_pinned);
    }
}

void placements_print(const record_placement *placements, size_t num, uint64_t start_ns)
{
    for (size_t i = 0; i < num; i++) {
        const record_placement *self = &placements[i];
        char who[32] = "all ranks";
        if (self->seat >= 0) {
            snprintf(who, sizeof who, "rank %d", self->seat);
        }
        printf("  placement  %" PRIu64 " of %s: %s", self->number, who, states[self->state]);
        if (self->reached_ns) {
            printf(" (first after %.1f ms)", since_given_ms(self, self->reached_ns, start_ns));
        }
        printf("; %d slots lack what they are given (%d cannot get it), %d hold a pinned expert\n",
               self->num_unmet, self->num_unreachable, self->num_pinned);
    }
}
