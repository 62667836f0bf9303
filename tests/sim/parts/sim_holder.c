/* SPDX-License-Identifier: Apache-2.0 */
/* The holder of a machine, as far as backups go: it lives and dies with the store's process, and
 * retains what ranks have put there when these have ended. Memory is blocks of the world, which
 * nobody frees before its end; a descriptor is the number of one. */
#include "membership/backup/backup_memory.h"
#include "transport/holder/holder_session.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_store.h"

#include "graphs/base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { AWAY_US = 20000, LEAST_US = 50, MOST_US = 3000 };

struct sim_retained {
    struct sim_retained *next;
    eepi_holder_piece piece;
    sim_process *owner;
    uint64_t sequence;
    int is_held; /* of a session's own: the holder has it */
    char name[EEPI_HOLDER_NAME_BYTES];
};
typedef struct sim_retained retained;

struct eepi_holder_session {
    eepi_holder_session_config config;
    char name[EEPI_HOLDER_NAME_BYTES], released[EEPI_HOLDER_NAME_BYTES];
    retained *own;
    uint64_t life, sequence; /* of the holder that was met; of the last one that it has shown */
    uint64_t due_us;         /* when it answers */
    int looks, fd;
};

/* ------------------------------------------------------------------ memory */

eep_status eepi_backup_memory_open(uint64_t most_bytes, eepi_backup_memory *memory_out)
{
    unsigned char *base = calloc(1, most_bytes);

    if (!base) {
        return EEP_ERR_NO_MEMORY;
    }
    *memory_out = (eepi_backup_memory){.base = base, .most_bytes = most_bytes, .bytes = most_bytes};
    memory_out->fd = sim_fd_new(SIM_FD_NONE, base);
    return EEP_OK;
}

eep_status eepi_backup_memory_grow(eepi_backup_memory *memory, uint64_t bytes)
{
    return bytes <= memory->bytes ? EEP_OK : EEP_ERR_NO_MEMORY;
}

eep_status eepi_backup_memory_protect(eepi_backup_memory *memory)
{
    (void)memory;
    return EEP_OK;
}

eep_status eepi_backup_memory_write(eepi_backup_memory *memory, uint64_t offset, const void *bytes,
                                    uint64_t num_bytes)
{
    memcpy(memory->base + offset, bytes, num_bytes);
    return EEP_OK;
}

eep_status eepi_backup_memory_seal(eepi_backup_memory *memory, uint64_t bytes)
{
    memory->bytes = bytes;
    return EEP_OK;
}

void eepi_backup_memory_close(eepi_backup_memory *memory)
{
    (void)memory;
}

eep_status eepi_backup_memory_map(int fd, uint64_t bytes, const unsigned char **base_out)
{
    (void)bytes;
    *base_out = sim_fd_what(fd);
    return EEP_OK;
}

void eepi_backup_memory_unmap(const unsigned char *base, uint64_t bytes)
{
    (void)base, (void)bytes;
}

int eepi_backup_memory_duplicate(int fd)
{
    return fd;
}

void eepi_backup_memory_forget_fd(int fd)
{
    (void)fd;
}

/* ------------------------------------------------------------------ the holder */

static int begins_with(const char *name, const char *begin)
{
    return strncmp(name, begin, strlen(begin)) == 0;
}

static size_t instance_bytes(const char *name)
{
    const char *slash = strchr(name, '/');

    slash = slash ? strchr(slash + 1, '/') : NULL;
    return slash ? (size_t)(slash - name) : 0;
}

/* What begins with the name; or, where `of_others`, what the dead of another instance have left. */
static void let_go(const char *name, int of_others)
{
    for (retained **link = &sim->retained; *link;) {
        const retained *at = *link;
        const int is_other = strncmp(at->name, name, instance_bytes(name)) != 0;
        if (of_others ? is_other && !at->owner->alive : begins_with(at->name, name)) {
            *link = at->next;
        } else {
            link = &(*link)->next;
        }
    }
}

static void retain(retained *own)
{
    retained **link = &sim->retained;
    retained *made;

    own->is_held = 1;
    for (; *link; link = &(*link)->next) {
        if (strcmp((*link)->name, own->name) == 0) {
            return;
        }
    }
    let_go(own->name, 1);
    made = malloc(sizeof *made);
    if (!made) {
        abort();
    }
    *made = *own;
    made->next = NULL;
    made->owner = sim_self();
    made->sequence = ++sim->retained_sequence;
    made->piece.name = made->name;
    for (link = &sim->retained; *link; link = &(*link)->next) {
    }
    *link = made;
    sim_trace("%s is retained", made->name);
}

