/* SPDX-License-Identifier: Apache-2.0 */
/* Rows in the JSON trace format that Perfetto and chrome://tracing open: a process per seat, a
 * track per generation, steps as spans, events as instants. Times are microseconds since the first
 * row: Perfetto drops what is before zero, and much is before serving starts. */
#include "experiments/rows/run_rows.h"

#include <inttypes.h>
#include <stdlib.h>

/* A process of the trace: the launcher first, then the seats. Numbers of tracks differ in all of
 * them, for a viewer may take equal ones for one. */
static int64_t pid_of(int32_t seat)
{
    return (int64_t)seat + 2;
}

static int64_t tid_of(int32_t seat, uint32_t generation)
{
    return pid_of(seat) * 1000000 + generation;
}

static uint64_t origin_of(const rows *self, uint64_t start_ns)
{
    uint64_t first = start_ns;
    for (size_t i = 0; i < self->num_steps; i++) {
        first = self->steps[i].begin_ns < first ? self->steps[i].begin_ns : first;
    }
    for (size_t i = 0; i < self->num_events; i++) {
        first = self->events[i].time_ns < first ? self->events[i].time_ns : first;
    }
    return first;
}

static double us(uint64_t time_ns, uint64_t origin_ns)
{
    return (double)(time_ns - origin_ns) / 1e3;
}

static void trace_steps(const rows *self, FILE *file, uint64_t origin_ns)
{
    for (size_t i = 0; i < self->num_steps; i++) {
        const row_step *row = &self->steps[i];
        fprintf(file,
                "{\"ph\":\"X\",\"name\":\"%s\",\"cat\":\"step\",\"pid\":%" PRId64
                ",\"tid\":%" PRId64 ",\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"step\":%" PRIu64
                ",\"epoch\":%" PRIu64 ",\"positions\":%u,\"tokens\":%u,\"status\":\"%s\"}},\n",
                row->status == EEP_OK ? (row->positions ? "step" : "empty step") : "aborted",
                pid_of(row->seat), tid_of(row->seat, row->generation), us(row->begin_ns, origin_ns),
                (double)(row->end_ns - row->begin_ns) / 1e3, row->step, row->epoch, row->positions,
                row->tokens, eep_strerror(row->status));
    }
}

static void trace_events(const rows *self, FILE *file, uint64_t origin_ns)
{
    for (size_t i = 0; i < self->num_events; i++) {
        const row_event *row = &self->events[i];
        fprintf(file,
                "{\"ph\":\"i\",\"s\":\"t\",\"name\":\"%s\",\"cat\":\"event\",\"pid\":%" PRId64
                ",\"tid\":%" PRId64 ",\"ts\":%.3f,\"args\":{\"about_seat\":%d,"
                "\"about_generation\":%u,\"epoch\":%" PRIu64 ",\"value\":%" PRIu64 "}},\n",
                row->kind, pid_of(row->seat), tid_of(row->seat, row->generation),
                us(row->time_ns, origin_ns), row->about_seat, row->about_generation, row->epoch,
                row->value);
    }
}

/* ---------------------------------------------------------------- names */

typedef struct track {
    int32_t seat;
    uint32_t generation;
} track;

static int compare_tracks(const void *left, const void *right)
{
    const track *a = left, *b = right;
    return a->seat != b->seat ? (a->seat > b->seat) - (a->seat < b->seat)
                              : (a->generation > b->generation) - (a->generation < b->generation);
}

static void name_process(FILE *file, int32_t seat)
{
    char name[32] = "launcher";
    if (seat >= 0) {
        snprintf(name, sizeof name, "seat %d", seat);
    }
    fprintf(file,
            "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%" PRId64
            ",\"args\":{\"name\":\"%s\"}},\n"
            "{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":%" PRId64
            ",\"args\":{\"sort_index\":%" PRId64 "}},\n",
            pid_of(seat), name, pid_of(seat), pid_of(seat));
}

static void name_track(FILE *file, const track *self)
{
    char name[48] = "script, views and store";
    if (self->seat >= 0) {
        snprintf(name, sizeof name, self->generation ? "generation %u" : "before it opened",
                 self->generation);
    }
    fprintf(file,
            "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%" PRId64 ",\"tid\":%" PRId64
            ",\"args\":{\"name\":\"%s\"}},\n",
            pid_of(self->seat), tid_of(self->seat, self->generation), name);
}

/* Without memory the rows are there, and only their names are not. */
static void trace_names(const rows *self, FILE *file)
{
    size_t num = 0;
    track *tracks = malloc((self->num_steps + self->num_events + 1) * sizeof *tracks);
    for (size_t i = 0; tracks && i < self->num_steps; i++) {
        tracks[num++] = (track){self->steps[i].seat, self->steps[i].generation};
    }
    for (size_t i = 0; tracks && i < self->num_events; i++) {
        tracks[num++] = (track){self->events[i].seat, self->events[i].generation};
    }
    if (num) {
        qsort(tracks, num, sizeof *tracks, compare_tracks);
    }
    for (size_t i = 0; i < num; i++) {
        if (i == 0 || tracks[i].seat != tracks[i - 1].seat) {
            name_process(file, tracks[i].seat);
        }
        if (i == 0 || compare_tracks(&tracks[i], &tracks[i - 1]) != 0) {
            name_track(file, &tracks[i]);
        }
    }
    free(tracks);
}

void rows_trace(const rows *self, FILE *file, uint64_t start_ns)
{
    uint64_t origin_ns = origin_of(self, start_ns);
    fprintf(file,
            "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"serving_starts_us\":\"%.3f\","
            "\"steps\":\"%zu\",\"events\":\"%zu\"},\"traceEvents\":[\n",
            us(start_ns, origin_ns), self->num_steps, self->num_events);
    trace_names(self, file);
    trace_steps(self, file, origin_ns);
    trace_events(self, file, origin_ns);
    fprintf(
        file,
        "{\"ph\":\"i\",\"s\":\"g\",\"name\":\"serving starts\",\"cat\":\"origin\",\"pid\":%" PRId64
        ",\"tid\":%" PRId64 ",\"ts\":%.3f}\n]}\n",
        pid_of(-1), tid_of(-1, 0), us(start_ns, origin_ns));
}
