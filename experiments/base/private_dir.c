/* SPDX-License-Identifier: Apache-2.0 */
/* Make a folder for sockets that only this user can enter, and remove those that ended processes
 * left. */
#include "experiments/base/private_dir.h"

#include "experiments/base/folder.h"
#include "graphs/base/own_user.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NUM_BASES = 3, MAKE_TRIES = 8, MOST_SEEN = 100000, SUFFIX_LENGTH = 6 };

/* ---------------------------------------------------------------- what others left */

/* PREFIX-XXXXXX, as mkdtemp makes them. */
static bool is_named(const char *name, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(name, prefix, length) == 0 && name[length] == '-' &&
           strlen(name) == length + 1 + SUFFIX_LENGTH;
}

/* What stands in such folders: sockets, their locks, the store's files for its seats, and the
 * folder's lock. Whoever may
 * rename what is in the base could give the name of one to another folder of ours. */
static bool is_of_ours(const char *name, const struct stat *info)
{
    return S_ISSOCK(info->st_mode) ||
           (S_ISREG(info->st_mode) && (strncmp(name, "store", strlen("store")) == 0 ||
                                       strcmp(name, "control.sock" FOLDER_LOCK) == 0));
}

/* The lock goes at last. */
static void empty(int dir)
{
    int copy = dup(dir);
    DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    if (!entries) {
        if (copy >= 0) {
            close(copy);
        }
        return;
    }
    for (struct dirent *entry; (entry = readdir(entries));) {
        struct stat info;
        if (strcmp(entry->d_name, FOLDER_HELD) != 0 &&
            fstatat(dir, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
            is_of_ours(entry->d_name, &info)) {
            unlinkat(dir, entry->d_name, 0);
        }
    }
    closedir(entries);
    unlinkat(dir, FOLDER_HELD, 0);
}

/* The folder `name`, if its owner has ended. Nobody else can have put anything into it: it is of
 * this user and of mode 0700, and no link is followed. */
static void remove_if_left(int base, const char *name)
{
    struct stat info;
    int dir = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0) {
        return;
    }
    if (fstat(dir, &info) == 0 && eepi_user_is_own(info.st_uid) && (info.st_mode & 0777) == 0700) {
        int held = openat(dir, FOLDER_HELD, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (held >= 0 && flock(held, LOCK_EX | LOCK_NB) == 0) {
            empty(dir);
        }
        unlinkat(base, name, AT_REMOVEDIR); /* only if it is empty */
        if (held >= 0) {
            close(held);
        }
    }
    close(dir);
}

static void sweep(const char *base, const char *prefix)
{
    DIR *entries = opendir(base);
    struct dirent *entry;
    for (int seen = 0; entries && seen < MOST_SEEN && (entry = readdir(entries)); seen++) {
        if (is_named(entry->d_name, prefix)) {
            remove_if_left(dirfd(entries), entry->d_name);
        }
    }
    if (entries) {
        closedir(entries);
    }
}

/* ---------------------------------------------------------------- make and remove */

/* What a folder below the base is worth. */
typedef enum base_kind { BASE_REFUSED, BASE_OPEN, BASE_SHARED, BASE_SAFE } base_kind;

/* OPEN: all may rename what is in it, or a folder on the way to it; SHARED: some may, who have its
 * group. */
static base_kind kind_of(const char *base, char why[FOLDER_WHY_BYTES])
{
    struct stat info;
    if (stat(base, &info) != 0) {
        return BASE_SAFE; /* mkdtemp says why it is none */
    }
    if (!folder_is_trusted(&info, why)) {
        return BASE_REFUSED;
    }
    folder_way way = folder_way_to(base);
    bool keeps = info.st_mode & S_ISVTX;
    bool is_open = way == FOLDER_WAY_OPEN || (!keeps && info.st_mode & S_IWOTH);
    bool is_shared = way == FOLDER_WAY_SHARED || (!keeps && info.st_mode & S_IWGRP);
    return is_open ? BASE_OPEN : is_shared ? BASE_SHARED : BASE_SAFE;
}

/* By its descriptor, whose folder cannot be exchanged. The last "." is for those who follow no link
 * at the end of a path. False with errno. */
static bool name_by_descriptor(private_dir *self)
{
    struct stat opened, named;
    self->dir = open(self->made, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (self->dir < 0 || fstat(self->dir, &opened) != 0) {
        return false;
    }
    errno = EPERM; /* it is not what mkdtemp has made, or /proc does not lead to it */
    if (!eepi_user_is_own(opened.st_uid) || (opened.st_mode & 0777) != 0700 ||
        prctl(PR_GET_DUMPABLE) != 1) {
        return false;
    }
    snprintf(self->path, sizeof self->path, "/proc/%d/fd/%d/.", (int)getpid(), self->dir);
    return stat(self->path, &named) == 0 && named.st_dev == opened.st_dev &&
           named.st_ino == opened.st_ino;
}

static int give_up(private_dir *self, int failure)
{
    if (self->dir >= 0) {
        close(self->dir);
    }
    rmdir(self->made);
    errno = failure;
    return -1;
}

/* Until the folder is there and held: one that sweeps may take it in between. */
static int make_in(const char *base, base_kind kind, const char *prefix, size_t longest,
                   private_dir *out)
{
    for (int tries = 0; tries < MAKE_TRIES; tries++) {
        *out = (private_dir){.held = -1, .dir = -1};
        int length = snprintf(out->made, sizeof out->made, "%.*s/%s-XXXXXX", PRIVATE_DIR_BYTES,
                              base, prefix);
        bool fits = length >= 0 && (size_t)length < sizeof out->made;
        if (!fits || (kind == BASE_SAFE && (size_t)length > longest)) {
            errno = ENAMETOOLONG;
            return -1;
        }
        if (!mkdtemp(out->made)) {
            return -1;
        }
        if (kind == BASE_SAFE) {
            memcpy(out->path, out->made, sizeof out->path);
        } else if (!name_by_descriptor(out)) {
            return give_up(out, errno);
        }
        if (folder_hold(out->path, &out->held) == 0) {
            return 0;
        }
        int failure = errno;
        (void)give_up(out, failure);
        if (failure != ENOENT && failure != ESTALE && failure != EWOULDBLOCK) {
            return -1;
        }
    }
    return -1;
}

int private_dir_make(const char *prefix, size_t longest, private_dir *out,
                     char error[PRIVATE_DIR_ERROR_BYTES])
{
    const char *const bases[NUM_BASES] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};
    const char *const names[NUM_BASES] = {"$XDG_RUNTIME_DIR ", "$TMPDIR ", ""};
    size_t appended = strlen(prefix) + 2 + SUFFIX_LENGTH;
    size_t used = (size_t)snprintf(error, PRIVATE_DIR_ERROR_BYTES, "no folder for a socket:");
    for (int i = 0; i < 2 * NUM_BASES; i++) {
        bool last = i >= NUM_BASES; /* those that are open to all */
        const char *base = bases[i % NUM_BASES];
        char why[FOLDER_WHY_BYTES];
        base_kind kind = base && base[0] == '/' ? kind_of(base, why) : BASE_OPEN;
        if (!base || base[0] != '/' || (kind == BASE_OPEN) != last) {
            continue;
        }
        if (kind != BASE_REFUSED) {
            sweep(base, prefix);
            if (make_in(base, kind, prefix, longest, out) == 0) {
                return 0;
            }
            snprintf(why, sizeof why, "%s%s", strerror(errno),
                     kind == BASE_SAFE ? "" : " (others may write there: /proc is needed)");
        }
        used += (size_t)snprintf(error + used, PRIVATE_DIR_ERROR_BYTES - used, " %s%.80s: %s;",
                                 names[i % NUM_BASES], base, why);
    }
    snprintf(error + used, PRIVATE_DIR_ERROR_BYTES - used,
             " set TMPDIR to a folder of yours with a path of at most %zu bytes",
             longest > appended ? longest - appended : 0);
    *out = (private_dir){.held = -1, .dir = -1};
    return -1;
}

void private_dir_remove(private_dir *self)
{
    if (*self->path) {
        folder_release(self->path, self->held);
        rmdir(self->made);
        if (self->dir >= 0) {
            close(self->dir);
        }
        *self = (private_dir){.held = -1, .dir = -1};
    }
}
