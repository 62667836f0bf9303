/* SPDX-License-Identifier: Apache-2.0 */
/* The side of a bulk copy that has the bytes. Requests are queued by the active message callback
 * and accepted from progress; every transfer then has at most BULK_UCX_CHUNKS_IN_FLIGHT chunks
 * inside UCX, which sends them straight from the pieces that the `serve` function named. */
#include "transport/bulk/bulk_ucx.h"

#include <stdlib.h>
#include <string.h>

void eepi_bulk_serve_queue(bulk_ucx *bulk, const bulk_wire *wire, ucp_ep_h ep)
{
    if (bulk->num_serves + bulk->num_messages >= BULK_SERVES_MAX) {
        return;
    }
    bulk_message *message = malloc(sizeof *message);
    if (message == NULL) {
        return; /* the requester's deadline ends its fetch */
    }
    message->next = NULL;
    message->wire = *wire;
    message->ep = ep;
    *bulk->messages_end = message;
    bulk->messages_end = &message->next;
    bulk->num_messages++;
}

static void free_serve(bulk_ucx *bulk, bulk_serve *serve)
{
    if (serve->num_parts > 0 && bulk->base.served) {
        bulk->base.served(bulk->base.user, serve->parts, serve->num_parts);
    }
    free(serve);
}

static void drop_transfer(bulk_ucx *bulk, const bulk_peer *peer, uint64_t transfer)
{
    for (bulk_serve *serve = bulk->serves; serve != NULL; serve = serve->next) {
        if (serve->peer == peer && serve->transfer == transfer) {
            serve->dropped = true;
        }
    }
}

static void send_end(bulk_peer *peer, const bulk_wire *request, eep_status status)
{
    bulk_wire wire = {
        .magic = BULK_MAGIC,
        .kind = BULK_END,
        .epoch = request->epoch,
        .transfer = request->transfer,
        .status = status,
    };
    eepi_bulk_send_control(peer, &wire);
}

/* Take up one transfer, or tell the requester why not. */
static void accept_request(bulk_ucx *bulk, const bulk_message *message, uint64_t now_us)
{
    const bulk_wire *wire = &message->wire;
    bulk_peer *peer = eepi_bulk_peer_of(bulk, message->ep);
    if (peer == NULL) {
        return; /* gone meanwhile */
    }
    if (wire->nonce != bulk->address.nonce) { /* meant for who had our port before */
        send_end(peer, wire, EEP_ERR_UNREACHABLE);
        return;
    }
    for (const bulk_serve *other = bulk->serves; other != NULL; other = other->next) {
        if (!other->dropped && other->peer == peer && other->transfer == wire->transfer) {
            return;
        }
    }
    bulk_serve *serve = calloc(1, sizeof *serve);
    if (serve == NULL) {
        send_end(peer, wire, EEP_ERR_UNREACHABLE);
        return;
    }
    eepi_blob blob = {.epoch = wire->epoch,
                      .layer = wire->layer,
                      .expert = wire->expert,
                      .offset = wire->offset,
                      .total = wire->total};
    eep_status status =
        eepi_bulk_serve_ask(&bulk->base, &blob, wire->bytes, serve->parts, &serve->num_parts);
    if (status != EEP_OK) {
        free(serve);
        send_end(peer, wire, status);
        return;
    }
    serve->peer = peer;
    serve->transfer = wire->transfer;
    serve->epoch = wire->epoch;
    serve->begin = wire->offset;
    serve->total = wire->bytes;
    serve->deadline_us = eepi_bulk_deadline_us(now_us, wire->timeout_us);
    bulk_serve **link = &bulk->serves;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = serve;
    bulk->num_serves++;
}

static void accept_message(bulk_ucx *bulk, const bulk_message *message, uint64_t now_us)
{
    if (message->wire.kind == BULK_REQUEST) {
        accept_request(bulk, message, now_us);
        return;
    }
    const bulk_peer *peer = eepi_bulk_peer_of(bulk, message->ep);
    if (peer != NULL) {
        drop_transfer(bulk, peer, message->wire.transfer);
    }
}

