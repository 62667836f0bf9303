/* SPDX-License-Identifier: Apache-2.0 */
/* What a process that means us harm does to our sockets. */
#ifndef EEPT_FOREIGN_H
#define EEPT_FOREIGN_H

#include <stddef.h>
#include <sys/types.h>

/* Send `bytes` bytes with `num` descriptors. 0 or errno. */
int foreign_send(int fd, const void *message, size_t bytes, const int *fds, int num);
/* A TCP socket whose last close waits so many seconds: what it has sent is not read. */
int foreign_lingering(int seconds);
/* A process of another user that listens at a path, which is written, until it is killed. Root
 * only. */
pid_t foreign_listener(int type, char path_out[108]);
/* End it, and remove what it has left. */
void foreign_end(pid_t pid, const char *path);
/* The descriptors of this process, or of another. */
int foreign_count_fds(pid_t pid);
/* Descriptors can be passed to every socket of this process again. */
void foreign_allow_fds(void);
#endif
