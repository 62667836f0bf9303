#include "eep/sink.h"

#include <stdbool.h>
#include <stdlib.h>

/* Who may emit a request's next position. `owned` false: nobody. */
typedef struct sink_entry {
    int32_t seat;
    uint32_t generation;
    uint32_t next_position;
    bool owned;
} sink_entry;

struct eep_sink {
    uint32_t max_requests;
    uint64_t refused;
    sink_entry entry[];
};

eep_status eep_sink_open(uint32_t max_requests, eep_sink **sink_out)
{
    if (max_requests == 0 || !sink_out) {
        return EEP_ERR_INVALID;
    }
    eep_sink *sink = calloc(1, sizeof *sink + max_requests * sizeof(sink_entry));
    if (!sink) {
        return EEP_ERR_NO_MEMORY;
    }
    sink->max_requests = max_requests;
    *sink_out = sink;
    return EEP_OK;
}

void eep_sink_close(eep_sink *sink)
{
    free(sink);
}

eep_status eep_sink_assign(eep_sink *sink, uint32_t request, int32_t seat, uint32_t generation)
{
    if (request >= sink->max_requests || seat < 0 || generation == 0) {
        return EEP_ERR_INVALID;
    }
    sink_entry *entry = &sink->entry[request];
    entry->seat = seat;
    entry->generation = generation;
    entry->owned = true;
    return EEP_OK;
}

eep_status eep_sink_revoke(eep_sink *sink, uint32_t request)
{
    if (request >= sink->max_requests) {
        return EEP_ERR_INVALID;
    }
    sink->entry[request].owned = false;
    return EEP_OK;
}

eep_status eep_sink_offer(eep_sink *sink, uint32_t request, int32_t seat, uint32_t generation,
                          uint32_t position)
{
    if (request >= sink->max_requests) {
        sink->refused++;
        return EEP_ERR_INVALID;
    }
    sink_entry *entry = &sink->entry[request];
    if (!entry->owned || entry->seat != seat || entry->generation != generation ||
        entry->next_position != position) {
        sink->refused++;
        return EEP_ERR_CONFLICT;
    }
    entry->next_position++;
    return EEP_OK;
}

uint32_t eep_sink_next_position(const eep_sink *sink, uint32_t request)
{
    return request < sink->max_requests ? sink->entry[request].next_position : 0;
}

uint64_t eep_sink_refused(const eep_sink *sink)
{
    return sink->refused;
}
