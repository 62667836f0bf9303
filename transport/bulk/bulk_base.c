/* SPDX-License-Identifier: Apache-2.0 */
/* What both carriers of the bulk copier do alike, below them: texts and times, the fetches that are
 * running and what may land in them, and the two descriptors. */
#include "transport/bulk/bulk_base.h"

#include "graphs/base/past_caches.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

uint64_t eepi_bulk_deadline_us(uint64_t now_us, uint64_t timeout_us)
{
    return timeout_us > UINT64_MAX - now_us ? UINT64_MAX : now_us + timeout_us;
}

eep_status eepi_bulk_fail(char *error_out, size_t error_bytes, eep_status status,
                          const char *format, ...)
{
    if (error_out != NULL && error_bytes > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error_out, error_bytes, format, arguments);
        va_end(arguments);
    }
    return status;
}

/* ---------------------------------------------------------------- fetches */

void eepi_bulk_fetch_end(eepi_bulk *bulk, bulk_fetch *fetch, eep_status status)
{
    bulk_fetch **link = &bulk->fetches;
    while (*link != fetch) {
        link = &(*link)->next;
    }
    *link = fetch->next;
    fetch->next = NULL;
    fetch->status = status;
    *bulk->ended_end = fetch;
    bulk->ended_end = &fetch->next;
}

bulk_fetch *eepi_bulk_fetch_find(const eepi_bulk *bulk, const void *peer, const bulk_wire *wire)
{
    for (bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = fetch->next) {
        if (peer != NULL && fetch->peer == peer && fetch->transfer == wire->transfer &&
            fetch->blob.epoch == wire->epoch) {
            return fetch;
        }
    }
    return NULL;
}

bool eepi_bulk_chunk_fits(const eepi_bulk *bulk, const bulk_fetch *fetch, const bulk_wire *wire,
                          size_t payload_bytes)
{
    if (wire->total != fetch->bytes || wire->offset >= fetch->bytes ||
        wire->offset % bulk->chunk_bytes != 0) {
        return false;
    }
    uint64_t bytes = fetch->bytes - wire->offset;
    if (bytes > bulk->chunk_bytes) {
        bytes = bulk->chunk_bytes;
    }
    uint64_t chunk = wire->offset / bulk->chunk_bytes;
    return wire->bytes == bytes && payload_bytes == bytes &&
           (fetch->arrived[chunk / 8] & (1u << chunk % 8)) == 0;
}

void eepi_bulk_chunk_land(eepi_bulk *bulk, bulk_fetch *fetch, uint64_t offset, const void *data,
                          uint64_t bytes)
{
    if (fetch->buffer != NULL) {
        memcpy(fetch->buffer + offset, data, bytes);
    } else {
        bulk->land(bulk->user, fetch->transfer, offset, data, bytes);
    }
}

void eepi_bulk_chunk_landed(eepi_bulk *bulk, bulk_fetch *fetch, const bulk_wire *wire)
{
    uint64_t chunk = wire->offset / bulk->chunk_bytes;
    fetch->arrived[chunk / 8] |= (unsigned char)(1u << chunk % 8);
    fetch->received += wire->bytes;
    if (fetch->received == fetch->bytes) {
        eepi_bulk_fetch_end(bulk, fetch, EEP_OK);
    }
}

void eepi_bulk_end_arrived(eepi_bulk *bulk, const void *peer, const bulk_wire *wire)
{
    bulk_fetch *fetch = eepi_bulk_fetch_find(bulk, peer, wire);
    if (fetch == NULL) {
        return;
    }
    bool known = wire->status == EEP_ERR_NOT_FOUND || wire->status == EEP_ERR_UNREACHABLE;
    eepi_bulk_fetch_end(bulk, fetch, known ? wire->status : EEP_ERR_PROTOCOL);
}

void eepi_bulk_fetch_lose(eepi_bulk *bulk, const void *peer, eep_status status)
{
    bulk_fetch *next = NULL;
    for (bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = next) {
        next = fetch->next;
        if (fetch->peer == peer) {
            eepi_bulk_fetch_end(bulk, fetch, status);
        }
    }
}

