/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/secure/secure_channel.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum {
    MARK = 0x52504545, /* "EEPR" */
    IN_BYTES = 64 * 1024,
    READ_LEAST_BYTES = 8 * 1024,
    KEEP_BYTES = 256 * 1024, /* an empty buffer beyond this goes back to its beginning */
    SEQUENCE_AT = 8,
    MOST_BYTES = INT32_MAX,
};

static_assert(EEPI_SECURE_CODE_BYTES == crypto_onetimeauth_poly1305_BYTES, "Poly1305");
static_assert(EEPI_SECURE_KEY_BYTES == crypto_stream_chacha20_ietf_KEYBYTES, "ChaCha20");
static_assert(2 * EEPI_SECURE_HELLO_BYTES <= EEPI_SECURE_BEFORE_BYTES, "room for the hellos");

/* ---------------------------------------------------------------- bytes */

static void put(unsigned char *to, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = (unsigned char)(number >> (8 * i));
    }
}

static uint64_t get(const unsigned char *from, size_t bytes)
{
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; i++) {
        number |= (uint64_t)from[i] << (8 * i);
    }
    return number;
}

static size_t padding(size_t bytes)
{
    return (16 - bytes % 16) % 16;
}

/* Make room for `bytes` behind what is used: by moving it to the front, or in memory of `capacity`
 * bytes. */
static bool reserve(eepi_secure_bytes *b, size_t bytes, size_t capacity)
{
    const size_t used = b->end - b->begin;
    if (b->capacity - b->end >= bytes) {
        return true;
    }
    if (b->capacity < used + bytes) {
        unsigned char *data;
        capacity = (capacity + 15) & ~(size_t)15;
        assert(capacity >= used + bytes);
        data = aligned_alloc(16, capacity);
        if (!data) {
            return false;
        }
        if (used > 0) {
            memcpy(data, b->data + b->begin, used);
        }
        free(b->data);
        *b = (eepi_secure_bytes){.data = data, .end = used, .capacity = capacity};
    } else {
        memmove(b->data, b->data + b->begin, used);
        b->begin = 0;
        b->end = used;
    }
    return true;
}

/* It is empty: start again at its front, and give much memory back. */
static void rewind_if_empty(eepi_secure_bytes *b)
{
    if (b->begin == b->end) {
        b->begin = b->end = 0;
        if (b->capacity > KEEP_BYTES) {
            free(b->data);
            *b = (eepi_secure_bytes){0};
        }
    }
}

/* ---------------------------------------------------------------- begin and end */

static eep_status end_for(eepi_secure_channel *channel, eepi_secure_fault fault)
{
    channel->state = EEPI_SECURE_ENDED;
    channel->fault = fault;
    return EEP_ERR_PROTOCOL;
}

static void encode_own(eepi_secure_channel *channel, eepi_secure_type type,
                       const unsigned char *nonce, unsigned char *bytes_out)
{
    eepi_secure_hello own = {
        .identity = channel->config.own,
        .wanted_seat = channel->config.wanted_seat,
        .wanted_generation = channel->config.wanted_generation,
        .newest = EEPI_SECURE_VERSION,
        .oldest = EEPI_SECURE_VERSION_OLDEST,
    };
    memcpy(own.nonce, nonce, sizeof own.nonce);
    eepi_secure_hello_encode(type, &own, bytes_out);
}

eep_status eepi_secure_begin(eepi_secure_channel *channel, const eepi_secure_config *config,
                             const unsigned char nonce[EEPI_SECURE_NONCE_BYTES], uint64_t now_us)
{
    assert(config->max_message_bytes > 0 && config->max_message_bytes < MOST_BYTES);
    *channel = (eepi_secure_channel){.config = *config, .begun_us = now_us};
    if (sodium_init() < 0) {
        return EEP_ERR_SYSTEM;
    }
    if (config->is_server) { /* its nonce waits in the answer */
        channel->state = EEPI_SECURE_AWAITS_HELLO;
        encode_own(channel, EEPI_SECURE_ANSWER, nonce, channel->answer);
        return EEP_OK;
    }
    channel->state = EEPI_SECURE_AWAITS_ANSWER;
    encode_own(channel, EEPI_SECURE_HELLO, nonce, channel->hello);
    if (!reserve(&channel->out, EEPI_SECURE_HELLO_BYTES, EEPI_SECURE_BEFORE_BYTES)) {
        return EEP_ERR_NO_MEMORY;
    }
    memcpy(channel->out.data, channel->hello, EEPI_SECURE_HELLO_BYTES);
    channel->out.end = EEPI_SECURE_HELLO_BYTES;
    return EEP_OK;
}

