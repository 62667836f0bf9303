/* SPDX-License-Identifier: Apache-2.0 */
/* Filling this rank's slots: each fill is a local copy, or fetches from one source after the other
 * until the bytes have the checksum of the view. */
#include "repair/executor.h"

#include "graphs/device/device_ops.h"
#include "repair/checksum.h"
#include "repair/planner/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FETCHES = 4, COPY_BOUND_US = 10000000, WHY_BYTES = 200 };

/* One fetch under way. */
typedef struct fetch {
    bool busy;
    uint64_t transfer;
    eepi_fill fill;
    int32_t tried;     /* seats below this were tried; the view's own choice comes first */
    int32_t asked;     /* the seat that was asked last; our own: the host backup; -1: none yet */
    eep_status failed; /* what came of that; EEP_OK: nothing has failed yet */
    void *buffer;
} fetch;

struct eepi_executor {
    eepi_executor_config config;
    size_t slot_bytes;
    eep_stream *stream; /* the device's auxiliary one */
    fetch fetches[MAX_FETCHES];
    eepi_view *view; /* copy of the view being repaired; NULL: idle */
    eepi_fill *fills;
    int num_fills, next_fill, num_filled;
    uint64_t bytes;
    uint64_t now_us;
    uint64_t started_us, resume_us; /* behind live traffic: nothing is started before */
    /* [num_layers][num_slots]: the expert whose verified weights this executor put there; -1: not
     * known. A plan that is voided and made again finds them (L3). */
    int32_t *placed;
};

