/* Bulk copies in shared memory: peers, the holder, and the side that asks. */
#include "transport/bulk/bulk_shm.h"

#include "transport/holder/holder_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    YOUNG_US = 2000000,   /* a holder that is younger may not know all ranks again yet */
    ASK_AGAIN_US = 20000, /* then who is not known is asked for again */
    PEERS_MAX = 8192,     /* more that connect to us are let go */
    MESSAGES_A_ROUND = 8, /* of one peer: each may be a chunk to copy */
    MAX_EVENTS = 32
};

static bulk_shm *shm_of(eepi_bulk *bulk)
{
    return (bulk_shm *)bulk;
}

static void name_of(const uint8_t *identity, char name[EEPI_HOLDER_NAME_BYTES])
{
    int used = snprintf(name, EEPI_HOLDER_NAME_BYTES, "bulk/");
    for (int i = 0; i < EEPI_HOLDER_IDENTITY_BYTES; i++) {
        used += snprintf(name + used, EEPI_HOLDER_NAME_BYTES - (size_t)used, "%02x", identity[i]);
    }
}

/* ---------------------------------------------------------------- peers */

static void fail_peer(shm_peer *peer, eep_status why)
{
    if (!peer->failed) {
        peer->why = why;
    }
    peer->failed = true;
}

static shm_peer *add_peer(bulk_shm *shm, const uint8_t *identity, bool is_caller)
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

/* Nothing hangs on it any more. */
static void free_peer(bulk_shm *shm, shm_peer **link)
{
    shm_peer *peer = *link;
    *link = peer->next;
    shm->num_peers--;
    eepi_shm_region_unmap(peer->region);
    eepi_holder_hang_up(shm->base.poll_fd, peer->fd);
    free(peer);
}

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
        free_peer(shm, link);
        work = 1;
    }
    return work;
}

static shm_peer *find_peer(const bulk_shm *shm, const void *address, size_t bytes)
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
    shm_peer *peer = find_peer(shm, address, bytes);
    if (peer == NULL) {
        peer = add_peer(shm, at.identity, false);
    }
    if (peer == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    *peer_out = peer;
    return EEP_OK;
}

static bool is_ready(const shm_peer *peer)
{
    return peer->fd >= 0 && peer->region != NULL && !peer->failed;
}

static bool watch_peer(const bulk_shm *shm, shm_peer *peer, int operation)
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
    fail_peer(peer, EEP_ERR_UNREACHABLE);
    return true;
}

/* What could not be sent is sent when there is room again. */
static void wait_for_room(const bulk_shm *shm, shm_peer *peer)
{
    if (peer->wants_out) {
        return;
    }
    peer->wants_out = true;
    if (!watch_peer(shm, peer, EPOLL_CTL_MOD)) {
        fail_peer(peer, EEP_ERR_SYSTEM);
    }
}

static void ask(eepi_bulk *bulk, bulk_fetch *fetch)
{
    shm_peer *peer = (shm_peer *)fetch->peer;
    uint64_t now_us = eepi_now_us();
    shm_wire message = {
        .wire = {.magic = BULK_MAGIC,
                 .kind = BULK_REQUEST,
                 .epoch = fetch->blob.epoch,
                 .transfer = fetch->transfer,
                 .bytes = fetch->bytes,
                 .timeout_us = fetch->deadline_us > now_us ? fetch->deadline_us - now_us : 0,
                 .layer = fetch->blob.layer,
                 .expert = fetch->blob.expert}};
    if (!is_ready(peer)) {
        return; /* once it is connected */
    }
    fetch->asked = eepi_shm_send(peer, &message);
    if (!fetch->asked) {
        wait_for_room(shm_of(bulk), peer);
    }
}

/* Cancelling is a courtesy: the server's own deadline ends what is not cancelled. */
static void send_cancel(eepi_bulk *bulk, const bulk_fetch *fetch)
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

/* The slots that were read go back. */
static void send_acks(const bulk_shm *shm, shm_peer *peer)
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

static void send_waiting(bulk_shm *shm, shm_peer *peer)
{
    if (peer->wants_out) {
        peer->wants_out = false;
        if (!watch_peer(shm, peer, EPOLL_CTL_MOD)) {
            fail_peer(peer, EEP_ERR_SYSTEM);
        }
    }
    send_acks(shm, peer);
    for (bulk_fetch *fetch = shm->base.fetches; fetch != NULL; fetch = fetch->next) {
        if (fetch->peer == peer && !fetch->asked && !peer->wants_out) {
            ask(&shm->base, fetch);
        }
    }
}

/* ---------------------------------------------------------------- what peers send */

