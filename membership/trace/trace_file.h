/* SPDX-License-Identifier: Apache-2.0 */
/* The file that EEP_TRACE makes of each context, FOLDER/rank-SEAT-PID.trace: what happened, row by
 * row, and what a laboratory asks of the rank (docs/FOREIGN-ENGINES.md).
 *
 *   header               4096 bytes
 *   ring                 the newest rows: row n lies at n modulo EEPI_TRACE_RING
 *   rows                 all of them from the first on, as far as they have been written
 *
 * Header and ring are memory that the process has mapped, so they outlive a SIGKILL. A row is whole
 * once its `number` is n + 1. Rows from `written` on are in the ring alone. */
#ifndef EEPI_TRACE_FILE_H
#define EEPI_TRACE_FILE_H

#include "eep/eep.h"

#include <assert.h>
#include <stdint.h>

#define EEPI_TRACE_MAGIC 0x3143415254504545ull /* "EEPTRAC1" */

enum {
    EEPI_TRACE_RING = 4096, /* rows */
    EEPI_TRACE_HEADER_BYTES = 4096,
    EEPI_TRACE_EVENT = 64, /* and the eep_event_kind */
};

typedef enum eepi_trace_kind {
    EEPI_TRACE_OPENED = 1, /* eep_open has returned */
    EEPI_TRACE_JOINED,     /* eep_join has; epoch: of the view */
    EEPI_TRACE_STEP,       /* a step has ended; begin_ns, step, epoch, status */
    EEPI_TRACE_CLOSED,     /* eep_close begins */
} eepi_trace_kind;

typedef struct eepi_trace_row {
    uint64_t number; /* n + 1 */
    uint64_t time_ns, begin_ns, step, epoch, value;
    int32_t about_seat;
    uint32_t about_generation;
    int32_t status;
    int32_t kind;
} eepi_trace_row;
static_assert(sizeof(eepi_trace_row) == 64, "part of the file's form");

/* Written by a laboratory; the rank looks at them between two steps. */
typedef struct eepi_trace_orders {
    uint64_t armed;       /* a place in a step (experiments/script/verbs.h) + 1; 0: none */
    uint64_t stops;       /* it stops there (SIGSTOP) and may go on; else it dies */
    uint64_t slow_milli;  /* steps take so many thousandths of their time; 0, 1000: as ever */
    uint64_t leaves;      /* bits of eepi_leaving: as by eep_drain, eep_instance_end */
    uint64_t leaves_done; /* of the rank's: those that it has taken */
} eepi_trace_orders;

typedef struct eepi_trace_header {
    uint64_t magic;
    uint32_t row_bytes, ring_rows;
    int32_t seat;
    uint32_t generation;
    int32_t pid, max_ranks;
    uint64_t opened_ns, realtime_ns; /* the same moment by CLOCK_MONOTONIC and CLOCK_REALTIME */
    uint64_t head;                   /* rows that were begun; atomic */
    uint64_t written;                /* rows behind the ring; atomic */
    uint64_t dropped;                /* rows that found no room; atomic */
    uint32_t can_halt;               /* `armed` is looked at */
    uint32_t pad;
    eepi_trace_orders orders;
    eep_counters counters; /* now and then, and at the end */
} eepi_trace_header;
static_assert(sizeof(eepi_trace_header) <= EEPI_TRACE_HEADER_BYTES, "the ring follows");

static inline uint64_t eepi_trace_rows_offset(void)
{
    return EEPI_TRACE_HEADER_BYTES + (uint64_t)EEPI_TRACE_RING * sizeof(eepi_trace_row);
}
#endif