/* The wire brings any numbers: nothing is added before it is known to fit. */
static bool range_is_within(const eepi_blob *blob, uint64_t bytes)
{
    return bytes > 0 && blob->offset <= blob->total && bytes <= blob->total - blob->offset;
}

void eepi_bulk_gather(unsigned char *to, const eepi_bulk_part *parts, int num_parts, uint64_t skip,
                      uint64_t bytes, bool past_caches)
{
    for (int i = 0; i < num_parts && bytes > 0; i++) {
        if (skip >= parts[i].bytes) {
            skip -= parts[i].bytes;
            continue;
        }
        uint64_t take = parts[i].bytes - skip < bytes ? parts[i].bytes - skip : bytes;
        const unsigned char *from = (const unsigned char *)parts[i].data + skip;
        if (past_caches) {
            eepi_past_caches_copy(to, from, take);
        } else {
            memcpy(to, from, take);
        }
        to += take;
        bytes -= take;
        skip = 0;
    }
    if (past_caches) {
        eepi_past_caches_order();
    }
}

eep_status eepi_bulk_serve_ask(eepi_bulk *bulk, const eepi_blob *blob, uint64_t bytes,
                               eepi_bulk_part *parts_out, int *num_parts_out)
{
    eepi_bulk_part parts[EEPI_BULK_PARTS] = {{0}};
    if (!range_is_within(blob, bytes)) {
        return EEP_ERR_PROTOCOL;
    }
    int num_parts = bulk->serve(bulk->user, blob, bytes, parts);
    if (num_parts <= 0 || num_parts > EEPI_BULK_PARTS) {
        return EEP_ERR_NOT_FOUND;
    }
    uint64_t total = 0;
    bool overflows = false;
    for (int i = 0; i < num_parts; i++) {
        overflows = overflows || parts[i].bytes > blob->total - total;
        total += overflows ? 0 : parts[i].bytes;
    }
    if (overflows || total != blob->total) {
        if (bulk->served) {
            bulk->served(bulk->user, parts, num_parts);
        }
        return EEP_ERR_PROTOCOL;
    }
    memcpy(parts_out, parts, sizeof parts);
    *num_parts_out = num_parts;
    return EEP_OK;
}

/* ---------------------------------------------------------------- descriptors */

void eepi_bulk_set_timer(eepi_bulk *bulk, uint64_t at_us)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at_us / 1000000u),
                     .tv_nsec = (long)(at_us % 1000000u) * 1000},
    };
    timerfd_settime(bulk->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    bulk->timer_at_us = at_us;
}

void eepi_bulk_wake(eepi_bulk *bulk)
{
    if (bulk->timer_at_us != 1 && !bulk->in_progress) {
        eepi_bulk_set_timer(bulk, 1);
    }
}

eep_status eepi_bulk_base_open(eepi_bulk *bulk, const bulk_carrier *carrier, uint64_t chunk_bytes,
                               const eepi_bulk_config *config)
{
    *bulk = (eepi_bulk){.carrier = carrier,
                        .chunk_bytes = chunk_bytes,
                        .serve = config->serve,
                        .served = config->served,
                        .note = config->note,
                        .land = config->land,
                        .done = config->done,
                        .user = config->user,
                        .facts = {.carrier = EEP_BULK_SHM, .fetches_per_peer = 8},
                        .ended_end = &bulk->ended};
    bulk->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    bulk->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (bulk->timer_fd < 0 || bulk->poll_fd < 0 ||
        epoll_ctl(bulk->poll_fd, EPOLL_CTL_ADD, bulk->timer_fd, &event) != 0) {
        int error = errno;
        eepi_bulk_base_close(bulk);
        errno = error;
        return EEP_ERR_SYSTEM;
    }
    eepi_bulk_wake(bulk); /* the first progress arms the carrier */
    return EEP_OK;
}

void eepi_bulk_base_close(eepi_bulk *bulk)
{
    if (bulk->poll_fd >= 0) {
        close(bulk->poll_fd);
    }
    if (bulk->timer_fd >= 0) {
        close(bulk->timer_fd);
    }
    bulk->poll_fd = bulk->timer_fd = -1;
}