void eepi_secure_end(eepi_secure_channel *channel)
{
    free(channel->in.data);
    free(channel->out.data);
    sodium_memzero(channel, sizeof *channel);
    channel->state = EEPI_SECURE_ENDED;
}

bool eepi_secure_is_open(const eepi_secure_channel *channel)
{
    return channel->state == EEPI_SECURE_OPEN;
}

bool eepi_secure_is_late(const eepi_secure_channel *channel, uint64_t now_us)
{
    return channel->state < EEPI_SECURE_OPEN && now_us - channel->begun_us >= EEPI_SECURE_BEFORE_US;
}

/* ---------------------------------------------------------------- the hellos */

/* Does the other end's hello fit us? A client's is judged as a server's is; whom the client wants
 * is compared with who the server is, on both sides. */
static eepi_secure_fault judge(const eepi_secure_channel *channel)
{
    const eepi_secure_identity *own = &channel->config.own, *peer = &channel->peer.identity;
    const bool is_server = channel->config.is_server;
    const eepi_secure_identity *server = is_server ? own : peer;
    const int32_t seat = is_server ? channel->peer.wanted_seat : channel->config.wanted_seat;
    const uint64_t generation =
        is_server ? channel->peer.wanted_generation : channel->config.wanted_generation;
    if (channel->peer.newest < EEPI_SECURE_VERSION_OLDEST ||
        channel->peer.oldest > EEPI_SECURE_VERSION) {
        return EEPI_SECURE_OTHER_VERSION;
    }
    if (strcmp(own->service, peer->service) != 0) {
        return EEPI_SECURE_OTHER_SERVICE;
    }
    if (peer->newest < own->oldest || peer->oldest > own->newest) {
        return EEPI_SECURE_OTHER_VERSION;
    }
    if (strcmp(own->instance, peer->instance) != 0) {
        return EEPI_SECURE_OTHER_INSTANCE;
    }
    if ((seat >= 0 && seat != server->seat) || (generation && generation != server->generation)) {
        return EEPI_SECURE_OTHER_PEER;
    }
    return EEPI_SECURE_FINE;
}

static void open_channel(eepi_secure_channel *channel)
{
    const eepi_secure_config *config = &channel->config;
    const uint16_t theirs = channel->peer.identity.newest, ours = config->own.newest;
    eepi_secure_key from_client, from_server;
    eepi_secure_session_keys(&config->key, channel->hello, channel->answer, &from_client,
                             &from_server);
    channel->send_key = config->is_server ? from_server : from_client;
    channel->receive_key = config->is_server ? from_client : from_server;
    eepi_secure_key_wipe(&from_client);
    eepi_secure_key_wipe(&from_server);
    eepi_secure_key_wipe(&channel->config.key);
    channel->version = theirs < ours ? theirs : ours;
    channel->state = EEPI_SECURE_OPEN;
}

/* A server answers every hello, also one that does not fit: so the client learns, proven, why. */
static eepi_secure_fault take_hello(eepi_secure_channel *channel, const unsigned char *bytes)
{
    eepi_secure_fault fault;
    if (eepi_secure_hello_decode(EEPI_SECURE_HELLO, bytes, &channel->peer) != EEP_OK) {
        return EEPI_SECURE_GARBAGE;
    }
    if (!reserve(&channel->out, EEPI_SECURE_HELLO_BYTES, EEPI_SECURE_BEFORE_BYTES)) {
        return EEPI_SECURE_NO_MEMORY;
    }
    memcpy(channel->hello, bytes, EEPI_SECURE_HELLO_BYTES);
    eepi_secure_answer_sign(&channel->config.key, channel->hello, channel->answer);
    memcpy(channel->out.data + channel->out.end, channel->answer, EEPI_SECURE_HELLO_BYTES);
    channel->out.end += EEPI_SECURE_HELLO_BYTES;
    fault = judge(channel);
    channel->state = EEPI_SECURE_AWAITS_PROOF;
    return fault;
}

