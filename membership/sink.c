/* SPDX-License-Identifier: Apache-2.0 */
/* The sink of tokens: per request one owner and the next position, and nothing else gets through.
 */
#include "eep/sink.h"

#include "graphs/base/public_call.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* The rank that may emit a request's next position. `owned` false: none may. */
typedef struct sink_entry {
    int32_t seat;
    uint32_t generation;
    uint32_t incarnation; /* uses of this number that are over */
    uint32_t next_position;
    bool owned;
} sink_entry;

struct eep_sink {
    int32_t opened_by; /* the process */
    uint32_t max_requests;
    uint64_t refused;
    sink_entry entry[];
};

static eep_status check_sink(const char *call, const eep_sink *sink)
{
    eep_status status = eepi_check_given(call, "sink", sink);
    return status == EEP_OK ? eepi_check_process(call, "sink", sink->opened_by) : status;
}

static eep_status check_request(const char *call, const eep_sink *sink, uint32_t request)
{
    eep_status status = check_sink(call, sink);
    if (status == EEP_OK && request >= sink->max_requests) {
        status = eepi_refuse(EEP_ERR_INVALID, "%s: request %u: 0 to %u are possible", call, request,
                             sink->max_requests - 1);
    }
    return status;
}

eep_status eep_sink_open(uint32_t max_requests, eep_sink **sink_out)
{
    eep_status status = eepi_check_given("eep_sink_open", "sink_out", sink_out);
    if (status == EEP_OK && max_requests == 0) {
        status = eepi_refuse(EEP_ERR_INVALID, "eep_sink_open: max_requests is 0");
    }
    if (status != EEP_OK) {
        return status;
    }
    eep_sink *sink = calloc(1, sizeof *sink + max_requests * sizeof(sink_entry));
    if (!sink) {
        return eepi_refuse(EEP_ERR_NO_MEMORY, "eep_sink_open: no memory for %u requests",
                           max_requests);
    }
    sink->opened_by = (int32_t)getpid();
    sink->max_requests = max_requests;
    *sink_out = sink;
    return EEP_OK;
}

void eep_sink_close(eep_sink *sink)
{
    if (sink && check_sink("eep_sink_close", sink) == EEP_OK) {
        free(sink);
    }
}

eep_status eep_sink_assign(eep_sink *sink, uint32_t request, int32_t seat, uint32_t generation)
{
    eep_status status = check_request("eep_sink_assign", sink, request);
    if (status == EEP_OK && (seat < 0 || generation == 0)) {
        status = eepi_refuse(EEP_ERR_INVALID,
                             "eep_sink_assign: seat %d, generation %u: seats begin at 0, "
                             "generations at 1",
                             seat, generation);
    }
    if (status != EEP_OK) {
        return status;
    }
    sink_entry *entry = &sink->entry[request];
    entry->seat = seat;
    entry->generation = generation;
    entry->owned = true;
    return EEP_OK;
}

eep_status eep_sink_revoke(eep_sink *sink, uint32_t request)
{
    eep_status status = check_request("eep_sink_revoke", sink, request);
    if (status == EEP_OK) {
        sink->entry[request].owned = false;
    }
    return status;
}

eep_status eep_sink_release(eep_sink *sink, uint32_t request)
{
    eep_status status = check_request("eep_sink_release", sink, request);
    if (status == EEP_OK && sink->entry[request].incarnation == UINT32_MAX) {
        status =
            eepi_refuse(EEP_ERR_STATE, "eep_sink_release: request %u was used 2^32 times", request);
    }
    if (status != EEP_OK) {
        return status;
    }
    sink->entry[request] = (sink_entry){.incarnation = sink->entry[request].incarnation + 1};
    return EEP_OK;
}

/* Why it may not be emitted; EEP_OK: it may. */
static eep_status look(const sink_entry *entry, uint32_t request, uint32_t incarnation,
                       int32_t seat, uint32_t generation, uint32_t position)
{
    if (incarnation != entry->incarnation) {
        return eepi_refuse(EEP_ERR_NOT_OWNER,
                           "eep_sink_offer: request %u is in its use %u, and the token is of use "
                           "%u: dropped",
                           request, entry->incarnation, incarnation);
    }
    if (!entry->owned) {
        return eepi_refuse(EEP_ERR_NOT_OWNER,
                           "eep_sink_offer: nobody may emit for request %u now: the token of seat "
                           "%d, generation %u, is dropped",
                           request, seat, generation);
    }
    if (entry->seat != seat || entry->generation != generation) {
        return eepi_refuse(EEP_ERR_NOT_OWNER,
                           "eep_sink_offer: request %u belongs to seat %d, generation %u: the "
                           "token of seat %d, generation %u, is dropped",
                           request, entry->seat, entry->generation, seat, generation);
    }
    if (position == entry->next_position) {
        return EEP_OK;
    }
    return eepi_refuse(position < entry->next_position ? EEP_ERR_DUPLICATE : EEP_ERR_AHEAD,
                       "eep_sink_offer: position %u of request %u %s, the next one is %u: dropped",
                       position, request,
                       position < entry->next_position ? "was emitted already" : "comes too early",
                       entry->next_position);
}

eep_status eep_sink_offer(eep_sink *sink, uint32_t request, uint32_t incarnation, int32_t seat,
                          uint32_t generation, uint32_t position)
{
    eep_status status = check_sink("eep_sink_offer", sink);
    if (status != EEP_OK) {
        return status;
    }
    status = check_request("eep_sink_offer", sink, request);
    if (status == EEP_OK) {
        status = look(&sink->entry[request], request, incarnation, seat, generation, position);
    }
    if (status != EEP_OK) {
        sink->refused++;
        return status;
    }
    sink->entry[request].next_position++;
    return EEP_OK;
}

uint32_t eep_sink_next_position(const eep_sink *sink, uint32_t request)
{
    return sink && request < sink->max_requests ? sink->entry[request].next_position : 0;
}

uint32_t eep_sink_incarnation(const eep_sink *sink, uint32_t request)
{
    return sink && request < sink->max_requests ? sink->entry[request].incarnation : 0;
}

uint64_t eep_sink_refused(const eep_sink *sink)
{
    return sink ? sink->refused : 0;
}
