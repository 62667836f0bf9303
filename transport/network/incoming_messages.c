/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of a connection. Without a key puts come before their bytes, so that one system call
 * writes many rows where they belong. A piece that may not be written there, since it is to be
 * parked or is void, goes by the buffer, as all do with a key. */
#include "transport/network/incoming_state.h"
#include "transport/proxy/placer_batch.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* ------------------------------------------------------------------ whole ones */

/* False: no rank sends that. */
static bool take(eepi_network *network, eepi_connection *c, eepi_placer_batch *batch,
                 const eepk_put *put, const void *bytes)
{
    if (put->kind == EEPK_PUT_TALK) {
        eepi_placer_batch_end(batch);
        return eepi_lane_hear_talk(network, c->source, c->source_generation, put, bytes);
    }
    if (eepi_placer_batch_add(batch, put, bytes, c->source_generation) == EEPI_PLACED_MALFORMED) {
        return false;
    }
    c->num_placed += put->kind == EEPK_PUT_ROWS || put->kind == EEPK_PUT_TAG;
    c->owes = true;
    c->is_due |= put->kind != EEPK_PUT_ROWS;
    return true;
}

static bool is_allowed(const eepi_network *network, const eepi_connection *c, const eepk_put *put)
{
    return eepi_lane_has_room(network, put) && put->source == c->source;
}

typedef enum found {
    FOUND_PART, /* more bytes are needed */
    FOUND_WHOLE,
    FOUND_BAD, /* no rank sends that */
} found;

/* Several puts, whose bytes follow. */
static found take_several(const eepi_network *network, const eepi_connection *c,
                          const eepk_put *head, const uint8_t *from, size_t num)
{
    eepi_announced *a = c->announced;

    if (!a || head->bytes != 0 || head->pieces == 0 || head->pieces > EEPI_LANE_BATCH) {
        return FOUND_BAD;
    }
    if (num < head->pieces * sizeof(eepk_put)) {
        return FOUND_PART;
    }
    memcpy(a->put, from, head->pieces * sizeof(eepk_put));
    for (uint32_t i = 0; i < head->pieces; i++) {
        if (!is_allowed(network, c, &a->put[i]) || a->put[i].kind == EEPK_PUT_SEVERAL) {
            return FOUND_BAD;
        }
    }
    a->num = head->pieces;
    a->at = a->written = 0;
    return FOUND_WHOLE;
}

/* The bytes of a put that has come before them. */
static found take_announced(eepi_network *network, eepi_connection *c, eepi_placer_batch *batch,
                            const uint8_t *from, size_t num, size_t *bytes_out)
{
    eepi_announced *a = c->announced;
    const eepk_put *put = &a->put[a->at];

    if (a->void_bytes > 0) {
        *bytes_out = num < a->void_bytes ? num : a->void_bytes;
        a->void_bytes -= (uint32_t)*bytes_out;
        return *bytes_out > 0 ? FOUND_WHOLE : FOUND_PART;
    }
    if (a->written > 0 || num < put->bytes) {
        return FOUND_PART;
    }
    *bytes_out = put->bytes;
    a->at++;
    return take(network, c, batch, put, from) ? FOUND_WHOLE : FOUND_BAD;
}

static found take_next(eepi_network *network, eepi_connection *c, eepi_placer_batch *batch,
                       const uint8_t *from, size_t num, size_t *bytes_out)
{
    const eepi_announced *a = c->announced;
    eepk_put put;

    if (a && (a->at < a->num || a->void_bytes > 0)) {
        return take_announced(network, c, batch, from, num, bytes_out);
    }
    if (num < sizeof put) {
        return FOUND_PART;
    }
    memcpy(&put, from, sizeof put);
    if (!is_allowed(network, c, &put)) {
        return FOUND_BAD;
    }
    from += sizeof put;
    num -= sizeof put;
    if (put.kind == EEPK_PUT_SEVERAL) {
        *bytes_out = (1 + put.pieces) * sizeof put;
        return take_several(network, c, &put, from, num);
    }
    if (num < put.bytes) {
        return FOUND_PART;
    }
    *bytes_out = sizeof put + put.bytes;
    return take(network, c, batch, &put, from) ? FOUND_WHOLE : FOUND_BAD;
}

bool eepi_incoming_place_all(eepi_network *network, eepi_connection *c, const uint8_t *from,
                             size_t num, size_t *done_out)
{
    eepi_placer_batch batch;
    found what = FOUND_WHOLE;
    size_t at = 0;

    eepi_placer_batch_begin(&batch, network->config.placer);
    while (what == FOUND_WHOLE) {
        size_t bytes = 0;
        what = take_next(network, c, &batch, from + at, num - at, &bytes);
        at += what == FOUND_WHOLE ? bytes : 0;
    }
    eepi_placer_batch_end(&batch);
    *done_out = at;
    c->is_bad |= what == FOUND_BAD;
    return what == FOUND_PART;
}

/* ------------------------------------------------------------------ reading */

enum {
    AT_ONCE = 16,         /* pieces of one read; meanwhile the gate cannot move */
    MOST_BYTES = 1 << 20, /* then other connections have their turn */
    AHEAD_BYTES = (1 + EEPI_LANE_BATCH) * sizeof(eepk_put), /* the puts of the next batch */
};

