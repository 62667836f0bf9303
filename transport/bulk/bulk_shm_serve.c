/* SPDX-License-Identifier: Apache-2.0 */
/* The side of a copy in shared memory that has the bytes. Each transfer has at most
 * SHM_CHUNKS_IN_FLIGHT slots, and peers take turns. A slot comes back when the requester
 * acknowledges or cancels, when its transfer's time is over, when its peer is gone, or, if others
 * wait for a slot, when the requester has stood still for STALL_US. */
#include "transport/bulk/bulk_shm.h"

#include <stdlib.h>
#include <string.h>

enum {
    CHUNKS_A_ROUND = 4, /* written per progress */
    STALL_US = 1000000
};

/* ---------------------------------------------------------------- slots */

static int free_slot(const bulk_shm *shm)
{
    for (int slot = 0; slot < SHM_SLOTS; slot++) {
        if (shm->slots[slot].peer == NULL) {
            return slot;
        }
    }
    return -1;
}

static int slots_of(const bulk_shm *shm, const shm_serve *serve)
{
    int count = 0;
    for (int slot = 0; slot < SHM_SLOTS; slot++) {
        count +=
            shm->slots[slot].peer == serve->peer && shm->slots[slot].transfer == serve->transfer;
    }
    return count;
}

static void take_back(bulk_shm *shm, const shm_peer *peer, uint64_t transfer)
{
    for (int slot = 0; slot < SHM_SLOTS; slot++) {
        if (shm->slots[slot].peer == peer && shm->slots[slot].transfer == transfer) {
            shm->slots[slot].peer = NULL;
        }
    }
}

static void handle_ack(bulk_shm *shm, const shm_peer *from, const shm_wire *message)
{
    shm_slot *slot = message->slot < SHM_SLOTS ? &shm->slots[message->slot] : NULL;
    if (slot != NULL && slot->peer == from && slot->sequence == message->sequence) {
        slot->peer = NULL;
    }
}

/* ---------------------------------------------------------------- requests */

static void drop_transfer(bulk_shm *shm, const shm_peer *peer, uint64_t transfer)
{
    for (shm_serve *serve = shm->serves; serve != NULL; serve = serve->next) {
        if (serve->peer == peer && serve->transfer == transfer) {
            serve->dropped = true;
        }
    }
    take_back(shm, peer, transfer);
}

/* A requester that does not read what it has asked for is let go. */
static void send_end(shm_peer *peer, uint64_t epoch, uint64_t transfer, eep_status status)
{
    shm_wire message = {.wire = {.magic = BULK_MAGIC,
                                 .kind = BULK_END,
                                 .epoch = epoch,
                                 .transfer = transfer,
                                 .status = status}};
    if (!eepi_shm_send(peer, &message)) {
        peer->failed = true;
    }
}

static void add_serve(bulk_shm *shm, shm_serve *serve)
{
    shm_serve **link = &shm->serves;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    serve->next = NULL;
    *link = serve;
}

static bool is_served(const bulk_shm *shm, const shm_peer *peer, uint64_t transfer)
{
    for (const shm_serve *serve = shm->serves; serve != NULL; serve = serve->next) {
        if (!serve->dropped && serve->peer == peer && serve->transfer == transfer) {
            return true;
        }
    }
    return false;
}

/* Take up one transfer, or tell the requester why not. */
static void accept_request(bulk_shm *shm, shm_peer *from, const bulk_wire *wire)
{
    if (is_served(shm, from, wire->transfer)) {
        return;
    }
    shm_serve *serve = shm->num_serves < BULK_SERVES_MAX ? calloc(1, sizeof *serve) : NULL;
    if (serve == NULL) {
        send_end(from, wire->epoch, wire->transfer, EEP_ERR_UNREACHABLE);
        return;
    }
    eepi_blob blob = {.epoch = wire->epoch,
                      .layer = wire->layer,
                      .expert = wire->expert,
                      .offset = wire->offset,
                      .total = wire->total};
    eep_status status =
        eepi_bulk_serve_ask(&shm->base, &blob, wire->bytes, serve->parts, &serve->num_parts);
    if (status != EEP_OK) {
        free(serve);
        send_end(from, wire->epoch, wire->transfer, status);
        return;
    }
    serve->peer = from;
    serve->transfer = wire->transfer;
    serve->epoch = wire->epoch;
    serve->begin = wire->offset;
    serve->total = wire->bytes;
    serve->deadline_us = eepi_bulk_deadline_us(shm->now_us, wire->timeout_us);
    add_serve(shm, serve);
    shm->num_serves++;
}

void eepi_shm_serve_handle(bulk_shm *shm, shm_peer *from, const shm_wire *message)
{
    if (message->wire.kind == BULK_REQUEST) {
        accept_request(shm, from, &message->wire);
    } else if (message->wire.kind == BULK_CANCEL) {
        drop_transfer(shm, from, message->wire.transfer);
    } else if (message->wire.kind == BULK_ACK) {
        handle_ack(shm, from, message);
    } else {
        from->failed = true; /* nobody has asked it for anything */
    }
}

/* ---------------------------------------------------------------- chunks */

static bool has_chunks(const shm_serve *serve)
{
    return !serve->dropped && !serve->peer->failed && serve->offset < serve->total;
}

/* A peer gets what it has asked for one after the other: what arrives together is still in a cache
 * when it is checked. Transfer numbers go up. */
static bool is_its_turn(const bulk_shm *shm, const shm_serve *serve)
{
    for (const shm_serve *other = shm->serves; other != NULL; other = other->next) {
        if (other->peer == serve->peer && other->transfer < serve->transfer && has_chunks(other)) {
            return false;
        }
    }
    return true;
}

