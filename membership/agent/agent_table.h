/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent knows: of its own ranks by their attachment, of other hosts by their messages. All
 * of it goes onto its board. Pure: no clock, socket or process. Its owner locks.
 *
 * A rank whose agent says nothing keeps such a table of itself alone. */
#ifndef EEPI_AGENT_TABLE_H
#define EEPI_AGENT_TABLE_H

#include "membership/agent/agent_wire.h"

typedef struct eepi_agent_table eepi_agent_table;

typedef struct eepi_agent_table_config {
    uint64_t host, generation; /* of the agent, or of the rank's process */
    int32_t speaker;           /* EEPI_AGENT_SPEAKER, or the rank's seat */
    eepi_board *board;         /* the table writes there; borrowed, zeroed */
} eepi_agent_table_config;

/* NULL: out of memory. */
eepi_agent_table *eepi_agent_table_open(const eepi_agent_table_config *config);
void eepi_agent_table_close(eepi_agent_table *table);

/* ---- Own ranks. */
/* EEP_ERR_STATE: a newer generation has that seat here. EEP_ERR_CONFLICT: that one has ended. */
EEP_MUST_CHECK eep_status eepi_agent_attach(eepi_agent_table *table, int32_t seat,
                                            uint32_t generation);
void eepi_agent_note_beats(eepi_agent_table *table, int32_t seat, uint32_t generation,
                           uint64_t beats, uint64_t busy_us);
/* It has closed, or ended. An end is final. True: that is news. Of one that was never attached only
 * what proves itself, such as the lock of its seat's file. */
bool eepi_agent_note_end(eepi_agent_table *table, int32_t seat, uint32_t generation,
                         eepi_seat_state state);
/* It is attached, and has neither ended nor said that it stores nothing any more. */
bool eepi_agent_runs(const eepi_agent_table *table, int32_t seat, uint32_t generation);
/* A round of this speaker: its count goes on, and that on the board. */
void eepi_agent_next_round(eepi_agent_table *table);
/* The next message of this round, from the seat `*at` on; false: that was all. The first one is
 * told even without ranks. `*at` begins with 0. */
bool eepi_agent_tell(const eepi_agent_table *table, int32_t *at, eepi_agent_message *message_out);
eepi_agent_message eepi_agent_tell_kill(const eepi_agent_table *table, int32_t seat,
                                        uint32_t generation);

/* ---- Other hosts. */
/* Check a message's form. EEP_ERR_PROTOCOL; EEP_ERR_UNSUPPORTED: of another version. */
EEP_MUST_CHECK eep_status eepi_agent_check(const void *bytes, size_t size);
/* Take a beat that was checked. EEP_ERR_STATE: void, since a newer agent of that host has spoken
 * (rule N12). EEP_ERR_CONFLICT: it says that it is of this host. EEP_ERR_NO_MEMORY: more hosts than
 * the board has places. */
EEP_MUST_CHECK eep_status eepi_agent_hear(eepi_agent_table *table,
                                          const eepi_agent_message *message);
/* Where that host's agent is reached; NULL: not known. */
void eepi_agent_note_address(eepi_agent_table *table, uint64_t host, uint64_t generation,
                             const char *address);
/* The host that speaks for that process; 0: none does. */
uint64_t eepi_agent_host_of(const eepi_agent_table *table, int32_t seat, uint32_t generation);
#endif