static void take_chunk(bulk_shm *shm, shm_peer *from, const shm_wire *message)
{
    const bulk_wire *wire = &message->wire;
    if (message->slot >= SHM_SLOTS || from->region == NULL) {
        fail_peer(from, EEP_ERR_PROTOCOL);
        return;
    }
    bulk_fetch *fetch = eepi_bulk_fetch_find(&shm->base, from, wire);
    /* NULL: of a voided transfer (rule R1) */
    if (fetch != NULL && !eepi_bulk_chunk_fits(fetch, wire, wire->bytes)) {
        send_cancel(&shm->base, fetch);
        eepi_bulk_fetch_end(&shm->base, fetch, EEP_ERR_PROTOCOL);
    } else if (fetch != NULL) {
        if (eepi_shm_slot_read(from->region, (int)message->slot, message->sequence,
                               fetch->buffer + wire->offset, wire->bytes)) {
            eepi_bulk_chunk_landed(&shm->base, fetch, wire);
        } else { /* we stood still so long that the server took its slot back */
            send_cancel(&shm->base, fetch);
            eepi_bulk_fetch_end(&shm->base, fetch, EEP_ERR_UNREACHABLE);
        }
    }
    from->acks |= 1u << message->slot;
    from->ack_sequence[message->slot] = message->sequence;
    send_acks(shm, from);
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
            fail_peer(from, EEP_ERR_UNREACHABLE);
        } else if (brings_fd || bytes != (ssize_t)sizeof message ||
                   message.wire.magic != BULK_MAGIC) {
            fail_peer(from, EEP_ERR_PROTOCOL);
        } else if (from->is_caller) {
            eepi_shm_serve_take(shm, from, &message);
        } else if (message.wire.kind == BULK_CHUNK) {
            take_chunk(shm, from, &message);
        } else if (message.wire.kind == BULK_END) {
            eepi_bulk_end_arrived(&shm->base, from, &message.wire);
        } else {
            fail_peer(from, EEP_ERR_PROTOCOL);
        }
    }
    return work;
}

/* ---------------------------------------------------------------- the holder */

static void hold_region(bulk_shm *shm)
{
    char name[EEPI_HOLDER_NAME_BYTES];
    name_of(shm->address.identity, name);
    shm->hold_id = eepi_holder_client_ask(&shm->holder, EEPI_HOLDER_HOLD, NULL, name,
                                          SHM_REGION_BYTES, shm->region_fd);
    if (shm->hold_id == 0) {
        eepi_holder_client_drop(&shm->holder, eepi_now_us(), shm->holder.why);
    }
}

static void on_met(void *user)
{
    hold_region(user);
}

/* What it has not answered is asked of the next one; who is connected stays so. */
static void on_lost(void *user)
{
    bulk_shm *shm = user;
    shm->is_held = false;
    shm->hold_id = 0;
    for (shm_peer *peer = shm->peers; peer != NULL; peer = peer->next) {
        if (peer->is_caller || is_ready(peer)) {
            continue;
        }
        peer->look_up_id = peer->connect_id = 0;
        peer->ask_us = 0;
    }
}

/* Somebody wants to ask us. */
static void on_called(void *user, const eepi_holder_message *call, int fd)
{
    bulk_shm *shm = user;
    shm_peer *peer = fd >= 0 && shm->num_peers < PEERS_MAX && !shm->base.closing
                         ? add_peer(shm, call->identity, true)
                         : NULL;
    if (peer == NULL) {
        eepi_holder_drop_fd(fd); /* it sees the end of the connection */
        return;
    }
    peer->fd = fd;
    if (!watch_peer(shm, peer, EPOLL_CTL_ADD)) {
        fail_peer(peer, EEP_ERR_SYSTEM);
    }
}

/* Ask the holder for both, the region and a connection. */
static void ask_holder(bulk_shm *shm, shm_peer *peer, uint64_t now_us)
{
    char name[EEPI_HOLDER_NAME_BYTES];
    name_of(peer->identity, name);
    peer->ask_us = UINT64_MAX;
    if (peer->region == NULL) {
        peer->look_up_id =
            eepi_holder_client_ask(&shm->holder, EEPI_HOLDER_LOOK_UP, NULL, name, 0, -1);
    }
    if (peer->fd < 0) {
        peer->connect_id =
            eepi_holder_client_ask(&shm->holder, EEPI_HOLDER_CONNECT, peer->identity, NULL, 0, -1);
    }
    if ((peer->region == NULL && peer->look_up_id == 0) ||
        (peer->fd < 0 && peer->connect_id == 0)) {
        peer->ask_us = now_us + ASK_AGAIN_US;
    }
}

static void take_region(shm_peer *peer, const eepi_holder_message *answer, int fd)
{
    /* The memory of whom we ask, and of nobody else who took its name. */
    if (memcmp(answer->identity, peer->identity, sizeof peer->identity) != 0) {
        fail_peer(peer, EEP_ERR_PROTOCOL);
        return;
    }
    eep_status status = eepi_shm_region_open(fd, &peer->region);
    if (status != EEP_OK) {
        fail_peer(peer, status);
    }
}

