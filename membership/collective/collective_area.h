/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of one rank for collectives, which its peers map: its contributions, and what the
 * members agree on while this rank is their holder.
 *
 *   +0      identity; the epoch that this rank is at
 *   +128    ledger          the newest number that has ended, or that this rank holds
 *                           (collective_ledger.h)
 *   +256    wakes           a futex: those who wait for a contribution
 *   +384    contribution 0  of even numbers: head
 *   +512    contribution 1  of odd numbers
 *   +4096   bytes of contribution 0 [slot_bytes], then of 1
 *
 * Contributions are written by the owner alone. It writes number n + 2 over number n once n + 1 has
 * ended here, to which every other contributor gave after it had the result of n. Ledger and
 * futex are written by all members of a view.
 *
 * The memory is a memfd and lives as long as a process has it mapped. So what a rank contributed
 * before it died can be read after its end. Pages are taken as they are needed.
 *
 * What a rank of another host has in its memory comes in messages, into a mirror of the same form
 * (collective_words.h). */
#ifndef EEPI_COLLECTIVE_AREA_H
#define EEPI_COLLECTIVE_AREA_H

#include "eep/collectives.h"

#include <assert.h>
#include <stdbool.h>

enum {
    EEPI_COLLECTIVE_LINE_BYTES = 128,
    EEPI_COLLECTIVE_DATA_AT = 4096,
    EEPI_COLLECTIVE_MAGIC = 0x45455043,
    EEPI_COLLECTIVE_VERSION = 2
};

typedef enum eepi_collective_kind {
    EEPI_COLLECTIVE_BARRIER = 1,
    EEPI_COLLECTIVE_BROADCAST,
    EEPI_COLLECTIVE_ALLGATHER,
    EEPI_COLLECTIVE_ALLREDUCE
} eepi_collective_kind;

/* What all members must ask for alike. */
typedef struct eepi_collective_what {
    uint32_t kind; /* eepi_collective_kind */
    int32_t root;
    uint32_t type, op;
    uint64_t length; /* broadcast: bytes; allgather: stride; allreduce: count */
} eepi_collective_what;

typedef struct eepi_contribution {
    uint64_t number; /* 0: none, or being written; atomic, stored last */
    uint64_t epoch;  /* atomic: a planned view raises it */
    eepi_collective_what what;
    uint32_t seat, generation;
    uint64_t bytes, checksum; /* eepi_checksum_bytes; 0: of no bytes */
    uint64_t head_checksum;   /* of the four lines above, and the number */
    uint64_t pad[7];
} eepi_contribution;
static_assert(sizeof(eepi_contribution) == EEPI_COLLECTIVE_LINE_BYTES, "a line of its own");

typedef struct eepi_collective_memory {
    uint32_t magic, version, seat, generation;
    uint64_t slot_bytes;
    uint64_t at; /* atomic: under older epochs no number ends for this rank any more */
    uint64_t pad0[12];
    uint64_t ledger; /* atomic */
    uint64_t pad1[15];
    uint32_t wakes; /* atomic */
    uint32_t pad2[31];
    eepi_contribution contribution[2];
} eepi_collective_memory;
static_assert(sizeof(eepi_collective_memory) == 5 * EEPI_COLLECTIVE_LINE_BYTES, "lines");

/* What has come of a rank of another host, and what it was told of this one. All [2] by the
 * number's parity. */
typedef struct eepi_collective_mirror {
    uint64_t version;            /* the newest of its messages */
    eepi_contribution coming[2]; /* whose bytes come; number 0: none */
    uint64_t filled[2];          /* so many of them have */
    uint64_t told_version;       /* the newest that it was told; 0: nothing */
    uint64_t told_number[2], told_checksum[2], told_bytes[2];
} eepi_collective_mirror;

/* As this process has it. */
typedef struct eepi_collective_area {
    eepi_collective_memory *memory;
    int32_t fd; /* the owner's; -1 */
    uint32_t generation;
    int num_users; /* with the lock of the collectives */
    size_t reserved[2];
    eepi_collective_mirror *mirror; /* NULL: the memory is its owner's */
} eepi_collective_area;

static inline eepi_contribution *eepi_contribution_of(const eepi_collective_area *area,
                                                      uint64_t number)
{
    return &area->memory->contribution[number % 2];
}

static inline uint8_t *eepi_contribution_bytes(const eepi_collective_area *area, uint64_t number)
{
    return (uint8_t *)area->memory + EEPI_COLLECTIVE_DATA_AT +
           number % 2 * area->memory->slot_bytes;
}

/* Make this rank's. EEP_ERR_NO_MEMORY, EEP_ERR_SYSTEM with a reason. */
EEP_MUST_CHECK eep_status eepi_collective_area_make(int32_t seat, uint32_t generation,
                                                    char *why_out, size_t why_bytes,
                                                    eepi_collective_area **area_out);
/* Have pages for so many bytes of a contribution of that number; the owner. As above. */
EEP_MUST_CHECK eep_status eepi_collective_area_reserve(eepi_collective_area *area, uint64_t number,
                                                       size_t bytes);
/* Map the one that process `pid` has as descriptor `fd`, and check whose it is.
 * EEP_ERR_UNREACHABLE: the process is gone, or that is something else. */
EEP_MUST_CHECK eep_status eepi_collective_area_map(int32_t pid, int32_t fd, int32_t seat,
                                                   uint32_t generation, char *why_out,
                                                   size_t why_bytes,
                                                   eepi_collective_area **area_out);
/* Memory of this process's own, for what a rank of another host says. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_collective_area_mirror(int32_t seat, uint32_t generation,
                                                      eepi_collective_area **area_out);
/* NULL is ignored. */
void eepi_collective_area_close(eepi_collective_area *area);
#endif
