/* SPDX-License-Identifier: Apache-2.0 */
/* The bulk copier's public calls (bulk.h): fetches, their deadlines and ends, and the carrier that
 * does the work, by its table. */
#include "transport/bulk/bulk_shm.h"
#include "transport/bulk/bulk_ucx.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- fetches */

/* By chunks, as from a peer. */
static eep_status land_locally(eepi_bulk *bulk, bulk_fetch *fetch, const eepi_bulk_part *parts,
                               int num_parts)
{
    unsigned char *chunk = malloc(bulk->chunk_bytes);
    if (chunk == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    for (uint64_t at = 0; at < fetch->bytes; at += bulk->chunk_bytes) {
        uint64_t bytes = fetch->bytes - at;
        bytes = bytes < bulk->chunk_bytes ? bytes : bulk->chunk_bytes;
        eepi_bulk_gather(chunk, parts, num_parts, fetch->blob.offset + at, bytes, false);
        eepi_bulk_chunk_land(bulk, fetch, at, chunk, bytes);
    }
    free(chunk);
    return EEP_OK;
}

/* A fetch from this copier's own address: no message is needed. */
static void fetch_locally(eepi_bulk *bulk, bulk_fetch *fetch)
{
    eepi_bulk_part parts[EEPI_BULK_PARTS];
    int num_parts = 0;
    eep_status status = eepi_bulk_serve_ask(bulk, &fetch->blob, fetch->bytes, parts, &num_parts);
    if (status == EEP_OK) {
        status = land_locally(bulk, fetch, parts, num_parts);
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
    /* An expired timer stays readable until it is set again. One that is to come stays as it is if
     * it is early enough: to wake once too often costs less than to set it for each fetch. */
    bool is_early = bulk->timer_at_us > now_us && (next_us == 0 || bulk->timer_at_us <= next_us);
    bool is_over = bulk->timer_at_us != 0 && bulk->timer_at_us <= now_us;
    if (is_over || (bulk->timer_at_us != next_us && !is_early)) {
        eepi_bulk_set_timer(bulk, next_us);
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
    bulk->in_progress = true;
    int work = bulk->carrier->progress(bulk, now_us);
    work |= progress_fetches(bulk, now_us);
    work |= deliver(bulk);
    bulk->in_progress = false;
    return work ? 1 : arm(bulk, now_us);
}

/* ---------------------------------------------------------------- calls of the owner */

eep_status eepi_bulk_fetch(eepi_bulk *bulk, const void *peer_address, size_t address_bytes,
                           const eepi_blob *blob, void *buffer, size_t bytes, uint64_t timeout_us,
                           uint64_t *transfer_out)
{
    if (peer_address == NULL || address_bytes == 0 || address_bytes > BULK_ADDRESS_MAX_BYTES ||
        blob == NULL || (buffer == NULL && bulk->land == NULL) || bytes == 0 ||
        transfer_out == NULL || blob->offset > UINT64_MAX - bytes ||
        (blob->total != 0 && blob->offset + bytes > blob->total)) {
        return EEP_ERR_INVALID;
    }
    if (bulk->closing) {
        return EEP_ERR_STATE;
    }
    uint64_t num_chunks = (bytes - 1) / bulk->chunk_bytes + 1;
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
    fetch->blob.total = blob->total != 0 ? blob->total : blob->offset + bytes;
    fetch->transfer = ++bulk->last_transfer;
    fetch->deadline_us = eepi_bulk_deadline_us(eepi_now_us(), timeout_us);
    fetch->buffer = buffer;
    fetch->bytes = bytes;
    fetch->next = bulk->fetches;
    bulk->fetches = fetch;
    *transfer_out = fetch->transfer;
    if (status != EEP_OK) {
        eepi_bulk_fetch_end(bulk, fetch,
                            status); /* the carrier knows already that nobody is there */
    } else if (!local) {
        bulk->carrier->ask(bulk, fetch);
    }
    eepi_bulk_wake(bulk);
    return EEP_OK;
}

void eepi_bulk_cancel(eepi_bulk *bulk, uint64_t transfer)
{
    bulk_fetch *fetch = bulk->fetches;
    while (fetch != NULL && fetch->transfer != transfer) {
        fetch = fetch->next;
    }
    if (fetch == NULL) {
        return;
    }
    if (fetch->peer != NULL) {
        bulk->carrier->cancel(bulk, fetch);
    }
    eepi_bulk_fetch_end(bulk, fetch, EEP_ERR_ABORTED);
    eepi_bulk_wake(bulk);
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

eepi_bulk_facts eepi_bulk_facts_of(const eepi_bulk *bulk)
{
    return bulk->facts;
}

void eepi_bulk_address(const eepi_bulk *bulk, const void **address_out, size_t *bytes_out)
{
    *address_out = bulk->address;
    *bytes_out = bulk->address_bytes;
}

/* ---------------------------------------------------------------- open and close */

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
