/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a run in memory, and as CSV files. */
#include "experiments/rows/run_rows.h"

#include "experiments/base/run_file.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* Room for one more element, or NULL (then the row is dropped and out_of_memory says so). */
static void *room(rows *self, void *array, size_t num, size_t *capacity, size_t bytes)
{
    if (num < *capacity) {
        return array;
    }
    size_t bigger = *capacity ? 2 * *capacity : 1024;
    void *moved = realloc(array, bigger * bytes);
    if (!moved) {
        self->out_of_memory = 1;
        return NULL;
    }
    *capacity = bigger;
    return moved;
}

void rows_add_step(rows *self, const row_step *row)
{
    row_step *steps = room(self, self->steps, self->num_steps, &self->capacity_steps, sizeof *row);
    if (steps) {
        self->steps = steps;
        steps[self->num_steps++] = *row;
    }
}

void rows_add_token(rows *self, const row_token *row)
{
    row_token *tokens =
        room(self, self->tokens, self->num_tokens, &self->capacity_tokens, sizeof *row);
    if (tokens) {
        self->tokens = tokens;
        tokens[self->num_tokens++] = *row;
    }
}

void rows_add_event(rows *self, const row_event *row)
{
    row_event *events =
        room(self, self->events, self->num_events, &self->capacity_events, sizeof *row);
    if (events) {
        self->events = events;
        events[self->num_events++] = *row;
    }
}

static void add_source(rows *self, const row_source *row)
{
    row_source *sources =
        room(self, self->sources, self->num_sources, &self->capacity_sources, sizeof *row);
    if (sources) {
        self->sources = sources;
        sources[self->num_sources++] = *row;
    }
}

void rows_add_sources(rows *self, const row_source *like, const source_mix *mix)
{
    for (int s = 0; s < NUM_SOURCES; s++) {
        row_source row = *like;
        row.source = (source_kind)s;
        row.fills = mix->fills[s];
        row.bytes = mix->bytes[s];
        if (row.fills || row.bytes) {
            add_source(self, &row);
        }
    }
}

void rows_free(rows *self)
{
    free(self->sources);
    free(self->head);
    free(self->steps);
    free(self->tokens);
    free(self->events);
    *self = (rows){0};
}

const char *rows_event_name(eep_event_kind kind)
{
    switch (kind) {
    case EEP_EVENT_SUSPECTED:
        return "suspected";
    case EEP_EVENT_WEDGED:
        return "wedged";
    case EEP_EVENT_PROPOSED:
        return "proposed";
    case EEP_EVENT_REPAIRING:
        return "repairing";
    case EEP_EVENT_REPAIRED:
        return "repaired";
    case EEP_EVENT_INSTALLED:
        return "installed";
    case EEP_EVENT_STAGED:
        return "staged";
    case EEP_EVENT_FLIPPED:
        return "flipped";
    case EEP_EVENT_READY:
        return "ready";
    case EEP_EVENT_EVICTED:
        return "evicted";
    case EEP_EVENT_UNCOVERED:
        return "uncovered";
    case EEP_EVENT_STORE_LOST:
        return "store_lost";
    case EEP_EVENT_STORE_BACK:
        return "store_back";
    case EEP_EVENT_REBALANCING:
        return "rebalancing";
    case EEP_EVENT_REBALANCED:
        return "rebalanced";
    case EEP_EVENT_DRAIN_WAITS:
        return "drain_waits";
    case EEP_EVENT_PORT_DOWN:
        return "port_down";
    case EEP_EVENT_PORT_UP:
        return "port_up";
    }
    return "unknown";
}

/* ---------------------------------------------------------------- files */

/* Close and say whether every byte got out. */
static eep_status finish(FILE *file)
{
    int failed = ferror(file);
    failed |= fclose(file);
    return failed ? EEP_ERR_SYSTEM : EEP_OK;
}

static double since_ms(uint64_t time_ns, uint64_t start_ns)
{
    return (double)(int64_t)(time_ns - start_ns) / 1e6;
}

FILE *rows_create(const rows *self, const char *dir, const char *name)
{
    FILE *file = run_file_create(dir, name);
    if (file && self->head) {
        fputs(self->head, file);
    }
    return file;
}

static eep_status write_steps(const rows *self, const char *dir, uint64_t start_ns)
{
    FILE *file = rows_create(self, dir, "steps.csv");
    if (!file) {
        return EEP_ERR_SYSTEM;
    }
    fputs("time_ms,seat,generation,step,epoch,begin_ms,end_ms,tokens,positions,status\n", file);
    for (size_t i = 0; i < self->num_steps; i++) {
        const row_step *row = &self->steps[i];
        fprintf(file, "%.3f,%d,%u,%" PRIu64 ",%" PRIu64 ",%.3f,%.3f,%u,%u,%d\n",
                since_ms(row->time_ns, start_ns), row->seat, row->generation, row->step, row->epoch,
                since_ms(row->begin_ns, start_ns), since_ms(row->end_ns, start_ns), row->tokens,
                row->positions, row->status);
    }
    return finish(file);
}

