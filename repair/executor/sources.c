/* SPDX-License-Identifier: Apache-2.0 */
/* The sources of one expert's weights. */
#include "repair/executor/sources.h"

#include <stdio.h>

/* The seat has the expert's weights, as a backup or in a slot that is routed to. */
static bool has_weights(const eepi_view *view, int seat, const eepi_fill *fill)
{
    return eepi_view_is_member(view, seat) &&
           (eepi_view_holds(view, fill->layer, seat, fill->expert) ||
            eepi_view_has_backup(view, seat, fill->layer, fill->expert));
}

static void add(eepi_sources *sources, eepi_source_kind kind, eepi_origin origin, int32_t seat)
{
    sources->at[sources->num++] =
        (eepi_source){.kind = kind, .origin = origin, .seat = seat, .failed = EEP_OK};
}

void eepi_sources_list(eepi_sources *sources, const eepi_view *view, const eepi_fill *fill,
                       bool has_own, bool has_checkpoint)
{
    const int max_ranks = view->shape.max_ranks;
    const bool file_first = has_checkpoint && fill->source == EEPI_SOURCE_FILE;
    const int named = eepi_source_seat(fill->source, fill->seat);
    const int first = named >= 0 && named < max_ranks ? named : fill->seat;

    sources->num = 0;
    if (has_own) {
        add(sources, EEPI_FROM_OWN, EEPI_ORIGIN_OWN_BACKUP, fill->seat);
    }
    if (file_first) {
        add(sources, EEPI_FROM_CHECKPOINT, EEPI_ORIGIN_CHECKPOINT, -1);
    }
    for (int i = 0; i < max_ranks; i++) {
        const int seat = (first + i) % max_ranks;
        if (seat != fill->seat && has_weights(view, seat, fill)) {
            /* it sends its backup where it has one (membership/service/serve.c) */
            add(sources, EEPI_FROM_PEER,
                eepi_view_has_backup(view, seat, fill->layer, fill->expert)
                    ? EEPI_ORIGIN_OTHER_BACKUP
                    : EEPI_ORIGIN_LIVE_REPLICA,
                seat);
        }
    }
    if (has_checkpoint && !file_first) {
        add(sources, EEPI_FROM_CHECKPOINT, EEPI_ORIGIN_CHECKPOINT, -1);
    }
    for (int i = 0; i < max_ranks; i++) {
        const int seat = (first + i) % max_ranks;
        if (seat != fill->seat && eepi_view_has_checkpoint(view, seat) &&
            !has_weights(view, seat, fill)) {
            add(sources, EEPI_FROM_READER, EEPI_ORIGIN_CHECKPOINT, seat);
        }
    }
}

bool eepi_source_is_remote(const eepi_source *source)
{
    return source->kind == EEPI_FROM_PEER || source->kind == EEPI_FROM_READER;
}

int eepi_sources_first(const eepi_sources *sources)
{
    for (int i = 0; i < sources->num; i++) {
        if (sources->at[i].failed == EEP_OK) {
            return i;
        }
    }
    return -1;
}

int eepi_sources_num_used(const eepi_sources *sources)
{
    int num = 0;

    for (int i = 0; i < sources->num; i++) {
        num += sources->at[i].used;
    }
    return num;
}

void eepi_source_name(const eepi_source *source, char *text_out, size_t bytes)
{
    switch (source->kind) {
    case EEPI_FROM_OWN:
        snprintf(text_out, bytes, "this rank's own backup");
        return;
    case EEPI_FROM_PEER:
        snprintf(text_out, bytes, "rank %d", source->seat);
        return;
    case EEPI_FROM_CHECKPOINT:
        snprintf(text_out, bytes, "the checkpoint");
        return;
    case EEPI_FROM_READER:
        snprintf(text_out, bytes, "rank %d's checkpoint", source->seat);
        return;
    }
}

void eepi_sources_say(const eepi_sources *sources, char *text_out, size_t bytes)
{
    size_t used = 0;

    text_out[0] = '\0';
    for (int i = 0; i < sources->num && used < bytes; i++) {
        char name[32];
        eepi_source_name(&sources->at[i], name, sizeof name);
        used += (size_t)snprintf(text_out + used, bytes - used, "%s%s: %s", i ? "; " : "", name,
                                 eep_strerror(sources->at[i].failed));
    }
}
