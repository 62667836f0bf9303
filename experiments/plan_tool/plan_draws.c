/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/plan_tool/plan_draws.h"

#include "experiments/plan_tool/plan_anew.h"
#include "experiments/plan_tool/plan_modelled.h"

#include <stdlib.h>
#include <string.h>

static void print_header(FILE *file)
{
    fputs("how,failed,draw,lost,covered,uncovered,pause_bytes,pause_s,bound_s,behind_bytes,"
          "behind_link_s,behind_s,rounds,balance_before,balance_paused,balance_rest,"
          "modelled_pause_ms,modelled_silent_ms,throughput_kept",
          file);
    for (int source = 0; source < PLAN_NUM_SOURCES; source++) {
        fprintf(file, ",%s", plan_source_names[source]);
    }
    fputs(",anew_covered,anew_s,anew_balance", file);
    for (int source = 0; source < PLAN_NUM_SOURCES; source++) {
        fprintf(file, ",anew_%s", plan_source_names[source]);
    }
    fputc('\n', file);
}

static void print_lost(const bool *lost, int ranks, FILE *file)
{
    for (int digit = (ranks - 1) / 4; digit >= 0; digit--) {
        unsigned bits = 0;
        for (int i = 0; i < 4; i++) {
            const int rank = digit * 4 + i;
            bits |= (unsigned)(rank < ranks && lost[rank]) << i;
        }
        fprintf(file, "%x", bits);
    }
}

static void print_slots(const int64_t *slots, FILE *file)
{
    for (int source = 0; source < PLAN_NUM_SOURCES; source++) {
        fprintf(file, ",%lld", (long long)slots[source]);
    }
}

static void print_row(const plan_case *self, const plan_outcome *o, const plan_anew *anew,
                      int failed, FILE *file)
{
    const double bytes = (double)self->given.expert_bytes;
    const plan_modelled m = plan_modelled_of(self, o, failed);

    fprintf(file, ",%d,%d,%.0f,%.6f,%.6f,%.0f,%.6f,%.6f,%lld,%.4f,%.4f,%.4f,%.3f,%.3f,%.4f",
            o->is_covered, o->uncovered, (double)o->pause_fills * bytes, o->pause_s, o->bound_s,
            (double)o->behind_fills * bytes, o->behind_link_s, o->behind_s, (long long)o->rounds,
            o->before.mean, o->paused.mean, o->rest.mean, m.pause_ms, m.silent_pause_ms, m.kept);
    print_slots(o->slots, file);
    fprintf(file, ",%d,%.6f,%.4f", anew->is_covered, anew->pause_s, anew->balance.mean);
    print_slots(anew->slots, file);
    fputc('\n', file);
}

eep_status plan_draws_print(plan_outcomes *outcomes, const char *how, int failed, int num,
                            uint64_t seed, FILE *file)
{
    const int ranks = outcomes->self->before->shape.max_ranks;
    bool *lost = calloc((size_t)ranks, sizeof *lost);
    eep_status status = lost ? EEP_OK : EEP_ERR_NO_MEMORY;

    print_header(file);
    for (int draw = 1; status == EEP_OK && draw <= num; draw++) {
        plan_outcome outcome;
        plan_anew anew;
        memset(lost, 0, (size_t)ranks * sizeof *lost);
        plan_case_choose(outcomes->self->before, how, failed, &seed, lost);
        status = plan_outcomes_of(outcomes, lost, &outcome);
        status = status == EEP_OK ? plan_anew_of(outcomes, lost, &anew) : status;
        if (status == EEP_OK) {
            fprintf(file, "%s,%d,%d,", how, failed, draw);
            print_lost(lost, ranks, file);
            print_row(outcomes->self, &outcome, &anew, failed, file);
        }
    }
    free(lost);
    return status;
}
