/* SPDX-License-Identifier: Apache-2.0 */
/* A unix socket whose file appears when it listens, and not before.
 *
 * bind() makes the file and listen() comes later. Who finds the file in between is refused as if
 * the socket were stale. So the file is made under another name and then renamed. */
#ifndef EEPI_LISTEN_AT_H
#define EEPI_LISTEN_AT_H

#include <sys/stat.h>

/* Let the unbound unix socket `fd` listen at `path`, where no file may be. info_out: of its file.
 * 0, or -1 with errno, and no file is left. Any thread. */
int eepi_listen_at(int fd, const char *path, int backlog, struct stat *info_out);
#endif
