#include "experiments/private_dir.h"

#include "experiments/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
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

/* Sockets and small files, the lock at last; a folder in it is not ours and stays. */
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
            !S_ISDIR(info.st_mode)) {
            unlinkat(dir, entry->d_name, 0);
        }
    }
    closedir(entries);
    unlinkat(dir, FOLDER_HELD, 0);
}

/* The folder `name`, if its owner is gone. Nobody else can have put anything into it: it is of this
 * user and of mode 0700, and no link is followed. */
static void remove_if_left(int base, const char *name)
{
    struct stat info;
    int dir = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0) {
        return;
    }
    if (fstat(dir, &info) == 0 && info.st_uid == geteuid() && (info.st_mode & 0777) == 0700) {
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

static bool is_safe(const char *base, char why[FOLDER_WHY_BYTES])
{
    struct stat info; /* if it cannot be looked at, mkdtemp says why */
    return stat(base, &info) != 0 || folder_is_safe(&info, why);
}

/* Until the folder is there and held: one that sweeps may take it in between. */
static int make_in(const char *base, const char *prefix, size_t longest, private_dir *out)
{
    for (int tries = 0; tries < MAKE_TRIES; tries++) {
        int length = snprintf(out->path, sizeof out->path, "%.*s/%s-XXXXXX", PRIVATE_DIR_BYTES,
                              base, prefix);
        if (length < 0 || (size_t)length > longest || (size_t)length >= sizeof out->path) {
            errno = ENAMETOOLONG;
            return -1;
        }
        if (!mkdtemp(out->path)) {
            return -1;
        }
        if (folder_hold(out->path, &out->held) == 0) {
            return 0;
        }
        int failure = errno;
        rmdir(out->path);
        errno = failure;
        if (failure != ENOENT && failure != EWOULDBLOCK) {
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
    size_t used = (size_t)snprintf(error, PRIVATE_DIR_ERROR_BYTES, "no folder for a socket:");
    for (int i = 0; i < NUM_BASES; i++) {
        if (!bases[i] || bases[i][0] != '/') {
            continue;
        }
        char why[FOLDER_WHY_BYTES];
        if (is_safe(bases[i], why)) {
            sweep(bases[i], prefix);
            if (make_in(bases[i], prefix, longest, out) == 0) {
                return 0;
            }
            snprintf(why, sizeof why, "%s", strerror(errno));
        }
        used += (size_t)snprintf(error + used, PRIVATE_DIR_ERROR_BYTES - used, " %s%.80s: %s;",
                                 names[i], bases[i], why);
    }
    snprintf(error + used, PRIVATE_DIR_ERROR_BYTES - used,
             " set TMPDIR to a folder of yours with a path of at most %zu bytes",
             longest - strlen(prefix) - 2 - SUFFIX_LENGTH);
    *out = (private_dir){.held = -1};
    return -1;
}

void private_dir_remove(private_dir *self)
{
    if (*self->path) {
        folder_release(self->path, self->held);
        rmdir(self->path);
        *self = (private_dir){.held = -1};
    }
}