static bool can_send(const bulk_shm *shm, const shm_serve *serve)
{
    return has_chunks(serve) && slots_of(shm, serve) < SHM_CHUNKS_IN_FLIGHT &&
           is_its_turn(shm, serve);
}

/* Into the slot, in the way that is quicker for this peer. Returns the slot's sequence. */
static uint64_t write_chunk(bulk_shm *shm, const shm_serve *serve, int slot, uint64_t bytes)
{
    eepi_copy_times *times = &serve->peer->times;
    const bool past_caches = eepi_copy_goes_past(times);
    const uint64_t begin_ns = eepi_now_ns();
    const uint64_t sequence = eepi_shm_slot_write(shm->region, slot, serve->parts, serve->num_parts,
                                                  serve->begin + serve->offset, bytes, past_caches);
    if (bytes >= SHM_SLOT_BYTES / 8) {
        eepi_copy_took(times, past_caches, (eepi_now_ns() - begin_ns) * SHM_SLOT_BYTES / bytes);
    }
    return sequence;
}

static void send_chunk(bulk_shm *shm, shm_serve *serve, int slot)
{
    uint64_t bytes = serve->total - serve->offset;
    if (bytes > SHM_SLOT_BYTES) {
        bytes = SHM_SLOT_BYTES;
    }
    shm_wire message = {.wire = {.magic = BULK_MAGIC,
                                 .kind = BULK_CHUNK,
                                 .epoch = serve->epoch,
                                 .transfer = serve->transfer,
                                 .offset = serve->offset,
                                 .bytes = bytes,
                                 .total = serve->total},
                        .slot = (uint32_t)slot};
    message.sequence = write_chunk(shm, serve, slot, bytes);
    shm->slots[slot] = (shm_slot){.peer = serve->peer,
                                  .epoch = serve->epoch,
                                  .transfer = serve->transfer,
                                  .sequence = message.sequence,
                                  .since_us = shm->now_us,
                                  .deadline_us = serve->deadline_us};
    serve->offset += bytes;
    if (!eepi_shm_send(serve->peer, &message)) {
        serve->peer->failed = true;
    }
}

/* The first transfer that can go on; it goes behind the others. NULL: none. */
static shm_serve *next_to_send(bulk_shm *shm)
{
    for (shm_serve **link = &shm->serves; *link != NULL; link = &(*link)->next) {
        shm_serve *serve = *link;
        if (can_send(shm, serve)) {
            *link = serve->next;
            add_serve(shm, serve);
            return serve;
        }
    }
    return NULL;
}

static bool somebody_waits(const bulk_shm *shm)
{
    for (const shm_serve *serve = shm->serves; serve != NULL; serve = serve->next) {
        if (can_send(shm, serve)) {
            return true;
        }
    }
    return false;
}

/* Slots whose time is over, or, while others wait, whose reader stands still. */
static void take_back_old(bulk_shm *shm)
{
    bool is_short = free_slot(shm) < 0 && somebody_waits(shm);
    for (int at = 0; at < SHM_SLOTS; at++) {
        shm_slot *slot = &shm->slots[at];
        shm_peer *peer = slot->peer;
        if (peer == NULL) {
            continue;
        }
        if (is_short && shm->now_us - slot->since_us >= STALL_US) {
            send_end(peer, slot->epoch, slot->transfer, EEP_ERR_UNREACHABLE);
            drop_transfer(shm, peer, slot->transfer);
        } else if (shm->now_us >= slot->deadline_us) {
            slot->peer = NULL;
        }
    }
}

static int end_serves(bulk_shm *shm)
{
    int work = 0;
    shm_serve **link = &shm->serves;
    while (*link != NULL) {
        shm_serve *serve = *link;
        if (!serve->dropped && shm->now_us < serve->deadline_us && serve->offset < serve->total) {
            link = &serve->next;
            continue;
        }
        *link = serve->next;
        if (shm->base.served) {
            shm->base.served(shm->base.user, serve->parts, serve->num_parts);
        }
        free(serve);
        shm->num_serves--;
        work = 1;
    }
    return work;
}

int eepi_shm_serve_progress(bulk_shm *shm)
{
    int work = 0;
    take_back_old(shm);
    for (int sent = 0; sent < CHUNKS_A_ROUND; sent++) {
        int slot = free_slot(shm);
        shm_serve *serve = slot >= 0 ? next_to_send(shm) : NULL;
        if (serve == NULL) {
            break;
        }
        send_chunk(shm, serve, slot);
        work = 1;
    }
    return work | end_serves(shm);
}

void eepi_shm_serve_arm(const bulk_shm *shm, uint64_t *next_us)
{
    bool is_short = free_slot(shm) < 0 && somebody_waits(shm);
    for (const shm_serve *serve = shm->serves; serve != NULL; serve = serve->next) {
        if (serve->deadline_us < *next_us) {
            *next_us = serve->deadline_us;
        }
    }
    for (int slot = 0; slot < SHM_SLOTS && is_short; slot++) {
        uint64_t stall_us = shm->slots[slot].since_us + STALL_US;
        if (stall_us < *next_us) {
            *next_us = stall_us;
        }
        if (shm->slots[slot].deadline_us < *next_us) {
            *next_us = shm->slots[slot].deadline_us;
        }
    }
}

void eepi_shm_serve_drop(bulk_shm *shm, const shm_peer *peer)
{
    for (shm_serve *serve = shm->serves; serve != NULL; serve = serve->next) {
        serve->dropped |= peer == NULL || serve->peer == peer;
    }
    for (int slot = 0; slot < SHM_SLOTS; slot++) {
        if (peer == NULL || shm->slots[slot].peer == peer) {
            shm->slots[slot].peer = NULL;
        }
    }
    end_serves(shm);
}
