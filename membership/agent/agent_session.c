/* SPDX-License-Identifier: Apache-2.0 */
/* A rank and its agent. */
#include "membership/agent/agent_session.h"

#include "graphs/base/clock.h"
#include "membership/agent/agent_links.h"
#include "transport/holder/holder_client.h"
#include "transport/holder/holder_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WHY_BYTES = 320 };

typedef enum request { ASKED_NOTHING, ASKED_HOLD, ASKED_ATTACH } request;

struct eepi_agent_session {
    eepi_agent_session_config config;
    eepi_holder_client client;
    char name[EEPI_HOLDER_NAME_BYTES]; /* of the pulse */
    int pulse_fd;
    eepi_pulse *pulse;
    request asked;
    uint64_t ask_id;
    eepi_board *agents; /* of the newest agent; it stays when that one ends */
    bool has_noted;
    uint64_t alone_us; /* when its agent said nothing last */
    bool is_mute;      /* it could not speak for itself; not tried again before its agent speaks */
    /* while it speaks for itself: */
    pthread_mutex_t lock;
    eepi_board *own;
    eepi_board *addresses; /* those by which it speaks: of an agent that may have ended since */
    eepi_agent_table *table;
    eepi_agent_links *links;
};

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static void tell_boards(eepi_agent_session *session)
{
    session->config.boards(session->config.user, session->agents, session->own);
}

static void note_once(eepi_agent_session *session, const char *what, eep_status why)
{
    char text[WHY_BYTES];

    if (!session->has_noted) {
        session->has_noted = true;
        snprintf(text, sizeof text, "this host's agent %s: %s", what, eep_strerror(why));
        session->config.note(session->config.user, text);
    }
}

/* ------------------------------------------------------------------ attaching */

static void ask_hold(eepi_agent_session *session)
{
    session->asked = ASKED_HOLD;
    session->ask_id = eepi_holder_client_ask(&session->client, EEPI_HOLDER_HOLD, NULL,
                                             session->name, EEPI_PULSE_BYTES, session->pulse_fd);
}

static void ask_attach(eepi_agent_session *session)
{
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    session->asked = ASKED_ATTACH;
    session->ask_id = pidfd < 0 ? 0
                                : eepi_holder_client_ask_attach(&session->client, session->name,
                                                                session->config.host,
                                                                session->config.home, pidfd);
    close_fd(pidfd);
}

static void on_met(void *user)
{
    ask_hold(user);
}

static void on_lost(void *user)
{
    eepi_agent_session *session = user;

    session->asked = ASKED_NOTHING;
}

static void on_called(void *user, const eepi_holder_message *call, int fd)
{
    (void)user, (void)call;
    eepi_holder_drop_fd(fd);
}

/* A board that this process can map, and nobody shortens. NULL: it is none. */
static eepi_board *map_board(int fd)
{
    struct stat info;
    const int seals = fd >= 0 ? fcntl(fd, F_GET_SEALS) : -1;
    eepi_board *board = MAP_FAILED;

    if (seals >= 0 && (seals & EEPI_HOLDER_SEALS) == EEPI_HOLDER_SEALS && fstat(fd, &info) == 0 &&
        (size_t)info.st_size >= sizeof *board) {
        board = mmap(NULL, sizeof *board, PROT_READ, MAP_SHARED, fd, 0);
    }
    if (board == MAP_FAILED) {
        return NULL;
    }
    if (board->magic != EEPI_BOARD_MAGIC || board->version != EEPI_BOARD_VERSION) {
        munmap(board, sizeof *board);
        return NULL;
    }
    return board;
}

/* Unless it is in use. */
static void drop_board(const eepi_agent_session *session, eepi_board *board)
{
    if (board && board != session->agents && board != session->addresses) {
        munmap(board, sizeof *board);
    }
}

static void take_board(eepi_agent_session *session, int fd)
{
    eepi_board *before = session->agents, *board = map_board(fd);

    if (!board) {
        note_once(session, "has a board of another version", EEP_ERR_UNSUPPORTED);
        return;
    }
    session->agents = board;
    tell_boards(session);
    drop_board(session, before);
    session->has_noted = false;
    eepi_holder_client_settled(&session->client);
}

