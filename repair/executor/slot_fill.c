/* SPDX-License-Identifier: Apache-2.0 */
/* Filling one slot, piece by piece. */
#include "repair/executor/slot_fill.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { NOTE_BYTES = 300, NAME_BYTES = 32 };

static bool is_behind_traffic(const eepi_executor *x)
{
    return x->view->phase == EEPI_VIEW_SERVING;
}

static bool may_begin(eepi_executor *x)
{
    uint64_t wake_us;

    if (!is_behind_traffic(x)) {
        return true;
    }
    if (!eepi_pace_may(&x->pace, x->now_us, &wake_us)) {
        x->resume_us = wake_us > x->resume_us ? wake_us : x->resume_us;
    }
    return x->now_us >= x->resume_us;
}

/* Behind live traffic the next piece waits until these bytes are paid for. */
static void charge(eepi_executor *x, size_t bytes)
{
    if (is_behind_traffic(x)) {
        x->resume_us = (x->resume_us > x->now_us ? x->resume_us : x->now_us) +
                       (uint64_t)bytes * 1000000u / eepi_pace_rate(&x->pace, x->now_us);
    }
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void spend(size_t *left, size_t bytes)
{
    *left -= least(*left, bytes);
}

static int32_t *placed_at(const eepi_executor *x, const eepi_slot_fill *f)
{
    return &x->placed[f->what.layer * x->config.num_slots + f->what.slot];
}

static uint64_t expected(const eepi_executor *x, const eepi_slot_fill *f)
{
    return *eepi_view_checksum_at(x->view, f->what.layer, f->what.expert);
}

/* ------------------------------------------------------------------ between buffer and slot */

typedef enum copy_way { OUT_OF_SLOT, INTO_SLOT } copy_way;

/* Copy `bytes` bytes from `offset` of an expert's tensors, into them or out of them. */
static eep_status copy_range(eepi_executor *x, const eepi_slot_fill *f, const eep_tensor *tensors,
                             size_t offset, size_t bytes, copy_way way)
{
    eep_status status = EEP_OK;
    size_t begin = 0; /* of the tensor in the expert */

    for (int i = 0; i < x->config.num_tensors && status == EEP_OK; i++) {
        const size_t size = tensors[i].bytes;
        const size_t from = offset > begin ? offset - begin : 0;
        const size_t until = offset + bytes > begin ? least(offset + bytes - begin, size) : 0;
        uint8_t *there = (uint8_t *)tensors[i].data + from;
        uint8_t *here = f->buffer + begin + from;
        if (from < until) {
            status = way == INTO_SLOT ? eep_copy_async(x->stream, there, here, until - from)
                                      : eep_copy_async(x->stream, here, there, until - from);
        }
        begin += size;
    }
    return status == EEP_OK && way == OUT_OF_SLOT
               ? eep_stream_synchronize(x->stream, EEPI_COPY_BOUND_US)
               : status;
}

static const eep_tensor *slot_of(const eepi_executor *x, const eepi_slot_fill *f)
{
    return x->config.slot(x->config.user, f->what.layer, f->what.slot);
}

static bool lands_in_slot(const eepi_slot_fill *f)
{
    return f->landing == EEPI_LANDING_SLOT;
}

static eepi_landing_place landing_of(const eepi_executor *x, const eepi_slot_fill *f)
{
    return (eepi_landing_place){.tensors = lands_in_slot(f) ? slot_of(x, f) : &f->staging,
                                .num_tensors = lands_in_slot(f) ? x->config.num_tensors : 1,
                                .sum = f->sum,
                                .block = x->block};
}

void eepi_slot_fill_land(const eepi_executor *x, const eepi_slot_fill *f, size_t offset,
                         const void *data, size_t bytes)
{
    const eepi_landing_place place = landing_of(x, f);

    assert(!lands_in_slot(f) || *placed_at(x, f) < 0);
    eepi_landing_put(&place, offset, data, bytes);
}

static void begin_gathering(eepi_executor *x, eepi_slot_fill *f);

/* The slot has the expert's weights already, from a plan that was voided, or it has not. */
static eepi_step_result compare(eepi_executor *x, eepi_slot_fill *f, size_t *left)
{
    const size_t bytes = least(x->slot_bytes - f->worked, EEPI_SEGMENT_BYTES);
    eep_status status = copy_range(x, f, slot_of(x, f), f->worked, bytes, OUT_OF_SLOT);

    spend(left, bytes);
    charge(x, bytes);
    if (status == EEP_OK) {
        eepi_checksum_add(f->sum, f->buffer + f->worked, bytes);
        f->worked += bytes;
    }
    if (status == EEP_OK && f->worked < x->slot_bytes) {
        return EEPI_STEP_WENT_ON;
    }
    if (status == EEP_OK && eepi_checksum_end(f->sum) == expected(x, f)) {
        return EEPI_STEP_FILLED;
    }
    begin_gathering(x, f);
    return EEPI_STEP_WENT_ON;
}

static eepi_step_result cannot_be_placed(eepi_slot_fill *f, eep_status status)
{
    for (int i = 0; i < f->sources.num; i++) {
        f->sources.at[i].failed = status;
    }
    return EEPI_STEP_FAILED;
}

/* The owner's part: have the device copy the checked bytes into the slot. */
static eepi_step_result place(eepi_executor *x, eepi_slot_fill *f, size_t *left)
{
    const size_t bytes = least(x->slot_bytes - f->worked, EEPI_SEGMENT_BYTES);
    eep_status status;

    *placed_at(x, f) = -1;
    status = copy_range(x, f, slot_of(x, f), f->worked, bytes, INTO_SLOT);
    spend(left, bytes / 4); /* another thread copies, or the device itself */
    charge(x, bytes / 4);   /* one copy; a fetch is several on either side */
    f->worked += bytes;
    if (status == EEP_OK && f->worked == x->slot_bytes) {
        status = eep_event_record(f->placed, x->stream);
        f->state = EEPI_SLOT_FILL_PLACED;
        f->placed_us = x->now_us;
    }
    return status == EEP_OK ? EEPI_STEP_WENT_ON : cannot_be_placed(f, status);
}

eepi_step_result eepi_slot_fill_wait(eepi_executor *x, eepi_slot_fill *f, uint64_t bound_us)
{
    eep_status status = eep_event_synchronize(f->placed, bound_us);

    if (status == EEP_ERR_TIMEOUT && x->now_us < f->placed_us + EEPI_COPY_BOUND_US) {
        return EEPI_STEP_WAITS;
    }
    if (status != EEP_OK) {
        return cannot_be_placed(f, status);
    }
    *placed_at(x, f) = f->what.expert;
    return EEPI_STEP_FILLED;
}

/* ------------------------------------------------------------------ passes over the sources */

static void begin_pass(eepi_executor *x, eepi_slot_fill *f)
{
    eepi_segments_begin(&f->segments, x->slot_bytes, f->segment_memory);
    if (lands_in_slot(f)) {
        *placed_at(x, f) = -1;
    }
    f->alone_at = eepi_sources_first(&f->sources);
    for (int i = 0; i < f->sources.num; i++) {
        f->sources.at[i].used = false;
    }
}

static void begin_gathering(eepi_executor *x, eepi_slot_fill *f)
{
    f->state = EEPI_SLOT_FILL_GATHER;
    f->alone = false;
    begin_pass(x, f);
}

static void note(const eepi_executor *x, const eepi_slot_fill *f, const char *whose)
{
    char text[NOTE_BYTES];

    snprintf(text, sizeof text,
             "layer %d expert %d: the copy of %s is corrupted (its bytes have not the checksum of "
             "the view); another one is looked for",
             f->what.layer, f->what.expert, whose);
    if (x->config.note) {
        x->config.note(x->config.user, text);
    }
}

/* A whole copy from one source was right after a mixed one was not, and nobody was found out by
 * then: one of the others of the mixed one is corrupted. */
static void note_suspects(const eepi_executor *x, const eepi_slot_fill *f)
{
    char names[NOTE_BYTES / 2] = "", name[NAME_BYTES];
    size_t used = 0;
    int num = 0;

    for (int i = 0; i < f->sources.num && used < sizeof names; i++) {
        const eepi_source *source = &f->sources.at[i];
        if (source->suspected && source->failed == EEP_ERR_CHECKSUM) {
            return;
        }
        if (source->suspected && !source->used) {
            eepi_source_name(source, name, sizeof name);
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", num ? " or " : "",
                                     name);
            num++;
        }
    }
    if (num > 0) {
        note(x, f, names);
    }
}

