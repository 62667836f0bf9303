/* SPDX-License-Identifier: Apache-2.0 */
/* What this rank asked the store, and has told it. Service thread. */
#ifndef EEPI_STORE_SESSION_STATE_H
#define EEPI_STORE_SESSION_STATE_H

#include "membership/core/core.h"
#include "repair/own_links.h"

#include <stdbool.h>

struct eepi_store_session {
    uint64_t cas_id, read_id;         /* requests under way; 0: none */
    uint64_t num_reads;               /* of the register so far; atomic */
    uint64_t cas_epoch;               /* what the compare-and-swap under way would commit, */
    uint8_t cas_phase;                /* and its phase */
    uint64_t probe_id, probe_us;      /* is the store there? 0: not asked */
    uint64_t heard_us;                /* when it took a write last, or a question was put off */
    bool takes_nothing;               /* it refuses what this rank writes (N14) */
    uint64_t clock_us, clock_seen_us; /* the core's time, and ours when it was set */
    bool is_lost;                     /* the connection is broken */
    bool must_republish;              /* reconnected, and our keys are not republished yet */
    uint64_t record_id;               /* the own record is on its way; 0: it is not */
    bool record_waits;                /* and has changed since */
    bool is_ready;                    /* this rank has asked to be let in */
    int leaving;                      /* and to be let out: bits of eepi_leaving */
    eepi_own_links *links;
    uint64_t listen_id;      /* the request to hear reports and acknowledgements; 0: none */
    eepi_wedge wedge;        /* as the store has it, epoch 0: none is known, */
    uint64_t wedge_revision; /* and its revision */
    eepi_wedge told_wedge;   /* what this rank told of itself; epoch 0: nothing */
    void *report;            /* what was put last, to be republished to a store that forgot */
    size_t report_bytes;
    uint64_t report_epoch;
    uint64_t report_id; /* its request; 0: answered */
    eepi_ack acks[EEPI_ACK_FLIPPED + 1];
    eepi_end ends[]; /* [max_ranks] told to the others; generation 0: none */
};
#endif
