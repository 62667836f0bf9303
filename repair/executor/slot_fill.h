/* SPDX-License-Identifier: Apache-2.0 */
/* One slot that is being filled: compared with what it holds, gathered from sources, checked, and
 * written, in bounded pieces. Bytes are summed as they land, in the slot itself or in a
 * staging buffer. Shared by the executor's own files. */
#ifndef EEPI_SLOT_FILL_H
#define EEPI_SLOT_FILL_H

#include "repair/checksum.h"
#include "repair/executor/executor_config.h"
#include "repair/executor/landing.h"
#include "repair/executor/pace.h"
#include "repair/executor/segments.h"
#include "repair/executor/sources.h"

enum {
    EEPI_COPY_BOUND_US = 10000000, /* a device that takes longer has failed */
    EEPI_FILLS_AT_ONCE = 4,
    /* Asked of one peer at a time, over all slots, where the copier does not say. */
    EEPI_SEGMENTS_PER_SOURCE = 2,
    EEPI_SEGMENT_STALL_US = 250000 /* then a segment is asked of another source that is idle */
};

typedef enum eepi_slot_fill_state {
    EEPI_SLOT_FILL_FREE,
    EEPI_SLOT_FILL_COMPARE, /* the slot may hold the expert, from a plan that was voided */
    EEPI_SLOT_FILL_GATHER,
    EEPI_SLOT_FILL_PLACE,
    EEPI_SLOT_FILL_PLACED /* the last copy into the slot is under way */
} eepi_slot_fill_state;

typedef struct eepi_slot_fill {
    eepi_slot_fill_state state;
    int number; /* of the view's fills */
    eepi_fill what;
    eepi_sources sources;
    eepi_segments segments;
    eepi_segment *segment_memory; /* [segments of a slot] */
    eepi_landing landing;
    bool alone;         /* one source after the other, each from the beginning */
    int alone_at;       /* of the sources */
    size_t worked;      /* bytes compared or written, in order */
    eepi_checksum *sum; /* of what has landed, block by block */
    eep_event *placed;
    uint64_t placed_us; /* when the last copy into the slot was begun */
    uint8_t *buffer;
    eep_tensor staging; /* the buffer, as bytes land there */
} eepi_slot_fill;

/* What is known of a seat as a source, while one view is filled. */
typedef struct eepi_seat_state {
    int in_flight;   /* segments asked of it */
    bool is_slow;    /* it let a segment wait for EEPI_SEGMENT_STALL_US */
    eep_status away; /* how a fetch from it ended that did not reach it; EEP_OK: none */
} eepi_seat_state;

struct eepi_executor {
    eepi_executor_config config;
    size_t slot_bytes;
    eepi_memory_place memory; /* of the slots */
    eep_stream *stream;       /* the device's auxiliary one */
    bool stream_is_late;      /* a copy into a slot may be under way of which nobody waits */
    eepi_slot_fill slots[EEPI_FILLS_AT_ONCE];
    eepi_view *view; /* copy of the view being repaired; NULL: idle */
    eepi_fill *fills;
    eepi_seat_state *seats; /* [max_ranks] of the view */
    eepi_source *sources;   /* [EEPI_FILLS_AT_ONCE][max_ranks + 2] */
    int num_fills, next_fill, num_filled;
    uint64_t bytes;
    eepi_mix mix;
    uint64_t now_us;
    uint64_t resume_us; /* behind live traffic: nothing is begun before */
    eepi_pace pace;
    bool has_work; /* a call left work for the next one */
    /* [num_layers][num_slots]: the expert whose verified weights this executor put there; -1: not
     * known. A plan that is voided and made again finds them (L3). */
    int32_t *placed;
    bool file_is_bad;     /* eepi_executor_file_is_bad */
    unsigned char *block; /* on its way into a slot (landing.h) */
};

typedef enum eepi_step_result {
    EEPI_STEP_WAITS, /* for a transfer, or for its time */
    EEPI_STEP_WENT_ON,
    EEPI_STEP_FILLED,
    EEPI_STEP_FAILED
} eepi_step_result;

/* The source that the view names for the fill has room for a segment more, or it is no peer. */
bool eepi_slot_fill_may_begin(const eepi_executor *executor, const eepi_fill *what);
/* Begin with the fill; its sources are listed. */
void eepi_slot_fill_begin(eepi_executor *executor, eepi_slot_fill *fill, const eepi_fill *what,
                          eepi_source *source_memory);
/* One bounded piece of work, of at most about EEPI_SEGMENT_BYTES, which is subtracted from *left.
 */
eepi_step_result eepi_slot_fill_step(eepi_executor *executor, eepi_bulk *bulk, eepi_slot_fill *fill,
                                     size_t *left);
/* PLACED: wait until the slot is written, at most so long. */
eepi_step_result eepi_slot_fill_wait(eepi_executor *executor, eepi_slot_fill *fill,
                                     uint64_t bound_us);
/* Bytes have arrived that belong to `offset` of the expert. */
void eepi_slot_fill_land(const eepi_executor *executor, const eepi_slot_fill *fill, size_t offset,
                         const void *data, size_t bytes);
/* The transfer of that segment has ended. */
void eepi_slot_fill_fetched(eepi_executor *executor, eepi_slot_fill *fill, int segment,
                            eep_status status);
/* When the oldest segment is to be asked of another source; UINT64_MAX: there is none. */
uint64_t eepi_slot_fill_stalls_us(const eepi_executor *executor, const eepi_slot_fill *fill);
#endif
