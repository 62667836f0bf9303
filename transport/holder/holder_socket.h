/* SPDX-License-Identifier: Apache-2.0 */
/* One message of the holder's protocol out of or into a socket. Any thread. */
#ifndef EEPI_HOLDER_SOCKET_H
#define EEPI_HOLDER_SOCKET_H

#include "eep/status.h"
#include "transport/holder/holder_wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Send `bytes` bytes and, unless it is -1, a descriptor, without waiting. 0, or -1 with errno. */
int eepi_holder_send(int fd, const void *message, size_t bytes, int passed_fd);
/* What the errno of such a failure means: EEP_ERR_SYSTEM, that a limit was reached on this side (no
 * descriptors or memory left, or too many descriptors of this user on their way in sockets), else
 * EEP_ERR_UNREACHABLE. */
eep_status eepi_holder_send_status(int error);
/* Receive one message without waiting. Returns its bytes, 0 at the end of the connection, -1 with
 * errno. One of more than `bytes`, with more than one descriptor, or with one and no bytes returns
 * `bytes` + 1. *passed_out gets the one descriptor that came along (close-on-exec; the caller drops
 * it), -1 if none did. *lost_out: one was sent that this process had no room for. */
ssize_t eepi_holder_receive(int fd, void *message, size_t bytes, int *passed_out, bool *lost_out);
/* Close a descriptor that another process passed (-1: none), without waiting for what a socket has
 * not sent yet. Leaves errno. */
void eepi_holder_drop_fd(int fd);
/* From now on nobody can pass descriptors into this unix socket, where the kernel can refuse them
 * (Linux 6.16). What has come before is there. Leaves errno. */
void eepi_holder_refuse_fds(int fd);
/* The process at the other end of a unix socket runs as our user or as root. */
bool eepi_holder_is_trusted(int fd);
/* Of a unix socket that has connected: the process that listens there lives, or it is not known
 * (one of another pid namespace). A child that it forked keeps the socket open, and answers nobody.
 * Leaves errno. */
bool eepi_holder_is_served(int fd);
/* Whether a message has the protocol's form: size, magic, name. */
bool eepi_holder_is_formed(const eepi_holder_message *message, ssize_t bytes);
/* End a connection for whoever has a copy of it, a child that was forked included, and close it. */
void eepi_holder_hang_up(int epoll_fd, int fd);
#endif
