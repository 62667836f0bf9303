/* SPDX-License-Identifier: Apache-2.0 */
/* Segments of experts that this rank reads from its checkpoint file for the repairs of others (rule
 * R2). What is read is summed, so that a file with other bytes than the instance is found out where
 * it lies, and not only where they arrive. Service thread, but for the begin and the end. */
#ifndef EEPI_CHECKPOINT_READS_H
#define EEPI_CHECKPOINT_READS_H

#include "eep/eep.h"
#include "transport/bulk/bulk.h"
#include "transport/checkpoint/tensor_list.h"

#include <stdbool.h>

typedef struct eepi_reads eepi_reads;

typedef enum eepi_read_result {
    EEPI_READ_DONE,
    EEPI_READ_REFUSED, /* it is no segment, or memory is short */
    EEPI_READ_FAILED,  /* the file cannot be read */
} eepi_read_result;

/* NULL: no memory. */
eepi_reads *eepi_reads_new(void);
void eepi_reads_free(eepi_reads *reads);
/* Read `bytes` bytes from blob->offset of an expert, which must be a segment of it
 * (repair/executor/segments.h), into memory that stays until eepi_reads_end. `why` names file and
 * cause where it failed. */
eepi_read_result eepi_reads_begin(eep_context *context, eepi_reads *reads, const eepi_blob *blob,
                                  uint64_t bytes, eepi_bulk_part *parts_out, int *num_parts_out,
                                  char why[EEPI_TENSOR_WHY_BYTES]);
/* Those parts are not read any more; nothing happens if they are others. */
void eepi_reads_end(eepi_reads *reads, const eepi_bulk_part *parts, int num_parts);
/* The whole expert has been read by now, and its checksum is another one. It is summed anew then.
 */
bool eepi_reads_are_wrong(eepi_reads *reads, const eepi_blob *blob, uint64_t checksum);
#endif
