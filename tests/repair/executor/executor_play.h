/* SPDX-License-Identifier: Apache-2.0 */
/* The repair executor over several sources, each of which may be corrupted, die, stall or have
 * nothing. The bulk copier is played here: a fetch ends when the test says so. */
#ifndef EXECUTOR_PLAY_H
#define EXECUTOR_PLAY_H

#include "repair/executor/executor.h"
#include "repair/executor/slot_fill.h"

enum {
    SEATS = 5,
    SEGMENTS = 12,
    FIRST_BYTES = 5 * EEPI_SEGMENT_BYTES / 2, /* no tensor ends where a segment does */
    BYTES = (SEGMENTS - 1) * EEPI_SEGMENT_BYTES + 4321,
    POISON = 0x5a,
    MOST_FETCHES = 4096
};

typedef enum conduct { ABSENT, GOOD, CORRUPTED, MUTE, NOT_FOUND } conduct;

/* One source as a test wants it. */
typedef struct seat_play {
    conduct is;
    conduct file;   /* where `is` is ABSENT: what it reads from its checkpoint file */
    int dies_after; /* answers; 0: it does not */
    int answered;   /* segments */
    int asked;
} seat_play;

typedef struct played_fetch {
    int seat;
    bool over;
    eepi_blob blob;
    uint8_t *buffer;
    size_t bytes;
} played_fetch;

/* The state of a test; zero between two. */
typedef struct executor_play {
    eep_device *device;
    eepi_executor *executor;
    eepi_view *view;
    seat_play seats[SEATS];
    played_fetch fetches[MOST_FETCHES];
    int num_fetches, num_cancelled;
    uint64_t now_us;
    uint8_t *good, *slot, *own;
    eep_tensor slot_tensors[2], own_tensors[2];
    int checkpoint_reads, checkpoint_fails_after; /* -1: it never does */
    bool has_checkpoint, checkpoint_is_corrupted, any_expert, own_is_of_node;
    int per_source; /* segments that the copier likes; 0: it does not say */
    int done, notes;
    eep_status status;
    uint64_t bytes;
    char why[400], note[400];
} executor_play;
extern executor_play play;

void open_play(void);
void close_play(void);
/* Rank 0 must fill its slot 1 with expert 1, which the view says comes from `source`; every seat
 * that is not ABSENT has it, odd ones in a slot and even ones as a backup; others may have a file.
 */
void play_begin(int source, eepi_view_phase phase);
/* End a fetch: its bytes arrive, or its source is dead or has nothing. */
void play_answer(int at);
/* Fetches of a seat that are under way; -1: of all. */
int play_num_outstanding(int seat);
/* Answer the oldest fetch of a source that is not mute, else let time pass; until it is done. */
void play_run(void);
/* Tell an expert of these bytes as its two tensors; returns `tensors`. */
eep_tensor *play_split(eep_tensor *tensors, uint8_t *bytes);
void expect_filled(void);
/* Behind live traffic no byte reaches the slot without its checksum. */
void expect_refused(void);
#endif
