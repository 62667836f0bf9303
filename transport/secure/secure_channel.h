/* SPDX-License-Identifier: Apache-2.0 */
/* A channel between two processes that have the job's key, over any stream of bytes.
 *
 * It first makes both ends prove the key (secure_hello.h). Then each message has a sequence number
 * and a code: ChaCha20 makes a key of its own for each number, and Poly1305 with that key covers
 * header, payload and padding (RFC 8439, 2.6 and 2.5). So a message that was changed, left out,
 * doubled, moved, or taken from another connection ends the channel, and nothing of it reaches the
 * caller. Bytes are not hidden: whoever sees the network reads them.
 *
 *   0          8            16            16 + payload      + padding
 *   +----------+------------+-------------+-----------------+---------+
 *   | size 4   | sequence 8 | payload     | 0 up to a       | code 16 |   numbers little-endian
 *   | mark 4   |            |             | multiple of 16  |         |
 *   +----------+------------+-------------+-----------------+---------+
 *
 * No socket, no clock, no randomness but what the caller passes in; secure_socket.h moves the
 * bytes. One thread at a time. The way of a server (a client's is the same, its HELLO waits in
 * `unsent`):
 *
 *   eepi_secure_begin(&c, &config, nonce, now_us);
 *   when bytes have arrived:
 *       for (room = eepi_secure_space(&c, &fits); ...; eepi_secure_filled(&c, got)) {
 *           while ((status = eepi_secure_next(&c, &payload, &bytes)) == EEP_OK) { one message }
 *           if (status != EEP_ERR_TIMEOUT) { count c.fault, flush once, close }
 *       }
 *   to say something: eepi_secure_put(&c, parts, n);     after eepi_secure_is_open(&c)
 *   when the stream takes bytes: eepi_secure_unsent(&c, &bytes), eepi_secure_sent(&c, bytes)
 *   until it is open: eepi_secure_is_late(&c, now_us) -> close
 *   eepi_secure_end(&c);
 */
#ifndef EEPI_SECURE_CHANNEL_H
#define EEPI_SECURE_CHANNEL_H

#include "transport/secure/secure_hello.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

enum {
    EEPI_SECURE_VERSION = 1, /* of the channel: the newest and the oldest that this build speaks */
    EEPI_SECURE_VERSION_OLDEST = 1,
    EEPI_SECURE_BEFORE_BYTES = 4096, /* what a peer may make us hold before it has proved the key */
    EEPI_SECURE_BEFORE_US = 2 * 1000 * 1000, /* how long it may take for that */
    EEPI_SECURE_BEFORE_MAX = 64,             /* how many may be at it (secure_waiting.h) */
    EEPI_SECURE_HEAD_BYTES = 16,
    EEPI_SECURE_CODE_BYTES = 16,
    EEPI_SECURE_TAIL_MAX = 15 + EEPI_SECURE_CODE_BYTES,
    EEPI_SECURE_WHY_BYTES = 256,
};

/* Why a channel ended. Each end counts them (eepi_secure_counts). */
typedef enum eepi_secure_fault {
    EEPI_SECURE_FINE,
    EEPI_SECURE_GARBAGE,   /* what came first is no hello */
    EEPI_SECURE_OTHER_KEY, /* the proof is wrong */
    EEPI_SECURE_OTHER_VERSION,
    EEPI_SECURE_OTHER_SERVICE,
    EEPI_SECURE_OTHER_INSTANCE,
    EEPI_SECURE_OTHER_PEER, /* the seat or the generation that is wanted is not here */
    EEPI_SECURE_UNPROVEN,   /* it ended, or was silent for 2 s, before its proof */
    EEPI_SECURE_CROWDED,    /* it made room for another one that had not proved the key yet */
    EEPI_SECURE_OVERSIZED,  /* a message above the cap, or no message */
    EEPI_SECURE_REPLAYED,   /* its number was used before */
    EEPI_SECURE_REORDERED,  /* messages before it are missing */
    EEPI_SECURE_FORGED,     /* the code is wrong */
    EEPI_SECURE_NO_MEMORY,
    EEPI_SECURE_FAULTS,
} eepi_secure_fault;

typedef struct eepi_secure_counts {
    uint64_t opened; /* channels whose peer has proved the key */
    uint64_t of[EEPI_SECURE_FAULTS];
} eepi_secure_counts;

/* "replayed 3, oversized 1", of what is not 0; "" if all are. Returns `text`. */
const char *eepi_secure_counts_text(const eepi_secure_counts *counts, char *text, size_t bytes);