static eep_status write_tokens(const rows *self, const char *dir, uint64_t start_ns)
{
    FILE *file = rows_create(self, dir, "tokens.csv");
    if (!file) {
        return EEP_ERR_SYSTEM;
    }
    fputs("time_ms,request,position,token,digest,seat,generation,step,epoch\n", file);
    for (size_t i = 0; i < self->num_tokens; i++) {
        const row_token *row = &self->tokens[i];
        fprintf(file, "%.3f,%u,%u,%u,%016" PRIx64 ",%d,%u,%" PRIu64 ",%" PRIu64 "\n",
                since_ms(row->time_ns, start_ns), row->request, row->position, row->token,
                row->digest, row->seat, row->generation, row->step, row->epoch);
    }
    return finish(file);
}

static eep_status write_events(const rows *self, const char *dir, uint64_t start_ns)
{
    FILE *file = rows_create(self, dir, "events.csv");
    if (!file) {
        return EEP_ERR_SYSTEM;
    }
    fputs("time_ms,seat,generation,kind,about_seat,about_generation,epoch,value\n", file);
    for (size_t i = 0; i < self->num_events; i++) {
        const row_event *row = &self->events[i];
        fprintf(file, "%.3f,%d,%u,%s,%d,%u,%" PRIu64 ",%" PRIu64 "\n",
                since_ms(row->time_ns, start_ns), row->seat, row->generation, row->kind,
                row->about_seat, row->about_generation, row->epoch, row->value);
    }
    return finish(file);
}

static eep_status write_sources(const rows *self, const char *dir, uint64_t start_ns)
{
    FILE *file = rows_create(self, dir, "sources.csv");
    if (!file) {
        return EEP_ERR_SYSTEM;
    }
    fputs("time_ms,seat,generation,epoch,tier,source,fills,bytes\n", file);
    for (size_t i = 0; i < self->num_sources; i++) {
        const row_source *row = &self->sources[i];
        fprintf(file, "%.3f,%d,%u,%" PRIu64 ",%s,%s,%" PRIu64 ",%" PRIu64 "\n",
                since_ms(row->time_ns, start_ns), row->seat, row->generation, row->epoch,
                row->behind ? "behind" : "pause", source_names[row->source], row->fills,
                row->bytes);
    }
    return finish(file);
}

static eep_status write_requests(const rows *self, const scheduler *requests, const char *dir)
{
    FILE *file = rows_create(self, dir, "requests.csv");
    if (!file) {
        return EEP_ERR_SYSTEM;
    }
    fputs("request,input_length,output_length,arrival_ms,status\n", file);
    uint32_t accepted = scheduler_count(requests).accepted;
    for (uint32_t r = 0; r < accepted; r++) {
        const scheduler_request *request = scheduler_request_at(requests, r);
        fprintf(file, "%u,%u,%u,%.3f,%s\n", r, request->input_length, request->output_length,
                request->arrival_ms, request_status_name(request->status));
    }
    return finish(file);
}

static eep_status write_trace(const rows *self, const char *dir, uint64_t start_ns)
{
    FILE *file = run_file_create(dir, "trace.json");
    if (!file) {
        return EEP_ERR_SYSTEM;
    }
    rows_trace(self, file, start_ns);
    return finish(file);
}

static void add_failure(rows_failures *all, eep_status status, const char *name)
{
    if (status != EEP_OK) {
        all->file[all->num].name = name;
        all->file[all->num++].error = errno;
    }
}

eep_status rows_write(const rows *self, const scheduler *requests, const char *dir,
                      uint64_t start_ns, rows_failures *failed_out)
{
    failed_out->num = 0;
    add_failure(failed_out, write_steps(self, dir, start_ns), "steps.csv");
    add_failure(failed_out, write_tokens(self, dir, start_ns), "tokens.csv");
    add_failure(failed_out, write_events(self, dir, start_ns), "events.csv");
    add_failure(failed_out, write_sources(self, dir, start_ns), "sources.csv");
    add_failure(failed_out, write_requests(self, requests, dir), "requests.csv");
    add_failure(failed_out, write_trace(self, dir, start_ns), "trace.json");
    return failed_out->num ? EEP_ERR_SYSTEM : EEP_OK;
}
