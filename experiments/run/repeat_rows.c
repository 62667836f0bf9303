/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of repeated runs, and their statistics. */
#include "experiments/run/repeat_rows.h"

#include "experiments/setup/expect.h"
#include "experiments/base/run_file.h"
#include "experiments/rows/summary.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const fields[] = {
    "faults[*].pause_ms",
    "faults[*].detect_ms",
    "faults[*].agree_ms",
    "faults[*].repair_ms",
    "faults[*].rerun_ms",
    "faults[*].weights_bytes_in_pause",
    "faults[*].launcher_lag_ms",
    "joins[*].prepare_ms",
    "joins[*].join_ms",
    "joins[*].spawn_ms",
    "joins[*].open_ms",
    "joins[*].load_ms",
    "joins[*].capture_ms",
    "joins[*].enter_ms",
    "restarts[*].pause_ms",
    "restarts[*].detect_ms",
    "restarts[*].exit_ms",
    "restarts[*].spawn_ms",
    "restarts[*].open_ms",
    "restarts[*].load_ms",
    "restarts[*].capture_ms",
    "restarts[*].enter_ms",
    "restarts[*].token_ms",
    "restarts[*].prefill_ms",
    "restarts[*].requests_failed",
    "restarts[*].tokens_discarded",
    "throughput.before",
    "throughput.degraded",
    "throughput.after",
    "throughput.back_ms",
    "step_ms.p50",
    "step_ms.p99",
    "request_stall_ms.max",
    "tokens_wrong",
    "requests_lost",
    "requests_failed",
    "steps_aborted",
    "stale_dropped",
    "duration_ms",
};
enum { NUM_FIELDS = sizeof fields / sizeof fields[0] };

/* Room for one more of `bytes` each; false: out of memory. */
static bool grow(void **array, size_t num, size_t *capacity, size_t bytes)
{
    if (num < *capacity) {
        return true;
    }
    size_t wanted = *capacity ? 2 * *capacity : 64;
    void *grown = realloc(*array, wanted * bytes);
    if (grown) {
        *array = grown;
        *capacity = wanted;
    }
    return grown != NULL;
}

typedef struct collector {
    repeat_rows *kept;
    int64_t run;
    int field;
} collector;

static void collect(void *user, const char *place, const cJSON *value)
{
    collector *self = user;
    repeat_rows *kept = self->kept;
    if (!cJSON_IsNumber(value) || kept->out_of_memory) {
        return; /* null: there is no such time */
    }
    void *array = kept->value;
    kept->out_of_memory =
        !grow(&array, kept->num_values, &kept->value_capacity, sizeof *kept->value);
    kept->value = array;
    if (!kept->out_of_memory) {
        repeat_value *row = &kept->value[kept->num_values++];
        *row = (repeat_value){.run = self->run, .field = self->field, .value = value->valuedouble};
        snprintf(row->place, sizeof row->place, "%.63s", place);
    }
}

eep_status repeat_rows_add(repeat_rows *self, repeat_run_row run, const cJSON *found)
{
    void *array = self->run;
    if (!grow(&array, self->num_runs, &self->run_capacity, sizeof *self->run)) {
        return EEP_ERR_NO_MEMORY;
    }
    self->run = array;
    self->run[self->num_runs++] = run;
    for (int f = 0; f < NUM_FIELDS && found; f++) {
        expect_visit(fields[f], found, collect,
                     &(collector){.kept = self, .run = run.run, .field = f});
    }
    return self->out_of_memory ? EEP_ERR_NO_MEMORY : EEP_OK;
}

void repeat_rows_free(repeat_rows *self)
{
    free(self->run);
    free(self->value);
    *self = (repeat_rows){0};
}

/* The field's values into `values` (room for all), sorted; how many. */
static size_t sorted_values(const repeat_rows *self, int field, double *values,
                            summary_quantiles *quantiles_out)
{
    size_t num = 0;
    for (size_t i = 0; i < self->num_values; i++) {
        if (self->value[i].field == field) {
            values[num++] = self->value[i].value;
        }
    }
    *quantiles_out = summary_quantiles_of(values, num);
    return num;
}

void repeat_rows_print(const repeat_rows *self, FILE *file)
{
    double *values = calloc(self->num_values + 1, sizeof *values);
    fprintf(file, "\n  %-36s %7s %12s %12s %12s %12s\n", "over all runs", "n", "min", "p50", "p99",
            "max");
    for (int f = 0; f < NUM_FIELDS && values; f++) {
        summary_quantiles q;
        if (sorted_values(self, f, values, &q)) {
            fprintf(file, "  %-36s %7zu %12.2f %12.2f %12.2f %12.2f\n", fields[f], q.num, values[0],
                    q.p50, q.p99, q.max);
        }
    }
    free(values);
}

cJSON *repeat_rows_json(const repeat_rows *self)
{
    double *values = calloc(self->num_values + 1, sizeof *values);
    cJSON *root = cJSON_CreateObject();
    if (!values || !root) {
        free(values);
        cJSON_Delete(root);
        return NULL;
    }
    cJSON_AddNumberToObject(root, "schema", 1);
    cJSON *runs = cJSON_AddArrayToObject(root, "runs");
    for (size_t i = 0; i < self->num_runs; i++) {
        cJSON *run = cJSON_CreateObject();
        cJSON_AddItemToArray(runs, run);
        run_file_add_count(run, "run", (uint64_t)self->run[i].run);
        run_file_add_count(run, "seed", (uint64_t)self->run[i].seed);
        cJSON_AddNumberToObject(run, "seconds", self->run[i].seconds);
        cJSON_AddBoolToObject(run, "met", self->run[i].met);
    }
    cJSON *statistics = cJSON_AddObjectToObject(root, "statistics");
    for (int f = 0; f < NUM_FIELDS; f++) {
        summary_quantiles q;
        if (sorted_values(self, f, values, &q) == 0) {
            continue;
        }
        cJSON *field = cJSON_AddObjectToObject(statistics, fields[f]);
        cJSON_AddNumberToObject(field, "n", (double)q.num);
        cJSON_AddNumberToObject(field, "min", values[0]);
        cJSON_AddNumberToObject(field, "p50", q.p50);
        cJSON_AddNumberToObject(field, "p99", q.p99);
        cJSON_AddNumberToObject(field, "max", q.max);
    }
    free(values);
    return root;
}

void repeat_rows_csv(const repeat_rows *self, FILE *file)
{
    fputs("run,seed,field,place,value\n", file);
    for (size_t i = 0, r = 0; i < self->num_values; i++) {
        const repeat_value *row = &self->value[i];
        while (r + 1 < self->num_runs && self->run[r].run != row->run) {
            r++; /* both are in the order of the runs */
        }
        fprintf(file, "%" PRId64 ",%" PRId64 ",%s,%s,%.10g\n", row->run, self->run[r].seed,
                fields[row->field], row->place, row->value);
    }
}
