/* SPDX-License-Identifier: Apache-2.0 */
/* Each piece is taken by one thread, which marks it first and writes it without the lock. So a
 * message that comes twice is written once, and nothing is written after its exchange has closed.
 */
#include "transport/proxy/placer_source.h"

#include "graphs/kernels/compiler_macros.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ windows of the host */

static void host_rows(void *user, uint64_t offset, const void *bytes, uint32_t num_bytes)
{
    memcpy((uint8_t *)user + offset, bytes, num_bytes);
}

/* Release: what was placed before is there when the tag is (partner: eepk_seat_look). */
static void host_word(void *user, uint64_t offset, uint64_t value)
{
    eepk_store_release((uint64_t *)((uint8_t *)user + offset), value);
    eepk_doorbell_ring(&((eepk_window_header *)user)->doorbell);
}

static void *host_where(void *user, uint64_t offset)
{
    return (uint8_t *)user + offset;
}

const eepi_placer_ops eepi_placer_host_ops = {host_rows, host_word, NULL, NULL, host_where, NULL};

/* ------------------------------------------------------------------ life */

static bool source_open(eepi_placer *placer, eepi_source *source)
{
    bool is_whole = true;

    pthread_mutex_init(&source->lock, NULL);
    for (int chain = 0; chain < EEPK_MAX_CHAINS; chain++) {
        for (int phase = 0; phase < EEPI_PHASES; phase++) {
            eepi_exchange *exchange = &source->exchange[chain][phase];
            exchange->turn = -1;
            exchange->taken = calloc((placer->max_pieces + 63) / 64, sizeof(uint64_t));
            is_whole = is_whole && exchange->taken;
        }
        is_whole = is_whole && eepi_parked_open(&source->parked[chain], placer->max_parked,
                                                placer->piece_bytes);
    }
    return is_whole;
}

eepi_placer *eepi_placer_open(const eepk_shape *s, uint32_t generation, const eepi_placer_ops *ops,
                              void *user)
{
    eepi_placer *placer = calloc(1, sizeof *placer + s->max_ranks * sizeof(eepi_source));
    bool is_whole;

    if (!placer) {
        return NULL;
    }
    placer->shape = *s;
    placer->ops = *ops;
    placer->user = user;
    placer->max_parked = 2 * s->num_max_tokens + 1; /* rows, stretches of the list, header */
    placer->max_pieces = s->num_max_tokens * eepk_rows_per_token(s);
    if (placer->max_pieces < placer->max_parked) {
        placer->max_pieces = placer->max_parked;
    }
    placer->piece_bytes = eepk_slot_bytes(s) - (uint32_t)sizeof(eepk_put);
    placer->gate = eepi_window_gate_open(s->max_ranks, generation);
    is_whole = placer->gate != NULL;
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        is_whole &= source_open(placer, &placer->source[seat]);
    }
    if (!is_whole) {
        eepi_placer_close(placer);
        return NULL;
    }
    return placer;
}

void eepi_placer_close(eepi_placer *placer)
{
    for (uint32_t seat = 0; placer && seat < placer->shape.max_ranks; seat++) {
        eepi_source *source = &placer->source[seat];
        for (int chain = 0; chain < EEPK_MAX_CHAINS; chain++) {
            for (int phase = 0; phase < EEPI_PHASES; phase++) {
                free(source->exchange[chain][phase].taken);
            }
            eepi_parked_close(&source->parked[chain]);
        }
        pthread_mutex_destroy(&source->lock);
    }
    if (placer) {
        eepi_window_gate_close(placer->gate);
    }
    free(placer);
}

eepi_window_gate *eepi_placer_gate(eepi_placer *placer)
{
    return placer->gate;
}

