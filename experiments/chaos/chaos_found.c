/* SPDX-License-Identifier: Apache-2.0 */
/* Read what a round left. */
#include "experiments/chaos/chaos_found.h"

#include "experiments/base/run_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void chaos_violate(chaos_found *self, const char *format, ...)
{
    va_list args;
    if (self->verdict->good) {
        self->verdict->good = false;
        va_start(args, format);
        vsnprintf(self->verdict->why, CHAOS_WHY_BYTES, format, args);
        va_end(args);
    }
}

/* ---------------------------------------------------------------- files */

static eep_status read_rows(chaos_found *self, const char *dir)
{
    char *text = run_file_text(dir, "events.csv"), *rest = text;
    size_t room = 0;
    for (char *line = NULL; text && (line = strsep(&rest, "\n"));) {
        chaos_row found = {0};
        if (sscanf(line, "%lf,%d,%" SCNu32 ",%19[^,],%*d,%*u,%*u,%lld", &found.time_ms, &found.seat,
                   &found.generation, found.kind, &found.value) != 5) {
            continue; /* the heading, or a comment */
        }
        if (self->num_rows == room) {
            room = room ? 2 * room : 1024;
            chaos_row *grown = realloc(self->rows, room * sizeof *grown);
            if (!grown) {
                free(text);
                return EEP_ERR_NO_MEMORY;
            }
            self->rows = grown;
        }
        self->rows[self->num_rows++] = found;
    }
    free(text);
    return EEP_OK;
}

eep_status chaos_found_read(chaos_found *self, const chaos_round *round, const char *dir,
                            chaos_verdict *verdict)
{
    *self = (chaos_found){.round = round, .verdict = verdict};
    *verdict = (chaos_verdict){.good = true};
    self->summary = run_file_json(dir, "summary.json");
    return read_rows(self, dir);
}

void chaos_found_free(chaos_found *self)
{
    cJSON_Delete(self->summary);
    free(self->rows);
}

double chaos_number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

/* ---------------------------------------------------------------- the run as a whole */

void chaos_check_zero(chaos_found *self, const cJSON *object, const char *name)
{
    double value = chaos_number(object, name);
    if (!(value == 0)) { /* NaN: it is not there */
        chaos_violate(self, "%s is %g, not 0", name, value);
    }
}

void chaos_check_totals(chaos_found *self)
{
    static const char *const zeros[] = {"tokens_wrong",   "digests_wrong",   "tokens_missing",
                                        "tokens_doubled", "requests_failed", "requests_lost"};
    const cJSON *captures = cJSON_GetObjectItemCaseSensitive(self->summary, "captures_after_start");
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++) {
        chaos_check_zero(self, self->summary, zeros[i]);
    }
    chaos_check_zero(self, captures, "healthy");
    self->verdict->steps_waiting = chaos_number(self->summary, "steps_waiting_on_join");
    self->verdict->tokens = chaos_number(self->summary, "tokens_emitted");
    self->verdict->tokens_wrong = chaos_number(self->summary, "tokens_wrong");
    self->verdict->tokens_lost = chaos_number(self->summary, "tokens_missing") +
                                 chaos_number(self->summary, "tokens_doubled");
    self->verdict->requests = chaos_number(self->summary, "requests_accepted");
}

void chaos_check_exit(chaos_found *self, int exit_code)
{
    if (exit_code < 0) {
        chaos_violate(self, "eep-run was ended by signal %d", -exit_code);
    } else if (exit_code > 0 ||
               !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(self->summary, "good"))) {
        chaos_violate(self, "eep-run ended with code %d: see its output", exit_code);
    }
}

/* ---------------------------------------------------------------- rows */

const char *chaos_row_name(chaos_kind kind)
{
    return kind == CHAOS_PAUSE           ? "stop"
           : kind == CHAOS_STORE_RESTART ? "store-kill"
                                         : chaos_kind_names[kind];
}

chaos_row *chaos_take_row(chaos_found *self, const char *kind, int seat)
{
    for (size_t i = 0; i < self->num_rows; i++) {
        chaos_row *found = &self->rows[i];
        bool ends = strcmp(kind, "slow") == 0 && found->value <= 1000;
        if (!found->taken && !ends && found->seat == seat && strcmp(found->kind, kind) == 0) {
            found->taken = true;
            return found;
        }
    }
    return NULL;
}

const chaos_row *chaos_find_row(const chaos_found *self, const char *kind, int seat,
                                uint32_t generation)
{
    for (size_t i = 0; i < self->num_rows; i++) {
        const chaos_row *found = &self->rows[i];
        if (found->seat == seat && found->generation == generation &&
            strcmp(found->kind, kind) == 0) {
            return found;
        }
    }
    return NULL;
}

bool chaos_is_kind(const cJSON *fault, const char *kind)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(fault, "kind"));
    return text && strcmp(text, kind) == 0;
}

bool chaos_is_expelled(const cJSON *fault)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(fault, "expelled"));
}

/* ---------------------------------------------------------------- faults of the summary */

bool chaos_had_joined(const chaos_found *self, int seat, uint32_t generation, double time_ms)
{
    const chaos_row *joined = chaos_find_row(self, "joined", seat, generation);
    return joined && joined->time_ms <= time_ms;
}

void chaos_fill_result(chaos_result *result, const cJSON *fault)
{
    result->expelled = 1;
    result->pause_ms = chaos_number(fault, "pause_ms");
    result->healed = !isnan(result->pause_ms);
    result->detect_ms = chaos_number(fault, "detect_ms");
    result->agree_ms = chaos_number(fault, "agree_ms");
    result->repair_ms = chaos_number(fault, "repair_ms");
    result->rerun_ms = chaos_number(fault, "rerun_ms");
    result->num_survivors = (int)chaos_number(fault, "survivors");
    result->weights_bytes = chaos_number(fault, "weights_bytes_in_pause");
}
