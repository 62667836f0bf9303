/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/store_tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096, CONNECT_MS = 100, SILENT_MS = 5000, PROBE_S = 1, PROBES = 5 };

/* false: the host is no loopback address. */
static bool address_of(const eepi_store_endpoint *endpoint, struct sockaddr_storage *address_out,
                       socklen_t *bytes_out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)address_out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address_out;
    const char *host = strcmp(endpoint->host, "localhost") == 0 ? "127.0.0.1" : endpoint->host;
    memset(address_out, 0, sizeof *address_out);
    if (!eepi_store_host_is_loopback(endpoint->host)) {
        return false;
    }
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(endpoint->port);
        *bytes_out = sizeof *v4;
        return true;
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(endpoint->port);
    *bytes_out = sizeof *v6;
    return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
}

void eepi_store_tcp_prepare(int fd)
{
    const int on = 1, silent = SILENT_MS, probe = PROBE_S, probes = PROBES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &probe, sizeof probe);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe, sizeof probe);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent, sizeof silent);
}

/* 0, or the error. */
static int connect_bounded(int fd, const struct sockaddr_storage *address, socklen_t bytes)
{
    struct pollfd set = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;
    if (connect(fd, (const struct sockaddr *)address, bytes) == 0) {
        return 0;
    }
    if (errno != EINPROGRESS) {
        return errno;
    }
    if (poll(&set, 1, CONNECT_MS) != 1) {
        return ETIMEDOUT;
    }
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

/* A port that the kernel chose as its own end of a connection to nobody: that is no store. */
static bool is_own_end(int fd, const struct sockaddr_storage *address, socklen_t bytes)
{
    struct sockaddr_storage own;
    socklen_t size = sizeof own;
    memset(&own, 0, sizeof own);
    return getsockname(fd, (struct sockaddr *)&own, &size) == 0 && size == bytes &&
           memcmp(&own, address, bytes) == 0;
}

eep_status eepi_store_tcp_connect(const eepi_store_endpoint *endpoint, int *fd_out)
{
    struct sockaddr_storage address;
    socklen_t bytes = 0;
    int fd, error;
    if (!address_of(endpoint, &address, &bytes)) {
        return EEP_ERR_INVALID;
    }
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return EEP_ERR_SYSTEM;
    }
    error = connect_bounded(fd, &address, bytes);
    if (error == 0 && is_own_end(fd, &address, bytes)) {
        error = ECONNREFUSED;
    }
    if (error != 0) {
        close(fd);
        errno = error; /* for eepi_store_socket_why */
        return error == ECONNREFUSED || error == ETIMEDOUT || error == EINTR ||
                       error == ECONNRESET || error == EADDRNOTAVAIL
                   ? EEP_ERR_UNREACHABLE
                   : EEP_ERR_SYSTEM;
    }
    eepi_store_tcp_prepare(fd);
    *fd_out = fd;
    return EEP_OK;
}

eep_status eepi_store_tcp_listen(const eepi_store_endpoint *endpoint, char *error_out,
                                 size_t error_bytes, int *fd_out)
{
    const int on = 1;
    struct sockaddr_storage address;
    socklen_t bytes = 0;
    eep_status status = EEP_ERR_INVALID;
    int fd = -1;
    errno = EADDRNOTAVAIL;
    if (address_of(endpoint, &address, &bytes)) {
        fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        /* Of a store that ended a moment ago connections may linger. */
        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
            bind(fd, (const struct sockaddr *)&address, bytes) == 0 && listen(fd, BACKLOG) == 0) {
            *fd_out = fd;
            return EEP_OK;
        }
        status = errno == EADDRINUSE ? EEP_ERR_CONFLICT : EEP_ERR_SYSTEM;
    }
    if (error_out && error_bytes > 0) {
        snprintf(error_out, error_bytes, "cannot listen on port %u of %s: %s",
                 (unsigned)endpoint->port, endpoint->host, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return status;
}
