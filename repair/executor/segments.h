/* SPDX-License-Identifier: Apache-2.0 */
/* The segments of one expert's weights while they are gathered: which of them are wanted, asked of
 * a source, or there. Pure. */
#ifndef EEPI_SEGMENTS_H
#define EEPI_SEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One segment is one fetch. docs/BENCH.md has what smaller and larger ones cost. */
enum { EEPI_SEGMENT_BYTES = 524288 };

typedef enum eepi_segment_state {
    EEPI_SEGMENT_WANTED,
    EEPI_SEGMENT_ASKED,
    EEPI_SEGMENT_THERE
} eepi_segment_state;

typedef struct eepi_segment {
    eepi_segment_state state;
    int source;        /* of whom it is asked or came, as the caller numbers them */
    uint64_t transfer; /* ASKED */
    uint64_t asked_us; /* ASKED */
} eepi_segment;

typedef struct eepi_segments {
    size_t bytes; /* of the whole */
    int num;
    int num_there, num_asked;
    eepi_segment *at; /* [num] */
} eepi_segments;

/* Segments that hold so many bytes. */
int eepi_segments_num(size_t bytes);
/* All are wanted. `at` is the caller's, for eepi_segments_num(bytes) of them. */
void eepi_segments_begin(eepi_segments *segments, size_t bytes, eepi_segment *at);
size_t eepi_segment_offset(int segment);
size_t eepi_segment_bytes(const eepi_segments *segments, int segment);
/* The first that is wanted; -1: none is. */
int eepi_segments_wanted(const eepi_segments *segments);
/* The one that is fetched by that transfer; -1: none. */
int eepi_segments_find(const eepi_segments *segments, uint64_t transfer);
void eepi_segments_ask(eepi_segments *segments, int segment, int source, uint64_t transfer,
                       uint64_t now_us);
/* It is there, from that source; or it is wanted again. */
void eepi_segments_arrive(eepi_segments *segments, int segment, int source);
void eepi_segments_lose(eepi_segments *segments, int segment);
/* Of those that are asked of a source other than `but`, the one that was asked first; -1: none. */
int eepi_segments_oldest(const eepi_segments *segments, int but);
#endif
