/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_socket.h"

#include "membership/store/etcd/etcd_bridge.h"
#include "membership/store/store_secure.h"
#include "membership/store/store_url.h"
#include "transport/holder/holder_socket.h"
#include "graphs/base/listen_at.h"
#include "graphs/base/own_user.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    BACKLOG = 4096,
    LOCK_TRIES = 100, /* of 10 ms each */
    LOCK_WAIT_NS = 10 * 1000 * 1000,
};

__attribute__((format(printf, 4, 5))) static eep_status
refuse(eep_status status, char *error_out, size_t error_bytes, const char *format, ...)
{
    if (error_out && error_bytes > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error_out, error_bytes, format, arguments);
        va_end(arguments);
    }
    return status;
}

static bool address_of(const char *path, struct sockaddr_un *address_out)
{
    size_t bytes = strlen(path);
    if (bytes == 0 || bytes >= sizeof address_out->sun_path) {
        return false;
    }
    memset(address_out, 0, sizeof *address_out);
    address_out->sun_family = AF_UNIX;
    memcpy(address_out->sun_path, path, bytes);
    return true;
}

eep_status eepi_store_socket_connect(const char *path, int *fd_out)
{
    struct sockaddr_un address;
    if (!address_of(path, &address)) {
        return EEP_ERR_INVALID;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return EEP_ERR_SYSTEM;
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        bool absent = errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN || errno == EINTR;
        int error = errno;
        close(fd);
        errno = error; /* for eepi_store_socket_why */
        return absent ? EEP_ERR_UNREACHABLE : EEP_ERR_SYSTEM;
    }
    if (!eepi_holder_is_trusted(fd)) {
        close(fd);
        return EEP_ERR_STATE;
    }
    if (!eepi_holder_is_served(fd)) {
        close(fd);
        errno = ECONNREFUSED; /* as without the child that keeps it open */
        return EEP_ERR_UNREACHABLE;
    }
    eepi_holder_refuse_fds(fd);
    *fd_out = fd;
    return EEP_OK;
}

static const char *say_anybody(uid_t uid)
{
    return eepi_user_is_anybody(uid) ? "; in this user namespace that number stands for all users "
                                       "who are not mapped: run as another one"
                                     : "";
}

const char *eepi_store_socket_why(const char *address, eep_status status, char *text, size_t bytes)
{
    int error = errno;
    struct stat info;
    eepi_store_url url;
    if (eepi_store_url_parse(address, &url, text, bytes) != EEP_OK) {
        return text;
    }
    if (url.scheme == EEPI_STORE_ETCD) {
        snprintf(text, bytes, "%s", eepi_etcd_why());
    } else if (url.key_file[0] != '\0' && *eepi_store_secure_why() != '\0') {
        snprintf(text, bytes, "%s", eepi_store_secure_why());
    } else if (status == EEP_ERR_STATE && url.scheme == EEPI_STORE_UNIX &&
               lstat(url.path, &info) == 0) {
        snprintf(text, bytes, "it belongs to uid %u, and this process is of uid %u%s",
                 (unsigned)info.st_uid, (unsigned)geteuid(), say_anybody(info.st_uid));
    } else if (status == EEP_ERR_UNREACHABLE || status == EEP_ERR_SYSTEM) {
        snprintf(text, bytes, "%s (this process is of uid %u)", strerror(error),
                 (unsigned)geteuid());
    } else {
        snprintf(text, bytes, "%s", eep_strerror(status));
    }
    return text;
}

static bool is_by_descriptor(const char *path)
{
    int end = 0;
    (void)sscanf(path, "/proc/%*[^/]/fd/%*[0-9]/%n", &end);
    return end > 0;
}

void eepi_store_socket_resolve(const char *path, char path_out[PATH_MAX])
{
    struct stat info;
    bool stays = is_by_descriptor(path) && lstat(path, &info) == 0 && !S_ISLNK(info.st_mode);
    if (stays || !realpath(path, path_out)) {
        snprintf(path_out, PATH_MAX, "%s", path);
    }
}

eep_status eepi_store_local_path(const char *address, char path_out[PATH_MAX], char *why,
                                 size_t why_bytes)
{
    eepi_store_url url;
    eep_status status = eepi_store_url_parse(address, &url, why, why_bytes);
    if (status == EEP_OK && url.path[0] == '\0') {
        snprintf(why, why_bytes,
                 "it needs local=PATH: where this host's own files are, and its holder of memory");
        status = EEP_ERR_INVALID;
    }
    if (status == EEP_OK) {
        eepi_store_socket_resolve(url.path, path_out);
    }
    return status;
}

/* What of the store's directory lets others in, and what to do about that. */
static eep_status refuse_directory(const char *directory, const struct stat *info, char *error_out,
                                   size_t error_bytes)
{
    char owner[192] = "", mode[64] = "";
    bool is_ours = eepi_user_is_own(info->st_uid);
    if (!is_ours) {
        snprintf(owner, sizeof owner, " belongs to uid %u (this is uid %u%s)",
                 (unsigned)info->st_uid, (unsigned)geteuid(), say_anybody(info->st_uid));
    }
    if ((info->st_mode & 0077) != 0) {
        snprintf(mode, sizeof mode, "%s has mode %04o, which lets others in", is_ours ? "" : " and",
                 (unsigned)info->st_mode & 07777);
    }
    return refuse(EEP_ERR_INVALID, error_out, error_bytes, "the store's directory %s%s%s: %s",
                  directory, owner, mode,
                  is_ours ? "chmod 0700 it, or choose another"
                          : "choose a directory of this user that is closed to others (mode 0700)");
}

