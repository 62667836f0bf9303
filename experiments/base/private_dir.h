/* SPDX-License-Identifier: Apache-2.0 */
/* Folders for sockets that only this user can enter, below the directory for temporary files. */
#ifndef EEPX_PRIVATE_DIR_H
#define EEPX_PRIVATE_DIR_H

#include <stddef.h>

enum { PRIVATE_DIR_BYTES = 108, PRIVATE_DIR_ERROR_BYTES = 512 };

typedef struct private_dir {
    char path[PRIVATE_DIR_BYTES]; /* to use it by; empty: none */
    char made[PRIVATE_DIR_BYTES]; /* the name that it was made with */
    int held;                     /* while open, it is ours */
    int dir; /* if it was opened: `path` leads through this descriptor; or -1 */
} private_dir;

/* Make BASE/PREFIX-XXXXXX of mode 0700. BASE: $XDG_RUNTIME_DIR, $TMPDIR or /tmp, the first in which
 * that is possible with a path of at most `longest` bytes, of those that are ours or root's. Those
 * that all may write, without the sticky bit, come last: volumes of containers are so.
 *
 * Where others may write into the base, or into a folder on the way to it, and the sticky bit does
 * not forbid it, they may rename the folder and put another one there. So it is opened, and `path`
 * is /proc/PID/fd/N/., which leads to the folder itself, whatever happens to its name. It does for
 * processes of this user and root, while this process lives and keeps `dir` open.
 *
 * First removes the folders of that prefix whose owner, a process of this user, has ended without
 * removing them. -1: `error` says why. */
int private_dir_make(const char *prefix, size_t longest, private_dir *out,
                     char error[PRIVATE_DIR_ERROR_BYTES]);
/* Remove it; what else was put in it must be gone. Nothing for one that was never made. */
void private_dir_remove(private_dir *self);
#endif
