/* SPDX-License-Identifier: Apache-2.0 */
/* What agents, and ranks whose agent says nothing, tell each other between hosts. Each message goes
 * over an authenticated channel (transport/secure), which proves the key, and keeps the order.
 *
 *     BEAT    head, entries    "these are my host's ranks, and so far have their hearts beaten"
 *     KILL    head, one entry  "kill that process, if it is attached to you" (rule N13)
 *
 * A beat tells all that its speaker knows, each time, so a lost one costs nothing. An agent speaks
 * for the processes that are attached to it; a rank for itself alone (rule N12). Little-endian. */
#ifndef EEPI_AGENT_WIRE_H
#define EEPI_AGENT_WIRE_H

#include "membership/process/board.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EEPI_AGENT_MAGIC 0x54474145u /* "EAGT" */

enum {
    EEPI_AGENT_VERSION = 1,
    EEPI_AGENT_SPEAKER = -1,   /* the agent itself, where a rank's seat could stand */
    EEPI_AGENT_MAX_SEATS = 160 /* in one message, so that it stays below 4 KiB */
};

typedef enum eepi_agent_kind { EEPI_AGENT_BEAT = 1, EEPI_AGENT_KILL } eepi_agent_kind;

typedef struct eepi_agent_head {
    uint32_t magic;
    uint16_t version, kind;
    uint64_t host;       /* of the speaker: eepi_host_id */
    uint64_t generation; /* of the agent; of a rank: that of its process */
    uint64_t count;      /* of this speaker's rounds; parts of one round share it */
    int32_t speaker;     /* EEPI_AGENT_SPEAKER, or the seat of a rank that speaks for itself */
    uint32_t num_seats;
} eepi_agent_head;
static_assert(sizeof(eepi_agent_head) == 40, "the head has no padding");

typedef struct eepi_agent_entry {
    int32_t seat;
    uint32_t generation;
    uint64_t beats;
    uint32_t state; /* eepi_seat_state */
    uint32_t busy_ms;
} eepi_agent_entry;
static_assert(sizeof(eepi_agent_entry) == 24, "the entry has no padding");

enum {
    EEPI_AGENT_MESSAGE_BYTES =
        sizeof(eepi_agent_head) + EEPI_AGENT_MAX_SEATS * sizeof(eepi_agent_entry)
};

typedef struct eepi_agent_message {
    eepi_agent_head head;
    eepi_agent_entry entries[EEPI_AGENT_MAX_SEATS];
} eepi_agent_message;
static_assert(sizeof(eepi_agent_message) == EEPI_AGENT_MESSAGE_BYTES, "nothing behind the entries");

static inline size_t eepi_agent_message_bytes(const eepi_agent_message *message)
{
    return sizeof message->head + message->head.num_seats * sizeof message->entries[0];
}
#endif
