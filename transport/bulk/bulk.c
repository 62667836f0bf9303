/* What both carriers of the bulk copier do alike: see bulk_internal.h. */
#include "transport/bulk/bulk_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
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

bool eepi_bulk_chunk_fits(const bulk_fetch *fetch, const bulk_wire *wire, size_t payload_bytes)
{
    if (wire->total != fetch->bytes || wire->offset >= fetch->bytes ||
        wire->offset % EEPI_BULK_CHUNK_BYTES != 0) {
        return false;
    }
    uint64_t bytes = fetch->bytes - wire->offset;
    if (bytes > EEPI_BULK_CHUNK_BYTES) {
        bytes = EEPI_BULK_CHUNK_BYTES;
    }
    uint64_t chunk = wire->offset / EEPI_BULK_CHUNK_BYTES;
    return wire->bytes == bytes && payload_bytes == bytes &&
           (fetch->arrived[chunk / 8] & (1u << chunk % 8)) == 0;
}

void eepi_bulk_chunk_landed(eepi_bulk *bulk, bulk_fetch *fetch, const bulk_wire *wire)
{
    uint64_t chunk = wire->offset / EEPI_BULK_CHUNK_BYTES;
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

eep_status eepi_bulk_serve_ask(eepi_bulk *bulk, const eepi_blob *blob, uint64_t bytes,
                               eepi_bulk_part *parts_out, int *num_parts_out)
{
    eepi_bulk_part parts[EEPI_BULK_PARTS] = {{0}};
    int num_parts = bulk->serve(bulk->user, blob, parts);
    if (num_parts <= 0 || num_parts > EEPI_BULK_PARTS) {
        return EEP_ERR_NOT_FOUND;
    }
    uint64_t total = 0;
    bool overflows = false;
    for (int i = 0; i < num_parts; i++) {
        overflows = overflows || parts[i].bytes > bytes - total;
        total += overflows ? 0 : parts[i].bytes;
    }
    if (overflows || total != bytes) {
        if (bulk->served) {
            bulk->served(bulk->user, parts, num_parts);
        }
        return EEP_ERR_PROTOCOL;
    }
    memcpy(parts_out, parts, sizeof parts);
    *num_parts_out = num_parts;
    return EEP_OK;
}

/* A fetch from this copier's own address: no message is needed. */
static void fetch_locally(eepi_bulk *bulk, bulk_fetch *fetch)
{
    eepi_bulk_part parts[EEPI_BULK_PARTS];
    int num_parts = 0;
    eep_status status = eepi_bulk_serve_ask(bulk, &fetch->blob, fetch->bytes, parts, &num_parts);
    if (status == EEP_OK) {
        unsigned char *to = fetch->buffer;
        for (int i = 0; i < num_parts; i++) {
            if (parts[i].bytes > 0) {
                memcpy(to, parts[i].data, parts[i].bytes);
            }
            to += parts[i].bytes;
        }
        if (bulk->served) {
            bulk->served(bulk->user, parts, num_parts);
        }
    }
    eepi_bulk_fetch_end(bulk, fetch, status);
}

static int progress_fetches(eepi_bulk *bulk, uint64_t now_us)
{
    int work = 0;
    bulk_fetch *next = NULL;
    for (bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = next) {
        next = fetch->next;
        if (fetch->peer == NULL) {
            fetch_locally(bulk, fetch);
            work = 1;
        } else if (now_us >= fetch->deadline_us) {
            bulk->carrier->cancel(bulk, fetch);
            eepi_bulk_fetch_end(bulk, fetch, fetch->asked ? EEP_ERR_TIMEOUT : EEP_ERR_UNREACHABLE);
            work = 1;
        }
    }
    return work;
}

/* Call `done` for what has ended; it may start or cancel fetches. */
static int deliver(eepi_bulk *bulk)
{
    int work = 0;
    while (bulk->ended != NULL) {
        bulk_fetch *fetch = bulk->ended;
        bulk->ended = fetch->next;
        if (bulk->ended == NULL) {
            bulk->ended_end = &bulk->ended;
        }
        uint64_t transfer = fetch->transfer;
        eep_status status = fetch->status;
        free(fetch);
        bulk->done(bulk->user, transfer, status);
        work = 1;
    }
    return work;
}

/* ---------------------------------------------------------------- waking up */

/* Make the descriptor readable at that time (0: never, 1: now). */
static void set_timer(eepi_bulk *bulk, uint64_t at_us)
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
    if (bulk->timer_at_us != 1) {
        set_timer(bulk, 1);
    }
}

/* Sleepable until an event or the next deadline. */
static int arm(eepi_bulk *bulk, uint64_t now_us)
{
    uint64_t next_us = UINT64_MAX;
    if (bulk->carrier->arm(bulk, &next_us) != 0) {
        return 1;
    }
    for (const bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = fetch->next) {
        if (fetch->deadline_us < next_us) {
            next_us = fetch->deadline_us;
        }
    }
    if (next_us == UINT64_MAX) {
        next_us = 0;
    }
    /* An expired timer stays readable until it is set again. */
    if (bulk->timer_at_us != next_us || (next_us != 0 && next_us <= now_us)) {
        set_timer(bulk, next_us);
    }
    return 0;
}

int eepi_bulk_fd(eepi_bulk *bulk)
{
    return bulk->poll_fd;
}