static eepi_secure_fault take_answer(eepi_secure_channel *channel, const unsigned char *bytes)
{
    eepi_secure_fault fault;
    if (eepi_secure_hello_decode(EEPI_SECURE_ANSWER, bytes, &channel->peer) != EEP_OK) {
        return EEPI_SECURE_GARBAGE;
    }
    if (!eepi_secure_answer_is_signed(&channel->config.key, channel->hello, bytes)) {
        return EEPI_SECURE_OTHER_KEY;
    }
    memcpy(channel->answer, bytes, EEPI_SECURE_HELLO_BYTES);
    fault = judge(channel);
    if (fault != EEPI_SECURE_FINE) {
        return fault;
    }
    if (!reserve(&channel->out, EEPI_SECURE_PROOF_BYTES, EEPI_SECURE_BEFORE_BYTES)) {
        return EEPI_SECURE_NO_MEMORY;
    }
    eepi_secure_proof_make(&channel->config.key, channel->hello, channel->answer,
                           channel->out.data + channel->out.end);
    channel->out.end += EEPI_SECURE_PROOF_BYTES;
    open_channel(channel);
    return EEPI_SECURE_FINE;
}

static eepi_secure_fault take_proof(eepi_secure_channel *channel, const unsigned char *bytes)
{
    if (!eepi_secure_proof_is_right(&channel->config.key, channel->hello, channel->answer, bytes)) {
        return EEPI_SECURE_OTHER_KEY;
    }
    open_channel(channel);
    return EEPI_SECURE_FINE;
}

/* The next message of the hellos. EEP_ERR_TIMEOUT: more bytes are needed, unless it is open now. */
static eep_status next_hello(eepi_secure_channel *channel)
{
    static const struct {
        eepi_secure_type type;
        size_t bytes;
        eepi_secure_fault (*take)(eepi_secure_channel *channel, const unsigned char *bytes);
    } awaited[] = {
        [EEPI_SECURE_AWAITS_HELLO] = {EEPI_SECURE_HELLO, EEPI_SECURE_HELLO_BYTES, take_hello},
        [EEPI_SECURE_AWAITS_ANSWER] = {EEPI_SECURE_ANSWER, EEPI_SECURE_HELLO_BYTES, take_answer},
        [EEPI_SECURE_AWAITS_PROOF] = {EEPI_SECURE_PROOF, EEPI_SECURE_PROOF_BYTES, take_proof},
    };
    const eepi_secure_state state = channel->state;
    const size_t used = channel->in.end - channel->in.begin;
    const unsigned char *bytes = used > 0 ? channel->in.data + channel->in.begin : NULL;
    eepi_secure_fault fault = EEPI_SECURE_GARBAGE; /* its beginning tells that at once */
    if (used < EEPI_SECURE_TYPE_BYTES) {
        return EEP_ERR_TIMEOUT;
    }
    if (eepi_secure_is_type(bytes, awaited[state].type)) {
        if (used < awaited[state].bytes) {
            return EEP_ERR_TIMEOUT;
        }
        fault = awaited[state].take(channel, bytes);
        channel->in.begin += awaited[state].bytes;
    }
    return fault == EEPI_SECURE_FINE ? EEP_OK : end_for(channel, fault);
}

/* ---------------------------------------------------------------- codes */

/* The code of one message, by a key that serves for this number alone. */
static void begin_code(const eepi_secure_key *key, uint64_t sequence,
                       crypto_onetimeauth_poly1305_state *state_out)
{
    unsigned char once[crypto_onetimeauth_poly1305_KEYBYTES];
    unsigned char nonce[crypto_stream_chacha20_ietf_NONCEBYTES] = {0};
    put(nonce + sizeof nonce - 8, sequence, 8);
    crypto_stream_chacha20_ietf(once, sizeof once, nonce, key->bytes);
    crypto_onetimeauth_poly1305_init(state_out, once);
    sodium_memzero(once, sizeof once);
}

