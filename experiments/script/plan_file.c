/* SPDX-License-Identifier: Apache-2.0 */
/* A plan's file, and the file of what came of it. */
#include "experiments/script/plan_file.h"
#include "experiments/base/run_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PLAN_BYTES = 1 << 24 }; /* a larger file is no plan */

eep_status plan_load(const char *path, plan **plan_out, char error[PLAN_ERROR_BYTES])
{
    FILE *file = fopen(path, "re");
    char *text = file ? malloc(MAX_PLAN_BYTES) : NULL;
    size_t bytes = text ? fread(text, 1, MAX_PLAN_BYTES, file) : 0;
    eep_status status = EEP_OK;
    if (!file || (text && ferror(file))) {
        snprintf(error, PLAN_ERROR_BYTES, "%s: %s", path, strerror(errno));
        status = EEP_ERR_SYSTEM;
    } else if (!text) {
        snprintf(error, PLAN_ERROR_BYTES, "%s: out of memory", path);
        status = EEP_ERR_NO_MEMORY;
    } else if (bytes == MAX_PLAN_BYTES) {
        snprintf(error, PLAN_ERROR_BYTES, "%s: more than %d MiB is no plan", path,
                 MAX_PLAN_BYTES >> 20);
        status = EEP_ERR_INVALID;
    } else {
        status = plan_parse(path, text, bytes, plan_out, error);
    }
    if (file) {
        fclose(file);
    }
    free(text);
    return status;
}

/* ---------------------------------------------------------------- plan.json */

/* < 0: it did not come to that. */
static void add_ms(cJSON *object, const char *name, double value)
{
    if (value < 0) {
        cJSON_AddNullToObject(object, name);
    } else {
        run_file_add_ms(object, name, value);
    }
}

static void add_planned(cJSON *object, const char *name, const plan *self, const plan_phase *phase,
                        plan_role role)
{
    cJSON *array = cJSON_AddArrayToObject(object, name);
    for (int seat = 0; seat < self->num_seats; seat++) {
        if (phase->role[seat] == role) {
            cJSON_AddItemToArray(array, cJSON_CreateNumber(seat));
        }
    }
}

static void add_seen(cJSON *object, const char *name, const plan *self, const bool *seen)
{
    cJSON *array = cJSON_AddArrayToObject(object, name);
    for (int seat = 0; seat < self->num_seats; seat++) {
        if (seen[seat]) {
            cJSON_AddItemToArray(array, cJSON_CreateNumber(seat));
        }
    }
}

static void add_phase(cJSON *array, const plan *self, int index)
{
    const plan_phase *phase = &self->phase[index];
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(array, object);
    cJSON_AddNumberToObject(object, "phase", index + 1);
    cJSON_AddBoolToObject(object, "good", phase->good);
    if (phase->mismatch[0]) {
        cJSON_AddStringToObject(object, "mismatch", phase->mismatch);
    } else if (!phase->good) {
        cJSON_AddStringToObject(object, "mismatch",
                                phase->begin_ms < 0 ? "not reached" : "not ended");
    }
    add_planned(object, "planned", self, phase, ROLE_IN);
    add_planned(object, "planned_deaths", self, phase, ROLE_DIES);
    add_seen(object, "active", self, phase->active);
    add_seen(object, "faulted", self, phase->faulted);
    run_file_add_count(object, "epoch", phase->epoch);
    add_ms(object, "begin_ms", phase->begin_ms);
    add_ms(object, "settled_ms", phase->settled_ms);
    add_ms(object, "end_ms", phase->end_ms);
}

eep_status plan_write(const plan *self, const char *dir)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddBoolToObject(root, "good", plan_is_over(self) && !self->failed);
    cJSON_AddNumberToObject(root, "phase_steps", self->num_steps);
    cJSON *phases = cJSON_AddArrayToObject(root, "phases");
    for (int i = 0; i < self->num_phases; i++) {
        add_phase(phases, self, i);
    }
    return run_file_write_json(root, dir, "plan.json");
}
