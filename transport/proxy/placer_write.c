/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that are inside the gate. Each piece is taken by one thread, which marks it first and
 * writes it without the lock. So a message that comes twice is written once, and nothing is written
 * after its exchange has closed. */
#include "transport/proxy/placer_source.h"

#include <string.h>

void eepi_placer_note(eepi_placer *placer, eepi_placed how, uint64_t times)
{
    __atomic_fetch_add(&placer->count[how], times, __ATOMIC_RELAXED);
}

/* The exchanges of an earlier step are over: the first message of the step that the gate has come
 * to forgets them. */
static eepi_exchange *exchange_of(eepi_source *source, const eepk_put *put)
{
    if (source->epoch != put->epoch || source->step != put->step) {
        source->epoch = put->epoch;
        source->step = put->step;
        for (int i = 0; i < EEPK_MAX_CHAINS * EEPI_PHASES; i++) {
            eepi_exchange *exchange = &source->exchange[i / EEPI_PHASES][i % EEPI_PHASES];
            exchange->turn = -1;
            exchange->is_open = false;
        }
    }
    return &source->exchange[put->chain][put->phase - 1];
}

static void begin_exchange(const eepi_placer *placer, eepi_exchange *exchange, int32_t turn)
{
    uint64_t *taken = exchange->taken;

    memset(taken, 0, (placer->max_pieces + 63) / 64 * sizeof *taken);
    *exchange = (eepi_exchange){.turn = turn, .is_open = true, .taken = taken};
}

/* Rule N4: a tag is stored when as many different pieces as it names are written. */
static void close_if_whole(eepi_placer *placer, eepi_exchange *exchange)
{
    if (exchange->is_open && exchange->has_tag && exchange->placed == exchange->named) {
        exchange->is_open = false;
        placer->ops.word(eepi_placer_user(placer), exchange->tag_offset, exchange->tag);
    }
}

static eepi_placed take_tag(eepi_placer *placer, eepi_exchange *exchange, const eepk_put *put)
{
    if (exchange->has_tag) {
        return EEPI_PLACED_DOUBLED;
    }
    if (exchange->highest > put->pieces) {
        return EEPI_PLACED_MALFORMED;
    }
    exchange->has_tag = true;
    exchange->named = put->pieces;
    exchange->tag = put->value;
    exchange->tag_offset = put->offset;
    close_if_whole(placer, exchange);
    return EEPI_PLACED;
}

/* EEPI_PLACED: the piece is the caller's to write. */
static eepi_placed mark(eepi_exchange *exchange, const eepk_put *put)
{
    const uint64_t bit = 1ull << put->pieces % 64;

    if (exchange->taken[put->pieces / 64] & bit) {
        return EEPI_PLACED_DOUBLED;
    }
    if (exchange->has_tag && put->pieces >= exchange->named) {
        return EEPI_PLACED_MALFORMED;
    }
    exchange->taken[put->pieces / 64] |= bit;
    exchange->highest = put->pieces + 1 > exchange->highest ? put->pieces + 1 : exchange->highest;
    return EEPI_PLACED;
}

bool eepi_placer_settle(eepi_placer *placer, const eepk_put *const *put, uint32_t num)
{
    return num == 0 || !placer->ops.settle ||
           placer->ops.settle(eepi_placer_user(placer), put, num);
}

static eepi_placed take_piece(eepi_placer *placer, eepi_source *source, eepi_exchange *exchange,
                              const eepk_put *put, const void *bytes)
{
    const eepi_placed how = mark(exchange, put);
    bool is_seen;

    if (how != EEPI_PLACED) {
        return how;
    }
    pthread_mutex_unlock(&source->lock);
    placer->ops.rows(eepi_placer_user(placer), put->offset, bytes, put->bytes);
    is_seen = eepi_placer_settle(placer, &put, 1);
    pthread_mutex_lock(&source->lock);
    eepi_placer_unmark(placer, source, put, is_seen);
    return is_seen ? EEPI_PLACED : EEPI_PLACED_LOST;
}

/* Rule N3: a source that has completed the step which this rank runs has published all its tags of
 * it. Its word for a later step has overtaken some of them, and is no reason to give the step up.
 * Inside the gate, so the gate stands. */
