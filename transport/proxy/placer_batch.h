/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of one source that go to a window's device together, where each settling costs a launch
 * (eepi_placer_ops.settle). They are inside the gate until the batch ends, so whoever has one waits
 * for nothing meanwhile (rule N1). Where writes are seen at once, rows are placed one by one. */
#ifndef EEPI_PLACER_BATCH_H
#define EEPI_PLACER_BATCH_H

#include "transport/proxy/placer.h"

enum { EEPI_PLACER_BATCH = 16 };

typedef struct eepi_placer_batch {
    eepi_placer *placer;
    uint32_t num;
    eepk_put put[EEPI_PLACER_BATCH];
} eepi_placer_batch;

/* An empty one. Only what is added is written: a batch begins with each read. */
static inline void eepi_placer_batch_begin(eepi_placer_batch *batch, eepi_placer *placer)
{
    batch->placer = placer;
    batch->num = 0;
}

/* As eepi_placer_place; EEPI_PLACED of rows: they are placed when the batch ends. What is no row
 * ends it first. */
eepi_placed eepi_placer_batch_add(eepi_placer_batch *batch, const eepk_put *put, const void *bytes,
                                  uint32_t proven);
/* All that was added is placed, unless the device has failed. */
void eepi_placer_batch_end(eepi_placer_batch *batch);
#endif
