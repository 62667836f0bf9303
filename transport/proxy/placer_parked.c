/* SPDX-License-Identifier: Apache-2.0 */
/* What has come before its step: the first dispatch of each source and chain, copied, so that
 * the network's memory is free. */
#include "transport/proxy/placer_source.h"

#include <stdlib.h>
#include <string.h>

bool eepi_parked_open(eepi_parked *parked, uint32_t max_pieces, uint32_t piece_bytes)
{
    parked->puts = calloc(max_pieces, sizeof *parked->puts);
    parked->bytes = malloc((size_t)max_pieces * piece_bytes);
    return parked->puts && parked->bytes;
}

void eepi_parked_close(eepi_parked *parked)
{
    free(parked->puts);
    free(parked->bytes);
}

static void forget(const eepi_placer *placer, eepi_parked *parked)
{
    memset(parked->puts, 0, placer->max_parked * sizeof *parked->puts);
    parked->num = 0;
    parked->has_tag = false;
}

/* A newer process of the seat first: what its predecessor named may have been forgotten since. */
static bool is_before(const eepk_put *put, const eepi_parked *parked)
{
    if (put->source_generation != parked->generation) {
        return put->source_generation < parked->generation;
    }
    return put->epoch < parked->epoch || (put->epoch == parked->epoch && put->step < parked->step);
}

static bool is_of(const eepk_put *put, const eepi_parked *parked)
{
    return put->epoch == parked->epoch && put->step == parked->step &&
           put->source_generation == parked->generation;
}

eepi_placed eepi_parked_keep(eepi_placer *placer, eepi_source *source, const eepk_put *put,
                             const void *bytes)
{
    eepi_parked *parked = &source->parked[put->chain];

    if (put->layer != 0 || put->chunk != 0 || put->phase != EEPK_PHASE_DISPATCH) {
        return EEPI_PLACED_MALFORMED; /* nobody comes so far without this rank */
    }
    if (parked->num != 0 && is_before(put, parked)) {
        return EEPI_PLACED_OLDER;
    }
    if (parked->num != 0 && !is_of(put, parked)) {
        eepi_placer_note(placer, EEPI_PLACED_OLDER, parked->num);
        forget(placer, parked);
    }
    if (put->kind == EEPK_PUT_TAG
            ? parked->has_tag
            : put->pieces >= placer->max_parked || parked->puts[put->pieces].kind != 0) {
        return put->kind == EEPK_PUT_TAG || put->pieces < placer->max_parked
                   ? EEPI_PLACED_DOUBLED
                   : EEPI_PLACED_MALFORMED;
    }
    parked->epoch = put->epoch;
    parked->step = put->step;
    parked->generation = put->source_generation;
    parked->num++;
    if (put->kind == EEPK_PUT_TAG) {
        parked->has_tag = true;
        parked->tag = *put;
        return EEPI_PLACED_PARKED;
    }
    parked->puts[put->pieces] = *put;
    memcpy(parked->bytes + (size_t)put->pieces * placer->piece_bytes, bytes, put->bytes);
    return EEPI_PLACED_PARKED;
}

typedef struct batch { /* written, and inside the gate until they are seen */
    const eepk_put *put[EEPI_PLACER_AT_ONCE];
    uint32_t num;
} batch;

static void end_batch(eepi_placer *placer, eepi_source *source, batch *b)
{
    const bool is_seen = eepi_placer_settle(placer, b->put, b->num);

    for (uint32_t i = 0; i < b->num; i++) {
        eepi_placer_unmark(placer, source, b->put[i], is_seen);
        eepi_window_gate_leave(placer->gate);
    }
    eepi_placer_note(placer, is_seen ? EEPI_PLACED : EEPI_PLACED_LOST, b->num);
    b->num = 0;
}

/* Inside the gate. False: it leaves it, since it stays outside of the batch, for `how_out`. */
static bool enters_batch(eepi_placer *placer, eepi_source *source, const eepk_put *put,
                         const void *bytes, batch *b, eepi_placed *how_out)
{
    *how_out = put->kind == EEPK_PUT_TAG ? eepi_placer_write(placer, source, put, NULL)
                                         : eepi_placer_mark(placer, source, put);
    if (put->kind == EEPK_PUT_TAG || *how_out != EEPI_PLACED) {
        eepi_window_gate_leave(placer->gate);
        return false;
    }
    placer->ops.rows(eepi_placer_user(placer), put->offset, bytes, put->bytes);
    b->put[b->num++] = put;
    if (b->num == EEPI_PLACER_AT_ONCE) {
        end_batch(placer, source, b);
    }
    return true;
}

/* Its source was the one that it said when it came. False: the gate has not come to it. */
static bool release(eepi_placer *placer, eepi_source *source, const eepk_put *put,
                    const void *bytes, batch *b)
{
    eepi_placed how = EEPI_PLACED_FOREIGN;

    switch (eepi_window_gate_enter(placer->gate, put, put->source_generation)) {
    case EEPI_GATE_ENTERED:
        if (enters_batch(placer, source, put, bytes, b, &how)) {
            return true;
        }
        break;
    case EEPI_GATE_NEWER:
        return false;
    case EEPI_GATE_OLDER:
        how = EEPI_PLACED_OLDER;
        break;
    case EEPI_GATE_FOREIGN:
        break;
    }
    eepi_placer_note(placer, how, 1);
    return true;
}

void eepi_parked_release(eepi_placer *placer, eepi_source *source)
{
    for (int chain = 0; chain < EEPK_MAX_CHAINS; chain++) {
        eepi_parked *parked = &source->parked[chain];
        batch b = {.num = 0};
        bool is_due = true;
        for (uint32_t i = 0; i < placer->max_parked && parked->num != 0 && is_due; i++) {
            if (parked->puts[i].kind != 0) {
                is_due = release(placer, source, &parked->puts[i],
                                 parked->bytes + (size_t)i * placer->piece_bytes, &b);
            }
        }
        end_batch(placer, source, &b);
        if (is_due && parked->has_tag) {
            is_due = release(placer, source, &parked->tag, NULL, &b);
        }
        if (is_due && parked->num != 0) {
            forget(placer, parked);
        }
    }
}
