/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the probes. */
#include "tests/gpu/probe/probe_report.h"

#include <stdio.h>

void probe_row(probe_report *to, const char *probe, const char *check, double value, int ok)
{
    printf("%-26s %-30s %14.6g  %s\n", probe, check, value, ok ? "ok" : "FAILED");
    gpu_rows_add(&to->rows, probe, check, value, ok);
    to->num_failed += !ok;
}

void probe_failure(probe_report *to, const char *probe, const char *role, const probe_message *said)
{
    fprintf(stderr, "gpu_probe: %s: %s: %s: %.*s\n", probe, role, eep_strerror(said->status),
            (int)sizeof said->text, said->text);
    probe_row(to, probe, role, said->status, 0);
}

int probe_start(probe_actor *a, probe_report *to, const char *probe, const char *role)
{
    probe_how how = to->how;

    *a = (probe_actor){.to = to, .probe = probe, .role = role};
    how.role = role;
    if (probe_child_start(&how, &a->child) == 0) {
        return 1;
    }
    perror("gpu_probe: starting a process");
    probe_row(to, probe, role, 0, 0);
    return 0;
}

int probe_listen(const probe_actor *a, uint64_t timeout_ms, probe_message *said_out)
{
    if (probe_receive(a->child.socket, timeout_ms, said_out) == 0 && said_out->status == EEP_OK) {
        return 1;
    }
    probe_failure(a->to, a->probe, a->role, said_out);
    return 0;
}

int probe_ask(const probe_actor *a, const probe_message *question, uint64_t timeout_ms,
              probe_message *said_out)
{
    probe_message gone = {.status = EEP_ERR_UNREACHABLE, .text = "the process has ended"};

    if (probe_send(a->child.socket, question) == 0) {
        return probe_listen(a, timeout_ms, said_out);
    }
    probe_failure(a->to, a->probe, a->role, &gone);
    return 0;
}

int64_t probe_end(probe_actor *a)
{
    int64_t us = probe_child_kill(&a->child);

    if (us < 0) {
        probe_row(a->to, a->probe, "killed_within_20s", 0, 0);
    }
    return us;
}

int probe_start_owner(probe_actor *a, probe_report *to, const char *probe, uint32_t generation,
                      probe_message *window_out)
{
    probe_message question = {.generation = generation};

    return probe_start(a, to, probe, "owner") &&
           probe_ask(a, &question, PROBE_START_MS, window_out);
}
