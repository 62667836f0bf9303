/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/secure/secure_hello.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

enum {
    MAGIC = 0x43504545, /* "EEPC" */
    AT_VERSIONS = 8,
    AT_SEATS = 16,
    AT_GENERATIONS = 24,
    AT_SERVICE = 40,
    AT_ROLE = AT_SERVICE + EEPI_SECURE_NAME_BYTES,
    AT_INSTANCE = AT_ROLE + EEPI_SECURE_NAME_BYTES,
    AT_HOST = AT_INSTANCE + EEPI_SECURE_INSTANCE_BYTES,
    AT_NONCE = AT_HOST + EEPI_SECURE_HOST_BYTES,
    AT_PROOF = AT_NONCE + EEPI_SECURE_NONCE_BYTES,
    PROOF_AT = 8, /* in a PROOF */
    LABEL_BYTES = 16,
};

static_assert(AT_PROOF + EEPI_SECURE_MAC_BYTES == EEPI_SECURE_HELLO_BYTES, "layout");
static_assert(PROOF_AT + EEPI_SECURE_MAC_BYTES + 8 == EEPI_SECURE_PROOF_BYTES, "layout");
static_assert(EEPI_SECURE_MAC_BYTES == crypto_auth_hmacsha256_BYTES, "HMAC-SHA256");
static_assert(EEPI_SECURE_KEY_BYTES == crypto_auth_hmacsha256_KEYBYTES, "a key of 256 bits");

/* What a code is made for. Each has its own label, so that none can stand for another. */
static const char *const label_answer = "eep answer";
static const char *const label_proof = "eep proof";
static const char *const label_session = "eep session";
static const char *const label_from_client = "eep from client";
static const char *const label_from_server = "eep from server";

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

static bool is_text(const char *text, size_t bytes)
{
    const size_t length = strnlen(text, bytes);
    for (size_t i = 0; i < bytes; i++) {
        if (i < length ? text[i] < 0x20 || text[i] > 0x7e : text[i] != '\0') {
            return false;
        }
    }
    return length < bytes;
}

static void put_text(unsigned char *to, const char *text, size_t bytes)
{
    const size_t length = strnlen(text, bytes);
    assert(length < bytes);
    memset(to, 0, bytes);
    memcpy(to, text, length);
}

static bool get_text(const unsigned char *from, char *text_out, size_t bytes)
{
    memcpy(text_out, from, bytes);
    return is_text(text_out, bytes);
}

static void put_type(unsigned char *to, eepi_secure_type type)
{
    put(to, MAGIC, 4);
    put(to + 4, type, 4);
}

bool eepi_secure_is_type(const unsigned char from[EEPI_SECURE_TYPE_BYTES], eepi_secure_type type)
{
    return get(from, 4) == MAGIC && get(from + 4, 4) == (uint64_t)type;
}

void eepi_secure_hello_encode(eepi_secure_type type, const eepi_secure_hello *hello,
                              unsigned char bytes_out[EEPI_SECURE_HELLO_BYTES])
{
    const eepi_secure_identity *own = &hello->identity;
    memset(bytes_out, 0, EEPI_SECURE_HELLO_BYTES);
    put_type(bytes_out, type);
    put(bytes_out + AT_VERSIONS, hello->newest, 2);
    put(bytes_out + AT_VERSIONS + 2, hello->oldest, 2);
    put(bytes_out + AT_VERSIONS + 4, own->newest, 2);
    put(bytes_out + AT_VERSIONS + 6, own->oldest, 2);
    put(bytes_out + AT_SEATS, (uint32_t)own->seat, 4);
    put(bytes_out + AT_SEATS + 4, (uint32_t)hello->wanted_seat, 4);
    put(bytes_out + AT_GENERATIONS, own->generation, 8);
    put(bytes_out + AT_GENERATIONS + 8, hello->wanted_generation, 8);
    put_text(bytes_out + AT_SERVICE, own->service, sizeof own->service);
    put_text(bytes_out + AT_ROLE, own->role, sizeof own->role);
    put_text(bytes_out + AT_INSTANCE, own->instance, sizeof own->instance);
    put_text(bytes_out + AT_HOST, own->host, sizeof own->host);
    memcpy(bytes_out + AT_NONCE, hello->nonce, sizeof hello->nonce);
}

