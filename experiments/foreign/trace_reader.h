/* SPDX-License-Identifier: Apache-2.0 */
/* The trace of a rank that is not the laboratory's own (membership/trace/trace_file.h): its rows
 * are read while it runs, and it is told what to do. One thread owns a reader; no call waits. */
#ifndef EEPX_TRACE_READER_H
#define EEPX_TRACE_READER_H

#include "experiments/wire/wire.h"
#include "membership/trace/trace_file.h"

#include <stdbool.h>
#include <sys/types.h>

typedef struct trace_reader {
    eepi_trace_header *header; /* NULL: it is not open */
    const eepi_trace_row *ring;
    int fd;
    uint64_t next; /* row that is read next */
} trace_reader;

/* The trace of that process in the folder, if it has one yet. */
bool trace_reader_open(trace_reader *self, const char *folder, int seat, pid_t pid);
void trace_reader_close(trace_reader *self);
/* The next row; false: there is none yet. */
bool trace_reader_next(trace_reader *self, eepi_trace_row *row_out);
/* Tell the rank what a message of the launcher says. False: it cannot be told that. */
bool trace_reader_tell(trace_reader *self, const wire_header *message);
#endif
