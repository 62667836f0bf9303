/* SPDX-License-Identifier: Apache-2.0 */
/* The side of the GPU probes that opens no device: it starts roles, listens to them, and keeps what
 * they say as rows. */
#ifndef PROBE_REPORT_H
#define PROBE_REPORT_H

#include "tests/gpu/gpu_rows.h"
#include "tests/gpu/probe/probe_child.h"

enum {
    PROBE_START_MS = 60000, /* of a process: the driver, the context, all kernels */
    PROBE_ASK_MS = 40000,   /* beyond the longest kernel */
};

typedef struct probe_report {
    gpu_rows rows;
    probe_how how;
    int num_failed;
} probe_report;

void probe_row(probe_report *to, const char *probe, const char *check, double value, int ok);

/* A process of the probe, and in which probe it plays which role. */
typedef struct probe_actor {
    probe_report *to;
    const char *probe, *role;
    probe_child child;
} probe_actor;

/* These return 1, or 0 with a row that says who failed. An actor that was never started may be
 * ended. */
int probe_start(probe_actor *a, probe_report *to, const char *probe, const char *role);
int probe_listen(const probe_actor *a, uint64_t timeout_ms, probe_message *said_out);
int probe_ask(const probe_actor *a, const probe_message *question, uint64_t timeout_ms,
              probe_message *said_out);
/* SIGKILL, and wait for the end: microseconds between the two, or -1 with a row. */
int64_t probe_end(probe_actor *a);
/* An owner of a window of that generation, and where it is. */
int probe_start_owner(probe_actor *a, probe_report *to, const char *probe, uint32_t generation,
                      probe_message *window_out);
/* A process did not do its part; its text says why. */
void probe_failure(probe_report *to, const char *probe, const char *role,
                   const probe_message *said);

/* The probes. probe_death.c: */
void probe_owner_dies(probe_report *to);
void probe_writer_dies(probe_report *to);
#endif