/* The checkpoint file of this rank cannot be read, or has other bytes than the instance. */
static void note_file(eepi_executor *x, const eepi_source *source)
{
    x->file_is_bad =
        x->file_is_bad || (source->kind == EEPI_FROM_CHECKPOINT && source->failed != EEP_OK);
}

/* All bytes have landed. */
static eepi_step_result verify(eepi_executor *x, eepi_slot_fill *f)
{
    const int num_used = eepi_sources_num_used(&f->sources);
    char name[NAME_BYTES];

    if (eepi_checksum_end(f->sum) == expected(x, f)) {
        note_suspects(x, f);
        if (lands_in_slot(f)) {
            *placed_at(x, f) = f->what.expert;
            return EEPI_STEP_FILLED;
        }
        f->state = EEPI_SLOT_FILL_PLACE;
        f->worked = 0;
        return EEPI_STEP_WENT_ON;
    }
    for (int i = 0; i < f->sources.num; i++) {
        eepi_source *source = &f->sources.at[i];
        if (source->used && num_used == 1) {
            source->failed = EEP_ERR_CHECKSUM;
            note_file(x, source);
            eepi_source_name(source, name, sizeof name);
            note(x, f, name);
        }
        source->suspected = source->suspected || (source->used && num_used > 1);
    }
    f->alone = f->alone || num_used > 1;
    begin_pass(x, f);
    return f->alone_at >= 0 ? EEPI_STEP_WENT_ON : EEPI_STEP_FAILED;
}

