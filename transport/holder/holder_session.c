/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank has the holder retain, and what it is shown: one question at a time. */
#include "transport/holder/holder_session.h"

#include "graphs/base/clock.h"
#include "transport/holder/holder_client.h"
#include "transport/holder/holder_socket.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROUNDS = 1024 }; /* most questions that are answered in one progress */

/* Memory of ours, or of another rank that we keep for the next holder. */
typedef struct own_piece {
    struct own_piece *next;
    int fd;
    uint64_t bytes;
    bool is_held;
    char name[EEPI_HOLDER_NAME_BYTES];
} own_piece;

typedef enum question { ASKS_NOTHING, ASKS_HOLD, ASKS_NEXT, ASKS_RELEASE } question;

struct eepi_holder_session {
    eepi_holder_client client;
    char name[EEPI_HOLDER_NAME_BYTES];
    char released[EEPI_HOLDER_NAME_BYTES]; /* to be let go of; "": nothing is */
    void (*found)(void *user, const eepi_holder_piece *piece);
    void *user;
    own_piece *pieces;
    int num_unheld; /* of them */
    question asks;  /* and has no answer yet */
    uint64_t ask_id;
    own_piece *asked_for; /* of ASKS_HOLD */
    uint64_t sequence;    /* of the last piece that this holder has shown */
    bool looks;           /* there may be more */
    eep_status refused;   /* why a piece is not held */
};

static own_piece *next_to_hold(const eepi_holder_session *session)
{
    own_piece *piece = session->num_unheld > 0 ? session->pieces : NULL;

    while (piece != NULL && piece->is_held) {
        piece = piece->next;
    }
    return piece;
}

/* Ask the next question, if none is open. */
static void ask_next(eepi_holder_session *session)
{
    eepi_holder_client *client = &session->client;
    own_piece *piece = next_to_hold(session);
    uint64_t id = 0;

    if (!client->is_known || session->asks != ASKS_NOTHING) {
        return;
    }
    if (session->released[0] != '\0') {
        session->asks = ASKS_RELEASE;
        id = eepi_holder_client_ask_retained(client, EEPI_HOLDER_RELEASE, session->released, 0, -1);
    } else if (piece != NULL) {
        session->asks = ASKS_HOLD;
        session->asked_for = piece;
        id = eepi_holder_client_ask_retained(client, EEPI_HOLDER_HOLD, piece->name, piece->bytes,
                                             piece->fd);
    } else if (session->looks) {
        session->asks = ASKS_NEXT;
        id = eepi_holder_client_ask_retained(client, EEPI_HOLDER_NEXT, session->name,
                                             session->sequence, -1);
    } else {
        eepi_holder_client_settled(client);
        return;
    }
    session->ask_id = id;
    if (id == 0) {
        eepi_holder_client_drop(client, eepi_now_us(), client->why);
    }
}

/* ---------------------------------------------------------------- what the holder says */

static void on_met(void *user)
{
    eepi_holder_session *session = user;

    session->asks = ASKS_NOTHING;
    session->sequence = 0;
    session->looks = true;
    session->refused = EEP_OK;
    session->num_unheld = 0;
    for (own_piece *piece = session->pieces; piece != NULL; piece = piece->next) {
        piece->is_held = false;
        session->num_unheld++;
    }
}

static void on_lost(void *user)
{
    ((eepi_holder_session *)user)->asks = ASKS_NOTHING;
}

static void on_called(void *user, const eepi_holder_message *call, int fd)
{
    (void)user, (void)call;
    eepi_holder_drop_fd(fd); /* nobody is served here */
}

static void take_next(eepi_holder_session *session, const eepi_holder_message *answer, int fd,
                      bool lost)
{
    session->looks = answer->status == EEP_OK;
    if (answer->status != EEP_OK || answer->sequence <= session->sequence) {
        session->looks = false;
        return;
    }
    if (lost) { /* no descriptor left here: there may be one when it is asked for again */
        session->looks = false;
        return;
    }
    session->sequence = answer->sequence;
    if (fd >= 0) {
        const eepi_holder_piece piece = {.name = answer->name,
                                         .fd = fd,
                                         .bytes = answer->bytes,
                                         .seat = answer->seat,
                                         .generation = answer->generation};
        session->found(session->user, &piece);
    }
}

static void on_answered(void *user, const eepi_holder_message *answer, int fd, bool lost)
{
    eepi_holder_session *session = user;
    const question asks = session->asks;

    if (answer->id == session->ask_id && asks != ASKS_NOTHING) {
        session->asks = ASKS_NOTHING;
        if (asks == ASKS_RELEASE) {
            session->released[0] = '\0';
        } else if (asks == ASKS_NEXT) {
            take_next(session, answer, fd, lost);
        } else {
            /* CONFLICT: another rank, or an earlier connection of ours, has put it there. What is
             * refused is not asked for again before another holder comes. */
            session->num_unheld -= !session->asked_for->is_held;
            session->asked_for->is_held = true;
            if (answer->status != EEP_OK && answer->status != EEP_ERR_CONFLICT) {
                session->refused = answer->status;
            }
        }
    }
    eepi_holder_drop_fd(fd);
}

