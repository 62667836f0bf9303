/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of full restarts: computed, as JSON, as a table. */
#include "experiments/rows/summary_restart.h"

#include "experiments/base/run_file.h"

#include <inttypes.h>
#include <stdio.h>

const char *const restart_part_names[RESTART_PARTS] = {
    [RESTART_DETECT] = "detect", [RESTART_EXIT] = "exit",   [RESTART_SPAWN] = "spawn",
    [RESTART_OPEN] = "open",     [RESTART_LOAD] = "load",   [RESTART_CAPTURE] = "capture",
    [RESTART_ENTER] = "enter",   [RESTART_TOKEN] = "token",
};

static double ms(uint64_t from_ns, uint64_t to_ns)
{
    return (double)(int64_t)(to_ns - from_ns) / 1e6;
}

/* ---------------------------------------------------------------- computed */

/* When its process was struck, as the script knows it; else when the end was noticed. */
static uint64_t fault_ns(const record *run, const record_restart *restart)
{
    uint64_t time_ns = 0;
    for (size_t i = 0; i < run->num_faults; i++) {
        const record_fault *fault = &run->faults[i];
        bool own = fault->process == restart->process && fault->time_ns <= restart->noticed_ns;
        time_ns = own && fault->time_ns > time_ns ? fault->time_ns : time_ns;
    }
    return time_ns ? time_ns : restart->noticed_ns;
}

