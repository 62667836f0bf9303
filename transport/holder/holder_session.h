/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's dealings with the holder over memory that the holder retains: what this rank puts there,
 * and what it is shown of others under one name. With each holder that follows, all of it is put
 * there again. Owner's thread; waits in eepi_holder_session_wait alone. */
#ifndef EEPI_HOLDER_SESSION_H
#define EEPI_HOLDER_SESSION_H

#include "eep/status.h"
#include "transport/holder/holder_wire.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct eepi_holder_session eepi_holder_session;

/* A piece of memory that was found; `fd` is valid during the call, and a duplicate may be kept. */
typedef struct eepi_holder_piece {
    const char *name;
    int fd;
    uint64_t bytes;
    int32_t seat; /* whose it was */
    uint32_t generation;
} eepi_holder_piece;

typedef struct eepi_holder_session_config {
    const char *path; /* the holder's socket; read during the call only */
    const char *name; /* pieces whose name begins so are shown */
    int32_t seat;     /* what the holder is told of us */
    uint32_t generation;
    /* Once for each; may call eepi_holder_session_hold. */
    void (*found)(void *user, const eepi_holder_piece *piece);
    void *user;
} eepi_holder_session_config;

/* EEP_ERR_SYSTEM (no descriptors; errno), EEP_ERR_NO_MEMORY. The holder need not be there. */
EEP_MUST_CHECK eep_status eepi_holder_session_open(const eepi_holder_session_config *config,
                                                   eepi_holder_session **session_out);
void eepi_holder_session_close(eepi_holder_session *session);
/* Have that memory retained, by each holder that comes; `is_held`: this one has it. The descriptor
 * is the session's from now on, unless this fails. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_holder_session_hold(eepi_holder_session *session, const char *name,
                                                   int fd, uint64_t bytes, bool is_held);
/* There may be new memory: ask for it. */
void eepi_holder_session_look(eepi_holder_session *session);
/* Have the holder let go of all whose name begins so, and put it there no more. False: the last
 * release is not answered yet. */
bool eepi_holder_session_release(eepi_holder_session *session, const char *name);
/* Poll it for reading, and call progress when it is, and at the wake time. */
int eepi_holder_session_fd(const eepi_holder_session *session);
int eepi_holder_session_progress(eepi_holder_session *session, uint64_t now_us);
uint64_t eepi_holder_session_wake_us(const eepi_holder_session *session);
/* All that was asked for is done. False: there is no holder now, or it has not answered yet. */
bool eepi_holder_session_is_settled(const eepi_holder_session *session);
/* Wait until it is, at most until then. EEP_OK; else why it is not: EEP_ERR_TIMEOUT, or why there
 * is no holder, or why it does not take our memory. */
EEP_MUST_CHECK eep_status eepi_holder_session_wait(eepi_holder_session *session, uint64_t until_us);
/* The holder is a thread of this process: it ends with us, so its successor is none of ours. */
bool eepi_holder_session_is_own(const eepi_holder_session *session);
#endif
