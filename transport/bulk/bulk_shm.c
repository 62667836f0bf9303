/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copies in shared memory: the carrier. It reads what peers send, copies the chunks that were
 * asked for, and drives its peers, the holder and the serving side. */
#include "transport/bulk/bulk_shm.h"

#include "transport/holder/holder_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    MESSAGES_A_ROUND = 4, /* of one peer: each may be a chunk to copy */
    MAX_EVENTS = 32
};

static bulk_shm *shm_of(eepi_bulk *bulk)
{
    return (bulk_shm *)bulk;
}

/* ---------------------------------------------------------------- peers */

static int reap_peers(bulk_shm *shm)
{
    int work = 0;
    shm_peer **link = &shm->peers;
    while (*link != NULL) {
        shm_peer *peer = *link;
        if (!peer->failed) {
            link = &peer->next;
            continue;
        }
        eepi_bulk_fetch_lose(&shm->base, peer, peer->why);
        eepi_shm_serve_drop(shm, peer);
        eepi_shm_peer_free(shm, link);
        work = 1;
    }
    return work;
}

static eep_status get_peer(eepi_bulk *bulk, const void *address, size_t bytes,
                           const void **peer_out)
{
    bulk_shm *shm = shm_of(bulk);
    shm_address at;
    if (bytes != sizeof at) {
        return EEP_ERR_UNSUPPORTED; /* of another carrier: all ranks must use the same one */
    }
    memcpy(&at, address, sizeof at);
    if (at.magic != SHM_ADDRESS_MAGIC || at.version != shm->address.version ||
        at.num_slots != SHM_SLOTS || at.slot_bytes != SHM_SLOT_BYTES) {
        return EEP_ERR_UNSUPPORTED;
    }
    shm_peer *peer = eepi_shm_peer_find(shm, address, bytes);
    if (peer == NULL) {
        peer = eepi_shm_peer_add(shm, at.identity, false);
    }
    if (peer == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    *peer_out = peer;
    return EEP_OK;
}

/* ---------------------------------------------------------------- what peers send */

/* false: what has landed is not, or not all of it, the chunk. */
static bool read_chunk(bulk_shm *shm, const shm_peer *from, const shm_wire *message,
                       bulk_fetch *fetch)
{
    const int slot = (int)message->slot;
    const void *data = eepi_shm_slot_begin(from->region, slot, message->sequence);
    if (data != NULL) {
        eepi_bulk_chunk_land(&shm->base, fetch, message->wire.offset, data, message->wire.bytes);
    }
    return data != NULL && eepi_shm_slot_end(from->region, slot, message->sequence);
}

static void handle_chunk(bulk_shm *shm, shm_peer *from, const shm_wire *message)
{
    const bulk_wire *wire = &message->wire;
    if (message->slot >= SHM_SLOTS || from->region == NULL) {
        eepi_shm_peer_fail(from, EEP_ERR_PROTOCOL);
        return;
    }
    bulk_fetch *fetch = eepi_bulk_fetch_find(&shm->base, from, wire);
    /* NULL: of a voided transfer (rule R1) */
    if (fetch != NULL && !eepi_bulk_chunk_fits(&shm->base, fetch, wire, wire->bytes)) {
        eepi_shm_send_cancel(&shm->base, fetch);
        eepi_bulk_fetch_end(&shm->base, fetch, EEP_ERR_PROTOCOL);
    } else if (fetch != NULL) {
        if (read_chunk(shm, from, message, fetch)) {
            eepi_bulk_chunk_landed(&shm->base, fetch, wire);
        } else { /* we stood still so long that the server took its slot back */
            eepi_shm_send_cancel(&shm->base, fetch);
            eepi_bulk_fetch_end(&shm->base, fetch, EEP_ERR_UNREACHABLE);
        }
    }
    from->acks |= 1u << message->slot;
    from->ack_sequence[message->slot] = message->sequence;
    eepi_shm_send_acks(shm, from);
}

static int read_peer(bulk_shm *shm, shm_peer *from)
{
    int work = 0;
    for (int i = 0; i < MESSAGES_A_ROUND && !from->failed; i++) {
        shm_wire message;
        int fd = -1;
        bool lost = false;
        ssize_t bytes = eepi_holder_receive(from->fd, &message, sizeof message, &fd, &lost);
        bool brings_fd = fd >= 0 || lost; /* nobody sends any here */
        eepi_holder_drop_fd(fd);
        if (bytes < 0 && errno == EAGAIN) {
            break;
        }
        work = 1;
        if (bytes <= 0) {
            eepi_shm_peer_fail(from, EEP_ERR_UNREACHABLE);
        } else if (brings_fd || bytes != (ssize_t)sizeof message ||
                   message.wire.magic != BULK_MAGIC) {
            eepi_shm_peer_fail(from, EEP_ERR_PROTOCOL);
        } else if (from->is_caller) {
            eepi_shm_serve_handle(shm, from, &message);
        } else if (message.wire.kind == BULK_CHUNK) {
            handle_chunk(shm, from, &message);
        } else if (message.wire.kind == BULK_END) {
            eepi_bulk_end_arrived(&shm->base, from, &message.wire);
        } else {
            eepi_shm_peer_fail(from, EEP_ERR_PROTOCOL);
        }
    }
    return work;
}

/* ---------------------------------------------------------------- progress */

static int read_events(bulk_shm *shm)
{
    struct epoll_event events[MAX_EVENTS];
    int work = 0;
    int num = epoll_wait(shm->base.poll_fd, events, MAX_EVENTS, 0);
    for (int i = 0; i < num; i++) {
        shm_peer *peer = events[i].data.ptr;
        if (peer == NULL || (void *)peer == (void *)&shm->holder) {
            continue; /* the timer; the holder is asked in any case */
        }
        if ((events[i].events & EPOLLOUT) != 0 && !peer->failed) {
            eepi_shm_send_waiting(shm, peer);
            work = 1;
        }
        work |= read_peer(shm, peer);
    }
    return work;
}

static int progress(eepi_bulk *bulk, uint64_t now_us)
{
    bulk_shm *shm = shm_of(bulk);
    shm->now_us = now_us;
    int work = read_events(shm); /* peers are freed by reap_peers only */
    work |= eepi_holder_client_progress(&shm->holder, now_us);
    eepi_shm_holder_note_refusal(shm);
    work |= eepi_shm_holder_ask(shm, now_us);
    work |= eepi_shm_serve_progress(shm);
    return work | reap_peers(shm);
}

static int arm(eepi_bulk *bulk, uint64_t *next_us)
{
    bulk_shm *shm = shm_of(bulk);
    uint64_t wake_us = eepi_holder_client_wake_us(&shm->holder);
    if (wake_us < *next_us) {
        *next_us = wake_us;
    }
    for (const shm_peer *peer = shm->peers; peer != NULL; peer = peer->next) {
        if (shm->holder.is_known && peer->ask_us < *next_us) {
            *next_us = peer->ask_us;
        }
    }
    eepi_shm_serve_arm(shm, next_us);
    return 0;
}

static void forget(eepi_bulk *bulk, const void *address, size_t bytes)
{
    shm_peer *peer = eepi_shm_peer_find(shm_of(bulk), address, bytes);
    if (peer != NULL) {
        eepi_shm_peer_fail(peer, EEP_ERR_UNREACHABLE);
    }
}

/* ---------------------------------------------------------------- open and close */

static void close_carrier(eepi_bulk *bulk)
{
    bulk_shm *shm = shm_of(bulk);
    eepi_shm_serve_drop(shm, NULL);
    while (shm->peers != NULL) {
        eepi_shm_peer_free(shm, &shm->peers);
    }
    eepi_holder_client_close(&shm->holder);
    eepi_shm_region_unmap(shm->region);
    if (shm->region_fd >= 0) {
        close(shm->region_fd);
    }
    eepi_bulk_base_close(bulk);
    free(shm);
}

const bulk_carrier eepi_shm_carrier = {
    .peer_get = get_peer,
    .ask = eepi_shm_send_request,
    .cancel = eepi_shm_send_cancel,
    .progress = progress,
    .arm = arm,
    .forget = forget,
    .close = close_carrier,
};
