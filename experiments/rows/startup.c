/* SPDX-License-Identifier: Apache-2.0 */
/* startup.csv. */
#include "experiments/rows/startup.h"

#include <stdio.h>

static bool is_own(const record_process *process, int32_t seat, uint32_t generation)
{
    return process->generation && process->seat == seat && process->generation == generation;
}

startup_firsts startup_firsts_of(const record *run, const record_process *process)
{
    startup_firsts first = {0}; /* a rank's rows are in the order of its steps */
    for (size_t i = 0; i < run->rows.num_steps && !first.step_ns; i++) {
        const row_step *step = &run->rows.steps[i];
        if (is_own(process, step->seat, step->generation) && step->status == EEP_OK &&
            step->positions) {
            first.step_ns = step->end_ns;
        }
    }
    for (size_t i = 0; i < run->rows.num_tokens && !first.token_ns; i++) {
        const row_token *token = &run->rows.tokens[i];
        first.token_ns = is_own(process, token->seat, token->generation) ? token->made_ns : 0;
    }
    return first;
}

const char *startup_kind(const record_process *process)
{
    return process->restarted ? "restart" : process->rejoin ? "join" : "first";
}

/* A time since the start of serving; nothing where it did not come. */
static void print_time(FILE *file, uint64_t time_ns, uint64_t start_ns)
{
    if (time_ns) {
        fprintf(file, ",%.3f", (double)(int64_t)(time_ns - start_ns) / 1e6);
    } else {
        fputc(',', file);
    }
}

eep_status startup_write(const record *run, const char *weights, const char *dir)
{
    FILE *file = rows_create(&run->rows, dir, "startup.csv");
    if (!file) {
        return EEP_ERR_SYSTEM;
    }
    fputs("seat,generation,start,weights,cached,spawn_ms,main_ms,open_ms,loaded_ms,captured_ms,"
          "ready_ms,joined_ms,step_ms,token_ms\n",
          file);
    for (size_t i = 0; i < run->num_processes; i++) {
        const record_process *process = &run->processes[i];
        const startup_firsts first = startup_firsts_of(run, process);
        const uint64_t times[] = {process->spawn_ns,
                                  process->startup.main_ns,
                                  process->startup.open_ns,
                                  process->startup.loaded_ns,
                                  process->startup.captured_ns,
                                  process->ready_ns,
                                  process->joined_ns,
                                  first.step_ns,
                                  first.token_ns};
        fprintf(file, "%d,%u,%s,%s,", process->seat, process->generation, startup_kind(process),
                weights);
        if (process->cached >= 0) {
            fprintf(file, "%.3f", process->cached);
        }
        for (size_t t = 0; t < sizeof times / sizeof times[0]; t++) {
            print_time(file, times[t], run->start_ns);
        }
        fputc('\n', file);
    }
    int failed = ferror(file);
    failed |= fclose(file);
    return failed ? EEP_ERR_SYSTEM : EEP_OK;
}