int eepi_bulk_progress(eepi_bulk *bulk)
{
    uint64_t now_us = eepi_now_us();
    int work = bulk->carrier->progress(bulk, now_us);
    work |= progress_fetches(bulk, now_us);
    work |= deliver(bulk);
    return work ? 1 : arm(bulk, now_us);
}

/* ---------------------------------------------------------------- calls of the owner */

eep_status eepi_bulk_fetch(eepi_bulk *bulk, const void *peer_address, size_t address_bytes,
                           const eepi_blob *blob, void *buffer, size_t bytes, uint64_t timeout_us,
                           uint64_t *transfer_out)
{
    if (peer_address == NULL || address_bytes == 0 || address_bytes > BULK_ADDRESS_MAX_BYTES ||
        blob == NULL || buffer == NULL || bytes == 0 || transfer_out == NULL) {
        return EEP_ERR_INVALID;
    }
    if (bulk->closing) {
        return EEP_ERR_STATE;
    }
    uint64_t num_chunks = (bytes - 1) / EEPI_BULK_CHUNK_BYTES + 1;
    bulk_fetch *fetch = calloc(1, sizeof *fetch + num_chunks / 8 + 1);
    if (fetch == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    bool local = address_bytes == bulk->address_bytes &&
                 memcmp(peer_address, bulk->address, address_bytes) == 0;
    eep_status status = EEP_OK;
    if (!local) {
        status = bulk->carrier->peer_get(bulk, peer_address, address_bytes, &fetch->peer);
    }
    if (status == EEP_ERR_NO_MEMORY) {
        free(fetch);
        return status;
    }
    fetch->blob = *blob;
    fetch->transfer = ++bulk->last_transfer;
    fetch->deadline_us = eepi_bulk_deadline_us(eepi_now_us(), timeout_us);
    fetch->buffer = buffer;
    fetch->bytes = bytes;
    fetch->next = bulk->fetches;
    bulk->fetches = fetch;
    *transfer_out = fetch->transfer;
    if (status != EEP_OK) {
        eepi_bulk_fetch_end(bulk, fetch, status); /* nobody is there, as one may find at once */
    } else if (!local) {
        bulk->carrier->ask(bulk, fetch);
    }
    eepi_bulk_wake(bulk);
    return EEP_OK;
}

void eepi_bulk_cancel_before(eepi_bulk *bulk, uint64_t epoch)
{
    for (bulk_fetch *fetch = bulk->ended; fetch != NULL; fetch = fetch->next) {
        if (fetch->blob.epoch < epoch) {
            fetch->status = EEP_ERR_ABORTED;
        }
    }
    bulk_fetch *next = NULL;
    for (bulk_fetch *fetch = bulk->fetches; fetch != NULL; fetch = next) {
        next = fetch->next;
        if (fetch->blob.epoch < epoch) {
            if (fetch->peer != NULL) {
                bulk->carrier->cancel(bulk, fetch);
            }
            eepi_bulk_fetch_end(bulk, fetch, EEP_ERR_ABORTED);
        }
    }
    deliver(bulk);
    eepi_bulk_wake(bulk);
}

void eepi_bulk_forget(eepi_bulk *bulk, const void *peer_address, size_t address_bytes)
{
    bulk->carrier->forget(bulk, peer_address, address_bytes);
    eepi_bulk_wake(bulk);
}

void eepi_bulk_address(const eepi_bulk *bulk, const void **address_out, size_t *bytes_out)
{
    *address_out = bulk->address;
    *bytes_out = bulk->address_bytes;
}

/* ---------------------------------------------------------------- open and close */

eep_status eepi_bulk_base_open(eepi_bulk *bulk, const bulk_carrier *carrier,
                               const eepi_bulk_config *config)
{
    *bulk = (eepi_bulk){.carrier = carrier,
                        .serve = config->serve,
                        .served = config->served,
                        .note = config->note,
                        .done = config->done,
                        .user = config->user,
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

eep_status eepi_bulk_open(const eepi_bulk_config *config, char *error_out, size_t error_bytes,
                          eepi_bulk **bulk_out)
{
    if (config == NULL || config->serve == NULL || config->done == NULL || bulk_out == NULL) {
        return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_INVALID,
                              "serve, done and bulk_out are needed");
    }
    switch (config->carrier) {
    case EEP_BULK_AUTO:
    case EEP_BULK_SHM:
        return eepi_bulk_shm_open(config, error_out, error_bytes, bulk_out);
    case EEP_BULK_UCX:
        return eepi_bulk_ucx_open(config, error_out, error_bytes, bulk_out);
    }
    return eepi_bulk_fail(error_out, error_bytes, EEP_ERR_INVALID, "bulk is %d: 0 to %d are known",
                          (int)config->carrier, EEP_BULK_UCX);
}

void eepi_bulk_close(eepi_bulk *bulk)
{
    if (bulk == NULL) {
        return;
    }
    bulk->closing = true;
    while (bulk->fetches != NULL) {
        if (bulk->fetches->peer != NULL) {
            bulk->carrier->cancel(bulk, bulk->fetches);
        }
        eepi_bulk_fetch_end(bulk, bulk->fetches, EEP_ERR_ABORTED);
    }
    deliver(bulk);
    bulk->carrier->close(bulk);
}