/* Open the path's directory and check that nobody else can put anything into it. */
static eep_status open_directory(const char *path, char *error_out, size_t error_bytes, int *fd_out)
{
    char directory[PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    if (slash) {
        size_t bytes = slash == path ? 1 : (size_t)(slash - path);
        memcpy(directory, path, bytes);
        directory[bytes] = '\0';
    }
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return refuse(EEP_ERR_SYSTEM, error_out, error_bytes,
                      "cannot open the store's directory %s: %s", directory, strerror(errno));
    }
    struct stat info;
    /* What a setgid folder hands down (02700) lets nobody in. */
    if (fstat(fd, &info) != 0) {
        eep_status status =
            refuse(EEP_ERR_SYSTEM, error_out, error_bytes,
                   "cannot look at the store's directory %s: %s", directory, strerror(errno));
        close(fd);
        return status;
    }
    if (!eepi_user_is_own(info.st_uid) || (info.st_mode & 0077) != 0) {
        close(fd);
        return refuse_directory(directory, &info, error_out, error_bytes);
    }
    *fd_out = fd;
    return EEP_OK;
}

/* Two stores that start at once must not both find the file stale: one at a time per directory. */
static bool lock_directory(int fd)
{
    const struct timespec pause = {.tv_nsec = LOCK_WAIT_NS};
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        nanosleep(&pause, NULL);
    }
    return false;
}

eepi_socket_place eepi_store_socket_look(int type, const char *path)
{
    struct stat info;
    struct sockaddr_un address;
    if (lstat(path, &info) != 0) {
        return errno == ENOENT ? EEPI_SOCKET_FREE : EEPI_SOCKET_HIDDEN;
    }
    if (!S_ISSOCK(info.st_mode)) {
        return EEPI_SOCKET_OTHER;
    }
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale = false;
    if (fd >= 0 && address_of(path, &address)) {
        stale = connect(fd, (const struct sockaddr *)&address, sizeof address) != 0
                    ? errno == ECONNREFUSED
                    : !eepi_holder_is_served(fd);
    }
    if (fd >= 0) {
        close(fd);
    }
    return stale ? EEPI_SOCKET_STALE : EEPI_SOCKET_SERVED;
}

/* Make way for a bind. */
static eep_status clear_path(int type, const char *path, char *error_out, size_t error_bytes)
{
    switch (eepi_store_socket_look(type, path)) {
    case EEPI_SOCKET_FREE:
        return EEP_OK;
    case EEPI_SOCKET_HIDDEN:
        return refuse(EEP_ERR_SYSTEM, error_out, error_bytes, "%s: %s", path, strerror(errno));
    case EEPI_SOCKET_OTHER:
        return refuse(EEP_ERR_INVALID, error_out, error_bytes,
                      "%s exists and is not a socket; choose another path", path);
    case EEPI_SOCKET_SERVED:
        return refuse(EEP_ERR_CONFLICT, error_out, error_bytes,
                      "another store serves on %s; stop it or choose another path", path);
    case EEPI_SOCKET_STALE:
        break;
    }
    if (unlink(path) != 0) {
        return refuse(EEP_ERR_SYSTEM, error_out, error_bytes, "cannot remove the stale %s: %s",
                      path, strerror(errno));
    }
    return EEP_OK;
}

static eep_status bind_and_listen(int type, const char *path, char *error_out, size_t error_bytes,
                                  eepi_store_listener *listener_out)
{
    struct stat info;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && type == SOCK_STREAM) { /* its connections take after it; the holder gets memory
                                             passed */
        eepi_holder_refuse_fds(fd);
    }
    if (fd < 0 || eepi_listen_at(fd, path, BACKLOG, &info) != 0) {
        eep_status status = refuse(EEP_ERR_SYSTEM, error_out, error_bytes,
                                   "cannot listen on %s: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return status;
    }
    *listener_out = (eepi_store_listener){.fd = fd, .device = info.st_dev, .inode = info.st_ino};
    return EEP_OK;
}

eep_status eepi_store_socket_listen(const char *path, char *error_out, size_t error_bytes,
                                    eepi_store_listener *listener_out)
{
    return eepi_store_socket_listen_as(SOCK_STREAM, path, error_out, error_bytes, listener_out);
}

eep_status eepi_store_socket_listen_as(int type, const char *path, char *error_out,
                                       size_t error_bytes, eepi_store_listener *listener_out)
{
    struct sockaddr_un address;
    if (!address_of(path, &address)) {
        return refuse(EEP_ERR_INVALID, error_out, error_bytes,
                      "the path of a store has 1 to %zu bytes, this one has %zu",
                      sizeof address.sun_path - 1, strlen(path));
    }
    int directory = -1;
    eep_status status = open_directory(path, error_out, error_bytes, &directory);
    if (status != EEP_OK) {
        return status;
    }
    if (lock_directory(directory)) {
        status = clear_path(type, path, error_out, error_bytes);
        if (status == EEP_OK) {
            status = bind_and_listen(type, path, error_out, error_bytes, listener_out);
        }
    } else {
        status = refuse(EEP_ERR_CONFLICT, error_out, error_bytes,
                        "another process holds the lock of the directory of %s", path);
    }
    close(directory); /* and the lock with it */
    return status;
}

void eepi_store_socket_unlisten(const char *path, const eepi_store_listener *listener)
{
    struct stat info;
    if (lstat(path, &info) == 0 && info.st_dev == listener->device &&
        info.st_ino == listener->inode) {
        unlink(path);
    }
    shutdown(listener->fd, SHUT_RDWR); /* a forked child may hold a copy */
    close(listener->fd);
}
