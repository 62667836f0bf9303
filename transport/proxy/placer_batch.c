/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/proxy/placer_batch.h"

#include "transport/proxy/placer_source.h"

#include <string.h>

void eepi_placer_batch_end(eepi_placer_batch *batch)
{
    const eepk_put *put[EEPI_PLACER_BATCH];

    if (batch->num == 0) {
        return;
    }
    for (uint32_t i = 0; i < batch->num; i++) {
        put[i] = &batch->put[i];
    }
    eepi_placer_end(batch->placer, put, batch->num, batch->num);
    batch->num = 0;
}

eepi_placed eepi_placer_batch_add(eepi_placer_batch *batch, const eepk_put *put, const void *bytes,
                                  uint32_t proven)
{
    eepi_placed how = EEPI_PLACED_MALFORMED;
    void *to;

    if (batch->placer->ops.settle) {
        how = eepi_placer_begin(batch->placer, put, proven, &to);
    }
    if (how == EEPI_PLACED) {
        memcpy(to, bytes, put->bytes);
        batch->put[batch->num++] = *put;
        if (batch->num == EEPI_PLACER_BATCH) {
            eepi_placer_batch_end(batch);
        }
        return how;
    }
    eepi_placer_batch_end(batch); /* a word's listener may wait for whoever moves the gate */
    return eepi_placer_place(batch->placer, put, bytes, proven);
}
