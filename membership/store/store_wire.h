/* SPDX-License-Identifier: Apache-2.0 */
/* The store's messages, on a unix socket or in a channel: frames of fixed layout, and the buffer
 * they arrive in.
 *
 *   0        48                48 + key field             + value_size       padded to 8
 *   +--------+-----------------+--------------------------+------------------+
 *   | header | key, NUL, pad 8 | value (value_size bytes) | pad to 8         |
 *   +--------+-----------------+--------------------------+------------------+
 *
 * Numbers are in the byte order of the machine; one of the other order finds no magic. Every part
 * starts 8-aligned, so a value can be used where it lies. Every length has a cap that is checked
 * before a byte is allocated or read. Pure: no I/O, no clock. Any thread, one at a time per inbox.
 */
#ifndef EEPI_STORE_WIRE_H
#define EEPI_STORE_WIRE_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EEPI_STORE_MAGIC = 0x53504545, /* "EEPS" in the bytes of a little-endian machine */
    EEPI_STORE_VERSION = 1,        /* the newest that this build speaks, */
    EEPI_STORE_VERSION_OLDEST = 1, /* and the oldest */
    EEPI_STORE_HEADER_BYTES = 48,
    EEPI_STORE_HEAD_MAX = EEPI_STORE_HEADER_BYTES + 128, /* header and the longest key field */
    EEPI_STORE_WATCH_MAX = 64,                           /* watched prefixes of one connection */
};

typedef enum eepi_store_type {
    /* to the store; each but KEEPALIVE and BYE is answered by one REPLY, in order */
    EEPI_STORE_MSG_GET = 1,
    EEPI_STORE_MSG_PUT = 2, /* lease: 0 or the lease that the key lives by */
    EEPI_STORE_MSG_CAS = 3, /* revision: the expected one */
    EEPI_STORE_MSG_REMOVE = 4,
    EEPI_STORE_MSG_LIST = 5,      /* key: a prefix; ENTRY for each key, then REPLY */
    EEPI_STORE_MSG_WATCH = 6,     /* the same, and CHANGED from then on */
    EEPI_STORE_MSG_LEASE = 7,     /* create or take up `lease` with ttl_us */
    EEPI_STORE_MSG_KEEPALIVE = 8, /* any bytes renew the lease; this is for who has none to say */
    EEPI_STORE_MSG_BYE = 9,       /* orderly end: the lease and its keys vanish at once */
    EEPI_STORE_MSG_UNWATCH = 10,  /* key: a watched prefix; no CHANGED for it from the REPLY on */
    /* from the store */
    EEPI_STORE_MSG_REPLY = 16, /* id 0: the connection is turned away, `status` says why */
    EEPI_STORE_MSG_ENTRY = 17,
    EEPI_STORE_MSG_CHANGED = 18, /* revision 0: the key is gone */
} eepi_store_type;

/* One message. Decoded, `key` and `value` point into the frame's bytes. */
typedef struct eepi_store_message {
    eepi_store_type type;
    eep_status status; /* of a REPLY */
    uint64_t id;       /* of the request; 0 for KEEPALIVE, BYE, CHANGED */
    uint64_t revision;
    uint64_t lease;  /* PUT, LEASE; never 0 in LEASE */
    uint64_t ttl_us; /* LEASE; never 0 */
    const char *key; /* NUL-terminated, at most EEPI_STORE_KEY_MAX with the NUL; "" if none */
    const void *value;
    size_t value_size; /* bytes, at most EEPI_STORE_VALUE_MAX */
} eepi_store_message;

/* Write the header and key field of a message (its limits are the caller's duty, asserted) to
 * `head_out` of EEPI_STORE_HEAD_MAX bytes; returns the bytes used. The value's bytes and
 * eepi_store_wire_padding zero bytes follow it on the wire. */
size_t eepi_store_wire_encode(const eepi_store_message *message, void *head_out);
/* Zero bytes behind a value of that size: 0 to 7. */
size_t eepi_store_wire_padding(size_t value_size);
/* Bytes of the whole frame that starts with this header of EEPI_STORE_HEADER_BYTES bytes;
 * EEP_ERR_PROTOCOL for a foreign magic, type or a length beyond its cap. EEP_ERR_UNSUPPORTED for
 * another version: magic and version stand where they are in all versions. */
EEP_MUST_CHECK eep_status eepi_store_wire_size(const void *header, size_t *frame_bytes_out);
/* Decode one whole frame of exactly `frame_bytes`, 8-aligned. EEP_ERR_PROTOCOL when anything in it
 * breaks the layout or the rules of its type. */
EEP_MUST_CHECK eep_status eepi_store_wire_decode(const void *frame, size_t frame_bytes,
                                                 eepi_store_message *message_out);

/* Bytes that arrived and are not yet decoded. Zero-initialised is empty. */
typedef struct eepi_store_inbox {
    unsigned char *data;
    size_t capacity, begin, end;
} eepi_store_inbox;

/* Where to put the next bytes and how many fit (> 0; room for all of a begun frame). NULL when out
 * of memory, nothing changed then. Call only after eepi_store_inbox_next said EEP_ERR_TIMEOUT; ends
 * the validity of earlier messages. */
void *eepi_store_inbox_space(eepi_store_inbox *inbox, size_t *bytes_out);
/* The same at once, for bytes that lie elsewhere; at any time. false: no memory, nothing changed.
 */
EEP_MUST_CHECK bool eepi_store_inbox_put(eepi_store_inbox *inbox, const void *bytes, size_t size);
/* `bytes` were put there. */
void eepi_store_inbox_filled(eepi_store_inbox *inbox, size_t bytes);
/* Take the next whole message: it points into the inbox until the next _space or _free.
 * EEP_ERR_TIMEOUT: more bytes are needed. EEP_ERR_PROTOCOL: the stream is malformed; give it up.
 * EEP_ERR_UNSUPPORTED: it is of another version; say so and give it up. */
EEP_MUST_CHECK eep_status eepi_store_inbox_next(eepi_store_inbox *inbox,
                                                eepi_store_message *message_out);
/* Back to empty, all memory freed. */
void eepi_store_inbox_free(eepi_store_inbox *inbox);
#endif