eep_status eepi_secure_hello_decode(eepi_secure_type type,
                                    const unsigned char bytes[EEPI_SECURE_HELLO_BYTES],
                                    eepi_secure_hello *hello_out)
{
    eepi_secure_hello hello = {0};
    eepi_secure_identity *peer = &hello.identity;
    if (!eepi_secure_is_type(bytes, type)) {
        return EEP_ERR_PROTOCOL;
    }
    hello.newest = (uint16_t)get(bytes + AT_VERSIONS, 2);
    hello.oldest = (uint16_t)get(bytes + AT_VERSIONS + 2, 2);
    peer->newest = (uint16_t)get(bytes + AT_VERSIONS + 4, 2);
    peer->oldest = (uint16_t)get(bytes + AT_VERSIONS + 6, 2);
    peer->seat = (int32_t)(uint32_t)get(bytes + AT_SEATS, 4);
    hello.wanted_seat = (int32_t)(uint32_t)get(bytes + AT_SEATS + 4, 4);
    peer->generation = get(bytes + AT_GENERATIONS, 8);
    hello.wanted_generation = get(bytes + AT_GENERATIONS + 8, 8);
    memcpy(hello.nonce, bytes + AT_NONCE, sizeof hello.nonce);
    if (!get_text(bytes + AT_SERVICE, peer->service, sizeof peer->service) ||
        !get_text(bytes + AT_ROLE, peer->role, sizeof peer->role) ||
        !get_text(bytes + AT_INSTANCE, peer->instance, sizeof peer->instance) ||
        !get_text(bytes + AT_HOST, peer->host, sizeof peer->host) || hello.newest < hello.oldest ||
        peer->newest < peer->oldest || peer->seat < -1 || hello.wanted_seat < -1) {
        return EEP_ERR_PROTOCOL;
    }
    *hello_out = hello;
    return EEP_OK;
}

/* ---------------------------------------------------------------- codes */

static void code(const eepi_secure_key *key, const char *label, const unsigned char *hello,
                 size_t hello_bytes, const unsigned char *answer, size_t answer_bytes,
                 unsigned char code_out[EEPI_SECURE_MAC_BYTES])
{
    crypto_auth_hmacsha256_state state;
    unsigned char padded[LABEL_BYTES];
    put_text(padded, label, sizeof padded);
    crypto_auth_hmacsha256_init(&state, key->bytes, sizeof key->bytes);
    crypto_auth_hmacsha256_update(&state, padded, sizeof padded);
    if (hello_bytes > 0) {
        crypto_auth_hmacsha256_update(&state, hello, hello_bytes);
        crypto_auth_hmacsha256_update(&state, answer, answer_bytes);
    }
    crypto_auth_hmacsha256_final(&state, code_out);
    sodium_memzero(&state, sizeof state);
}

static bool is_same(const unsigned char *a, const unsigned char *b)
{
    return sodium_memcmp(a, b, EEPI_SECURE_MAC_BYTES) == 0; /* in constant time */
}

void eepi_secure_answer_sign(const eepi_secure_key *key, const unsigned char *hello,
                             unsigned char *answer)
{
    code(key, label_answer, hello, EEPI_SECURE_HELLO_BYTES, answer, AT_PROOF, answer + AT_PROOF);
}

bool eepi_secure_answer_is_signed(const eepi_secure_key *key, const unsigned char *hello,
                                  const unsigned char *answer)
{
    unsigned char right[EEPI_SECURE_MAC_BYTES];
    code(key, label_answer, hello, EEPI_SECURE_HELLO_BYTES, answer, AT_PROOF, right);
    return is_same(right, answer + AT_PROOF);
}

void eepi_secure_proof_make(const eepi_secure_key *key, const unsigned char *hello,
                            const unsigned char *answer, unsigned char *proof_out)
{
    memset(proof_out, 0, EEPI_SECURE_PROOF_BYTES);
    put_type(proof_out, EEPI_SECURE_PROOF);
    code(key, label_proof, hello, EEPI_SECURE_HELLO_BYTES, answer, EEPI_SECURE_HELLO_BYTES,
         proof_out + PROOF_AT);
}

bool eepi_secure_proof_is_right(const eepi_secure_key *key, const unsigned char *hello,
                                const unsigned char *answer, const unsigned char *proof)
{
    unsigned char right[EEPI_SECURE_PROOF_BYTES];
    eepi_secure_proof_make(key, hello, answer, right);
    return eepi_secure_is_type(proof, EEPI_SECURE_PROOF) &&
           is_same(right + PROOF_AT, proof + PROOF_AT);
}

void eepi_secure_session_keys(const eepi_secure_key *key, const unsigned char *hello,
                              const unsigned char *answer, eepi_secure_key *from_client_out,
                              eepi_secure_key *from_server_out)
{
    eepi_secure_key session;
    code(key, label_session, hello, EEPI_SECURE_HELLO_BYTES, answer, EEPI_SECURE_HELLO_BYTES,
         session.bytes);
    code(&session, label_from_client, NULL, 0, NULL, 0, from_client_out->bytes);
    code(&session, label_from_server, NULL, 0, NULL, 0, from_server_out->bytes);
    eepi_secure_key_wipe(&session);
}
