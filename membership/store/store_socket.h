/* SPDX-License-Identifier: Apache-2.0 */
/* The unix socket between store and clients: who may listen, who may connect. Any thread. */
#ifndef EEPI_STORE_SOCKET_H
#define EEPI_STORE_SOCKET_H

#include "eep/status.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* A bound socket file, so that only our own is removed. */
typedef struct eepi_store_listener {
    int fd;
    dev_t device;
    ino_t inode;
} eepi_store_listener;

/* Connect without blocking; the socket is non-blocking and close-on-exec. EEP_ERR_UNREACHABLE: no
 * store accepts there now. EEP_ERR_INVALID: path too long. EEP_ERR_STATE: what listens there
 * belongs to another user. EEP_ERR_SYSTEM. */
EEP_MUST_CHECK eep_status eepi_store_socket_connect(const char *path, int *fd_out);
/* Why a connection to the store at `address` failed, right afterwards; `text` is returned. */
const char *eepi_store_socket_why(const char *address, eep_status status, char *text, size_t bytes);
/* The path without links, for what lies beside the socket. One that leads through a descriptor
 * (/proc/PID/fd/N/...) stays as it is, unless the socket itself is a link: no rename changes where
 * it leads, but others may give the folder's name to another one. */
void eepi_store_socket_resolve(const char *path, char path_out[PATH_MAX]);
/* The path, without links, that this host's own files of the store at `address` are named after:
 * that of its socket, or what `local` gives. EEP_ERR_INVALID, with the reason: it has none. */
EEP_MUST_CHECK eep_status eepi_store_local_path(const char *address, char path_out[PATH_MAX],
                                                char *why, size_t why_bytes);
/* What stands at a path where a socket is to be bound. */
typedef enum eepi_socket_place {
    EEPI_SOCKET_FREE,   /* nothing */
    EEPI_SOCKET_STALE,  /* a socket that nobody accepts on: the process that listened has ended,
                         * though a child that it forked may hold it */
    EEPI_SOCKET_SERVED, /* a socket on which somebody accepts, or that cannot be tried */
    EEPI_SOCKET_OTHER,  /* something else than a socket */
    EEPI_SOCKET_HIDDEN, /* it cannot be looked at: errno */
} eepi_socket_place;
eepi_socket_place eepi_store_socket_look(int type, const char *path);
/* Bind and listen, as eep_store_open documents it: the directory must be ours and 0700, a stale
 * socket file is replaced, EEP_ERR_CONFLICT when something accepts there. Waits at most 1 s for
 * another process that is starting a store in the same directory. On failure the reason is
 * written to `error_out` if that is not NULL. */
EEP_MUST_CHECK eep_status eepi_store_socket_listen(const char *path, char *error_out,
                                                   size_t error_bytes,
                                                   eepi_store_listener *listener_out);
/* The same for a socket of another type, such as the holder's SOCK_SEQPACKET. */
EEP_MUST_CHECK eep_status eepi_store_socket_listen_as(int type, const char *path, char *error_out,
                                                      size_t error_bytes,
                                                      eepi_store_listener *listener_out);
/* Close, and remove the socket file if it is still the one that was bound. */
void eepi_store_socket_unlisten(const char *path, const eepi_store_listener *listener);
#endif
