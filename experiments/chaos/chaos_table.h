/* SPDX-License-Identifier: Apache-2.0 */
/* What a campaign of eep-chaos adds up to: a row per fault, and the table at the end. */
#ifndef EEPX_CHAOS_TABLE_H
#define EEPX_CHAOS_TABLE_H

#include "experiments/chaos/chaos.h"
#include "experiments/chaos/chaos_judge.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CHAOS_NUM_PARTS = 5 }; /* detect, agree, repair, rerun, pause */

typedef struct chaos_table {
    double *part[CHAOS_NUM_PARTS]; /* [num_healed], ms */
    size_t num_healed, room;
    size_t num_drawn[NUM_CHAOS_KINDS], num[NUM_CHAOS_KINDS], num_expelled[NUM_CHAOS_KINDS];
    size_t num_scope[NUM_CHAOS_SCOPES];
    size_t num_rounds, num_faults, num_passed_over;
    double tokens, tokens_wrong, tokens_lost, requests, steps_waiting;
} chaos_table;

/* Take what a round came to. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status chaos_table_add(chaos_table *self, const chaos_round *round,
                                          const chaos_verdict *verdict);
void chaos_table_free(chaos_table *self);
/* The heading of chaos.csv, after its comment lines, and the rows of one round. */
void chaos_table_head(FILE *file);
void chaos_table_rows(FILE *file, const chaos_config *config, const chaos_round *round,
                      const chaos_verdict *verdict);
void chaos_table_print(chaos_table *self, FILE *file);
#endif
