/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copies in shared memory: the peers of a copier, and what is sent to them without waiting. */
#include "transport/bulk/bulk_shm.h"

#include "transport/holder/holder_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

void eepi_shm_peer_fail(shm_peer *peer, eep_status why)
{
    if (!peer->failed) {
        peer->why = why;
    }
    peer->failed = true;
}

shm_peer *eepi_shm_peer_add(bulk_shm *shm, const uint8_t *identity, bool is_caller)
{
    shm_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL) {
        return NULL;
    }
    peer->is_caller = is_caller;
    peer->fd = -1;
    peer->why = EEP_ERR_UNREACHABLE;
    peer->ask_us = is_caller ? UINT64_MAX : 0;
    memcpy(peer->identity, identity, sizeof peer->identity);
    peer->next = shm->peers;
    shm->peers = peer;
    shm->num_peers++;
    return peer;
}

void eepi_shm_peer_free(bulk_shm *shm, shm_peer **link)
{
    shm_peer *peer = *link;
    *link = peer->next;
    shm->num_peers--;
    eepi_shm_region_unmap(peer->region);
    eepi_holder_hang_up(shm->base.poll_fd, peer->fd);
    free(peer);
}

shm_peer *eepi_shm_peer_find(const bulk_shm *shm, const void *address, size_t bytes)
{
    shm_address at; /* of a record, where it lies at any byte */
    if (bytes != sizeof at) {
        return NULL;
    }
    memcpy(&at, address, sizeof at);
    for (shm_peer *peer = shm->peers; peer != NULL; peer = peer->next) {
        if (!peer->failed && !peer->is_caller &&
            memcmp(peer->identity, at.identity, sizeof peer->identity) == 0) {
            return peer;
        }
    }
    return NULL;
}

bool eepi_shm_peer_is_ready(const shm_peer *peer)
{
    return peer->fd >= 0 && peer->region != NULL && !peer->failed;
}

bool eepi_shm_peer_watch(const bulk_shm *shm, shm_peer *peer, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (peer->wants_out ? EPOLLOUT : 0),
                                .data.ptr = peer};
    return epoll_ctl(shm->base.poll_fd, operation, peer->fd, &event) == 0;
}

/* ---------------------------------------------------------------- sending */

bool eepi_shm_send(shm_peer *peer, const shm_wire *wire)
{
    if (peer->failed || peer->fd < 0) {
        return true; /* what comes of it is known already */
    }
    if (eepi_holder_send(peer->fd, wire, sizeof *wire, -1) == 0) {
        return true;
    }
    if (errno == EAGAIN) {
        return false;
    }
    eepi_shm_peer_fail(peer, EEP_ERR_UNREACHABLE);
    return true;
}

/* What could not be sent is sent when there is room again. */
static void wait_for_room(const bulk_shm *shm, shm_peer *peer)
{
    if (peer->wants_out) {
        return;
    }
    peer->wants_out = true;
    if (!eepi_shm_peer_watch(shm, peer, EPOLL_CTL_MOD)) {
        eepi_shm_peer_fail(peer, EEP_ERR_SYSTEM);
    }
}

void eepi_shm_send_request(eepi_bulk *bulk, bulk_fetch *fetch)
{
    shm_peer *peer = (shm_peer *)fetch->peer;
    uint64_t now_us = eepi_now_us();
    shm_wire message = {
        .wire = {.magic = BULK_MAGIC,
                 .kind = BULK_REQUEST,
                 .epoch = fetch->blob.epoch,
                 .transfer = fetch->transfer,
                 .offset = fetch->blob.offset,
                 .bytes = fetch->bytes,
                 .total = fetch->blob.total,
                 .timeout_us = fetch->deadline_us > now_us ? fetch->deadline_us - now_us : 0,
                 .layer = fetch->blob.layer,
                 .expert = fetch->blob.expert}};
    if (!eepi_shm_peer_is_ready(peer)) {
        return; /* once it is connected */
    }
    fetch->asked = eepi_shm_send(peer, &message);
    if (!fetch->asked) {
        wait_for_room((bulk_shm *)bulk, peer);
    }
}

void eepi_shm_send_cancel(eepi_bulk *bulk, const bulk_fetch *fetch)
{
    shm_wire message = {.wire = {.magic = BULK_MAGIC,
                                 .kind = BULK_CANCEL,
                                 .epoch = fetch->blob.epoch,
                                 .transfer = fetch->transfer}};
    (void)bulk;
    if (fetch->asked) {
        (void)eepi_shm_send((shm_peer *)fetch->peer, &message);
    }
}

void eepi_shm_send_acks(const bulk_shm *shm, shm_peer *peer)
{
    for (uint32_t slot = 0; peer->acks != 0 && slot < SHM_SLOTS; slot++) {
        shm_wire message = {.wire = {.magic = BULK_MAGIC, .kind = BULK_ACK},
                            .sequence = peer->ack_sequence[slot],
                            .slot = slot};
        if ((peer->acks & 1u << slot) == 0) {
            continue;
        }
        if (!eepi_shm_send(peer, &message)) {
            wait_for_room(shm, peer);
            return;
        }
        peer->acks &= ~(1u << slot);
    }
}

void eepi_shm_send_waiting(bulk_shm *shm, shm_peer *peer)
{
    if (peer->wants_out) {
        peer->wants_out = false;
        if (!eepi_shm_peer_watch(shm, peer, EPOLL_CTL_MOD)) {
            eepi_shm_peer_fail(peer, EEP_ERR_SYSTEM);
        }
    }
    eepi_shm_send_acks(shm, peer);
    for (bulk_fetch *fetch = shm->base.fetches; fetch != NULL; fetch = fetch->next) {
        if (fetch->peer == peer && !fetch->asked && !peer->wants_out) {
            eepi_shm_send_request(&shm->base, fetch);
        }
    }
}
