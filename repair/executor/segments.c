/* SPDX-License-Identifier: Apache-2.0 */
/* The segments of one expert's weights. */
#include "repair/executor/segments.h"

int eepi_segments_num(size_t bytes)
{
    return (int)((bytes + EEPI_SEGMENT_BYTES - 1) / EEPI_SEGMENT_BYTES);
}

void eepi_segments_begin(eepi_segments *segments, size_t bytes, eepi_segment *at)
{
    *segments = (eepi_segments){.bytes = bytes, .num = eepi_segments_num(bytes), .at = at};
    for (int i = 0; i < segments->num; i++) {
        at[i] = (eepi_segment){.state = EEPI_SEGMENT_WANTED, .source = -1};
    }
}

size_t eepi_segment_offset(int segment)
{
    return (size_t)segment * EEPI_SEGMENT_BYTES;
}

size_t eepi_segment_bytes(const eepi_segments *segments, int segment)
{
    const size_t rest = segments->bytes - eepi_segment_offset(segment);

    return rest < EEPI_SEGMENT_BYTES ? rest : EEPI_SEGMENT_BYTES;
}

int eepi_segments_wanted(const eepi_segments *segments)
{
    for (int i = 0; i < segments->num; i++) {
        if (segments->at[i].state == EEPI_SEGMENT_WANTED) {
            return i;
        }
    }
    return -1;
}

int eepi_segments_find(const eepi_segments *segments, uint64_t transfer)
{
    for (int i = 0; i < segments->num; i++) {
        if (segments->at[i].state == EEPI_SEGMENT_ASKED && segments->at[i].transfer == transfer) {
            return i;
        }
    }
    return -1;
}

/* Every change of a segment's state. */
static void set_state(eepi_segments *segments, int segment, eepi_segment_state state)
{
    eepi_segment *s = &segments->at[segment];

    segments->num_asked += (state == EEPI_SEGMENT_ASKED) - (s->state == EEPI_SEGMENT_ASKED);
    segments->num_there += (state == EEPI_SEGMENT_THERE) - (s->state == EEPI_SEGMENT_THERE);
    s->state = state;
}

void eepi_segments_ask(eepi_segments *segments, int segment, int source, uint64_t transfer,
                       uint64_t now_us)
{
    set_state(segments, segment, EEPI_SEGMENT_ASKED);
    segments->at[segment].source = source;
    segments->at[segment].transfer = transfer;
    segments->at[segment].asked_us = now_us;
}

void eepi_segments_arrive(eepi_segments *segments, int segment, int source)
{
    set_state(segments, segment, EEPI_SEGMENT_THERE);
    segments->at[segment].source = source;
}

void eepi_segments_lose(eepi_segments *segments, int segment)
{
    set_state(segments, segment, EEPI_SEGMENT_WANTED);
    segments->at[segment].source = -1;
}

int eepi_segments_oldest(const eepi_segments *segments, int but)
{
    int oldest = -1;

    for (int i = 0; i < segments->num; i++) {
        const eepi_segment *s = &segments->at[i];
        if (s->state == EEPI_SEGMENT_ASKED && s->source != but &&
            (oldest < 0 || s->asked_us < segments->at[oldest].asked_us)) {
            oldest = i;
        }
    }
    return oldest;
}