/* ------------------------------------------------------------------ asking peers */

/* Ranks with a file are asked one after the other: a file is read once, and by nobody while a rank
 * has the bytes in memory. */
static bool is_usable_peer(const eepi_slot_fill *f, int at)
{
    const eepi_source *source = &f->sources.at[at];

    return eepi_source_is_remote(source) && source->failed == EEP_OK &&
           (!f->alone || at == f->alone_at) &&
           (source->kind == EEPI_FROM_PEER || at == eepi_sources_first(&f->sources));
}

/* A peer that lets segments wait is asked while there is no other. */
static bool any_is_quick(const eepi_executor *x, const eepi_slot_fill *f)
{
    for (int i = 0; i < f->sources.num; i++) {
        if (is_usable_peer(f, i) && !x->seats[f->sources.at[i].seat].is_slow) {
            return true;
        }
    }
    return false;
}

static void ask(eepi_executor *x, eepi_bulk *bulk, eepi_slot_fill *f, int at, int segment)
{
    eepi_source *source = &f->sources.at[at];
    const eepi_blob blob = {.epoch = x->view->epoch,
                            .layer = f->what.layer,
                            .expert = f->what.expert,
                            .offset = eepi_segment_offset(segment),
                            .total = x->slot_bytes};
    const size_t bytes = eepi_segment_bytes(&f->segments, segment);
    const void *address;
    uint64_t transfer = 0;
    size_t address_bytes = x->config.address(x->config.user, source->seat, &address);

    source->failed = address_bytes == 0
                         ? EEP_ERR_UNREACHABLE
                         : eepi_bulk_fetch(bulk, address, address_bytes, &blob, NULL, bytes,
                                           x->config.fetch_timeout_us, &transfer);
    if (source->failed == EEP_OK) {
        eepi_segments_ask(&f->segments, segment, at, transfer, x->now_us);
        x->seats[source->seat].in_flight++;
        charge(x, bytes);
    }
}

static int num_in_flight(const eepi_executor *x)
{
    int num = 0;

    for (int seat = 0; seat < x->view->shape.max_ranks; seat++) {
        num += x->seats[seat].in_flight;
    }
    return num;
}

/* Each source in turn gets one segment more, as long as there are segments and room. */
static bool ask_peers(eepi_executor *x, eepi_bulk *bulk, eepi_slot_fill *f)
{
    const int window = is_behind_traffic(x) ? 1 : x->config.segments_per_source;
    bool asked = false, asked_now = true;

    while (asked_now) {
        const bool quick = any_is_quick(x, f);
        asked_now = false;
        for (int i = 0; i < f->sources.num; i++) {
            const int segment = eepi_segments_wanted(&f->segments);
            const eepi_seat_state *seat;
            if (segment < 0 || !may_begin(x) || (window == 1 && num_in_flight(x) > 0)) {
                return asked;
            }
            if (!is_usable_peer(f, i)) {
                continue;
            }
            seat = &x->seats[f->sources.at[i].seat];
            if (seat->in_flight < window && (!quick || !seat->is_slow)) {
                ask(x, bulk, f, i, segment);
                asked = asked_now = true;
            }
        }
    }
    return asked;
}