uint64_t eepi_placer_count(const eepi_placer *placer, eepi_placed how)
{
    return __atomic_load_n(&placer->count[how], __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------ what may come */

typedef struct stretch {
    uint64_t begin, bytes;
} stretch;

static bool lies_in(const eepk_put *put, stretch where)
{
    return put->offset >= where.begin && put->bytes <= where.bytes &&
           put->offset - where.begin <= where.bytes - put->bytes;
}

/* A source's own parts of the window, and the rows that are shared: nobody writes anything else. */
static bool rows_are_allowed(const eepk_shape *s, const eepk_put *put)
{
    const uint64_t list_bytes = (uint64_t)s->num_max_tokens * s->top_k * sizeof(eepk_list_entry);
    const uint64_t row_bytes = (uint64_t)s->num_max_tokens * s->dispatch_row_bytes;
    const stretch header = {eepk_header_offset(s, put->chain, put->source), s->header_bytes};
    const stretch list = {eepk_list_offset(s, put->chain, put->source, 0), list_bytes};
    const stretch rows = {eepk_dispatch_row_offset(s, put->chain, put->source, 0), row_bytes};
    const stretch combine = {eepk_combine_row_offset(s, put->chain, 0, 0),
                             (uint64_t)s->num_max_tokens * s->top_k * s->row_bytes};

    return put->phase == EEPK_PHASE_DISPATCH
               ? lies_in(put, header) || lies_in(put, list) || lies_in(put, rows)
               : lies_in(put, combine);
}

static bool is_well_formed(const eepi_placer *placer, const eepk_put *put)
{
    const eepk_shape *s = &placer->shape;

    if (put->source >= s->max_ranks || put->source == s->self || put->target != s->self ||
        put->chain >= s->num_chains) {
        return false;
    }
    if (put->kind == EEPK_PUT_ABORT) {
        return put->offset == eepk_abort_offset(s, put->source);
    }
    if (put->kind == EEPK_PUT_BEGIN) {
        return put->shape < s->num_shapes;
    }
    if (put->layer >= s->num_layers || put->shape >= s->num_shapes ||
        put->chunk >= s->shapes[put->shape].num_chunks ||
        (put->phase != EEPK_PHASE_DISPATCH && put->phase != EEPK_PHASE_COMBINE)) {
        return false;
    }
    if (put->kind == EEPK_PUT_TAG) {
        return put->bytes == 0 && put->pieces <= placer->max_pieces &&
               put->offset == eepk_phase_tag_offset(s, put->phase, put->chain, put->source) &&
               put->value == eepk_tag_at(s, put->epoch, put->step, put->shape, eepk_put_at(put));
    }
    return put->kind == EEPK_PUT_ROWS && put->pieces < placer->max_pieces && put->bytes != 0 &&
           put->bytes <= placer->piece_bytes && rows_are_allowed(s, put);
}

/* ------------------------------------------------------------------ placing */

eepi_placed eepi_placer_place(eepi_placer *placer, const eepk_put *put, const void *bytes,
                              uint32_t proven)
{
    eepi_placed how = EEPI_PLACED_MALFORMED;
    eepi_source *source;

    if (!is_well_formed(placer, put)) {
        eepi_placer_note(placer, how, 1);
        return how;
    }
    source = &placer->source[put->source];
    /* the verdict and what follows from it under one lock: what is parked by an old verdict would
     * wait for a move that has been */
    pthread_mutex_lock(&source->lock);
    switch (eepi_window_gate_enter(placer->gate, put, proven)) {
    case EEPI_GATE_ENTERED:
        how = eepi_placer_write(placer, source, put, bytes);
        eepi_window_gate_leave(placer->gate);
        break;
    case EEPI_GATE_NEWER:
        how = eepi_parked_keep(placer, source, put, bytes);
        break;
    case EEPI_GATE_OLDER:
        how = EEPI_PLACED_OLDER;
        break;
    case EEPI_GATE_FOREIGN:
        how = EEPI_PLACED_FOREIGN;
        break;
    }
    pthread_mutex_unlock(&source->lock);
    eepi_placer_note(placer, how, 1);
    return how;
}

static eepi_placed judge(eepi_placer *placer, const eepk_put *put, uint32_t proven)
{
    eepi_source *source = &placer->source[put->source];
    eepi_placed how = EEPI_PLACED_FOREIGN;

    switch (eepi_window_gate_enter(placer->gate, put, proven)) {
    case EEPI_GATE_ENTERED:
        how = eepi_placer_mark(placer, source, put);
        if (how != EEPI_PLACED) {
            eepi_window_gate_leave(placer->gate);
        }
        break;
    case EEPI_GATE_NEWER:
        how = EEPI_PLACED_PARKED;
        break;
    case EEPI_GATE_OLDER:
        how = EEPI_PLACED_OLDER;
        break;
    case EEPI_GATE_FOREIGN:
        break;
    }
    return how;
}

eepi_placed eepi_placer_begin(eepi_placer *placer, const eepk_put *put, uint32_t proven,
                              void **to_out)
{
    eepi_placed how;

    if (!placer->ops.where || put->kind != EEPK_PUT_ROWS || !is_well_formed(placer, put)) {
        return EEPI_PLACED_MALFORMED;
    }
    pthread_mutex_lock(&placer->source[put->source].lock);
    how = judge(placer, put, proven);
    pthread_mutex_unlock(&placer->source[put->source].lock);
    if (how == EEPI_PLACED) {
        *to_out = placer->ops.where(eepi_placer_user(placer), put->offset);
    }
    return how;
}

void eepi_placer_end(eepi_placer *placer, const eepk_put *const *put, uint32_t num,
                     uint32_t num_whole)
{
    const bool is_seen = eepi_placer_settle(placer, put, num_whole);
    eepi_source *source = num > 0 ? &placer->source[put[0]->source] : NULL;

    for (uint32_t i = 0; i < num; i++) {
        pthread_mutex_lock(&source->lock);
        eepi_placer_unmark(placer, source, put[i], is_seen && i < num_whole);
        pthread_mutex_unlock(&source->lock);
        eepi_window_gate_leave(placer->gate);
    }
    eepi_placer_note(placer, is_seen ? EEPI_PLACED : EEPI_PLACED_LOST, num_whole);
}

void eepi_placer_give_up(eepi_placer *placer, eepi_placed how)
{
    eepi_placer_note(placer, how, 1);
}

eep_status eepi_placer_move(eepi_placer *placer, const eepi_gate_stand *to, uint64_t timeout_us)
{
    eep_status status = eepi_window_gate_move(placer->gate, to, timeout_us);

    for (uint32_t seat = 0; seat < placer->shape.max_ranks && status == EEP_OK; seat++) {
        eepi_source *source = &placer->source[seat];
        pthread_mutex_lock(&source->lock);
        eepi_placer_release_word(placer, source);
        eepi_parked_release(placer, source);
        pthread_mutex_unlock(&source->lock);
    }
    return status;
}

void eepi_placer_set_user(eepi_placer *placer, void *user)
{
    assert(!eepi_window_gate_stand(placer->gate).lets_in); /* P7: rows of one step, two windows */
    __atomic_store_n(&placer->user, user, __ATOMIC_RELEASE);
}
