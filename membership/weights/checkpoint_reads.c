/* SPDX-License-Identifier: Apache-2.0 */
/* Reads of the checkpoint file for others. */
#include "membership/weights/checkpoint_reads.h"

#include "membership/weights/checkpoint_places.h"
#include "repair/checksum.h"
#include "repair/executor/segments.h"

#include <stdlib.h>

enum {
    NUM_BUFFERS = 64, /* segments that are being sent: 32 MiB at most */
    NUM_EXPERTS = 32, /* that are summed at a time: four for each of several ranks */
    NUM_PARTS = 3     /* what lies before the segment, the segment, what lies behind */
};

/* What has been read of an expert. */
typedef struct expert_read {
    int32_t layer, expert;
    uint64_t used; /* when, counted in reads; 0: not in use */
    eepi_checksum *sum;
    eepi_segments segments;
    size_t room; /* bytes of an expert that there is memory for */
} expert_read;

struct eepi_reads {
    void *buffers[NUM_BUFFERS]; /* NULL: not in use */
    expert_read experts[NUM_EXPERTS];
    uint64_t num_reads;
};

eepi_reads *eepi_reads_new(void)
{
    return calloc(1, sizeof(eepi_reads));
}

void eepi_reads_free(eepi_reads *reads)
{
    for (int i = 0; reads && i < NUM_BUFFERS; i++) {
        free(reads->buffers[i]);
    }
    for (int i = 0; reads && i < NUM_EXPERTS; i++) {
        eepi_checksum_free(reads->experts[i].sum);
        free(reads->experts[i].segments.at);
    }
    free(reads);
}

/* ------------------------------------------------------------------ sums */

static expert_read *find(eepi_reads *reads, const eepi_blob *blob)
{
    for (int i = 0; i < NUM_EXPERTS; i++) {
        expert_read *e = &reads->experts[i];
        if (e->used && e->layer == blob->layer && e->expert == blob->expert) {
            return e;
        }
    }
    return NULL;
}

/* In place of the one that was read longest ago. NULL: no memory, and it is not summed. */
static expert_read *begin(eepi_reads *reads, const eepi_blob *blob)
{
    expert_read *e = &reads->experts[0];
    eepi_segment *at;

    for (int i = 1; i < NUM_EXPERTS; i++) {
        e = reads->experts[i].used < e->used ? &reads->experts[i] : e;
    }
    if (e->room != blob->total) {
        eepi_checksum_free(e->sum);
        free(e->segments.at);
        e->sum = eepi_checksum_new(blob->total);
        e->segments.at = calloc((size_t)eepi_segments_num(blob->total), sizeof *at);
        e->room = e->sum && e->segments.at ? blob->total : 0;
        e->used = 0;
    }
    if (e->room == 0) {
        return NULL;
    }
    at = e->segments.at;
    eepi_segments_begin(&e->segments, blob->total, at);
    e->layer = blob->layer;
    e->expert = blob->expert;
    return e;
}

static void add(eepi_reads *reads, const eepi_blob *blob, const void *data, uint64_t bytes)
{
    expert_read *e = find(reads, blob);

    e = e ? e : begin(reads, blob);
    if (e) {
        e->used = ++reads->num_reads;
        eepi_checksum_blocks(e->sum, blob->offset, data, bytes);
        eepi_segments_arrive(&e->segments, (int)(blob->offset / EEPI_SEGMENT_BYTES), 0);
    }
}

bool eepi_reads_are_wrong(eepi_reads *reads, const eepi_blob *blob, uint64_t checksum)
{
    expert_read *e = find(reads, blob);

    if (!e || e->segments.num_there < e->segments.num) {
        return false;
    }
    e->used = 0;
    return eepi_checksum_end(e->sum) != checksum;
}

/* ------------------------------------------------------------------ reads */

static bool is_segment(const eepi_blob *blob, uint64_t bytes)
{
    const uint64_t rest = blob->total - blob->offset;

    return blob->offset % EEPI_SEGMENT_BYTES == 0 &&
           bytes == (rest < EEPI_SEGMENT_BYTES ? rest : EEPI_SEGMENT_BYTES);
}

eepi_read_result eepi_reads_begin(eep_context *context, eepi_reads *reads, const eepi_blob *blob,
                                  uint64_t bytes, eepi_bulk_part *parts_out, int *num_parts_out,
                                  char why[EEPI_TENSOR_WHY_BYTES])
{
    void **at = reads->buffers;

    if (!is_segment(blob, bytes) || blob->total != eepi_places_bytes(context)) {
        return EEPI_READ_REFUSED;
    }
    while (at < reads->buffers + NUM_BUFFERS && *at) {
        at++;
    }
    if (at == reads->buffers + NUM_BUFFERS || (*at = malloc(bytes)) == NULL) {
        return EEPI_READ_REFUSED;
    }
    if (eepi_places_read(context, blob->layer, blob->expert, blob->offset, bytes, *at, why) !=
        EEP_OK) {
        free(*at);
        *at = NULL;
        return EEPI_READ_FAILED;
    }
    add(reads, blob, *at, bytes);
    /* Of a blob the range that is wanted is read, and nothing else: the rest has no memory. */
    parts_out[0] = (eepi_bulk_part){*at, blob->offset};
    parts_out[1] = (eepi_bulk_part){*at, bytes};
    parts_out[2] = (eepi_bulk_part){*at, blob->total - blob->offset - bytes};
    *num_parts_out = NUM_PARTS;
    return EEPI_READ_DONE;
}

void eepi_reads_end(eepi_reads *reads, const eepi_bulk_part *parts, int num_parts)
{
    for (int i = 0; i < NUM_BUFFERS && num_parts == NUM_PARTS; i++) {
        if (reads->buffers[i] && reads->buffers[i] == parts[1].data) {
            free(reads->buffers[i]);
            reads->buffers[i] = NULL;
        }
    }
}
