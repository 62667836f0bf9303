/* SPDX-License-Identifier: Apache-2.0 */
/* From where one expert's weights can be had, in the order in which the sources are asked, and what
 * came of each. Pure. */
#ifndef EEPI_SOURCES_H
#define EEPI_SOURCES_H

#include "membership/view/view.h"
#include "repair/planner/planner.h"

typedef enum eepi_source_kind {
    EEPI_FROM_OWN,        /* this rank's host backup */
    EEPI_FROM_PEER,       /* a member that has it as a backup or in a slot that is routed to */
    EEPI_FROM_CHECKPOINT, /* this rank's checkpoint file */
    EEPI_FROM_READER      /* a member that reads its own checkpoint file for this rank */
} eepi_source_kind;

/* What memory a source reads: for those who count, not for those who ask. */
typedef enum eepi_origin {
    EEPI_ORIGIN_OWN_BACKUP,   /* that this rank put there */
    EEPI_ORIGIN_NODE_BACKUP,  /* that another rank of its node put there */
    EEPI_ORIGIN_LIVE_REPLICA, /* a slot of a member */
    EEPI_ORIGIN_OTHER_BACKUP, /* of a member on another node */
    EEPI_ORIGIN_CHECKPOINT    /* whoever reads the file */
} eepi_origin;
enum { EEPI_NUM_ORIGINS = EEPI_ORIGIN_CHECKPOINT + 1 };

/* What an executor has done since it was opened. */
typedef struct eepi_mix {
    uint64_t fills[EEPI_NUM_ORIGINS]; /* slots, by what most of their bytes came from */
    uint64_t bytes[EEPI_NUM_ORIGINS]; /* that came, also such as were refused later */
    uint64_t fills_kept;              /* slots that had their expert already */
} eepi_mix;

typedef struct eepi_source {
    eepi_source_kind kind;
    eepi_origin origin;
    int32_t seat;      /* PEER, READER */
    eep_status failed; /* EEP_OK: it has not failed */
    bool used;         /* bytes of this pass came from it */
    bool suspected;    /* bytes of a pass with a wrong checksum came from it and from others */
} eepi_source;

typedef struct eepi_sources {
    int num;
    eepi_source *at; /* the caller's, for max_ranks + 2 of them */
} eepi_sources;

/* The own node first, then the source that the view names, then the other members in a ring from
 * there, then the checkpoint file; that one before the members where the view names it. Behind all
 * of them, in the same ring, the members that have a checkpoint file and not the expert. */
void eepi_sources_list(eepi_sources *sources, const eepi_view *view, const eepi_fill *fill,
                       bool has_own, bool has_checkpoint);
/* Another rank sends the bytes. */
bool eepi_source_is_remote(const eepi_source *source);
/* Of those that have not failed, the first; -1: none is left. */
int eepi_sources_first(const eepi_sources *sources);
/* How many sources bytes of this pass came from. */
int eepi_sources_num_used(const eepi_sources *sources);
/* "rank 3", "the own backup", "the checkpoint", "rank 3's checkpoint". */
void eepi_source_name(const eepi_source *source, char *text_out, size_t bytes);
/* What came of each: "rank 3: peer unreachable; the checkpoint: ...", cut where it does not fit. */
void eepi_sources_say(const eepi_sources *sources, char *text_out, size_t bytes);
#endif