/* Its memory is gone with its process. */
static void follow_life(void)
{
    if (sim->retained_life != sim_store_life()) {
        sim->retained_life = sim_store_life();
        sim->retained = NULL;
    }
}

/* ------------------------------------------------------------------ a session */

eep_status eepi_holder_session_open(const eepi_holder_session_config *config,
                                    eepi_holder_session **session_out)
{
    eepi_holder_session *session = calloc(1, sizeof *session);

    if (!session) {
        return EEP_ERR_NO_MEMORY;
    }
    session->config = *config;
    strcpy(session->name, config->name);
    session->life = UINT64_MAX;
    session->fd = sim_fd_new(SIM_FD_NONE, session);
    *session_out = session;
    return EEP_OK;
}

void eepi_holder_session_close(eepi_holder_session *session)
{
    (void)session;
}

static void ask(eepi_holder_session *session)
{
    session->due_us = eepi_now_us() + sim_delay(LEAST_US, MOST_US);
}

eep_status eepi_holder_session_hold(eepi_holder_session *session, const char *name, int fd,
                                    uint64_t bytes, bool is_held)
{
    retained *own = calloc(1, sizeof *own);

    if (!own) {
        return EEP_ERR_NO_MEMORY;
    }
    strcpy(own->name, name);
    own->piece = (eepi_holder_piece){.fd = fd, .bytes = bytes};
    own->is_held = is_held;
    own->next = session->own;
    session->own = own;
    ask(session);
    return EEP_OK;
}

void eepi_holder_session_look(eepi_holder_session *session)
{
    session->looks = 1;
    ask(session);
}

bool eepi_holder_session_release(eepi_holder_session *session, const char *name)
{
    if (session->released[0]) {
        return false;
    }
    strcpy(session->released, name);
    for (retained **link = &session->own; *link;) {
        if (begins_with((*link)->name, name)) {
            *link = (*link)->next;
        } else {
            link = &(*link)->next;
        }
    }
    ask(session);
    return true;
}

static retained *next_to_hold(const eepi_holder_session *session)
{
    retained *own = session->own;

    while (own && own->is_held) {
        own = own->next;
    }
    return own;
}

bool eepi_holder_session_is_settled(const eepi_holder_session *session)
{
    return session->life == sim_store_life() && !session->looks && !session->released[0] &&
           !next_to_hold(session);
}

static void meet(eepi_holder_session *session)
{
    session->life = sim_store_life();
    session->sequence = 0;
    session->looks = 1;
    for (retained *own = session->own; own; own = own->next) {
        own->is_held = 0;
    }
    ask(session);
}

static void look(eepi_holder_session *session)
{
    session->looks = 0;
    for (retained *at = sim->retained; at; at = at->next) {
        if (at->sequence > session->sequence && begins_with(at->name, session->name)) {
            session->sequence = at->sequence;
            session->config.found(session->config.user, &at->piece);
        }
    }
}

int eepi_holder_session_progress(eepi_holder_session *session, uint64_t now_us)
{
    if (!sim_store_is_there()) {
        return 0;
    }
    follow_life();
    if (session->life != sim_store_life()) {
        meet(session);
        return 1;
    }
    if (eepi_holder_session_is_settled(session) || now_us < session->due_us) {
        return 0;
    }
    if (session->released[0]) {
        let_go(session->released, 0);
        session->released[0] = '\0';
    }
    for (retained *own; (own = next_to_hold(session)) != NULL;) {
        retain(own);
    }
    look(session);
    return 1;
}

int eepi_holder_session_fd(const eepi_holder_session *session)
{
    return session->fd;
}

uint64_t eepi_holder_session_wake_us(const eepi_holder_session *session)
{
    if (eepi_holder_session_is_settled(session)) {
        return UINT64_MAX;
    }
    return sim_store_is_there() ? session->due_us : eepi_now_us() + AWAY_US;
}

eep_status eepi_holder_session_wait(eepi_holder_session *session, uint64_t until_us)
{
    while (!eepi_holder_session_is_settled(session)) {
        if (eepi_now_us() >= until_us) {
            return EEP_ERR_TIMEOUT;
        }
        (void)eepi_holder_session_progress(session, eepi_now_us());
        sim_sleep(LEAST_US);
    }
    return EEP_OK;
}

bool eepi_holder_session_is_own(const eepi_holder_session *session)
{
    (void)session;
    return false;
}