static void on_answered(void *user, const eepi_holder_message *answer, int fd, bool lost)
{
    eepi_agent_session *session = user;
    const request asked = answer->id == session->ask_id ? session->asked : ASKED_NOTHING;

    (void)lost;
    if (asked == ASKED_HOLD && answer->status == EEP_OK) {
        ask_attach(session);
    } else if (asked == ASKED_ATTACH && answer->status == EEP_OK) {
        session->asked = ASKED_NOTHING;
        take_board(session, fd);
    } else if (asked != ASKED_NOTHING) {
        session->asked = ASKED_NOTHING;
        note_once(session, "does not take this rank", answer->status);
        if (answer->status == EEP_ERR_CONFLICT || answer->status == EEP_ERR_SYSTEM) {
            /* our last connection is not over there yet, say */
            eepi_holder_client_drop(&session->client, eepi_now_us(), answer->status);
        }
    }
    eepi_holder_drop_fd(fd);
}

/* ------------------------------------------------------------------ speaking for itself */

static void refresh(void *user)
{
    eepi_agent_session *session = user;
    const uint64_t until_ns = __atomic_load_n(&session->pulse->busy_until_ns, __ATOMIC_ACQUIRE);
    const uint64_t now_ns = eepi_now_ns();

    eepi_agent_note_beats(session->table, session->config.seat, session->config.generation,
                          __atomic_load_n(&session->pulse->beats, __ATOMIC_ACQUIRE),
                          until_ns > now_ns ? (until_ns - now_ns) / 1000u : 0);
}

static void stop_speaking(eepi_agent_session *session)
{
    eepi_board *own = session->own, *addresses = session->addresses;

    if (!own) {
        return;
    }
    eepi_agent_links_close(session->links);
    eepi_agent_table_close(session->table);
    session->links = NULL;
    session->table = NULL;
    session->own = session->addresses = NULL;
    tell_boards(session);
    drop_board(session, addresses);
    free(own);
}

static eep_status speak(eepi_agent_session *session, char *why, size_t why_bytes)
{
    const eepi_agent_table_config table = {.host = session->config.host,
                                           .generation = session->config.generation,
                                           .speaker = session->config.seat,
                                           .board = session->own};
    eepi_agent_links_config links = {.self = {.host = session->config.host,
                                              .generation = session->config.generation,
                                              .speaker = session->config.seat},
                                     .board = session->agents,
                                     .lock = &session->lock,
                                     .refresh = refresh,
                                     .user = session};
    eep_status status = eepi_secure_key_read(NULL, &links.self.key, why, why_bytes);

    if (status == EEP_OK) {
        session->table = links.table = eepi_agent_table_open(&table);
        status = links.table ? eepi_agent_attach(links.table, session->config.seat,
                                                 session->config.generation)
                             : EEP_ERR_NO_MEMORY;
    }
    if (status == EEP_OK) {
        status = eepi_agent_links_open(&links, why, why_bytes, &session->links);
    }
    eepi_secure_key_wipe(&links.self.key);
    return status;
}

/* Without a key, or before any agent has told where the others are, there is nobody to tell. */
static void start_speaking(eepi_agent_session *session)
{
    char why[WHY_BYTES] = "";

    if (session->own || session->is_mute || !session->agents ||
        session->agents->hosts[0].host == 0) {
        return;
    }
    session->own = calloc(1, sizeof *session->own);
    if (!session->own) {
        return;
    }
    const eep_status status = speak(session, why, sizeof why);
    if (status != EEP_OK) {
        session->is_mute = true;
        note_once(session, "says nothing, and this rank cannot speak for itself", status);
        eepi_agent_table_close(session->table);
        session->table = NULL;
        free(session->own);
        session->own = NULL;
        return;
    }
    session->addresses = session->agents;
    tell_boards(session);
}

