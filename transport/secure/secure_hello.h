/* SPDX-License-Identifier: Apache-2.0 */
/* The three messages that begin a channel, and the keys that follow from them. Numbers are
 * little-endian, texts have a NUL, all else is zero.
 *
 *   client -> server  HELLO   who it is, whom it wants, its versions, its nonce
 *   server -> client  ANSWER  the same of the server, and its proof
 *   client -> server  PROOF   that of the client
 *
 * A proof is HMAC-SHA256 by the job's key over a label and all bytes that were said before. So it
 * covers both nonces, both identities and both ranges of versions: nobody without the key can
 * change one of them, answer with an older message, or hand a proof back to the one that made it.
 *
 *   0  magic 4 | type 4 | channel newest 2, oldest 2 | service newest 2, oldest 2
 *  16  seat 4 | wanted seat 4 | generation 8 | wanted generation 8
 *  40  service 16 | role 16 | instance 64 | host 56
 * 192  nonce 32 | proof 32 (0 in HELLO)                                            = 256 bytes
 *
 * This layout is that of all versions for ever: a peer of another version can then be told by name
 * what it lacks. Pure. */
#ifndef EEPI_SECURE_HELLO_H
#define EEPI_SECURE_HELLO_H

#include "transport/secure/secure_key.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    EEPI_SECURE_TYPE_BYTES = 8, /* what each begins with: magic 4 | type 4 */
    EEPI_SECURE_HELLO_BYTES = 256,
    EEPI_SECURE_PROOF_BYTES = 48, /* magic 4 | type 4 | proof 32 | 0 8 */
    EEPI_SECURE_NONCE_BYTES = 32,
    EEPI_SECURE_MAC_BYTES = 32,
    EEPI_SECURE_NAME_BYTES = 16,
    EEPI_SECURE_INSTANCE_BYTES = 64,
    EEPI_SECURE_HOST_BYTES = 56,
};

typedef enum eepi_secure_type {
    EEPI_SECURE_HELLO = 1,
    EEPI_SECURE_ANSWER = 2,
    EEPI_SECURE_PROOF = 3,
} eepi_secure_type;

/* One end of a channel. Texts have printable ASCII characters only. */
typedef struct eepi_secure_identity {
    char service[EEPI_SECURE_NAME_BYTES];      /* what is spoken: "store", "agent", "rows" */
    char role[EEPI_SECURE_NAME_BYTES];         /* "rank", "agent", "store"; "" */
    char instance[EEPI_SECURE_INSTANCE_BYTES]; /* the job; both ends must say the same */
    char host[EEPI_SECURE_HOST_BYTES];         /* its host's identity; "" */
    int32_t seat;                              /* -1: none */
    uint64_t generation;                       /* of the process in the seat, or of the agent */
    uint16_t newest, oldest; /* versions of the service that it speaks, both included */
} eepi_secure_identity;

typedef struct eepi_secure_hello {
    eepi_secure_identity identity;
    int32_t wanted_seat;        /* whom it wants to reach; -1: whoever answers */
    uint64_t wanted_generation; /* 0: any */
    uint16_t newest, oldest;    /* versions of the channel itself */
    unsigned char nonce[EEPI_SECURE_NONCE_BYTES];
} eepi_secure_hello;

/* Does such a message begin so? */
bool eepi_secure_is_type(const unsigned char from[EEPI_SECURE_TYPE_BYTES], eepi_secure_type type);
/* Write it with a proof of zeros. The texts' limits are the caller's duty, asserted. */
void eepi_secure_hello_encode(eepi_secure_type type, const eepi_secure_hello *hello,
                              unsigned char bytes_out[EEPI_SECURE_HELLO_BYTES]);
/* EEP_ERR_PROTOCOL: it is no such message. */
EEP_MUST_CHECK eep_status
eepi_secure_hello_decode(eepi_secure_type type, const unsigned char bytes[EEPI_SECURE_HELLO_BYTES],
                         eepi_secure_hello *hello_out);

/* Put the server's proof into its ANSWER; or look whether it has the right one. */
void eepi_secure_answer_sign(const eepi_secure_key *key, const unsigned char *hello,
                             unsigned char *answer);
bool eepi_secure_answer_is_signed(const eepi_secure_key *key, const unsigned char *hello,
                                  const unsigned char *answer);
/* The client's PROOF, of EEPI_SECURE_PROOF_BYTES; or is it the right one? */
void eepi_secure_proof_make(const eepi_secure_key *key, const unsigned char *hello,
                            const unsigned char *answer, unsigned char *proof_out);
bool eepi_secure_proof_is_right(const eepi_secure_key *key, const unsigned char *hello,
                                const unsigned char *answer, const unsigned char *proof);
/* The keys of one connection, for what the client and for what the server sends. */
void eepi_secure_session_keys(const eepi_secure_key *key, const unsigned char *hello,
                              const unsigned char *answer, eepi_secure_key *from_client_out,
                              eepi_secure_key *from_server_out);
#endif