typedef struct reading {
    int num_pieces;
    uint32_t first;                 /* of the announced puts */
    struct iovec part[AT_ONCE + 1]; /* of the pieces, then the buffer's */
} reading;

/* The rest of a piece that was begun: nobody may write it any more. Its slot counts as placed, as
 * that of any piece that has come too late. */
static void give_up(const eepi_network *network, eepi_connection *c, eepi_placed how)
{
    eepi_announced *a = c->announced;

    eepi_placer_give_up(network->config.placer, how);
    a->void_bytes = a->put[a->at].bytes - a->written;
    a->written = 0;
    a->at++;
    c->num_placed++;
    c->owes = true;
}

/* Enter the gate with the next pieces. */
static void begin_pieces(const eepi_network *network, eepi_connection *c, reading *r)
{
    const eepi_announced *a = c->announced;

    r->first = a->at;
    r->num_pieces = 0;
    while (a->void_bytes == 0 && r->num_pieces < AT_ONCE &&
           r->first + (uint32_t)r->num_pieces < a->num) {
        const eepk_put *put = &a->put[r->first + (uint32_t)r->num_pieces];
        const uint32_t has = r->num_pieces == 0 ? a->written : 0;
        void *to;
        const eepi_placed how =
            eepi_placer_begin(network->config.placer, put, c->source_generation, &to);
        if (how != EEPI_PLACED) {
            if (has > 0) {
                give_up(network, c, how);
            }
            return;
        }
        r->part[r->num_pieces++] = (struct iovec){(uint8_t *)to + has, put->bytes - has};
    }
}

/* What the buffer has of the first one: less than the whole. */
static void empty_buffer(eepi_connection *c, reading *r)
{
    struct iovec *part = &r->part[0];

    if (r->num_pieces > 0 && c->filled > 0) {
        memcpy(part->iov_base, c->buffer, c->filled);
        part->iov_base = (uint8_t *)part->iov_base + c->filled;
        part->iov_len -= c->filled;
        c->announced->written += (uint32_t)c->filled;
        c->filled = 0;
    }
}

/* `got` bytes have come for them, and perhaps more; what is left is in the buffer. Leave the gate.
 */
static size_t end_pieces(const eepi_network *network, eepi_connection *c, const reading *r,
                         size_t got)
{
    eepi_announced *a = c->announced;
    const eepk_put *put[AT_ONCE];
    uint32_t num_whole = 0;

    for (int i = 0; i < r->num_pieces; i++) {
        const size_t wanted = r->part[i].iov_len;
        put[i] = &a->put[r->first + (uint32_t)i];
        if (got >= wanted) {
            got -= wanted;
            num_whole++;
            a->written = 0;
        } else if (got > 0) {
            a->written += (uint32_t)got;
            got = 0;
        }
    }
    eepi_placer_end(network->config.placer, put, (uint32_t)r->num_pieces, num_whole);
    a->at += num_whole;
    c->num_placed += num_whole;
    c->owes |= num_whole > 0;
    return got;
}

/* How much the buffer is to take: the next puts, or whole messages that cannot be written where
 * they belong. */
static size_t wanted_ahead(const eepi_network *network, const eepi_connection *c, const reading *r)
{
    const size_t room = network->incoming->buffer_bytes - c->filled;
    const eepi_announced *a = c->announced;
    const bool is_for_buffer = r->num_pieces == 0 && (a->void_bytes > 0 || a->at < a->num);

    return is_for_buffer || c->filled >= AHEAD_BYTES ? room : AHEAD_BYTES - c->filled;
}

/* One system call. 0: the connection has ended; < 0: why nothing came, as errno says it. */
static ssize_t read_once(eepi_network *network, eepi_connection *c, size_t *asked_out)
{
    reading r;
    struct msghdr message = {.msg_iov = r.part};
    ssize_t got;
    int error;

    begin_pieces(network, c, &r);
    empty_buffer(c, &r);
    message.msg_iovlen = (size_t)r.num_pieces;
    if (r.num_pieces < AT_ONCE) {
        r.part[message.msg_iovlen++] =
            (struct iovec){c->buffer + c->filled, wanted_ahead(network, c, &r)};
    }
    *asked_out = 0;
    for (size_t i = 0; i < message.msg_iovlen; i++) {
        *asked_out += r.part[i].iov_len;
    }
    got = recvmsg(c->fd, &message, MSG_DONTWAIT);
    error = errno;
    c->filled += end_pieces(network, c, &r, got > 0 ? (size_t)got : 0);
    return got < 0 ? -error : got;
}

/* False: no rank sends that. */
static bool take_buffered(eepi_network *network, eepi_connection *c)
{
    size_t done = 0;

    if (!eepi_incoming_place_all(network, c, c->buffer, c->filled, &done)) {
        return false;
    }
    c->filled -= done;
    memmove(c->buffer, c->buffer + done, c->filled);
    return true;
}

bool eepi_incoming_read_plain(eepi_network *network, eepi_connection *c)
{
    size_t all = 0;

    while (all < MOST_BYTES) {
        size_t asked;
        const ssize_t got = read_once(network, c, &asked);
        if (got <= 0) {
            return got == -EAGAIN || got == -EINTR;
        }
        if (!take_buffered(network, c)) {
            return false;
        }
        if ((size_t)got < asked) {
            return true;
        }
        all += (size_t)got;
    }
    return true;
}
