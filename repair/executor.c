#include "repair/executor.h"

#include "graphs/device/device_ops.h"
#include "repair/checksum.h"
#include "repair/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 4, COPY_BOUND_US = 10000000, WHY_BYTES = 200 };

/* One fetch under way. */
typedef struct lane {
    int busy;
    uint64_t transfer;
    eepi_fill fill;
    int32_t tried;     /* seats below this were tried; the view's own choice comes first */
    int32_t asked;     /* the seat that was asked last; our own: the host backup; -1: none yet */
    eep_status failed; /* what came of that; EEP_OK: nothing has failed yet */
    void *buffer;
} lane;

struct eepi_executor {
    eepi_executor_config config;
    size_t slot_bytes;
    eep_stream *stream; /* the device's auxiliary one */
    lane lanes[LANES];
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
    for (int i = 0; i < LANES && status == EEP_OK; i++) {
        status =
            eep_device_alloc(config->device, EEP_MEMORY_PINNED, x->slot_bytes, &x->lanes[i].buffer);
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
    for (int i = 0; i < LANES; i++) {
        eep_device_free(x->config.device, EEP_MEMORY_PINNED, x->lanes[i].buffer);
    }
    free(x->placed);
    free(x);
}

static int32_t *placed_at(const eepi_executor *x, const eepi_fill *fill)
{
    return &x->placed[fill->layer * x->config.num_slots + fill->slot];
}

static int is_behind_traffic(const eepi_executor *x)
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
static eep_status place(eepi_executor *x, const lane *l)
{
    const eep_tensor *slot = x->config.slot(x->config.user, l->fill.layer, l->fill.slot);
    uint64_t expected = *eepi_view_checksum_at(x->view, l->fill.layer, l->fill.expert);
    const uint8_t *from = l->buffer;
    eep_status status = EEP_OK;

    if (expected != eepi_checksum_bytes(l->buffer, x->slot_bytes)) {
        return EEP_ERR_CHECKSUM;
    }
    *placed_at(x, &l->fill) = -1;
    for (int i = 0; i < x->config.num_tensors && status == EEP_OK; i++) {
        status = eep_copy_async(x->stream, slot[i].data, from, slot[i].bytes);
        from += slot[i].bytes;
    }
    if (status == EEP_OK) {
        status = eep_stream_synchronize(x->stream, COPY_BOUND_US);
    }
    if (status == EEP_OK) {
        *placed_at(x, &l->fill) = l->fill.expert;
    }
    return status;
}

/* The slot has the expert's weights already: a plan that was voided had got so far. */
static int is_placed(eepi_executor *x, lane *l)
{
    const eep_tensor *slot = x->config.slot(x->config.user, l->fill.layer, l->fill.slot);
    uint8_t *to = l->buffer;
    eep_status status = EEP_OK;

    if (*placed_at(x, &l->fill) != l->fill.expert) {
        return 0;
    }
    for (int i = 0; i < x->config.num_tensors && status == EEP_OK; i++) {
        status = eep_copy_async(x->stream, to, slot[i].data, slot[i].bytes);
        to += slot[i].bytes;
    }
    if (status == EEP_OK) {
        status = eep_stream_synchronize(x->stream, COPY_BOUND_US);
    }
    return status == EEP_OK && eepi_checksum_bytes(l->buffer, x->slot_bytes) ==
                                   *eepi_view_checksum_at(x->view, l->fill.layer, l->fill.expert);
}

static void place_and_count(eepi_executor *x, eepi_bulk *bulk, lane *l);

/* One slot more is filled. */
static void count(eepi_executor *x, lane *l, uint64_t bytes)
{
    l->busy = 0;
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
static int has_weights(const eepi_view *view, int seat, const eepi_fill *fill)
{
    if (!eepi_view_is_member(view, seat)) {
        return 0;
    }
    for (int slot = 0; slot < view->shape.num_slots; slot++) {
        const eepi_view_slot *s = eepi_view_slot_at(view, fill->layer, seat, slot);
        if (s->state == EEPI_SLOT_HOLDS && s->expert == fill->expert) {
            return 1;
        }
    }
    return eepi_view_has_backup(view, seat, fill->layer, fill->expert);
}

/* Try the next source of the lane's expert behind `tried`; 0 if there is none left. */
static int fetch_from_next(eepi_executor *x, eepi_bulk *bulk, lane *l)
{
    eepi_blob blob = {x->view->epoch, l->fill.layer, l->fill.expert};

    for (; l->tried < x->view->shape.max_ranks; l->tried++) {
        int32_t seat = l->tried == -1 ? l->fill.source : l->tried;
        const void *address;
        size_t address_bytes;
        if (seat == x->config.seat || (l->tried >= 0 && seat == l->fill.source) ||
            !has_weights(x->view, seat, &l->fill)) {
            continue;
        }
        address_bytes = x->config.address(x->config.user, seat, &address);
        l->asked = seat;
        l->failed = address_bytes == 0
                        ? EEP_ERR_UNREACHABLE
                        : eepi_bulk_fetch(bulk, address, address_bytes, &blob, l->buffer,
                                          x->slot_bytes, x->config.fetch_timeout_us, &l->transfer);
        if (l->failed == EEP_OK) {
            l->tried++;
            return 1;
        }
    }
    return 0;
}

static void give_up(eepi_executor *x, const lane *l)
{
    char why[WHY_BYTES];

    if (l->asked < 0) {
        snprintf(why, sizeof why, "layer %d expert %d: no rank has a copy", l->fill.layer,
                 l->fill.expert);
    } else {
        snprintf(why, sizeof why,
                 "layer %d expert %d: no copy could be had; the last one asked for, of rank %d: %s",
                 l->fill.layer, l->fill.expert, l->asked, eep_strerror(l->failed));
    }
    finish(x, EEP_ERR_UNCOVERED, why);
}

static void start_lane(eepi_executor *x, eepi_bulk *bulk, lane *l)
{
    const eep_tensor *own;
    uint8_t *to = l->buffer;

    l->busy = 1;
    l->transfer = 0;
    l->fill = x->fills[x->next_fill++];
    l->tried = -1;
    l->asked = -1;
    l->failed = EEP_OK;
    if (is_placed(x, l)) {
        count(x, l, 0);
        return;
    }
    own = x->config.backup(x->config.user, l->fill.layer, l->fill.expert);
    if (own) { /* tier 1: local reuse */
        for (int i = 0; i < x->config.num_tensors; i++) {
            memcpy(to, own[i].data, own[i].bytes);
            to += own[i].bytes;
        }
        l->asked = x->config.seat;
        place_and_count(x, bulk, l);
    } else if (!fetch_from_next(x, bulk, l)) {
        give_up(x, l);
    }
}

static void place_and_count(eepi_executor *x, eepi_bulk *bulk, lane *l)
{
    eep_status status = place(x, l);

    l->failed = status;
    if (status == EEP_ERR_CHECKSUM && fetch_from_next(x, bulk, l)) {
        return;
    }
    if (status != EEP_OK) {
        give_up(x, l);
        return;
    }
    count(x, l, x->slot_bytes);
}

static void fill_lanes(eepi_executor *x, eepi_bulk *bulk)
{
    int started = 1;

    while (started) {
        int lanes = x->view && is_behind_traffic(x) ? 1 : LANES;
        started = 0;
        for (int i = 0; i < lanes; i++) {
            if (!x->view || x->next_fill >= x->num_fills) {
                return;
            }
            if (is_behind_traffic(x) && x->now_us < x->resume_us) {
                return; /* until a tick */
            }
            if (!x->lanes[i].busy) {
                start_lane(x, bulk, &x->lanes[i]);
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
        fill_lanes(x, bulk);
    }
}

void eepi_executor_tick(eepi_executor *x, eepi_bulk *bulk, uint64_t now_us)
{
    x->now_us = now_us;
    if (x->view && is_behind_traffic(x)) {
        fill_lanes(x, bulk);
    }
}

uint64_t eepi_executor_wake_us(const eepi_executor *x)
{
    int held_back =
        x->view && is_behind_traffic(x) && x->next_fill < x->num_fills && !x->lanes[0].busy;

    return held_back ? x->resume_us : UINT64_MAX;
}

void eepi_executor_fetched(eepi_executor *x, eepi_bulk *bulk, uint64_t transfer, eep_status status)
{
    for (int i = 0; i < LANES && x->view; i++) {
        lane *l = &x->lanes[i];
        if (!l->busy || l->transfer != transfer) {
            continue;
        }
        l->transfer = 0;
        l->failed = status;
        if (status == EEP_OK) {
            place_and_count(x, bulk, l);
        } else if (!fetch_from_next(x, bulk, l)) {
            give_up(x, l);
        }
        if (x->view) {
            fill_lanes(x, bulk);
        }
        return;
    }
}

void eepi_executor_cancel(eepi_executor *x)
{
    for (int i = 0; i < LANES; i++) {
        x->lanes[i].busy = 0;
        x->lanes[i].transfer = 0;
    }
    free(x->view);
    free(x->fills);
    x->view = NULL;
    x->fills = NULL;
    x->num_fills = x->next_fill = x->num_filled = 0;
    x->bytes = 0;
}