typedef struct eepi_secure_config {
    eepi_secure_key key;
    bool is_server;
    eepi_secure_identity own;
    int32_t wanted_seat; /* of a client: whom it wants; -1 and 0: whoever has the key */
    uint64_t wanted_generation;
    size_t max_message_bytes; /* the longest payload that is taken; less than 2^31 */
    size_t max_unsent_bytes;  /* more than that is not kept for a slow peer */
} eepi_secure_config;

typedef struct eepi_secure_bytes {
    unsigned char *data;
    size_t begin, end, capacity;
} eepi_secure_bytes;

typedef enum eepi_secure_state {
    EEPI_SECURE_AWAITS_HELLO,
    EEPI_SECURE_AWAITS_ANSWER,
    EEPI_SECURE_AWAITS_PROOF,
    EEPI_SECURE_OPEN,
    EEPI_SECURE_ENDED,
} eepi_secure_state;

typedef struct eepi_secure_channel {
    eepi_secure_config config;
    eepi_secure_state state;
    eepi_secure_fault fault; /* why it ended */
    eepi_secure_hello peer;  /* who the other end is. Proven once the channel is open */
    uint16_t version;        /* of the service: the newest that both speak; once it is open */
    uint64_t begun_us;
    unsigned char hello[EEPI_SECURE_HELLO_BYTES], answer[EEPI_SECURE_HELLO_BYTES];
    eepi_secure_key send_key, receive_key;
    uint64_t send_sequence, receive_sequence;
    eepi_secure_bytes in, out;
} eepi_secure_channel;

/* Begin. `nonce` is random and never used again (eepi_secure_nonce). EEP_ERR_NO_MEMORY,
 * EEP_ERR_SYSTEM: this machine has no source of randomness. After it eepi_secure_end is due. */
EEP_MUST_CHECK eep_status eepi_secure_begin(eepi_secure_channel *channel,
                                            const eepi_secure_config *config,
                                            const unsigned char nonce[EEPI_SECURE_NONCE_BYTES],
                                            uint64_t now_us);
/* Frees all and overwrites the keys. A channel of zeros is allowed. */
void eepi_secure_end(eepi_secure_channel *channel);

bool eepi_secure_is_open(const eepi_secure_channel *channel);
/* It is not open yet, and its time is up. */
bool eepi_secure_is_late(const eepi_secure_channel *channel, uint64_t now_us);
/* Why it ended, in words: what the other end is and what this one wants. Returns `text`. */
const char *eepi_secure_why(const eepi_secure_channel *channel, char *text, size_t bytes);

/* Where to put the next bytes that arrive, and how many fit. NULL: no memory. What
 * eepi_secure_next gave out is void then. */
void *eepi_secure_space(eepi_secure_channel *channel, size_t *bytes_out);
void eepi_secure_filled(eepi_secure_channel *channel, size_t bytes);
/* Take the hellos alone that have arrived: EEP_OK once the channel is open, else as the next. */
EEP_MUST_CHECK eep_status eepi_secure_greet(eepi_secure_channel *channel);
/* The next whole message; it lies at a multiple of 16 and stays until eepi_secure_space.
 * EEP_ERR_TIMEOUT: more bytes are needed; look whether something is unsent. EEP_ERR_PROTOCOL: the
 * channel has ended for `fault`; flush what is unsent once, then close. */
EEP_MUST_CHECK eep_status eepi_secure_next(eepi_secure_channel *channel, const void **payload_out,
                                           size_t *bytes_out);

/* Add a message made of these parts to what is unsent. EEP_ERR_STATE: the channel is not open.
 * EEP_ERR_INVALID: longer than 2^31. EEP_ERR_NO_MEMORY: too much is unsent; nothing was added. */
EEP_MUST_CHECK eep_status eepi_secure_put(eepi_secure_channel *channel, const struct iovec *parts,
                                          int num_parts);
/* The same without a copy, for who sends payload from where it lies: what is sent is the head, the
 * parts and the tail, in this order, before anything that is put or sealed later. While something
 * is unsent: EEP_ERR_CONFLICT. */
EEP_MUST_CHECK eep_status eepi_secure_seal(eepi_secure_channel *channel, const struct iovec *parts,
                                           int num_parts,
                                           unsigned char head_out[EEPI_SECURE_HEAD_BYTES],
                                           unsigned char tail_out[EEPI_SECURE_TAIL_MAX],
                                           size_t *tail_bytes_out);
/* What waits to be sent; 0 bytes: nothing. */
const void *eepi_secure_unsent(const eepi_secure_channel *channel, size_t *bytes_out);
/* So many of them were sent. */
void eepi_secure_sent(eepi_secure_channel *channel, size_t bytes);
#endif