eep_status eepi_executor_open(const eepi_executor_config *config, eepi_executor **executor_out)
{
    eepi_executor *x = calloc(1, sizeof *x);
    eep_status status;

    if (!x) {
        return EEP_ERR_NO_MEMORY;
    }
    x->config = *config;
    for (int i = 0; i < config->num_tensors; i++) {
        x->slot_bytes += config->tensor_bytes[i];
    }
    x->placed = calloc((size_t)config->num_layers * (size_t)config->num_slots, sizeof *x->placed);
    if (!x->placed) {
        eepi_executor_close(x);
        return EEP_ERR_NO_MEMORY;
    }
    for (int i = 0; i < config->num_layers * config->num_slots; i++) {
        x->placed[i] = -1;
    }
    status = eepi_device_auxiliary(config->device, &x->stream);
    for (int i = 0; i < MAX_FETCHES && status == EEP_OK; i++) {
        status = eep_device_alloc(config->device, EEP_MEMORY_PINNED, x->slot_bytes,
                                  &x->fetches[i].buffer);
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
    for (int i = 0; i < MAX_FETCHES; i++) {
        eep_device_free(x->config.device, EEP_MEMORY_PINNED, x->fetches[i].buffer);
    }
    free(x->placed);
    free(x);
}

static int32_t *placed_at(const eepi_executor *x, const eepi_fill *fill)
{
    return &x->placed[fill->layer * x->config.num_slots + fill->slot];
}

static bool is_behind_traffic(const eepi_executor *x)
{
    return x->view->phase == EEPI_VIEW_SERVING;
}

static void finish(eepi_executor *x, eep_status status, const char *why)
{
    uint64_t digest = x->view->digest, bytes = x->bytes;

    eepi_executor_cancel(x);
    x->config.done(x->config.user, digest, status, bytes, why);
}

/* The owner's part: check the staged bytes, then copy them into the slot. */
static eep_status place(eepi_executor *x, const fetch *f)
{
    const eep_tensor *slot = x->config.slot(x->config.user, f->fill.layer, f->fill.slot);
    uint64_t expected = *eepi_view_checksum_at(x->view, f->fill.layer, f->fill.expert);
    const uint8_t *from = f->buffer;
    eep_status status = EEP_OK;

    if (expected != eepi_checksum_bytes(f->buffer, x->slot_bytes)) {
        return EEP_ERR_CHECKSUM;
    }
    *placed_at(x, &f->fill) = -1;
    for (int i = 0; i < x->config.num_tensors && status == EEP_OK; i++) {
        status = eep_copy_async(x->stream, slot[i].data, from, slot[i].bytes);
        from += slot[i].bytes;
    }
    if (status == EEP_OK) {
        status = eep_stream_synchronize(x->stream, COPY_BOUND_US);
    }
    if (status == EEP_OK) {
        *placed_at(x, &f->fill) = f->fill.expert;
    }
    return status;
}

/* The slot has the expert's weights already, from a plan that was voided. */
static bool is_placed(eepi_executor *x, fetch *f)
{
    const eep_tensor *slot = x->config.slot(x->config.user, f->fill.layer, f->fill.slot);
    uint8_t *to = f->buffer;
    eep_status status = EEP_OK;

    if (*placed_at(x, &f->fill) != f->fill.expert) {
        return false;
    }
    for (int i = 0; i < x->config.num_tensors && status == EEP_OK; i++) {
        status = eep_copy_async(x->stream, to, slot[i].data, slot[i].bytes);
        to += slot[i].bytes;
    }
    if (status == EEP_OK) {
        status = eep_stream_synchronize(x->stream, COPY_BOUND_US);
    }
    return status == EEP_OK && eepi_checksum_bytes(f->buffer, x->slot_bytes) ==
                                   *eepi_view_checksum_at(x->view, f->fill.layer, f->fill.expert);
}

static void place_and_count(eepi_executor *x, eepi_bulk *bulk, fetch *f);

/* One slot more is filled. */
static void count(eepi_executor *x, fetch *f, uint64_t bytes)
{
    f->busy = false;
    x->bytes += bytes;
    x->num_filled++;
    if (is_behind_traffic(x)) {
        x->resume_us = x->started_us + x->bytes * 1000000u / x->config.background_bytes_per_s;
    }
    if (x->num_filled == x->num_fills) {
        finish(x, EEP_OK, "");
    }
}

/* The seat has the expert's weights, as a backup or in a slot that is routed to. */
static bool has_weights(const eepi_view *view, int seat, const eepi_fill *fill)
{
    if (!eepi_view_is_member(view, seat)) {
        return false;
    }
    for (int slot = 0; slot < view->shape.num_slots; slot++) {
        const eepi_view_slot *s = eepi_view_slot_at(view, fill->layer, seat, slot);
        if (s->state == EEPI_SLOT_HOLDS && s->expert == fill->expert) {
            return true;
        }
    }
    return eepi_view_has_backup(view, seat, fill->layer, fill->expert);
}

/* Try the next source of the fetch's expert behind `tried`; false: there is none left. */
static bool fetch_from_next(eepi_executor *x, eepi_bulk *bulk, fetch *f)
{
    eepi_blob blob = {x->view->epoch, f->fill.layer, f->fill.expert};

    for (; f->tried < x->view->shape.max_ranks; f->tried++) {
        int32_t seat = f->tried == -1 ? f->fill.source : f->tried;
        const void *address;
        size_t address_bytes;
        if (seat == x->config.seat || (f->tried >= 0 && seat == f->fill.source) ||
            !has_weights(x->view, seat, &f->fill)) {
            continue;
        }
        address_bytes = x->config.address(x->config.user, seat, &address);
        f->asked = seat;
        f->failed = address_bytes == 0
                        ? EEP_ERR_UNREACHABLE
                        : eepi_bulk_fetch(bulk, address, address_bytes, &blob, f->buffer,
                                          x->slot_bytes, x->config.fetch_timeout_us, &f->transfer);
        if (f->failed == EEP_OK) {
            f->tried++;
            return true;
        }
    }
    return false;
}

static void give_up(eepi_executor *x, const fetch *f)
{
    char why[WHY_BYTES];

    if (f->asked < 0) {
        snprintf(why, sizeof why, "layer %d expert %d: no rank has a copy", f->fill.layer,
                 f->fill.expert);
    } else {
        snprintf(why, sizeof why,
                 "layer %d expert %d: no copy could be had; the last one asked for, of rank %d: %s",
                 f->fill.layer, f->fill.expert, f->asked, eep_strerror(f->failed));
    }
    finish(x, EEP_ERR_UNCOVERED, why);
}

static void start_fetch(eepi_executor *x, eepi_bulk *bulk, fetch *f)
{
    const eep_tensor *own;
    uint8_t *to = f->buffer;

    f->busy = true;
    f->transfer = 0;
    f->fill = x->fills[x->next_fill++];
    f->tried = -1;
    f->asked = -1;
    f->failed = EEP_OK;
    if (is_placed(x, f)) {
        count(x, f, 0);
        return;
    }
    own = x->config.backup(x->config.user, f->fill.layer, f->fill.expert);
    if (own) { /* tier 1: local reuse */
        for (int i = 0; i < x->config.num_tensors; i++) {
            memcpy(to, own[i].data, own[i].bytes);
            to += own[i].bytes;
        }
        f->asked = x->config.seat;
        place_and_count(x, bulk, f);
    } else if (!fetch_from_next(x, bulk, f)) {
        give_up(x, f);
    }
}

static void place_and_count(eepi_executor *x, eepi_bulk *bulk, fetch *f)
{
    eep_status status = place(x, f);

    f->failed = status;
    if (status == EEP_ERR_CHECKSUM && fetch_from_next(x, bulk, f)) {
        return;
    }
    if (status != EEP_OK) {
        give_up(x, f);
        return;
    }
    count(x, f, x->slot_bytes);
}

/* Start what may be under way at once. A fill that needs no fetch ends within start_fetch, so its
 * place is free again; and the last one ends the whole view, which is then NULL. */
static void start_fetches(eepi_executor *x, eepi_bulk *bulk)
{
    bool started = true;

    while (started) {
        int most = x->view && is_behind_traffic(x) ? 1 : MAX_FETCHES;
        started = false;
        for (int i = 0; i < most; i++) {
            if (!x->view || x->next_fill >= x->num_fills) {
                return;
            }
            if (is_behind_traffic(x) && x->now_us < x->resume_us) {
                return; /* until a tick */
            }
            if (!x->fetches[i].busy) {
                start_fetch(x, bulk, &x->fetches[i]);
                started = !x->view || !is_behind_traffic(x); /* else the next one at a tick */
            }
        }
    }
}

void eepi_executor_start(eepi_executor *x, eepi_bulk *bulk, const eepi_view *view, uint64_t now_us)
{
    eepi_executor_cancel(x);
    x->num_fills = eepi_plan_fills(view, x->config.seat, NULL, 0);
    x->view = eepi_view_copy(view);
    x->fills = calloc((size_t)x->num_fills + 1, sizeof *x->fills);
    if (!x->view || !x->fills) {
        x->config.done(x->config.user, view->digest, EEP_ERR_NO_MEMORY, 0, "out of memory");
        eepi_executor_cancel(x);
        return;
    }
    eepi_plan_fills(view, x->config.seat, x->fills, x->num_fills);
    x->now_us = x->started_us = now_us;
    x->resume_us = 0;
    if (x->num_fills == 0) {
        finish(x, EEP_OK, "");
    } else {
        start_fetches(x, bulk);
    }
}

void eepi_executor_tick(eepi_executor *x, eepi_bulk *bulk, uint64_t now_us)
{
    x->now_us = now_us;
    if (x->view && is_behind_traffic(x)) {
        start_fetches(x, bulk);
    }
}

uint64_t eepi_executor_wake_us(const eepi_executor *x)
{
    bool held_back =
        x->view && is_behind_traffic(x) && x->next_fill < x->num_fills && !x->fetches[0].busy;

    return held_back ? x->resume_us : UINT64_MAX;
}

void eepi_executor_fetched(eepi_executor *x, eepi_bulk *bulk, uint64_t transfer, eep_status status)
{
    for (int i = 0; i < MAX_FETCHES && x->view; i++) {
        fetch *f = &x->fetches[i];
        if (!f->busy || f->transfer != transfer) {
            continue;
        }
        f->transfer = 0;
        f->failed = status;
        if (status == EEP_OK) {
            place_and_count(x, bulk, f);
        } else if (!fetch_from_next(x, bulk, f)) {
            give_up(x, f);
        }
        if (x->view) {
            start_fetches(x, bulk);
        }
        return;
    }
}

void eepi_executor_cancel(eepi_executor *x)
{
    for (int i = 0; i < MAX_FETCHES; i++) {
        x->fetches[i].busy = false;
        x->fetches[i].transfer = 0;
    }
    free(x->view);
    free(x->fills);
    x->view = NULL;
    x->fills = NULL;
    x->num_fills = x->next_fill = x->num_filled = 0;
    x->bytes = 0;
}
