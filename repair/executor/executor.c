/* SPDX-License-Identifier: Apache-2.0 */
/* The executor: which slots are filled when, and what comes of a view. slot_fill.c fills one. */
#include "repair/executor/executor.h"

#include "graphs/device/device_ops.h"
#include "repair/executor/slot_fill.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WHY_BYTES = 400,
    PLACE_WAIT_US = 500,
    WORK_BYTES = 8 * EEPI_SEGMENT_BYTES /* of one call, so that the service thread hears others */
};

/* ------------------------------------------------------------------ open and close */

static eep_status open_slot(eepi_executor *x, eepi_slot_fill *f)
{
    f->sum = eepi_checksum_new(x->slot_bytes);
    f->segment_memory =
        calloc((size_t)eepi_segments_num(x->slot_bytes) + 1, sizeof *f->segment_memory);
    if (!f->sum || !f->segment_memory) {
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status = eep_event_open(x->config.device, &f->placed);
    return status != EEP_OK ? status
                            : eep_device_alloc(x->config.device, EEP_MEMORY_PINNED, x->slot_bytes,
                                               (void **)&f->buffer);
}

eep_status eepi_executor_open(const eepi_executor_config *config, eepi_executor **executor_out)
{
    eepi_executor *x = calloc(1, sizeof *x);
    eep_status status;

    if (!x) {
        return EEP_ERR_NO_MEMORY;
    }
    x->config = *config;
    if (x->config.segments_per_source == 0) {
        x->config.segments_per_source = EEPI_SEGMENTS_PER_SOURCE;
    }
    x->memory = eepi_memory_place_of(config->device);
    eepi_pace_open(&x->pace, config->background_bytes_per_s, config->background_latency_percent);
    for (int i = 0; i < config->num_tensors; i++) {
        x->slot_bytes += config->tensor_bytes[i];
    }
    x->placed = calloc((size_t)config->num_layers * (size_t)config->num_slots, sizeof *x->placed);
    x->block = aligned_alloc(64, EEPI_CHECKSUM_BLOCK_BYTES);
    if (!x->placed || !x->block) {
        eepi_executor_close(x);
        return EEP_ERR_NO_MEMORY;
    }
    for (int i = 0; i < config->num_layers * config->num_slots; i++) {
        x->placed[i] = -1;
    }
    status = eepi_device_auxiliary(config->device, &x->stream);
    for (int i = 0; i < EEPI_FILLS_AT_ONCE && status == EEP_OK; i++) {
        status = open_slot(x, &x->slots[i]);
    }
    if (status != EEP_OK) {
        eepi_executor_close(x);
        return status;
    }
    *executor_out = x;
    return EEP_OK;
}

void eepi_executor_close(eepi_executor *x)
{
    if (!x) {
        return;
    }
    eepi_executor_cancel(x);
    for (int i = 0; i < EEPI_FILLS_AT_ONCE; i++) {
        eep_device_free(x->config.device, EEP_MEMORY_PINNED, x->slots[i].buffer);
        eep_event_close(x->slots[i].placed);
        eepi_checksum_free(x->slots[i].sum);
        free(x->slots[i].segment_memory);
    }
    free(x->placed);
    free(x->block);
    free(x);
}

/* Rule R1: no copy into a slot is under way when the slot may be given another expert. */
static void wait_for_copies(eepi_executor *x)
{
    bool copies = false;

    for (int i = 0; i < EEPI_FILLS_AT_ONCE; i++) {
        copies = copies || x->slots[i].state == EEPI_SLOT_FILL_PLACE ||
                 x->slots[i].state == EEPI_SLOT_FILL_PLACED;
        x->slots[i].state = EEPI_SLOT_FILL_FREE;
    }
    if (copies || x->stream_is_late) {
        x->stream_is_late = eep_stream_synchronize(x->stream, EEPI_COPY_BOUND_US) != EEP_OK;
    }
}

void eepi_executor_cancel(eepi_executor *x)
{
    eepi_pace_end(&x->pace);
    wait_for_copies(x);
    free(x->view);
    free(x->fills);
    free(x->seats);
    free(x->sources);
    x->view = NULL;
    x->fills = NULL;
    x->seats = NULL;
    x->sources = NULL;
    x->num_fills = x->next_fill = x->num_filled = 0;
    x->bytes = 0;
    x->has_work = false;
}

bool eepi_executor_is_filling(const eepi_executor *x)
{
    return x->view != NULL;
}

bool eepi_executor_is_behind_traffic(const eepi_executor *x)
{
    return x->view && x->view->phase == EEPI_VIEW_SERVING;
}

/* ------------------------------------------------------------------ the view as a whole */

static void finish(eepi_executor *x, eep_status status, const char *why)
{
    uint64_t digest = x->view->digest, bytes = x->bytes;

    eepi_executor_cancel(x);
    x->config.done(x->config.user, digest, status, bytes, why);
}

static void give_up(eepi_executor *x, const eepi_slot_fill *f)
{
    char why[WHY_BYTES], each[WHY_BYTES / 2];

    if (f->sources.num == 0) {
        snprintf(why, sizeof why, "layer %d expert %d: no rank has a copy", f->what.layer,
                 f->what.expert);
    } else {
        eepi_sources_say(&f->sources, each, sizeof each);
        snprintf(why, sizeof why, "layer %d expert %d: no copy could be had: %s", f->what.layer,
                 f->what.expert, each);
    }
    finish(x, EEP_ERR_UNCOVERED, why);
}

/* Give a free place the next slot to fill, as soon as its source has room: the fewer places are in
 * use, the more of them are still in a cache. */
static void begin_fill(eepi_executor *x)
{
    const int most = eepi_executor_is_behind_traffic(x) ? 1 : EEPI_FILLS_AT_ONCE;

    for (int i = 0; i < most && x->next_fill < x->num_fills; i++) {
        eepi_slot_fill *f = &x->slots[i];
        if (f->state == EEPI_SLOT_FILL_FREE &&
            eepi_slot_fill_may_begin(x, &x->fills[x->next_fill])) {
            f->number = x->next_fill++;
            eepi_slot_fill_begin(x, f, &x->fills[f->number],
                                 &x->sources[i * (x->view->shape.max_ranks + 2)]);
            return;
        }
    }
}

/* Of the slots behind that number, the first in the order of the view's fills; NULL: none. */
static eepi_slot_fill *next_in_order(eepi_executor *x, int number)
{
    eepi_slot_fill *next = NULL;

    for (int i = 0; i < EEPI_FILLS_AT_ONCE; i++) {
        eepi_slot_fill *f = &x->slots[i];
        if (f->state != EEPI_SLOT_FILL_FREE && f->number > number &&
            (!next || f->number < next->number)) {
            next = f;
        }
    }
    return next;
}

/* A slot is filled: it counts as what most of its bytes came from. */
static void count_fill(eepi_executor *x, const eepi_slot_fill *f)
{
    size_t bytes[EEPI_NUM_ORIGINS] = {0};
    int most = 0;

    if (f->state == EEPI_SLOT_FILL_COMPARE) {
        x->mix.fills_kept++;
        return;
    }
    for (int i = 0; i < f->segments.num; i++) {
        bytes[f->sources.at[f->segments.at[i].source].origin] +=
            eepi_segment_bytes(&f->segments, i);
    }
    for (int i = 1; i < EEPI_NUM_ORIGINS; i++) {
        most = bytes[i] > bytes[most] ? i : most;
    }
    x->mix.fills[most]++;
}

/* What has come of a piece of work. False: nothing of the view is left to do. */
static bool settle(eepi_executor *x, eepi_slot_fill *f, eepi_step_result result)
{
    if (result == EEPI_STEP_FAILED) {
        give_up(x, f);
        return false;
    }
    if (result == EEPI_STEP_FILLED) {
        count_fill(x, f);
        f->state = EEPI_SLOT_FILL_FREE;
        if (++x->num_filled == x->num_fills) {
            finish(x, EEP_OK, "");
            return false;
        }
    }
    return true;
}

/* A piece of work for each slot in turn. False: there is nothing to do now, or nothing any more. */
static bool step_slots(eepi_executor *x, eepi_bulk *bulk, size_t *left)
{
    bool went_on = false;
    int number = -1;

    for (eepi_slot_fill *f = next_in_order(x, -1); f; f = next_in_order(x, number)) {
        const eepi_step_result result = eepi_slot_fill_step(x, bulk, f, left);
        number = f->number;
        went_on = went_on || result != EEPI_STEP_WAITS;
        if (!settle(x, f, result)) {
            return false;
        }
    }
    return went_on;
}

/* There is nothing else to do: wait a little for a slot that is being written. */
static bool wait_for_place(eepi_executor *x)
{
    for (int i = 0; i < EEPI_FILLS_AT_ONCE && x->view; i++) {
        eepi_slot_fill *f = &x->slots[i];
        if (f->state == EEPI_SLOT_FILL_PLACED) {
            return settle(x, f, eepi_slot_fill_wait(x, f, PLACE_WAIT_US));
        }
    }
    return false;
}

/* Bounded: what is left over is for the next tick. */
static void work(eepi_executor *x, eepi_bulk *bulk)
{
    size_t left = WORK_BYTES;
    bool went_on = true;

    while (went_on && left > 0) {
        begin_fill(x);
        went_on = step_slots(x, bulk, &left);
    }
    x->has_work = x->view && (went_on || wait_for_place(x));
}

void eepi_executor_start(eepi_executor *x, eepi_bulk *bulk, const eepi_view *view, uint64_t now_us)
{
    const size_t num_seats = (size_t)view->shape.max_ranks;

    eepi_executor_cancel(x);
    x->num_fills = eepi_plan_fills(view, x->config.seat, NULL, 0);
    x->view = eepi_view_copy(view);
    x->fills = calloc((size_t)x->num_fills + 1, sizeof *x->fills);
    x->seats = calloc(num_seats, sizeof *x->seats);
    x->sources = calloc(EEPI_FILLS_AT_ONCE * (num_seats + 2), sizeof *x->sources);
    if (!x->view || !x->fills || !x->seats || !x->sources) {
        eepi_executor_cancel(x);
        x->config.done(x->config.user, view->digest, EEP_ERR_NO_MEMORY, 0, "out of memory");
        return;
    }
    eepi_plan_fills(view, x->config.seat, x->fills, x->num_fills);
    x->now_us = now_us;
    x->resume_us = now_us;
    eepi_pace_begin(&x->pace, now_us);
    if (x->num_fills == 0) {
        finish(x, EEP_OK, "");
    } else {
        work(x, bulk);
    }
}

void eepi_executor_tick(eepi_executor *x, eepi_bulk *bulk, uint64_t now_us)
{
    x->now_us = now_us;
    if (x->view) {
        work(x, bulk);
    }
}

void eepi_executor_step(eepi_executor *x, uint32_t took_us, uint64_t now_us)
{
    eepi_pace_step(&x->pace, eepi_executor_is_behind_traffic(x), took_us, now_us);
}

uint64_t eepi_executor_wake_us(const eepi_executor *x)
{
    uint64_t wake_us = UINT64_MAX;
    bool waits = false;

    if (!x->view || x->has_work) {
        return x->view ? 0 : UINT64_MAX;
    }
    for (int i = 0; i < EEPI_FILLS_AT_ONCE; i++) {
        const eepi_slot_fill *f = &x->slots[i];
        const uint64_t stalls_us = eepi_slot_fill_stalls_us(x, f);
        wake_us = stalls_us < wake_us ? stalls_us : wake_us;
        waits = waits || (f->state == EEPI_SLOT_FILL_GATHER && f->segments.num_asked > 0);
    }
    if (eepi_executor_is_behind_traffic(x) && !waits && x->resume_us < wake_us) {
        wake_us = x->resume_us;
    }
    return wake_us;
}

/* The slot that a transfer is for, and its segment; NULL: none, or not any more. */
static eepi_slot_fill *fill_of(eepi_executor *x, uint64_t transfer, int *segment_out)
{
    for (int i = 0; i < EEPI_FILLS_AT_ONCE && x->view; i++) {
        eepi_slot_fill *f = &x->slots[i];
        if (f->state == EEPI_SLOT_FILL_GATHER &&
            (*segment_out = eepi_segments_find(&f->segments, transfer)) >= 0) {
            return f;
        }
    }
    return NULL;
}

void eepi_executor_landed(eepi_executor *x, uint64_t transfer, uint64_t offset, const void *data,
                          uint64_t bytes)
{
    int segment;
    const eepi_slot_fill *f = fill_of(x, transfer, &segment);

    if (f) {
        eepi_slot_fill_land(x, f, eepi_segment_offset(segment) + offset, data, bytes);
    }
}

void eepi_executor_fetched(eepi_executor *x, eepi_bulk *bulk, uint64_t transfer, eep_status status)
{
    int segment;
    eepi_slot_fill *f = fill_of(x, transfer, &segment);

    if (!f) {
        return;
    }
    eepi_slot_fill_fetched(x, f, segment, status);
    x->has_work = true; /* behind live traffic for a tick, which the caller may withhold */
    if (!eepi_executor_is_behind_traffic(x)) {
        work(x, bulk);
    }
}

const eepi_mix *eepi_executor_mix(const eepi_executor *x)
{
    return &x->mix;
}

bool eepi_executor_file_is_bad(const eepi_executor *x)
{
    return x->file_is_bad;
}