static bool is_code(const eepi_secure_key *key, uint64_t sequence, const unsigned char *bytes,
                    size_t size)
{
    crypto_onetimeauth_poly1305_state state;
    unsigned char right[EEPI_SECURE_CODE_BYTES];
    begin_code(key, sequence, &state);
    crypto_onetimeauth_poly1305_update(&state, bytes, size);
    crypto_onetimeauth_poly1305_final(&state, right);
    return sodium_memcmp(right, bytes + size, sizeof right) == 0;
}

/* ---------------------------------------------------------------- receiving */

/* Bytes of the message that begins the buffer, without its code; 0: not known yet or too many. */
static size_t begun_bytes(const eepi_secure_channel *channel)
{
    const unsigned char *head;
    size_t size;
    if (channel->in.end - channel->in.begin < EEPI_SECURE_HEAD_BYTES) {
        return 0;
    }
    head = channel->in.data + channel->in.begin;
    size = get(head, 4);
    if (size > channel->config.max_message_bytes || get(head + 4, 4) != MARK) {
        return 0;
    }
    return EEPI_SECURE_HEAD_BYTES + size + padding(size);
}

void *eepi_secure_space(eepi_secure_channel *channel, size_t *bytes_out)
{
    eepi_secure_bytes *in = &channel->in;
    size_t capacity = EEPI_SECURE_BEFORE_BYTES, used, wanted = 1;
    rewind_if_empty(in);
    used = in->end - in->begin;
    if (channel->state == EEPI_SECURE_OPEN) {
        const size_t whole = begun_bytes(channel) + EEPI_SECURE_CODE_BYTES;
        capacity = whole > IN_BYTES ? whole : IN_BYTES;
        wanted = whole > used ? whole - used : 1;
        wanted = wanted < READ_LEAST_BYTES ? READ_LEAST_BYTES : wanted; /* no crumbs */
        capacity = used + wanted > capacity ? used + wanted : capacity;
    }
    if (!reserve(in, wanted, capacity)) {
        return NULL;
    }
    *bytes_out = in->capacity - in->end;
    return in->data + in->end;
}

void eepi_secure_filled(eepi_secure_channel *channel, size_t bytes)
{
    assert(bytes <= channel->in.capacity - channel->in.end);
    channel->in.end += bytes;
}

static eep_status next_message(eepi_secure_channel *channel, const void **payload_out,
                               size_t *bytes_out)
{
    const size_t used = channel->in.end - channel->in.begin, begun = begun_bytes(channel);
    const unsigned char *head;
    uint64_t sequence;
    if (used < EEPI_SECURE_HEAD_BYTES) {
        return EEP_ERR_TIMEOUT;
    }
    head = channel->in.data + channel->in.begin;
    if (begun == 0) {
        return end_for(channel, EEPI_SECURE_OVERSIZED);
    }
    sequence = get(head + SEQUENCE_AT, 8);
    if (sequence != channel->receive_sequence) {
        return end_for(channel, sequence < channel->receive_sequence ? EEPI_SECURE_REPLAYED
                                                                     : EEPI_SECURE_REORDERED);
    }
    if (used < begun + EEPI_SECURE_CODE_BYTES) {
        return EEP_ERR_TIMEOUT;
    }
    if (!is_code(&channel->receive_key, sequence, head, begun)) {
        return end_for(channel, EEPI_SECURE_FORGED);
    }
    channel->receive_sequence++;
    *payload_out = head + EEPI_SECURE_HEAD_BYTES;
    *bytes_out = get(head, 4);
    channel->in.begin += begun + EEPI_SECURE_CODE_BYTES;
    return EEP_OK;
}

eep_status eepi_secure_greet(eepi_secure_channel *channel)
{
    while (channel->state < EEPI_SECURE_OPEN) {
        const eep_status status = next_hello(channel);
        if (status != EEP_OK) {
            return status;
        }
    }
    return channel->state == EEPI_SECURE_OPEN ? EEP_OK : EEP_ERR_PROTOCOL;
}

eep_status eepi_secure_next(eepi_secure_channel *channel, const void **payload_out,
                            size_t *bytes_out)
{
    const eep_status status = eepi_secure_greet(channel);
    return status == EEP_OK ? next_message(channel, payload_out, bytes_out) : status;
}

