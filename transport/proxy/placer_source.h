/* SPDX-License-Identifier: Apache-2.0 */
/* What a placer knows of one source: its exchanges of the running step, and what waits for the
 * gate. All of it under the source's lock. */
#ifndef EEPI_PLACER_SOURCE_H
#define EEPI_PLACER_SOURCE_H

#include "transport/proxy/placer.h"

#include <pthread.h>

enum { EEPI_PHASES = 2 };

/* The exchange of one chain and phase that is under way, or the last one that was. */
typedef struct eepi_exchange {
    int32_t turn; /* of its chain: eepk_turn; -1: none yet in this step */
    bool is_open, has_tag;
    uint32_t named;   /* pieces that the tag speaks for */
    uint32_t placed;  /* different pieces that are written */
    uint32_t highest; /* 1 + the highest number of a piece so far */
    uint64_t tag, tag_offset;
    uint64_t *taken; /* bit i: piece i is written, or somebody writes it */
} eepi_exchange;

/* The first dispatch of one later step. */
typedef struct eepi_parked {
    uint64_t epoch, step;
    uint32_t generation; /* of its source */
    uint32_t num;        /* messages, the tag included; 0: nothing is parked */
    bool has_tag;
    eepk_put tag;
    eepk_put *puts; /* [max_pieces], by piece; `kind` 0: it has not come */
    uint8_t *bytes; /* [max_pieces][piece_bytes] */
} eepi_parked;

typedef struct eepi_source {
    pthread_mutex_t lock;
    uint64_t epoch, step; /* of the exchanges below */
    uint64_t abort_epoch, abort_step;
    uint32_t abort_generation;
    eepk_put later_abort; /* kept back while this rank runs a step that the source has completed */
    eepi_exchange exchange[EEPK_MAX_CHAINS][EEPI_PHASES];
    eepi_parked parked[EEPK_MAX_CHAINS];
} eepi_source;

struct eepi_placer {
    eepk_shape shape;
    eepi_placer_ops ops;
    void *user; /* atomic: words are stored while it changes */
    eepi_window_gate *gate;
    uint32_t max_pieces;  /* of an exchange */
    uint32_t max_parked;  /* of a dispatch */
    uint32_t piece_bytes; /* of the largest */
    uint64_t count[EEPI_NUM_PLACED];
    eepi_source source[]; /* [max_ranks] */
};

/* Inside the gate, the source's lock held. It is let go while `bytes` are written. */
eepi_placed eepi_placer_write(eepi_placer *placer, eepi_source *source, const eepk_put *put,
                              const void *bytes);
/* Inside the gate, the source's lock held: that piece is the caller's to write until it says that
 * it is written, or that it is not. Not EEPI_PLACED: it is not. */
eepi_placed eepi_placer_mark(eepi_placer *placer, eepi_source *source, const eepk_put *put);
void eepi_placer_unmark(eepi_placer *placer, eepi_source *source, const eepk_put *put,
                        bool is_written);
/* What was written for these puts is seen by the window's device. No lock is needed, or in the way.
 */
bool eepi_placer_settle(eepi_placer *placer, const eepk_put *const *put, uint32_t num);
/* Room for a source's parked messages. False: out of memory. */
bool eepi_parked_open(eepi_parked *parked, uint32_t max_pieces, uint32_t piece_bytes);
void eepi_parked_close(eepi_parked *parked);
/* Keep a message for later, in place of those of an earlier step. The source's lock is held. */
eepi_placed eepi_parked_keep(eepi_placer *placer, eepi_source *source, const eepk_put *put,
                             const void *bytes);
/* Place what is parked, if the gate has come to it. The source's lock is held. */
void eepi_parked_release(eepi_placer *placer, eepi_source *source);
/* Store the abort word that was kept back, if the gate has left that step. Inside no gate. */
void eepi_placer_release_word(eepi_placer *placer, eepi_source *source);
void eepi_placer_note(eepi_placer *placer, eepi_placed how, uint64_t times);
static inline void *eepi_placer_user(const eepi_placer *placer)
{
    return __atomic_load_n(&placer->user, __ATOMIC_ACQUIRE);
}
#endif