void eepi_agent_session_set_alone(eepi_agent_session *session, bool is_alone, uint64_t now_us)
{
    session->is_mute &= is_alone;
    if (is_alone) {
        session->alone_us = now_us;
        start_speaking(session);
    } else if (now_us - session->alone_us >= EEPI_AGENT_GOES_ON_US) {
        stop_speaking(session);
    }
}

/* ------------------------------------------------------------------ calls */

static eep_status make_pulse(eepi_agent_session *session)
{
    void *pulse = MAP_FAILED;

    session->pulse_fd = memfd_create("eep-pulse", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (session->pulse_fd >= 0 && ftruncate(session->pulse_fd, EEPI_PULSE_BYTES) == 0) {
        pulse =
            mmap(NULL, EEPI_PULSE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, session->pulse_fd, 0);
    }
    if (pulse == MAP_FAILED) {
        return EEP_ERR_SYSTEM;
    }
    session->pulse = pulse;
    return fcntl(session->pulse_fd, F_ADD_SEALS, EEPI_HOLDER_SEALS) == 0 ? EEP_OK : EEP_ERR_SYSTEM;
}

eep_status eepi_agent_session_open(const eepi_agent_session_config *config,
                                   eepi_agent_session **session_out)
{
    eepi_agent_session *session = calloc(1, sizeof *session);
    eep_status status;

    if (!session) {
        return EEP_ERR_NO_MEMORY;
    }
    session->config = *config;
    session->pulse_fd = -1;
    pthread_mutex_init(&session->lock, NULL);
    snprintf(session->name, sizeof session->name, "pulse/%" PRId32 ".%" PRIu32, config->seat,
             config->generation);
    session->client = (eepi_holder_client){.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                                           .seat = config->seat,
                                           .generation = config->generation,
                                           .answered = on_answered,
                                           .called = on_called,
                                           .met = on_met,
                                           .lost = on_lost,
                                           .user = session};
    eepi_holder_path(config->path, session->client.path);
    status = eepi_holder_client_init(&session->client);
    if (status == EEP_OK) {
        status = session->client.epoll_fd >= 0 ? make_pulse(session) : EEP_ERR_SYSTEM;
    }
    if (status != EEP_OK) {
        const int error = errno;
        eepi_agent_session_close(session);
        errno = error;
        return status;
    }
    *session_out = session;
    return EEP_OK;
}

static void no_boards(void *user, const eepi_board *agents, const eepi_board *own)
{
    (void)user, (void)agents, (void)own;
}

void eepi_agent_session_close(eepi_agent_session *session)
{
    if (!session) {
        return;
    }
    session->config.boards = no_boards;
    stop_speaking(session);
    eepi_holder_client_close(&session->client);
    close_fd(session->client.epoll_fd);
    if (session->agents) {
        munmap(session->agents, sizeof *session->agents);
    }
    if (session->pulse) {
        munmap(session->pulse, EEPI_PULSE_BYTES);
    }
    close_fd(session->pulse_fd);
    pthread_mutex_destroy(&session->lock);
    free(session);
}

eepi_pulse *eepi_agent_session_pulse(eepi_agent_session *session)
{
    return session->pulse;
}

int eepi_agent_session_fd(const eepi_agent_session *session)
{
    return session->client.epoll_fd;
}

void eepi_agent_session_progress(eepi_agent_session *session, uint64_t now_us)
{
    (void)eepi_holder_client_progress(&session->client, now_us);
    if (session->asked != ASKED_NOTHING && session->ask_id == 0) { /* it could not be sent */
        session->asked = ASKED_NOTHING;
        eepi_holder_client_drop(&session->client, now_us, session->client.why);
    }
}

uint64_t eepi_agent_session_wake_us(const eepi_agent_session *session)
{
    return eepi_holder_client_wake_us(&session->client);
}

void eepi_agent_session_detach(eepi_agent_session *session)
{
    (void)eepi_holder_client_ask_of(&session->client, EEPI_HOLDER_DETACH, session->config.seat,
                                    session->config.generation);
}

bool eepi_agent_session_kill(eepi_agent_session *session, int32_t seat, uint32_t generation)
{
    return eepi_holder_client_ask_of(&session->client, EEPI_HOLDER_KILL, seat, generation) != 0;
}