/* ---------------------------------------------------------------- sending */

static size_t total_of(const struct iovec *parts, int num_parts)
{
    size_t total = 0;
    for (int i = 0; i < num_parts; i++) {
        total += parts[i].iov_len < MOST_BYTES ? parts[i].iov_len : MOST_BYTES;
    }
    return total;
}

/* Head and tail of the next message. */
static void seal(eepi_secure_channel *channel, const struct iovec *parts, int num_parts,
                 size_t size, unsigned char *head_out, unsigned char *tail_out)
{
    static const unsigned char zeros[16];
    const uint64_t sequence = channel->send_sequence++;
    crypto_onetimeauth_poly1305_state state;
    put(head_out, size, 4);
    put(head_out + 4, MARK, 4);
    put(head_out + SEQUENCE_AT, sequence, 8);
    memcpy(tail_out, zeros, padding(size));
    begin_code(&channel->send_key, sequence, &state);
    crypto_onetimeauth_poly1305_update(&state, head_out, EEPI_SECURE_HEAD_BYTES);
    for (int i = 0; i < num_parts; i++) {
        if (parts[i].iov_len > 0) {
            crypto_onetimeauth_poly1305_update(&state, parts[i].iov_base, parts[i].iov_len);
        }
    }
    crypto_onetimeauth_poly1305_update(&state, zeros, padding(size));
    crypto_onetimeauth_poly1305_final(&state, tail_out + padding(size));
}

eep_status eepi_secure_put(eepi_secure_channel *channel, const struct iovec *parts, int num_parts)
{
    eepi_secure_bytes *out = &channel->out;
    const size_t size = total_of(parts, num_parts), used = out->end - out->begin;
    const size_t whole = EEPI_SECURE_HEAD_BYTES + size + padding(size) + EEPI_SECURE_CODE_BYTES;
    unsigned char *head, *to;
    if (channel->state != EEPI_SECURE_OPEN) {
        return EEP_ERR_STATE;
    }
    if (size >= MOST_BYTES) {
        return EEP_ERR_INVALID;
    }
    if (used + whole > channel->config.max_unsent_bytes ||
        !reserve(out, whole, used + whole > 2 * out->capacity ? used + whole : 2 * out->capacity)) {
        return EEP_ERR_NO_MEMORY;
    }
    head = out->data + out->end;
    to = head + EEPI_SECURE_HEAD_BYTES;
    for (int i = 0; i < num_parts; i++) {
        if (parts[i].iov_len > 0) {
            memcpy(to, parts[i].iov_base, parts[i].iov_len);
            to += parts[i].iov_len;
        }
    }
    seal(channel, &(struct iovec){head + EEPI_SECURE_HEAD_BYTES, size}, 1, size, head, to);
    out->end += whole;
    return EEP_OK;
}

eep_status eepi_secure_seal(eepi_secure_channel *channel, const struct iovec *parts, int num_parts,
                            unsigned char head_out[EEPI_SECURE_HEAD_BYTES],
                            unsigned char tail_out[EEPI_SECURE_TAIL_MAX], size_t *tail_bytes_out)
{
    const size_t size = total_of(parts, num_parts);
    if (channel->state != EEPI_SECURE_OPEN) {
        return EEP_ERR_STATE;
    }
    if (size >= MOST_BYTES) {
        return EEP_ERR_INVALID;
    }
    if (channel->out.begin < channel->out.end) {
        return EEP_ERR_CONFLICT;
    }
    seal(channel, parts, num_parts, size, head_out, tail_out);
    *tail_bytes_out = padding(size) + EEPI_SECURE_CODE_BYTES;
    return EEP_OK;
}

const void *eepi_secure_unsent(const eepi_secure_channel *channel, size_t *bytes_out)
{
    *bytes_out = channel->out.end - channel->out.begin;
    return *bytes_out > 0 ? channel->out.data + channel->out.begin : NULL;
}

void eepi_secure_sent(eepi_secure_channel *channel, size_t bytes)
{
    assert(bytes <= channel->out.end - channel->out.begin);
    channel->out.begin += bytes;
    rewind_if_empty(&channel->out);
}