/* Returns whether the descriptor was taken over. */
static bool take_answer(bulk_shm *shm, shm_peer *peer, const eepi_holder_message *answer, int fd,
                        bool lost)
{
    bool is_connection = peer->connect_id == answer->id;
    *(is_connection ? &peer->connect_id : &peer->look_up_id) = 0;
    if (answer->status == EEP_ERR_NOT_FOUND && answer->age_us < YOUNG_US) {
        peer->ask_us = shm->now_us + ASK_AGAIN_US;
        return false;
    }
    if (answer->status != EEP_OK || fd < 0) {
        fail_peer(peer, lost                                    ? EEP_ERR_SYSTEM
                        : answer->status == EEP_ERR_SYSTEM      ? EEP_ERR_SYSTEM
                        : answer->status == EEP_ERR_UNSUPPORTED ? EEP_ERR_UNSUPPORTED
                                                                : EEP_ERR_UNREACHABLE);
        return false;
    }
    if (!is_connection) {
        take_region(peer, answer, fd);
        return false;
    }
    peer->fd = fd;
    if (!watch_peer(shm, peer, EPOLL_CTL_ADD)) {
        fail_peer(peer, EEP_ERR_SYSTEM);
    }
    return true;
}

static void on_answered(void *user, const eepi_holder_message *answer, int fd, bool lost)
{
    bulk_shm *shm = user;
    bool taken = false;
    if (answer->id == shm->hold_id) {
        shm->hold_id = 0;
        shm->is_held = answer->status == EEP_OK;
        if (shm->is_held) {
            eepi_holder_client_settled(&shm->holder);
        } else {
            eepi_holder_client_drop(&shm->holder, eepi_now_us(), answer->status);
        }
    }
    for (shm_peer *peer = shm->peers; peer != NULL && answer->id != 0; peer = peer->next) {
        if (peer->connect_id != answer->id && peer->look_up_id != answer->id) {
            continue;
        }
        taken = take_answer(shm, peer, answer, fd, lost);
        if (is_ready(peer)) {
            send_waiting(shm, peer);
        }
        break;
    }
    if (!taken) {
        eepi_holder_drop_fd(fd);
    }
}

/* ---------------------------------------------------------------- progress */

/* Ask the holder for each peer whose time to be asked for has come. The fetch that named the peer
 * may have ended meanwhile: the next one finds it connected. */
static int ask_for_peers(bulk_shm *shm, uint64_t now_us)
{
    int work = 0;
    for (shm_peer *peer = shm->peers; peer != NULL && shm->holder.is_known; peer = peer->next) {
        if (!peer->failed && peer->ask_us <= now_us) {
            ask_holder(shm, peer, now_us);
            work = 1;
        }
    }
    return work;
}

/* Say once why nobody can fetch from us, where the holder is there and says no. That there is none
 * is the store's absence, which its client tells. */
static void complain(bulk_shm *shm)
{
    char text[BULK_NOTE_BYTES];
    eep_status why = shm->holder.why;
    if (shm->is_held) {
        shm->complained = false;
    }
    if (shm->is_held || shm->complained || shm->holder.fd >= 0 || why == EEP_OK ||
        why == EEP_ERR_UNREACHABLE || why == EEP_ERR_CONFLICT || shm->base.note == NULL) {
        return; /* CONFLICT: it has not noticed yet that our last connection ended */
    }
    snprintf(text, sizeof text,
             "the holder at %.300s does not take this rank's memory: %s; no other rank can copy "
             "weights from it until it does, and this rank goes on asking",
             shm->holder.path, eepi_shm_refusal(why));
    shm->complained = true;
    shm->base.note(shm->base.user, text);
}

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
            send_waiting(shm, peer);
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
    complain(shm);
    work |= ask_for_peers(shm, now_us);
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
    shm_peer *peer = find_peer(shm_of(bulk), address, bytes);
    if (peer != NULL) {
        fail_peer(peer, EEP_ERR_UNREACHABLE);
    }
}

/* ---------------------------------------------------------------- open and close */

static void close_carrier(eepi_bulk *bulk)
{
    bulk_shm *shm = shm_of(bulk);
    eepi_shm_serve_drop(shm, NULL);
    while (shm->peers != NULL) {
        free_peer(shm, &shm->peers);
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
    .ask = ask,
    .cancel = send_cancel,
    .progress = progress,
    .arm = arm,
    .forget = forget,
    .close = close_carrier,
};

void eepi_shm_holder_fill(bulk_shm *shm, const eepi_bulk_config *config)
{
    shm->holder = (eepi_holder_client){.epoll_fd = shm->base.poll_fd,
                                       .seat = config->seat,
                                       .generation = config->generation,
                                       .answered = on_answered,
                                       .called = on_called,
                                       .met = on_met,
                                       .lost = on_lost,
                                       .user = shm};
    snprintf(shm->holder.path, sizeof shm->holder.path, "%s", config->holder_path);
}