/* The source that could take over what another one lets wait; -1: none. */
static int idle_peer(const eepi_executor *x, const eepi_slot_fill *f)
{
    for (int i = 0; i < f->sources.num; i++) {
        if (is_usable_peer(f, i) && x->seats[f->sources.at[i].seat].in_flight == 0 &&
            !x->seats[f->sources.at[i].seat].is_slow) {
            return i;
        }
    }
    return -1;
}

uint64_t eepi_slot_fill_stalls_us(const eepi_executor *x, const eepi_slot_fill *f)
{
    int idle, oldest;

    if (f->state != EEPI_SLOT_FILL_GATHER || (idle = idle_peer(x, f)) < 0) {
        return UINT64_MAX;
    }
    oldest = eepi_segments_oldest(&f->segments, idle);
    return oldest < 0 ? UINT64_MAX : f->segments.at[oldest].asked_us + EEPI_SEGMENT_STALL_US;
}

/* Take the oldest segment from a source that lets it wait, where another one is idle. */
static bool take_stalled(eepi_executor *x, eepi_bulk *bulk, eepi_slot_fill *f)
{
    const int idle = idle_peer(x, f);
    const int segment = idle < 0 ? -1 : eepi_segments_oldest(&f->segments, idle);
    eepi_seat_state *seat;

    if (segment < 0 || x->now_us < eepi_slot_fill_stalls_us(x, f)) {
        return false;
    }
    seat = &x->seats[f->sources.at[f->segments.at[segment].source].seat];
    eepi_bulk_cancel(bulk, f->segments.at[segment].transfer);
    eepi_segments_lose(&f->segments, segment);
    seat->in_flight--;
    seat->is_slow = true;
    return true;
}

void eepi_slot_fill_fetched(eepi_executor *x, eepi_slot_fill *f, int segment, eep_status status)
{
    const int at = f->segments.at[segment].source;
    eepi_source *source = &f->sources.at[at];
    eepi_seat_state *seat = &x->seats[source->seat];

    seat->in_flight--;
    if (status == EEP_OK) {
        x->bytes += eepi_segment_bytes(&f->segments, segment);
        x->mix.bytes[source->origin] += eepi_segment_bytes(&f->segments, segment);
        eepi_segments_arrive(&f->segments, segment, at);
        source->used = true;
        return;
    }
    eepi_segments_lose(&f->segments, segment);
    source->failed = status;
    if (status == EEP_ERR_UNREACHABLE || status == EEP_ERR_TIMEOUT) {
        seat->away = status;
    }
}

/* ------------------------------------------------------------------ gathering */

/* The buffer takes what is read. Where bytes land there, it is in its place. */
static eep_status read_checkpoint(eepi_executor *x, eepi_slot_fill *f, size_t offset, size_t bytes)
{
    uint8_t *to = f->buffer + offset;
    const eep_status status =
        x->config.checkpoint(x->config.user, f->what.layer, f->what.expert, offset, to, bytes);

    if (status == EEP_OK && lands_in_slot(f)) {
        eepi_slot_fill_land(x, f, offset, to, bytes);
    } else if (status == EEP_OK) {
        eepi_checksum_blocks(f->sum, offset, to, bytes);
    }
    return status;
}

static eep_status read_backup(eepi_executor *x, eepi_slot_fill *f, size_t offset, size_t bytes)
{
    const eep_tensor *own = x->config.backup(x->config.user, f->what.layer, f->what.expert);
    const eepi_landing_place place = landing_of(x, f);

    if (own == NULL) {
        return EEP_ERR_NOT_FOUND;
    }
    eepi_landing_copy(&place, offset, own, x->config.num_tensors, bytes);
    return EEP_OK;
}

/* Read the next segment that is wanted out of this rank's own backup, or the checkpoint. */
static void read_local(eepi_executor *x, eepi_slot_fill *f, int at, size_t *left)
{
    const int segment = eepi_segments_wanted(&f->segments);
    const size_t offset = eepi_segment_offset(segment);
    const size_t bytes = eepi_segment_bytes(&f->segments, segment);
    eepi_source *source = &f->sources.at[at];

    spend(left, bytes + bytes / 2 + bytes / 4); /* it is read, summed and written */
    source->failed = source->kind == EEPI_FROM_CHECKPOINT ? read_checkpoint(x, f, offset, bytes)
                                                          : read_backup(x, f, offset, bytes);
    note_file(x, source);
    if (source->failed == EEP_OK) {
        x->bytes += bytes;
        x->mix.bytes[source->origin] += bytes;
        eepi_segments_arrive(&f->segments, segment, at);
        source->used = true;
        charge(x, bytes);
    }
}

