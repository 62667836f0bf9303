/* SPDX-License-Identifier: Apache-2.0 */
/* Folders for what programs leave behind. */
#ifndef EEPX_FOLDER_H
#define EEPX_FOLDER_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

/* mkdir with parents; an existing folder is fine. -1 with errno. */
int folder_make(const char *dir);

enum { FOLDER_WHY_BYTES = 96 };
/* It is ours or root's. If not, `why` says so. */
bool folder_is_trusted(const struct stat *info, char why[FOLDER_WHY_BYTES]);

/* A folder that is open. `path` leads through the descriptor, so to the folder itself, even if
 * somebody puts another one in place of its name. It does for processes of this user and root while
 * this process lives and `fd` is open. */
typedef struct folder_opened {
    int fd;   /* -1: it is not open */
    int held; /* -1, or what folder_hold() gave: released with it */
    struct stat info;
    char path[PATH_MAX];
} folder_opened;
#define FOLDER_CLOSED ((folder_opened){.fd = -1, .held = -1})
/* `follow`: the name may be a link. -1 with errno; ENOTSUP: it is another user's, and there is no
 * /proc. In one of ours `path` is then the name. */
int folder_open(const char *name, bool follow, folder_opened *out);
void folder_close(folder_opened *self);

/* The users who may put another folder in place of `path`, which begins with '/'. What leads to it
 * is looked at: its parents, and the links on the way, up to '/'. The folder itself is not. */
typedef enum folder_way {
    FOLDER_WAY_KEPT,   /* nobody but us and root */
    FOLDER_WAY_SHARED, /* some, who have a group */
    FOLDER_WAY_OPEN,   /* all, or another user */
} folder_way;
folder_way folder_way_to(const char *path);

/* Whether a program may write its results into the folder: nobody but us, root and, for root, the
 * user who called sudo, can put anything else in their place. `forced`: the user trusts whoever
 * can. If not, `why` says so. */
bool folder_takes_results(const struct stat *info, bool forced, char why[FOLDER_WHY_BYTES]);

/* Take the folder, so that no other process of ours writes into it or removes it: a lock on the
 * file FOLDER_HELD in it, until folder_release(), at the latest until the process ends. (The
 * folder's own lock is the store's, whose socket may be there.) -1 with errno; EWOULDBLOCK: another
 * process has it. On a file system without locks nobody is kept out. */
#define FOLDER_HELD ".held"
int folder_hold(const char *dir, int *held_out);
/* What that errno means: EINVAL, that something else than a regular file stands there; EPERM, that
 * the file is another user's. */
const char *folder_hold_error(int failure);
/* -1: nothing is done. */
void folder_release(const char *dir, int held);

/* The same for one file, by a lock on FILE.lock beside it. The kernel lets whoever may read a file
 * or folder lock it; FILE.lock, of mode 0600, can be opened by its user and root only. */
#define FOLDER_LOCK ".lock"
int folder_hold_file(const char *file, int *held_out);
void folder_release_file(const char *file, int held);
#endif
