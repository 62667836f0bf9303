/* SPDX-License-Identifier: Apache-2.0 */
/* Judge the kept rows of a run: every emitted token recomputed, on several threads, or compared
 * with the rows of a twin run. */
#ifndef EEPX_ORACLE_VERDICT_H
#define EEPX_ORACLE_VERDICT_H

#include "experiments/oracle/oracle_rows.h"

/* One emitted token that is not what it has to be. */
typedef struct oracle_fault {
    bool found; /* the rest is 0 if not */
    uint32_t request, position;
    size_t line; /* of tokens.csv */
    uint32_t token, right_token;
    uint64_t digest, right_digest;
} oracle_fault;

typedef struct oracle_verdict {
    uint64_t tokens_checked;
    uint64_t tokens_wrong;
    uint64_t digests_wrong;
    uint64_t tokens_missing;   /* of completed requests: all that are not there; of others: gaps */
    uint64_t tokens_doubled;   /* further rows of the same position */
    uint64_t tokens_surplus;   /* positions from output_length on */
    uint64_t tokens_unchecked; /* behind a gap or a token outside the vocabulary */
    uint64_t positions;        /* recomputed */
    double seconds;            /* with the generation of the weights */
    oracle_fault first_wrong;  /* by request, then position */
} oracle_verdict;

/* Called on the caller's thread about four times a second. */
typedef void (*oracle_progress_fn)(void *user, uint64_t positions_done, uint64_t positions,
                                   double seconds);

/* Recompute all tokens on num_threads threads (1..256). `progress` may be NULL. EEP_ERR_INVALID:
 * num_threads or the shape; EEP_ERR_NO_MEMORY; EEP_ERR_SYSTEM: no thread could be started. */
EEP_MUST_CHECK eep_status oracle_verdict_find(const oracle_rows *rows, int num_threads,
                                              oracle_progress_fn progress, void *user,
                                              oracle_verdict *verdict_out);
/* Nothing is wrong, missing, doubled, surplus or unchecked. */
bool oracle_verdict_is_clean(const oracle_verdict *verdict);

typedef struct oracle_comparison {
    uint64_t tokens_compared; /* (request, position) in both */
    uint64_t tokens_differ, digests_differ;
    uint64_t only_first, only_second; /* (request, position) in one of them */
    oracle_fault first_difference;    /* right_*: those of the second run */
} oracle_comparison;

/* Compare two runs of the same requests. EEP_ERR_INVALID: seed, shape or an input_length differ, so
 * that they are no twins; error_out says which. */
EEP_MUST_CHECK eep_status oracle_rows_compare(const oracle_rows *first, const oracle_rows *second,
                                              oracle_comparison *comparison_out,
                                              char error_out[ORACLE_ERROR_BYTES]);
#endif
