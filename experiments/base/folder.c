/* SPDX-License-Identifier: Apache-2.0 */
/* Make, open, check and lock folders that a program writes into. */
#include "experiments/base/folder.h"

#include "graphs/base/own_user.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HOLD_TRIES = 8, MOST_LINKS = 40 };

/* 0755 and not 0777: where the umask is 0, folder_takes_results would refuse what was just made. */
int folder_make(const char *dir)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) != 0 && errno != EEXIST) {
            return -1;
        }
        *slash = '/';
    }
    return mkdir(path, 0755) != 0 && errno != EEXIST ? -1 : 0;
}

bool folder_is_trusted(const struct stat *info, char why[FOLDER_WHY_BYTES])
{
    if (eepi_user_is_anybody(info->st_uid)) {
        snprintf(why, FOLDER_WHY_BYTES,
                 "its user %u is all those whom this user namespace does not map",
                 (unsigned)info->st_uid);
        return false;
    }
    if (!eepi_user_is_trusted(info->st_uid)) {
        snprintf(why, FOLDER_WHY_BYTES, "it belongs to user %u, and this is user %u",
                 (unsigned)info->st_uid, (unsigned)geteuid());
        return false;
    }
    return true;
}

static bool is_closed(const struct stat *info, char why[FOLDER_WHY_BYTES])
{
    if (info->st_mode & S_IWOTH && !(info->st_mode & S_ISVTX)) {
        snprintf(why, FOLDER_WHY_BYTES, "all users may write into it (mode %04o)",
                 (unsigned)info->st_mode & 07777);
        return false;
    }
    return true;
}

/* What whoever may write into a folder can do to the names in it. */
static folder_way way_through(const struct stat *dir)
{
    char why[FOLDER_WHY_BYTES];
    return !folder_is_trusted(dir, why) ? FOLDER_WAY_OPEN
           : dir->st_mode & S_ISVTX     ? FOLDER_WAY_KEPT
           : dir->st_mode & S_IWOTH     ? FOLDER_WAY_OPEN
           : dir->st_mode & S_IWGRP     ? FOLDER_WAY_SHARED
                                        : FOLDER_WAY_KEPT;
}

/* The link `at`, put before the rest of the way. False: it cannot be followed. */
static bool follow(const char *at, char rest[PATH_MAX])
{
    char target[PATH_MAX], joined[PATH_MAX];
    ssize_t bytes = readlink(at, target, sizeof target);
    if (bytes <= 0 || bytes >= PATH_MAX ||
        snprintf(joined, sizeof joined, "%.*s/%s", (int)bytes, target, rest) >= PATH_MAX) {
        return false;
    }
    memcpy(rest, joined, strlen(joined) + 1);
    return true;
}

folder_way folder_way_to(const char *path)
{
    char at[PATH_MAX] = "", rest[PATH_MAX], name[PATH_MAX], why[FOLDER_WHY_BYTES];
    folder_way worst = FOLDER_WAY_KEPT;
    struct stat info;
    if (snprintf(rest, sizeof rest, "%s", path) >= PATH_MAX) {
        return FOLDER_WAY_OPEN;
    }
    for (int links = 0; links <= MOST_LINKS;) {
        size_t skipped = strspn(rest, "/"), bytes = strcspn(rest + skipped, "/");
        size_t length = strlen(at);
        if (bytes == 0) {
            return worst;
        }
        snprintf(name, sizeof name, "%.*s", (int)bytes, rest + skipped);
        memmove(rest, rest + skipped + bytes, strlen(rest + skipped + bytes) + 1);
        if (stat(*at ? at : "/", &info) != 0) {
            return worst; /* whoever uses the path says why it leads nowhere */
        }
        worst = way_through(&info) > worst ? way_through(&info) : worst;
        if (strcmp(name, "..") == 0) {
            *(length ? strrchr(at, '/') : at) = '\0';
        } else if (strcmp(name, ".") != 0) {
            if (length + bytes + 2 > PATH_MAX) {
                return FOLDER_WAY_OPEN;
            }
            at[length] = '/';
            memcpy(at + length + 1, name, bytes + 1);
            if (lstat(at, &info) != 0) {
                return worst;
            }
            if (S_ISLNK(info.st_mode)) {
                links++;
                if (!folder_is_trusted(&info, why) || !follow(at, rest)) {
                    return FOLDER_WAY_OPEN;
                }
                at[*rest == '/' ? 0 : length] = '\0';
            }
        }
    }
    return FOLDER_WAY_OPEN;
}

