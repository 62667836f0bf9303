/* Folders for sockets that only this user can enter, below the directory for temporary files. */
#ifndef EEPX_PRIVATE_DIR_H
#define EEPX_PRIVATE_DIR_H

#include <stddef.h>

enum { PRIVATE_DIR_BYTES = 108, PRIVATE_DIR_ERROR_BYTES = 512 };

typedef struct private_dir {
    char path[PRIVATE_DIR_BYTES]; /* empty: none */
    int held;                     /* while open, it is ours */
} private_dir;

/* Make BASE/PREFIX-XXXXXX of mode 0700. BASE: $XDG_RUNTIME_DIR, $TMPDIR or /tmp, the first in which
 * that is possible with a path of at most `longest` bytes, of those that are ours or root's and
 * that not all may write, or that have the sticky bit. First removes the folders of that prefix
 * whose owner, a process of this user, has ended without removing them. -1: `error` says why. */
int private_dir_make(const char *prefix, size_t longest, private_dir *out,
                     char error[PRIVATE_DIR_ERROR_BYTES]);
/* Remove it; what else was put in it must be gone. Nothing for one that was never made. */
void private_dir_remove(private_dir *self);
#endif
