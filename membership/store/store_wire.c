/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_wire.h"

#include "membership/store/store_client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct wire_header {
    uint32_t magic;
    uint8_t version;
    uint8_t type;
    uint16_t key_bytes; /* with the NUL, without the padding */
    uint32_t value_bytes;
    int32_t status;
    uint64_t id;
    uint64_t revision;
    uint64_t lease;
    uint64_t ttl_us;
} wire_header;

static_assert(sizeof(wire_header) == EEPI_STORE_HEADER_BYTES, "wire layout");
static_assert(offsetof(wire_header, value_bytes) == 8, "wire layout");
static_assert(offsetof(wire_header, id) == 16, "wire layout");
static_assert(offsetof(wire_header, ttl_us) == 40, "wire layout");
static_assert(EEPI_STORE_HEAD_MAX == EEPI_STORE_HEADER_BYTES + EEPI_STORE_KEY_MAX, "key field");

enum {
    INBOX_BYTES = 16 * 1024,       /* what an inbox begins with */
    INBOX_KEEP_BYTES = 256 * 1024, /* an empty inbox beyond this goes back to its beginning */
};

static size_t round_up_8(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

size_t eepi_store_wire_padding(size_t value_size)
{
    return round_up_8(value_size) - value_size;
}

size_t eepi_store_wire_encode(const eepi_store_message *message, void *head_out)
{
    size_t key_bytes = strlen(message->key) + 1;
    assert(key_bytes <= EEPI_STORE_KEY_MAX && message->value_size <= EEPI_STORE_VALUE_MAX);
    wire_header header = {
        .magic = EEPI_STORE_MAGIC,
        .version = EEPI_STORE_VERSION,
        .type = (uint8_t)message->type,
        .key_bytes = (uint16_t)key_bytes,
        .value_bytes = (uint32_t)message->value_size,
        .status = message->status,
        .id = message->id,
        .revision = message->revision,
        .lease = message->lease,
        .ttl_us = message->ttl_us,
    };
    unsigned char *head = head_out;
    size_t head_bytes = sizeof header + round_up_8(key_bytes);
    memcpy(head, &header, sizeof header);
    memset(head + head_bytes - 8, 0, 8);
    memcpy(head + sizeof header, message->key, key_bytes);
    return head_bytes;
}

static bool is_type(uint8_t type)
{
    return (type >= EEPI_STORE_MSG_GET && type <= EEPI_STORE_MSG_UNWATCH) ||
           (type >= EEPI_STORE_MSG_REPLY && type <= EEPI_STORE_MSG_CHANGED);
}

eep_status eepi_store_wire_size(const void *bytes, size_t *frame_bytes_out)
{
    wire_header header;
    memcpy(&header, bytes, sizeof header);
    if (header.magic == EEPI_STORE_MAGIC &&
        (header.version < EEPI_STORE_VERSION_OLDEST || header.version > EEPI_STORE_VERSION)) {
        return EEP_ERR_UNSUPPORTED;
    }
    if (header.magic != EEPI_STORE_MAGIC || !is_type(header.type) || header.key_bytes == 0 ||
        header.key_bytes > EEPI_STORE_KEY_MAX || header.value_bytes > EEPI_STORE_VALUE_MAX) {
        return EEP_ERR_PROTOCOL;
    }
    *frame_bytes_out =
        sizeof header + round_up_8(header.key_bytes) + round_up_8(header.value_bytes);
    return EEP_OK;
}

/* The rules of each type: who has a key, a value, an id, a lease. */
static bool obeys_type(const eepi_store_message *message)
{
    bool has_key = message->key[0] != '\0';
    bool has_value = message->value_size > 0;
    switch (message->type) {
    case EEPI_STORE_MSG_GET:
    case EEPI_STORE_MSG_REMOVE:
        return message->id && has_key && !has_value;
    case EEPI_STORE_MSG_PUT:
    case EEPI_STORE_MSG_CAS:
        return message->id && has_key;
    case EEPI_STORE_MSG_LIST:
    case EEPI_STORE_MSG_WATCH:
    case EEPI_STORE_MSG_UNWATCH:
        return message->id && !has_value;
    case EEPI_STORE_MSG_LEASE:
        return message->id && !has_key && !has_value && message->lease && message->ttl_us;
    case EEPI_STORE_MSG_KEEPALIVE:
    case EEPI_STORE_MSG_BYE:
        return !message->id && !has_key && !has_value;
    case EEPI_STORE_MSG_REPLY:
        return message->id || (message->status != EEP_OK && !has_value);
    case EEPI_STORE_MSG_ENTRY:
        return message->id && has_key && message->revision;
    case EEPI_STORE_MSG_CHANGED:
        return !message->id && has_key && (message->revision || !has_value);
    }
    return false;
}

eep_status eepi_store_wire_decode(const void *frame, size_t frame_bytes,
                                  eepi_store_message *message_out)
{
    size_t expected_bytes = 0;
    if (frame_bytes < sizeof(wire_header)) {
        return EEP_ERR_PROTOCOL;
    }
    eep_status status = eepi_store_wire_size(frame, &expected_bytes);
    if (status != EEP_OK || expected_bytes != frame_bytes) {
        return status != EEP_OK ? status : EEP_ERR_PROTOCOL;
    }
    wire_header header;
    memcpy(&header, frame, sizeof header);
    const char *key = (const char *)frame + sizeof header;
    if (memchr(key, '\0', header.key_bytes) != key + header.key_bytes - 1) {
        return EEP_ERR_PROTOCOL;
    }
    eepi_store_message message = {
        .type = (eepi_store_type)header.type,
        .status = header.status,
        .id = header.id,
        .revision = header.revision,
        .lease = header.lease,
        .ttl_us = header.ttl_us,
        .key = key,
        .value = key + round_up_8(header.key_bytes),
        .value_size = header.value_bytes,
    };
    if (!obeys_type(&message)) {
        return EEP_ERR_PROTOCOL;
    }
    *message_out = message;
    return EEP_OK;
}

/* Bytes that the frame at `begin` needs, as far as that is known yet. */
static size_t inbox_frame_bytes(const eepi_store_inbox *inbox)
{
    size_t frame_bytes = 0;
    if (inbox->end - inbox->begin < sizeof(wire_header) ||
        eepi_store_wire_size(inbox->data + inbox->begin, &frame_bytes) != EEP_OK) {
        return sizeof(wire_header);
    }
    return frame_bytes;
}

void *eepi_store_inbox_space(eepi_store_inbox *inbox, size_t *bytes_out)
{
    size_t used = inbox->end - inbox->begin;
    size_t wanted = inbox_frame_bytes(inbox);
    size_t capacity = inbox->capacity;
    if (wanted > capacity || capacity == 0) {
        capacity = wanted > INBOX_BYTES ? wanted : INBOX_BYTES;
    } else if (used == 0 && capacity > INBOX_KEEP_BYTES) {
        capacity = INBOX_BYTES;
    }
    if (capacity != inbox->capacity) {
        unsigned char *data = malloc(capacity);
        if (!data) {
            return NULL;
        }
        if (used > 0) {
            memcpy(data, inbox->data + inbox->begin, used);
        }
        free(inbox->data);
        *inbox = (eepi_store_inbox){.data = data, .capacity = capacity, .end = used};
    } else if (inbox->begin > 0 &&
               (used == 0 || capacity - inbox->begin < wanted || inbox->end == capacity)) {
        memmove(inbox->data, inbox->data + inbox->begin, used);
        inbox->begin = 0;
        inbox->end = used;
    }
    *bytes_out = inbox->capacity - inbox->end;
    assert(*bytes_out > 0);
    return inbox->data + inbox->end;
}

bool eepi_store_inbox_put(eepi_store_inbox *inbox, const void *bytes, size_t size)
{
    const size_t used = inbox->end - inbox->begin;
    if (used == 0) {
        inbox->begin = inbox->end = 0;
    }
    if (inbox->capacity < used + size || (used == 0 && inbox->capacity > INBOX_KEEP_BYTES)) {
        const size_t twice = 2 * used > INBOX_BYTES ? 2 * used : INBOX_BYTES;
        const size_t capacity = used + size > twice ? used + size : twice;
        unsigned char *data = malloc(capacity);
        if (!data) {
            return false;
        }
        if (used > 0) {
            memcpy(data, inbox->data + inbox->begin, used);
        }
        free(inbox->data);
        *inbox = (eepi_store_inbox){.data = data, .capacity = capacity, .end = used};
    } else if (inbox->capacity - inbox->end < size) {
        memmove(inbox->data, inbox->data + inbox->begin, used);
        inbox->begin = 0;
        inbox->end = used;
    }
    if (size > 0) {
        memcpy(inbox->data + inbox->end, bytes, size);
    }
    inbox->end += size;
    return true;
}

void eepi_store_inbox_filled(eepi_store_inbox *inbox, size_t bytes)
{
    assert(bytes <= inbox->capacity - inbox->end);
    inbox->end += bytes;
}

eep_status eepi_store_inbox_next(eepi_store_inbox *inbox, eepi_store_message *message_out)
{
    size_t used = inbox->end - inbox->begin;
    if (used < sizeof(wire_header)) {
        return EEP_ERR_TIMEOUT;
    }
    size_t frame_bytes = 0;
    const unsigned char *frame = inbox->data + inbox->begin;
    eep_status status = eepi_store_wire_size(frame, &frame_bytes);
    if (status != EEP_OK) {
        return status;
    }
    if (used < frame_bytes) {
        return EEP_ERR_TIMEOUT;
    }
    status = eepi_store_wire_decode(frame, frame_bytes, message_out);
    if (status == EEP_OK) {
        inbox->begin += frame_bytes;
    }
    return status;
}

void eepi_store_inbox_free(eepi_store_inbox *inbox)
{
    free(inbox->data);
    *inbox = (eepi_store_inbox){0};
}
