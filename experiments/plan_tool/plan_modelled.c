/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/plan_tool/plan_modelled.h"

#include "experiments/base/folder.h"
#include "experiments/plan_tool/plan_constants.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

plan_modelled plan_modelled_of(const plan_case *self, const plan_outcome *outcome, int lost)
{
    const int ranks = eepi_view_num_active(self->before);
    plan_modelled m = {.detect_ms = plan_constant_value(PLAN_DETECT_MS),
                       .agree_ms = plan_constant_value(PLAN_AGREE_MS),
                       .repair_ms = outcome->pause_s * 1e3,
                       .step_ms = plan_constant_value(PLAN_STEP_MS)};
    const double left = ranks ? (double)(ranks - lost) / ranks : 0;

    if (!outcome->is_covered || left <= 0) {
        return m;
    }
    m.rerun_ms = m.step_ms / left * outcome->paused.mean / outcome->before.mean;
    m.pause_ms = m.detect_ms + m.agree_ms + m.repair_ms + m.rerun_ms;
    m.silent_pause_ms = m.pause_ms - m.detect_ms + plan_constant_value(PLAN_DEADLINE_MS);
    m.kept = left * outcome->before.mean / outcome->rest.mean;
    return m;
}

/* ---------------------------------------------------------------- rows */

typedef struct modelled_run {
    const plan_case *self;
    const plan_outcome *outcome;
    plan_modelled m;
    double loss_ms, end_ms;
    const char *comment, *dir;
} modelled_run;

