/* SPDX-License-Identifier: Apache-2.0 */
/* The kept rows of a run as the oracle reads them: run.json (seed and shape), requests.csv and
 * tokens.csv. */
#ifndef EEPX_ORACLE_ROWS_H
#define EEPX_ORACLE_ROWS_H

#include "experiments/oracle/oracle.h"

enum { ORACLE_ERROR_BYTES = 512 };

typedef enum oracle_request_status {
    ORACLE_COMPLETED,
    ORACLE_FAILED,
    ORACLE_LOST,
    ORACLE_RUNNING,
} oracle_request_status;

/* A request and the first accepted row of each of its emitted positions. */
typedef struct oracle_rows_request {
    uint32_t request, input_length, output_length;
    oracle_request_status status;
    size_t line;            /* in requests.csv */
    uint32_t num_positions; /* 1 + the highest emitted position */
    uint32_t num_leading;   /* positions 0..num_leading-1 are all there */
    uint32_t num_present;   /* positions that are there */
    uint32_t num_doubled;   /* further rows of a position that was there */
    uint32_t num_surplus;   /* rows of positions from output_length on; not kept */
    uint32_t capacity;      /* of the arrays below, by position */
    uint32_t *tokens;       /* [num_positions] */
    uint64_t *digests;      /* [num_positions] */
    size_t *lines;          /* [num_positions] in tokens.csv; 0: the position is missing */
} oracle_rows_request;

typedef struct oracle_rows {
    uint64_t seed;
    oracle_shape shape;
    oracle_rows_request *requests; /* [num_requests] by id */
    size_t num_requests;
    uint64_t num_rows; /* of tokens.csv */
} oracle_rows;

/* Read DIR/run.json, DIR/requests.csv and DIR/tokens.csv. A seed of 2^53 or more is a decimal
 * string in run.json. Rows that a broken product may write (doubled, beyond output_length, token
 * outside the vocabulary) are taken and counted; rows that no product may write are EEP_ERR_INVALID
 * with "FILE:LINE:COLUMN: what" in error_out. EEP_ERR_SYSTEM: a file cannot be read;
 * EEP_ERR_NO_MEMORY.
 */
EEP_MUST_CHECK eep_status oracle_rows_read(const char *dir, oracle_rows *rows_out,
                                           char error_out[ORACLE_ERROR_BYTES]);
void oracle_rows_free(oracle_rows *rows);
#endif