/* The source whose turn it is; behind a peer the other peers are asked as well. */
static int whose_turn(const eepi_slot_fill *f)
{
    return f->alone && f->alone_at >= 0 && f->sources.at[f->alone_at].failed == EEP_OK
               ? f->alone_at
               : eepi_sources_first(&f->sources);
}

static eepi_step_result gather(eepi_executor *x, eepi_bulk *bulk, eepi_slot_fill *f, size_t *left)
{
    int first = whose_turn(f);
    bool asked =
        first >= 0 && eepi_source_is_remote(&f->sources.at[first]) && ask_peers(x, bulk, f);

    if (f->segments.num_there == f->segments.num) {
        return verify(x, f);
    }
    if (asked || take_stalled(x, bulk, f)) {
        return EEPI_STEP_WENT_ON;
    }
    if (f->segments.num_asked > 0 || !may_begin(x)) {
        return EEPI_STEP_WAITS;
    }
    first = whose_turn(f); /* asking may have failed */
    if (first < 0) {
        return EEPI_STEP_FAILED;
    }
    if (f->alone && first != f->alone_at) { /* that one has failed in the middle */
        begin_pass(x, f);
        return EEPI_STEP_WENT_ON;
    }
    if (eepi_source_is_remote(&f->sources.at[first])) {
        return EEPI_STEP_WAITS; /* for room at the peer: segments of other slots are under way */
    }
    read_local(x, f, first, left);
    return EEPI_STEP_WENT_ON;
}

/* ------------------------------------------------------------------ beginning, and going on */

/* A seat that could not be reached for another slot of this view is not asked again, unless it is
 * the only source. */
static void leave_out_away(const eepi_executor *x, eepi_sources *sources)
{
    int others = 0;

    for (int i = 0; i < sources->num; i++) {
        others +=
            !eepi_source_is_remote(&sources->at[i]) || x->seats[sources->at[i].seat].away == EEP_OK;
    }
    for (int i = 0; i < sources->num && others > 0; i++) {
        if (eepi_source_is_remote(&sources->at[i])) {
            sources->at[i].failed = x->seats[sources->at[i].seat].away;
        }
    }
}

bool eepi_slot_fill_may_begin(const eepi_executor *x, const eepi_fill *what)
{
    const int seat = eepi_source_seat(what->source, what->seat);

    return seat < 0 || seat >= x->view->shape.max_ranks ||
           x->seats[seat].in_flight < x->config.segments_per_source;
}

void eepi_slot_fill_begin(eepi_executor *x, eepi_slot_fill *f, const eepi_fill *what,
                          eepi_source *source_memory)
{
    const bool has_own = x->config.backup(x->config.user, what->layer, what->expert) != NULL;

    f->what = *what;
    f->sources.at = source_memory;
    f->staging = (eep_tensor){f->buffer, x->slot_bytes};
    eepi_sources_list(&f->sources, x->view, what, has_own, x->config.checkpoint != NULL);
    if (has_own && x->config.owns_backup &&
        !x->config.owns_backup(x->config.user, what->layer, what->expert)) {
        f->sources.at[0].origin = EEPI_ORIGIN_NODE_BACKUP;
    }
    leave_out_away(x, &f->sources);
    /* the stream orders what is staged behind a copy that it has not done yet */
    f->landing = x->stream_is_late ? EEPI_LANDING_STAGED
                                   : eepi_landing_of(&(eepi_lane_facts){.memory = x->memory},
                                                     is_behind_traffic(x));
    if (*placed_at(x, f) == what->expert) {
        f->state = EEPI_SLOT_FILL_COMPARE;
        f->worked = 0;
        eepi_checksum_begin(f->sum);
    } else {
        begin_gathering(x, f);
    }
}

eepi_step_result eepi_slot_fill_step(eepi_executor *x, eepi_bulk *bulk, eepi_slot_fill *f,
                                     size_t *left)
{
    switch (f->state) {
    case EEPI_SLOT_FILL_FREE:
        return EEPI_STEP_WAITS;
    case EEPI_SLOT_FILL_COMPARE:
        return may_begin(x) ? compare(x, f, left) : EEPI_STEP_WAITS;
    case EEPI_SLOT_FILL_GATHER:
        return gather(x, bulk, f, left);
    case EEPI_SLOT_FILL_PLACE:
        return may_begin(x) ? place(x, f, left) : EEPI_STEP_WAITS;
    case EEPI_SLOT_FILL_PLACED:
        return eepi_slot_fill_wait(x, f, 0);
    }
    return EEPI_STEP_WAITS;
}
