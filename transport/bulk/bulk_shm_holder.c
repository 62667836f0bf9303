/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copies in shared memory: what a copier asks of the holder and is told by it. The holder
 * holds the copier's region, shows the regions of others, and connects copiers with one another. */
#include "transport/bulk/bulk_shm.h"

#include "transport/holder/holder_socket.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

enum {
    YOUNG_US = 2000000,   /* a holder that is younger may not know all ranks again yet */
    ASK_AGAIN_US = 20000, /* then who is not known is asked for again */
    PEERS_MAX = 8192      /* more that connect to us are let go */
};

static void name_of(const uint8_t *identity, char name[EEPI_HOLDER_NAME_BYTES])
{
    int used = snprintf(name, EEPI_HOLDER_NAME_BYTES, "bulk/");
    for (int i = 0; i < EEPI_HOLDER_IDENTITY_BYTES; i++) {
        used += snprintf(name + used, EEPI_HOLDER_NAME_BYTES - (size_t)used, "%02x", identity[i]);
    }
}

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
        if (peer->is_caller || eepi_shm_peer_is_ready(peer)) {
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
                         ? eepi_shm_peer_add(shm, call->identity, true)
                         : NULL;
    if (peer == NULL) {
        eepi_holder_drop_fd(fd); /* it sees the end of the connection */
        return;
    }
    peer->fd = fd;
    if (!eepi_shm_peer_watch(shm, peer, EPOLL_CTL_ADD)) {
        eepi_shm_peer_fail(peer, EEP_ERR_SYSTEM);
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

static void handle_region(shm_peer *peer, const eepi_holder_message *answer, int fd)
{
    /* The memory of whom we ask, and of nobody else who took its name. */
    if (memcmp(answer->identity, peer->identity, sizeof peer->identity) != 0) {
        eepi_shm_peer_fail(peer, EEP_ERR_PROTOCOL);
        return;
    }
    eep_status status = eepi_shm_region_open(fd, &peer->region);
    if (status != EEP_OK) {
        eepi_shm_peer_fail(peer, status);
    }
}

/* Returns whether the descriptor was taken over. */
static bool handle_answer(bulk_shm *shm, shm_peer *peer, const eepi_holder_message *answer, int fd,
                          bool lost)
{
    bool is_connection = peer->connect_id == answer->id;
    *(is_connection ? &peer->connect_id : &peer->look_up_id) = 0;
    if (answer->status == EEP_ERR_NOT_FOUND && answer->age_us < YOUNG_US) {
        peer->ask_us = shm->now_us + ASK_AGAIN_US;
        return false;
    }
    if (answer->status != EEP_OK || fd < 0) {
        eepi_shm_peer_fail(peer, lost                                    ? EEP_ERR_SYSTEM
                                 : answer->status == EEP_ERR_SYSTEM      ? EEP_ERR_SYSTEM
                                 : answer->status == EEP_ERR_UNSUPPORTED ? EEP_ERR_UNSUPPORTED
                                                                         : EEP_ERR_UNREACHABLE);
        return false;
    }
    if (!is_connection) {
        handle_region(peer, answer, fd);
        return false;
    }
    peer->fd = fd;
    if (!eepi_shm_peer_watch(shm, peer, EPOLL_CTL_ADD)) {
        eepi_shm_peer_fail(peer, EEP_ERR_SYSTEM);
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
        taken = handle_answer(shm, peer, answer, fd, lost);
        if (eepi_shm_peer_is_ready(peer)) {
            eepi_shm_send_waiting(shm, peer);
        }
        break;
    }
    if (!taken) {
        eepi_holder_drop_fd(fd);
    }
}

/* Ask the holder for each peer whose time to be asked for has come. The fetch that named the peer
 * may have ended meanwhile: the next one finds it connected. */
int eepi_shm_holder_ask(bulk_shm *shm, uint64_t now_us)
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

const char *eepi_shm_refusal(eep_status why)
{
    switch (why) {
    case EEP_OK:
        return "it has let this rank in, and has not answered since";
    case EEP_ERR_STATE:
        return "it, or what listens there, is of another user";
    case EEP_ERR_UNSUPPORTED:
        return "it speaks another version of its protocol: run store and ranks of one version";
    case EEP_ERR_INVALID:
        return "it cannot be reached by that path, or the memory is not sealed";
    case EEP_ERR_SYSTEM:
        return "its process, or this one, has no descriptors left, or this user has too many on "
               "their way in sockets (RLIMIT_NOFILE, ulimit -n)";
    case EEP_ERR_NO_MEMORY:
        return "it has as many clients as it takes, or no memory";
    default:
        return eep_strerror(why);
    }
}

/* Say once why nobody can fetch from us, where the holder is there and says no. That there is none
 * is the store's absence, which its client tells. */
void eepi_shm_holder_note_refusal(bulk_shm *shm)
{
    char text[BULK_NOTE_BYTES];
    eep_status why = shm->holder.why;
    if (shm->is_held) {
        shm->refusal_noted = false;
    }
    if (shm->is_held || shm->refusal_noted || shm->holder.fd >= 0 || why == EEP_OK ||
        why == EEP_ERR_UNREACHABLE || why == EEP_ERR_CONFLICT || shm->base.note == NULL) {
        return; /* CONFLICT: it has not noticed yet that our last connection ended */
    }
    snprintf(text, sizeof text,
             "the holder at %.300s does not take this rank's memory: %s; no other rank can copy "
             "weights from it until it does, and this rank goes on asking",
             shm->holder.path, eepi_shm_refusal(why));
    shm->refusal_noted = true;
    shm->base.note(shm->base.user, text);
}

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
