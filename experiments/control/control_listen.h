/* SPDX-License-Identifier: Apache-2.0 */
/* The listening end of the control socket. */
#ifndef EEPX_CONTROL_LISTEN_H
#define EEPX_CONTROL_LISTEN_H

#include "experiments/control/control_socket.h"

#include <sys/stat.h>

typedef struct control_socket {
    int fd;
    dev_t device; /* of the file that was made, so that no other is removed */
    ino_t inode;
} control_socket;

/* Listen at a path of fewer than CONTROL_PATH_BYTES bytes, in place of a socket that nobody listens
 * at. Waits at most 1 s for another process that does the same in that folder. EEP_ERR_CONFLICT:
 * another run is there. EEP_ERR_INVALID, EEP_ERR_SYSTEM. On failure out->fd may be open. */
EEP_MUST_CHECK eep_status control_listen(const char *path, control_socket *out,
                                         char error[CONTROL_ERROR_BYTES]);
#endif
