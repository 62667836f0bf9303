/* SPDX-License-Identifier: Apache-2.0 */
/* The rows and the closing table of a campaign. */
#include "experiments/chaos/chaos_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const part_names[CHAOS_NUM_PARTS] = {"detect", "agree", "repair", "rerun",
                                                        "pause"};

eep_status chaos_table_add(chaos_table *self, const chaos_round *round,
                           const chaos_verdict *verdict)
{
    size_t wanted = self->num_healed + (size_t)round->num_faults;
    for (int p = 0; p < CHAOS_NUM_PARTS && wanted > self->room; p++) {
        double *grown = realloc(self->part[p], 2 * wanted * sizeof *grown);
        if (!grown) {
            return EEP_ERR_NO_MEMORY;
        }
        self->part[p] = grown;
        self->room = p == CHAOS_NUM_PARTS - 1 ? 2 * wanted : self->room;
    }
    for (int i = 0; i < round->num_faults; i++) {
        const chaos_result *result = &verdict->result[i];
        const double parts[CHAOS_NUM_PARTS] = {result->detect_ms, result->agree_ms,
                                               result->repair_ms, result->rerun_ms,
                                               result->pause_ms};
        self->num_drawn[round->fault[i].kind]++;
        self->num[round->fault[i].kind] += result->injected;
        self->num_expelled[round->fault[i].kind] += (size_t)result->expelled;
        self->num_scope[round->fault[i].scope] += result->injected;
        self->num_passed_over += !result->injected;
        for (int p = 0; p < CHAOS_NUM_PARTS && result->healed; p++) {
            self->part[p][self->num_healed] = parts[p];
        }
        self->num_healed += result->healed;
    }
    self->num_rounds++;
    self->num_faults += (size_t)round->num_faults;
    self->tokens += verdict->tokens;
    self->tokens_wrong += verdict->tokens_wrong;
    self->tokens_lost += verdict->tokens_lost;
    self->requests += verdict->requests;
    self->steps_waiting += verdict->steps_waiting;
    return EEP_OK;
}

void chaos_table_free(chaos_table *self)
{
    for (int p = 0; p < CHAOS_NUM_PARTS; p++) {
        free(self->part[p]);
    }
    *self = (chaos_table){0};
}

/* ---------------------------------------------------------------- chaos.csv */

void chaos_table_head(FILE *file)
{
    fputs("seed,round,fault,kind,scope,rank,generation,time_ms,duration_ms,factor,struck,expelled,"
          "detect_ms,agree_ms,repair_ms,rerun_ms,pause_ms,survivors,weights_bytes_in_pause,order\n",
          file);
}

/* Commas are of the rows. */
static void write_order(FILE *file, const char *text)
{
    for (; *text; text++) {
        fputc(*text == ',' ? '+' : *text, file);
    }
    fputc('\n', file);
}

void chaos_table_rows(FILE *file, const chaos_config *config, const chaos_round *round,
                      const chaos_verdict *verdict)
{
    for (int i = 0; i < round->num_faults; i++) {
        const chaos_fault *fault = &round->fault[i];
        const chaos_result *result = &verdict->result[i];
        fprintf(file, "%" PRIu64 ",%" PRIu64 ",%d,%s,%s,%d,%" PRIu32 ",%.3f,%.0f,%.0f,%d,%d,",
                config->seed, config->round, i + 1, chaos_kind_names[fault->kind],
                chaos_scope_names[fault->scope], fault->seat, result->generation, result->time_ms,
                fault->duration_ms, fault->factor, result->injected, result->expelled);
        if (result->healed) {
            fprintf(file, "%.3f,%.3f,%.3f,%.3f,%.3f,%d,%.0f,", result->detect_ms, result->agree_ms,
                    result->repair_ms, result->rerun_ms, result->pause_ms, result->num_survivors,
                    result->weights_bytes);
        } else {
            fputs(",,,,,,,", file);
        }
        write_order(file, round->order[i].text);
    }
}

/* ---------------------------------------------------------------- the table */

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Nearest rank, as in summary.json. */
static double quantile(const double *ordered, size_t num, size_t percent)
{
    return ordered[(percent * num + 99) / 100 - 1];
}

void chaos_table_print(chaos_table *self, FILE *file)
{
    size_t num = self->num_healed;
    fprintf(file, "\n  %-14s %7s %9s\n", "kind", "struck", "expelled");
    for (int k = 0; k < NUM_CHAOS_KINDS; k++) {
        if (self->num_drawn[k]) {
            fprintf(file, "  %-14s %7zu %9zu\n", chaos_kind_names[k], self->num[k],
                    self->num_expelled[k]);
        }
    }
    fputs("  of these", file);
    for (int s = 0; s < NUM_CHAOS_SCOPES; s++) {
        fprintf(file, "%s %zu %s", s ? "," : "", self->num_scope[s], chaos_scope_names[s]);
    }
    fprintf(file, "; %zu passed over (the rank was gone)\n", self->num_passed_over);
    if (num) {
        fprintf(file, "\n  %-14s %7s %9s %9s %9s\n", "ms", "n", "p50", "p99", "max");
    }
    for (int p = 0; p < CHAOS_NUM_PARTS && num; p++) {
        qsort(self->part[p], num, sizeof **self->part, compare_doubles);
        fprintf(file, "  %-14s %7zu %9.1f %9.1f %9.1f\n", part_names[p], num,
                quantile(self->part[p], num, 50), quantile(self->part[p], num, 99),
                self->part[p][num - 1]);
    }
    fprintf(file,
            "\n  %zu rounds, %zu faults, %.0f requests, %.0f tokens: %.0f wrong, %.0f lost or "
            "doubled\n  %.0f steps waited longer than usual for a joiner\n",
            self->num_rounds, self->num_faults, self->requests, self->tokens, self->tokens_wrong,
            self->tokens_lost, self->steps_waiting);
}