/* ---------------------------------------------------------------- calls */

eep_status eepi_holder_session_open(const eepi_holder_session_config *config,
                                    eepi_holder_session **session_out)
{
    eepi_holder_session *session = calloc(1, sizeof *session);
    eep_status status;

    if (session == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    session->client = (eepi_holder_client){.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                                           .seat = config->seat,
                                           .generation = config->generation,
                                           .answered = on_answered,
                                           .called = on_called,
                                           .met = on_met,
                                           .lost = on_lost,
                                           .user = session};
    snprintf(session->client.path, sizeof session->client.path, "%s", config->path);
    snprintf(session->name, sizeof session->name, "%s", config->name);
    session->found = config->found;
    session->user = config->user;
    status = eepi_holder_client_init(&session->client);
    if (session->client.epoll_fd < 0 || status != EEP_OK) {
        eepi_holder_session_close(session);
        return EEP_ERR_SYSTEM;
    }
    *session_out = session;
    return EEP_OK;
}

static void drop_pieces(eepi_holder_session *session, const char *name)
{
    for (own_piece **link = &session->pieces; *link != NULL;) {
        own_piece *piece = *link;
        if (strncmp(piece->name, name, strlen(name)) != 0) {
            link = &piece->next;
            continue;
        }
        *link = piece->next;
        if (session->asked_for == piece && session->asks == ASKS_HOLD) {
            session->asks = ASKS_NOTHING; /* its answer is passed over */
        }
        session->num_unheld -= !piece->is_held;
        close(piece->fd);
        free(piece);
    }
}

void eepi_holder_session_close(eepi_holder_session *session)
{
    if (session == NULL) {
        return;
    }
    eepi_holder_client_close(&session->client);
    if (session->client.epoll_fd >= 0) {
        close(session->client.epoll_fd);
    }
    drop_pieces(session, "");
    free(session);
}

eep_status eepi_holder_session_hold(eepi_holder_session *session, const char *name, int fd,
                                    uint64_t bytes, bool is_held)
{
    own_piece *piece = calloc(1, sizeof *piece);
    own_piece **link = &session->pieces;

    if (piece == NULL) {
        return EEP_ERR_NO_MEMORY;
    }
    piece->fd = fd;
    piece->bytes = bytes;
    piece->is_held = is_held;
    session->num_unheld += !is_held;
    snprintf(piece->name, sizeof piece->name, "%s", name);
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = piece;
    ask_next(session);
    return EEP_OK;
}

void eepi_holder_session_look(eepi_holder_session *session)
{
    session->looks = true;
    ask_next(session);
}

bool eepi_holder_session_release(eepi_holder_session *session, const char *name)
{
    if (session->released[0] != '\0') {
        return false;
    }
    drop_pieces(session, name);
    snprintf(session->released, sizeof session->released, "%s", name);
    ask_next(session);
    return true;
}

int eepi_holder_session_fd(const eepi_holder_session *session)
{
    return session->client.epoll_fd;
}

int eepi_holder_session_progress(eepi_holder_session *session, uint64_t now_us)
{
    int work = eepi_holder_client_progress(&session->client, now_us);

    ask_next(session);
    return work;
}

uint64_t eepi_holder_session_wake_us(const eepi_holder_session *session)
{
    return eepi_holder_client_wake_us(&session->client);
}

bool eepi_holder_session_is_settled(const eepi_holder_session *session)
{
    return session->client.is_known && session->asks == ASKS_NOTHING && !session->looks &&
           session->released[0] == '\0' && next_to_hold(session) == NULL;
}

/* Nothing that waiting could mend. */
static bool is_final(eep_status why)
{
    return why == EEP_ERR_STATE || why == EEP_ERR_UNSUPPORTED || why == EEP_ERR_INVALID;
}

eep_status eepi_holder_session_wait(eepi_holder_session *session, uint64_t until_us)
{
    for (int i = 0; !eepi_holder_session_is_settled(session);) {
        uint64_t now_us = eepi_now_us(), wake_us;
        struct pollfd fd = {.fd = session->client.epoll_fd, .events = POLLIN};

        if (now_us >= until_us || (!session->client.is_known && is_final(session->client.why))) {
            return session->client.why != EEP_OK ? session->client.why : EEP_ERR_TIMEOUT;
        }
        if (eepi_holder_session_progress(session, now_us) != 0 && i++ < ROUNDS) {
            continue;
        }
        i = 0;
        wake_us = eepi_holder_session_wake_us(session);
        wake_us = wake_us < until_us ? wake_us : until_us;
        (void)poll(&fd, 1, wake_us > now_us ? (int)((wake_us - now_us) / 1000 + 1) : 0);
    }
    return session->refused;
}

bool eepi_holder_session_is_own(const eepi_holder_session *session)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;

    return session->client.fd >= 0 &&
           getsockopt(session->client.fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 &&
           peer.pid == getpid();
}