/* Name the pieces of the next `bytes` bytes of a transfer. */
static void name_pieces(const bulk_serve *serve, uint64_t bytes, bulk_send *send)
{
    uint64_t skip = serve->begin + serve->offset;
    send->num_pieces = 0;
    for (int i = 0; i < serve->num_parts && bytes > 0; i++) {
        const eepi_bulk_part *part = &serve->parts[i];
        if (skip >= part->bytes) {
            skip -= part->bytes;
            continue;
        }
        uint64_t take = part->bytes - skip < bytes ? part->bytes - skip : bytes;
        send->pieces[send->num_pieces].buffer = (char *)part->data + skip;
        send->pieces[send->num_pieces].length = take;
        send->num_pieces++;
        bytes -= take;
        skip = 0;
    }
}

/* Hand the next chunks of a transfer to UCX; nonzero if there were any. */
static int send_chunks(bulk_serve *serve)
{
    int work = 0;
    for (int i = 0; i < BULK_UCX_CHUNKS_IN_FLIGHT; i++) {
        bulk_send *send = &serve->sends[i];
        if (send->busy) {
            continue;
        }
        if (serve->dropped || serve->offset >= serve->total || serve->peer->failed) {
            break;
        }
        uint64_t bytes = serve->total - serve->offset;
        if (bytes > BULK_UCX_CHUNK_BYTES) {
            bytes = BULK_UCX_CHUNK_BYTES;
        }
        send->wire = (bulk_wire){
            .magic = BULK_MAGIC,
            .kind = BULK_CHUNK,
            .epoch = serve->epoch,
            .transfer = serve->transfer,
            .offset = serve->offset,
            .bytes = bytes,
            .total = serve->total,
        };
        send->peer = serve->peer;
        send->serve = serve;
        name_pieces(serve, bytes, send);
        serve->offset += bytes;
        eepi_bulk_send(send);
        work = 1;
    }
    return work;
}

/* A peer gets what it has asked for one after the other: what arrives together is still in a cache
 * when it is checked. */
static bool is_its_turn(const bulk_ucx *bulk, const bulk_serve *serve)
{
    for (const bulk_serve *other = bulk->serves; other != serve; other = other->next) {
        if (other->peer == serve->peer && !other->dropped && other->offset < other->total) {
            return false;
        }
    }
    return true;
}

int eepi_bulk_serve_progress(bulk_ucx *bulk, uint64_t now_us)
{
    int work = 0;
    while (bulk->messages != NULL) {
        bulk_message *message = bulk->messages;
        bulk->messages = message->next;
        if (bulk->messages == NULL) {
            bulk->messages_end = &bulk->messages;
        }
        bulk->num_messages--;
        accept_message(bulk, message, now_us);
        free(message);
        work = 1;
    }
    bulk_serve **link = &bulk->serves;
    while (*link != NULL) {
        bulk_serve *serve = *link;
        if (now_us >= serve->deadline_us) {
            serve->dropped = true;
        }
        if (is_its_turn(bulk, serve)) {
            work |= send_chunks(serve);
        }
        if (serve->in_flight == 0 && (serve->dropped || serve->offset >= serve->total)) {
            *link = serve->next;
            free_serve(bulk, serve);
            bulk->num_serves--;
            work = 1;
            continue;
        }
        link = &serve->next;
    }
    return work;
}

void eepi_bulk_serve_drop(bulk_ucx *bulk, const bulk_peer *peer)
{
    for (bulk_serve *serve = bulk->serves; serve != NULL; serve = serve->next) {
        if (peer == NULL || serve->peer == peer) {
            serve->dropped = true;
        }
    }
}

void eepi_bulk_serve_free(bulk_ucx *bulk)
{
    while (bulk->serves != NULL) {
        bulk_serve *serve = bulk->serves;
        bulk->serves = serve->next;
        free_serve(bulk, serve);
    }
    while (bulk->messages != NULL) {
        bulk_message *message = bulk->messages;
        bulk->messages = message->next;
        free(message);
    }
}
