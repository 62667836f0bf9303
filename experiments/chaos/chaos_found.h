/* SPDX-License-Identifier: Apache-2.0 */
/* What a round of eep-chaos left: the rows of events.csv and the summary, and what must hold of
 * every round. Private to the two judges. */
#ifndef EEPX_CHAOS_FOUND_H
#define EEPX_CHAOS_FOUND_H

#include "experiments/chaos/chaos_judge.h"

#include <cjson/cJSON.h>
#include <stddef.h>

typedef struct chaos_row {
    double time_ms;
    int seat;
    uint32_t generation;
    char kind[20];
    long long value;
    bool taken; /* by a fault that was drawn */
} chaos_row;

typedef struct chaos_found {
    const chaos_round *round;
    chaos_verdict *verdict;
    chaos_row *rows;
    size_t num_rows;
    cJSON *summary; /* NULL: there is none */
} chaos_found;

/* Read DIR and begin with a good verdict. EEP_ERR_NO_MEMORY. chaos_found_free in any case. */
EEP_MUST_CHECK eep_status chaos_found_read(chaos_found *self, const chaos_round *round,
                                           const char *dir, chaos_verdict *verdict);
void chaos_found_free(chaos_found *self);
/* Only the first violation is kept: what follows is often its consequence. */
void chaos_violate(chaos_found *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* NaN: it is not there. */
double chaos_number(const cJSON *object, const char *name);
void chaos_check_zero(chaos_found *self, const cJSON *object, const char *name);
/* Tokens, digests, requests and captures; what the table counts. */
void chaos_check_totals(chaos_found *self);
void chaos_check_exit(chaos_found *self, int exit_code);

/* The name of the launcher's row about a fault of that kind. */
const char *chaos_row_name(chaos_kind kind);
/* The first untaken row of the launcher about the seat, of that kind; NULL: there is none. The end
 * of a slow time is no fault (its value is a factor of 1, in thousandths). */
chaos_row *chaos_take_row(chaos_found *self, const char *kind, int seat);
const chaos_row *chaos_find_row(const chaos_found *self, const char *kind, int seat,
                                uint32_t generation);
/* The process served before `time_ms`: survivors then have something to recover from. */
bool chaos_had_joined(const chaos_found *self, int seat, uint32_t generation, double time_ms);

/* Of a fault of the summary. */
bool chaos_is_kind(const cJSON *fault, const char *kind);
bool chaos_is_expelled(const cJSON *fault);
void chaos_fill_result(chaos_result *result, const cJSON *fault);
#endif