static FILE *begin_rows(const modelled_run *run, const char *name, const char *columns)
{
    char path[PATH_MAX];
    FILE *file;

    if (snprintf(path, sizeof path, "%s/%s", run->dir, name) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    file = fopen(path, "w");
    if (file && columns) {
        fprintf(file, "# modelled, not measured: %s\n%s\n", run->comment, columns);
    }
    return file;
}

static int end_rows(FILE *file)
{
    const bool is_good = file && !ferror(file);

    return file && fclose(file) == 0 && is_good ? 0 : -1;
}

/* When serving goes on: after the pause but for the step that is run again. */
static double again_ms(const modelled_run *run)
{
    return run->loss_ms + run->m.detect_ms + run->m.agree_ms + run->m.repair_ms;
}

/* The step after the loss: longer while redundancy and balance are not back yet. */
static double step_at(const modelled_run *run, double at_ms)
{
    if (at_ms < run->loss_ms) {
        return run->m.step_ms;
    }
    return at_ms < again_ms(run) + run->outcome->behind_s * 1e3 ? run->m.rerun_ms
                                                                : run->m.step_ms / run->m.kept;
}

static void add_step(FILE *file, const modelled_run *run, long step, double begin_ms, double end_ms)
{
    const bool is_aborted = begin_ms < run->loss_ms && end_ms > run->loss_ms;
    const bool is_after = begin_ms >= run->loss_ms;

    for (int seat = 0; seat < run->self->before->shape.max_ranks; seat++) {
        const bool is_lost = !eepi_view_is_member(run->self->view, seat);
        if (!eepi_view_is_member(run->self->before, seat) ||
            (is_lost && (is_after || is_aborted))) {
            continue;
        }
        fprintf(file, "%d,1,%ld,%d,%.3f,%.3f,%d\n", seat, step, is_after ? 2 : 1, begin_ms,
                is_aborted ? again_ms(run) : end_ms, is_aborted ? EEP_ERR_ABORTED : EEP_OK);
    }
}

/* A step that meets the loss is run again once serving goes on. */
static int write_steps(const modelled_run *run)
{
    FILE *file = begin_rows(run, "steps.csv", "seat,generation,step,epoch,begin_ms,end_ms,status");
    long step = 1;

    for (double at = 0, end; file && at < run->end_ms; at = end, step++) {
        end = at + step_at(run, at);
        add_step(file, run, step, at, end);
        if (at < run->loss_ms && end > run->loss_ms) {
            end = again_ms(run);
            step--;
        }
    }
    return end_rows(file);
}

/* Tokens come at the end of each step that ended well, all requests one each. */
static int write_tokens(const modelled_run *run)
{
    const int requests = (int)(plan_constant_value(PLAN_TOKENS_PER_S) * run->m.step_ms / 1e3 + 0.5);
    FILE *file = begin_rows(run, "tokens.csv", "time_ms,request,position");
    long position = 0;

    for (double at = 0, end; file && at < run->end_ms; at = end) {
        end = at + step_at(run, at);
        if (at < run->loss_ms && end > run->loss_ms) {
            end = again_ms(run);
            continue;
        }
        for (int request = 0; request < requests; request++) {
            fprintf(file, "%.3f,%d,%ld\n", end, request, position);
        }
        position++;
    }
    return end_rows(file);
}

static int write_events(const modelled_run *run)
{
    FILE *file = begin_rows(run, "events.csv",
                            "time_ms,seat,generation,kind,about_seat,about_generation,epoch,value");

    for (int seat = 0; file && seat < run->self->before->shape.max_ranks; seat++) {
        if (eepi_view_is_member(run->self->before, seat) &&
            !eepi_view_is_member(run->self->view, seat)) {
            fprintf(file, "%.3f,%d,1,kill,%d,1,1,9\n", run->loss_ms, seat, seat);
        }
    }
    return end_rows(file);
}

static void add_fault(cJSON *faults, const modelled_run *run, int seat)
{
    cJSON *fault = cJSON_CreateObject();

    cJSON_AddNumberToObject(fault, "rank", seat);
    cJSON_AddNumberToObject(fault, "generation", 1);
    cJSON_AddStringToObject(fault, "kind", "kill");
    cJSON_AddNumberToObject(fault, "time_ms", run->loss_ms);
    cJSON_AddNumberToObject(fault, "detect_ms", run->m.detect_ms);
    cJSON_AddNumberToObject(fault, "agree_ms", run->m.agree_ms);
    cJSON_AddNumberToObject(fault, "repair_ms", run->m.repair_ms);
    cJSON_AddNumberToObject(fault, "rerun_ms", run->m.rerun_ms);
    cJSON_AddNumberToObject(fault, "pause_ms", run->m.pause_ms);
    cJSON_AddNumberToObject(fault, "weights_bytes_in_pause",
                            (double)run->outcome->pause_fills *
                                (double)run->self->given.expert_bytes);
    cJSON_AddItemToArray(faults, fault);
}

static int write_summary(const modelled_run *run)
{
    cJSON *summary = cJSON_CreateObject(), *faults = cJSON_CreateArray();
    FILE *file = begin_rows(run, "summary.json", NULL);
    char *text;

    cJSON_AddStringToObject(summary, "modelled", run->comment);
    cJSON_AddNumberToObject(summary, "ranks", eepi_view_num_active(run->self->before));
    for (int seat = 0; seat < run->self->before->shape.max_ranks; seat++) {
        if (eepi_view_is_member(run->self->before, seat) &&
            !eepi_view_is_member(run->self->view, seat)) {
            add_fault(faults, run, seat);
        }
    }
    cJSON_AddItemToObject(summary, "faults", faults);
    cJSON_AddItemToObject(summary, "joins", cJSON_CreateArray());
    text = cJSON_Print(summary);
    if (file && text) {
        fprintf(file, "%s\n", text);
    }
    cJSON_free(text);
    cJSON_Delete(summary);
    return end_rows(file);
}

int plan_modelled_rows(const plan_case *self, const plan_outcome *outcome, double before_s,
                       double after_s, const char *comment, const char *dir)
{
    const int lost = eepi_view_num_active(self->before) - eepi_view_num_active(self->view);
    const modelled_run run = {.self = self,
                              .outcome = outcome,
                              .m = plan_modelled_of(self, outcome, lost),
                              .loss_ms = before_s * 1e3,
                              .end_ms = (before_s + after_s) * 1e3,
                              .comment = comment,
                              .dir = dir};

    if (folder_make(dir) != 0 || write_steps(&run) != 0 || write_tokens(&run) != 0 ||
        write_events(&run) != 0 || write_summary(&run) != 0) {
        return -1;
    }
    return 0;
}