static bool is_new(const record *run, const record_restart *restart, const row_token *token)
{
    for (size_t i = 0; i < restart->num_processes; i++) {
        const record_process *process = &run->processes[restart->first_process + i];
        if (process->seat == token->seat) {
            return process->generation && process->generation == token->generation;
        }
    }
    return false;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* When the last of the new processes was through with each part. */
static void find_ends(const record *run, const record_restart *restart,
                      uint64_t end_ns[RESTART_PARTS])
{
    end_ns[RESTART_DETECT] = restart->noticed_ns;
    end_ns[RESTART_EXIT] = restart->ended_ns;
    for (size_t i = 0; i < restart->num_processes; i++) {
        const record_process *process = &run->processes[restart->first_process + i];
        const record_startup *startup = &process->startup;
        end_ns[RESTART_SPAWN] = later(end_ns[RESTART_SPAWN], startup->main_ns);
        end_ns[RESTART_OPEN] = later(end_ns[RESTART_OPEN], startup->open_ns);
        end_ns[RESTART_LOAD] = later(end_ns[RESTART_LOAD], startup->loaded_ns);
        end_ns[RESTART_CAPTURE] = later(end_ns[RESTART_CAPTURE], startup->captured_ns);
        end_ns[RESTART_ENTER] = later(end_ns[RESTART_ENTER], process->joined_ns);
    }
}

/* The first token of the new processes, and when the last request that was sent again had one. */
static void find_tokens(const record *run, const record_restart *restart, uint64_t *first_out,
                        uint64_t *last_out)
{
    const scheduler_failed *failed = &restart->failed;
    uint32_t num = 0;
    *first_out = *last_out = 0;
    for (size_t i = 0; i < run->rows.num_tokens; i++) {
        const row_token *token = &run->rows.tokens[i];
        if (is_new(run, restart, token) && (!*first_out || token->made_ns < *first_out)) {
            *first_out = token->made_ns;
        }
        if (token->position == 0 && token->request >= failed->first_retry &&
            token->request < failed->first_retry + failed->num) {
            *last_out = later(*last_out, token->made_ns);
            num++;
        }
    }
    *last_out = num && num == failed->num ? *last_out : 0;
}

summary_restart summary_restart_measure(const record *run, const record_restart *restart)
{
    const record_process *lost = &run->processes[restart->process];
    uint64_t begin_ns = fault_ns(run, restart), first_ns = 0, last_ns = 0;
    uint64_t end_ns[RESTART_PARTS] = {0};
    summary_restart out = {.seat = lost->seat,
                           .generation = lost->generation,
                           .time_ms = ms(run->start_ns, begin_ns),
                           .prefill_ms = -1,
                           .cached = -1,
                           .requests_failed = restart->failed.num,
                           .tokens_discarded = restart->failed.tokens};
    if (restart->num_processes) {
        out.cached = run->processes[restart->first_process].cached;
    }
    find_tokens(run, restart, &first_ns, &last_ns);
    out.served = first_ns && restart->joined_ns;
    if (!out.served) {
        return out;
    }
    find_ends(run, restart, end_ns);
    end_ns[RESTART_TOKEN] = first_ns;
    uint64_t from_ns = begin_ns;
    for (int part = 0; part < RESTART_PARTS; part++) {
        uint64_t end = later(end_ns[part], from_ns);
        end = end > first_ns ? first_ns : end; /* a rank may say late that it is in the view */
        out.part_ms[part] = ms(from_ns, end);
        from_ns = end;
    }
    out.pause_ms = ms(begin_ns, first_ns);
    out.prefill_ms = last_ns ? ms(first_ns, later(last_ns, first_ns)) : -1;
    return out;
}

/* ---------------------------------------------------------------- shown */

static void add_ms(cJSON *object, const char *name, double value, bool known)
{
    if (known) {
        run_file_add_ms(object, name, value);
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

void summary_restart_add(cJSON *root, const summary_restart *restarts, size_t num)
{
    cJSON *array = cJSON_AddArrayToObject(root, "restarts");
    for (size_t i = 0; i < num; i++) {
        const summary_restart *restart = &restarts[i];
        cJSON *object = cJSON_CreateObject();
        cJSON_AddItemToArray(array, object);
        cJSON_AddNumberToObject(object, "rank", restart->seat);
        run_file_add_count(object, "generation", restart->generation);
        run_file_add_ms(object, "time_ms", restart->time_ms);
        for (int part = 0; part < RESTART_PARTS; part++) {
            char name[32];
            snprintf(name, sizeof name, "%s_ms", restart_part_names[part]);
            add_ms(object, name, restart->part_ms[part], restart->served);
        }
        add_ms(object, "pause_ms", restart->pause_ms, restart->served);
        add_ms(object, "prefill_ms", restart->prefill_ms, restart->prefill_ms >= 0);
        add_ms(object, "cached", restart->cached, restart->cached >= 0);
        run_file_add_count(object, "requests_failed", restart->requests_failed);
        run_file_add_count(object, "tokens_discarded", restart->tokens_discarded);
    }
}

void summary_restart_print(const summary_restart *restarts, size_t num)
{
    if (num == 0) {
        return;
    }
    printf("\n  %-8s %-4s %8s %8s", "restart", "rank", "at s", "pause ms");
    for (int part = 0; part < RESTART_PARTS; part++) {
        printf(" %7s", restart_part_names[part]);
    }
    printf(" %8s %7s %10s\n", "prefill", "failed", "discarded");
    for (size_t i = 0; i < num; i++) {
        const summary_restart *restart = &restarts[i];
        printf("  %-8zu %-4d %8.3f", i + 1, restart->seat, restart->time_ms / 1e3);
        if (!restart->served) {
            printf("  (it came to no token; %u requests failed)\n", restart->requests_failed);
            continue;
        }
        printf(" %8.1f", restart->pause_ms);
        for (int part = 0; part < RESTART_PARTS; part++) {
            printf(" %7.1f", restart->part_ms[part]);
        }
        if (restart->prefill_ms >= 0) {
            printf(" %8.1f", restart->prefill_ms);
        } else {
            printf(" %8s", "-");
        }
        printf(" %7u %10" PRIu64 "\n", restart->requests_failed, restart->tokens_discarded);
    }
    puts("  all ranks were killed and started again: failed requests were sent again, and the "
         "tokens\n  that they had emitted are discarded");
}