static bool is_for_later(const eepi_placer *placer, const eepk_put *put)
{
    const eepi_gate_stand stand = eepi_window_gate_stand(placer->gate);

    return stand.lets_in && put->epoch == stand.epoch && put->step > stand.step &&
           put->completed >= stand.step;
}

void eepi_placer_release_word(eepi_placer *placer, eepi_source *source)
{
    const eepk_put put = source->later_abort;

    if (put.kind == 0 ||
        eepi_window_gate_enter(placer->gate, &put, put.source_generation) != EEPI_GATE_ENTERED) {
        source->later_abort.kind = 0;
        return;
    }
    if (!is_for_later(placer, &put)) {
        source->later_abort.kind = 0;
        placer->ops.word(eepi_placer_user(placer), put.offset, put.value);
    }
    eepi_window_gate_leave(placer->gate);
}

/* An abort word counts for its step and all before it, so an older one says nothing new. */
static eepi_placed take_word(eepi_placer *placer, eepi_source *source, const eepk_put *put)
{
    if (put->kind == EEPK_PUT_BEGIN) {
        if (placer->ops.begin) {
            placer->ops.begin(placer->ops.listener, put);
        }
        return EEPI_PLACED;
    }
    if (put->source_generation < source->abort_generation ||
        (put->source_generation == source->abort_generation &&
         (put->epoch < source->abort_epoch ||
          (put->epoch == source->abort_epoch && put->step <= source->abort_step)))) {
        return EEPI_PLACED_DOUBLED;
    }
    source->abort_generation = put->source_generation;
    source->abort_epoch = put->epoch;
    source->abort_step = put->step;
    if (is_for_later(placer, put)) {
        source->later_abort = *put;
        return EEPI_PLACED_PARKED;
    }
    placer->ops.word(eepi_placer_user(placer), put->offset, put->value);
    return EEPI_PLACED;
}

/* EEPI_PLACED: it is open. */
static eepi_placed find_exchange(const eepi_placer *placer, eepi_source *source,
                                 const eepk_put *put, eepi_exchange **exchange_out)
{
    eepi_exchange *exchange = exchange_of(source, put);
    const int32_t turn = (int32_t)eepk_turn(&placer->shape, put->shape, eepk_put_at(put));

    *exchange_out = exchange;
    if (!exchange->is_open && turn == exchange->turn + 1) {
        begin_exchange(placer, exchange, turn);
    }
    if (turn > exchange->turn) { /* the one before needs this rank's own part, and is open */
        return EEPI_PLACED_MALFORMED;
    }
    if (turn < exchange->turn || !exchange->is_open) {
        return EEPI_PLACED_OLDER;
    }
    return EEPI_PLACED;
}

eepi_placed eepi_placer_write(eepi_placer *placer, eepi_source *source, const eepk_put *put,
                              const void *bytes)
{
    eepi_exchange *exchange;
    eepi_placed how;

    if (put->kind == EEPK_PUT_ABORT || put->kind == EEPK_PUT_BEGIN) {
        return take_word(placer, source, put);
    }
    how = find_exchange(placer, source, put, &exchange);
    if (how != EEPI_PLACED) {
        return how;
    }
    return put->kind == EEPK_PUT_TAG ? take_tag(placer, exchange, put)
                                     : take_piece(placer, source, exchange, put, bytes);
}

/* ------------------------------------------------------------------ by the caller itself */

eepi_placed eepi_placer_mark(eepi_placer *placer, eepi_source *source, const eepk_put *put)
{
    eepi_exchange *exchange;
    const eepi_placed how = find_exchange(placer, source, put, &exchange);

    return how == EEPI_PLACED ? mark(exchange, put) : how;
}

/* The exchange is still the same: it lacks this piece, and the gate stands. */
void eepi_placer_unmark(eepi_placer *placer, eepi_source *source, const eepk_put *put,
                        bool is_written)
{
    eepi_exchange *exchange = &source->exchange[put->chain][put->phase - 1];

    if (is_written) {
        exchange->placed++;
        close_if_whole(placer, exchange);
    } else {
        exchange->taken[put->pieces / 64] &= ~(1ull << put->pieces % 64);
    }
}
