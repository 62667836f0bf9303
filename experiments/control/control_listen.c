/* SPDX-License-Identifier: Apache-2.0 */
/* The listening socket: a stale one is replaced, a live one left alone. */
#include "experiments/control/control_listen.h"

#include "experiments/control/control_path.h"
#include "experiments/base/folder.h"
#include "graphs/base/listen_at.h"
#include "membership/store/store_socket.h"
#include "transport/holder/holder_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    BACKLOG = 128,
    LOCK_TRIES = 100,
    LOCK_PAUSE_NS = 10 * 1000 * 1000,
};

/* Make way for a bind. */
static eep_status clear_path(const char *path, char *error)
{
    switch (eepi_store_socket_look(SOCK_STREAM, path)) {
    case EEPI_SOCKET_FREE:
    case EEPI_SOCKET_HIDDEN: /* bind says why */
        return EEP_OK;
    case EEPI_SOCKET_OTHER:
        snprintf(error, CONTROL_ERROR_BYTES, "'%s' exists and is not a socket", path);
        return EEP_ERR_INVALID;
    case EEPI_SOCKET_SERVED:
        snprintf(error, CONTROL_ERROR_BYTES, "another run is controlled by '%s'", path);
        return EEP_ERR_CONFLICT;
    case EEPI_SOCKET_STALE:
        break;
    }
    (void)unlink(path);
    return EEP_OK;
}

/* Two runs that start at once must not both find the file stale: one at a time. False: another run
 * of this user has the lock. *held_out: -1, where there can be none; others cannot keep us out. */
static bool take_turn(const char *path, int *held_out)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    *held_out = -1;
    for (int i = 0; folder_hold_file(path, held_out) != 0; i++) {
        if (errno != EWOULDBLOCK && errno != ESTALE) {
            return true;
        }
        if (i == LOCK_TRIES) {
            return false;
        }
        nanosleep(&pause, NULL);
    }
    return true;
}

static eep_status bind_at(const char *path, control_socket *out, char *error)
{
    struct stat info;
    eep_status status = clear_path(path, error);
    if (status != EEP_OK) {
        return status;
    }
    out->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Its connections take after it. An older kernel closes what is passed, and may wait for it. */
    eepi_holder_refuse_fds(out->fd);
    /* The mode first: Linux gives it to the file, so nobody else ever gets in. */
    if (out->fd < 0 || fchmod(out->fd, 0600) != 0 ||
        eepi_listen_at(out->fd, path, BACKLOG, &info) != 0) {
        snprintf(error, CONTROL_ERROR_BYTES, "cannot listen on '%s': %s", path, strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    out->device = info.st_dev;
    out->inode = info.st_ino;
    return EEP_OK;
}

eep_status control_listen(const char *path, control_socket *out, char error[CONTROL_ERROR_BYTES])
{
    int lock = -1;
    out->fd = -1;
    if (!take_turn(path, &lock)) {
        snprintf(error, CONTROL_ERROR_BYTES,
                 "another run holds '%s" FOLDER_LOCK "': it is starting, or is stopped", path);
        return EEP_ERR_CONFLICT;
    }
    eep_status status = bind_at(path, out, error);
    folder_release_file(path, lock);
    return status;
}