/* The user who called sudo could have written there without us. */
static bool is_of_sudo(const struct stat *info)
{
    const char *text = geteuid() == 0 ? getenv("SUDO_UID") : NULL;
    char *end = NULL;
    errno = 0;
    unsigned long user = text ? strtoul(text, &end, 10) : 0;
    return text && *text >= '0' && *text <= '9' && !*end && !errno && user == info->st_uid &&
           !eepi_user_is_anybody(info->st_uid);
}

bool folder_takes_results(const struct stat *info, bool forced, char why[FOLDER_WHY_BYTES])
{
    bool trusted = forced || is_of_sudo(info) || folder_is_trusted(info, why);
    return trusted && (forced || is_closed(info, why));
}

static bool leads_to(const char *path, const struct stat *info)
{
    struct stat found;
    return stat(path, &found) == 0 && found.st_dev == info->st_dev && found.st_ino == info->st_ino;
}

int folder_open(const char *name, bool follow, folder_opened *out)
{
    *out = FOLDER_CLOSED;
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);
    int fd = open(name, flags);
    if (fd < 0) {
        return -1;
    }
    bool good = fstat(fd, &out->info) == 0;
    snprintf(out->path, sizeof out->path, "/proc/%d/fd/%d", (int)getpid(), fd);
    if (good && !leads_to(out->path, &out->info)) {
        bool fits = snprintf(out->path, sizeof out->path, "%s", name) < (int)sizeof out->path;
        good = fits && eepi_user_is_own(out->info.st_uid);
        errno = ENOTSUP;
    }
    if (!good) {
        int failure = errno;
        close(fd);
        errno = failure;
        return -1;
    }
    out->fd = fd;
    return 0;
}

void folder_close(folder_opened *self)
{
    if (self->fd >= 0) {
        folder_release(self->path, self->held);
        close(self->fd);
        *self = FOLDER_CLOSED;
    }
}

/* One try. ESTALE: its owner has just removed the file. */
static int hold(const char *path, int *held_out)
{
    struct stat info = {0};
    /* not waiting, since a FIFO may stand there */
    int fd = open(path, O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -1;
    }
    char why[FOLDER_WHY_BYTES];
    int failure = fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)             ? EINVAL
                  : !is_of_sudo(&info) && !folder_is_trusted(&info, why)      ? EPERM
                  : flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK ? EWOULDBLOCK
                                                                              : 0;
    if (!failure && (fstat(fd, &info) != 0 || info.st_nlink == 0)) {
        failure = ESTALE; /* released between open and lock */
    }
    if (failure) {
        close(fd);
        errno = failure;
        return -1;
    }
    *held_out = fd;
    return 0;
}

static bool name_lock(const char *path, const char *suffix, char path_out[PATH_MAX])
{
    bool fits = snprintf(path_out, PATH_MAX, "%s%s", path, suffix) < PATH_MAX;
    errno = fits ? errno : ENAMETOOLONG;
    return fits;
}

const char *folder_hold_error(int failure)
{
    return failure == EINVAL  ? "'" FOLDER_HELD "' in it is no regular file"
           : failure == EPERM ? "'" FOLDER_HELD "' in it belongs to another user"
                              : strerror(failure);
}

static int hold_lock(const char *path, const char *suffix, int *held_out)
{
    char lock[PATH_MAX];
    if (!name_lock(path, suffix, lock)) {
        return -1;
    }
    int failed = -1;
    for (int tries = 0; tries < HOLD_TRIES && failed; tries++) {
        failed = hold(lock, held_out);
        if (failed && errno != ESTALE) {
            break;
        }
    }
    return failed;
}

static void release(const char *path, const char *suffix, int held)
{
    char lock[PATH_MAX];
    if (held >= 0) {
        if (name_lock(path, suffix, lock)) {
            unlink(lock); /* while it is locked: who opened it meanwhile sees that it was removed */
        }
        close(held);
    }
}

int folder_hold(const char *dir, int *held_out)
{
    return hold_lock(dir, "/" FOLDER_HELD, held_out);
}

void folder_release(const char *dir, int held)
{
    release(dir, "/" FOLDER_HELD, held);
}

int folder_hold_file(const char *file, int *held_out)
{
    return hold_lock(file, FOLDER_LOCK, held_out);
}

void folder_release_file(const char *file, int held)
{
    release(file, FOLDER_LOCK, held);
}
