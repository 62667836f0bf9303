/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/secure/tcp_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096, SILENT_MS = 5000, PROBE_S = 1, PROBES = 5 };

/* false: the host is no address. */
static bool address_of(const char *host, uint16_t port, struct sockaddr_storage *address_out,
                       socklen_t *bytes_out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)address_out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address_out;
    memset(address_out, 0, sizeof *address_out);
    host = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *bytes_out = sizeof *v4;
        return true;
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    *bytes_out = sizeof *v6;
    return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    return address->ss_family == AF_INET ? ntohl(v4->sin_addr.s_addr) >> 24 == 127
                                         : IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Every interface, by whichever form of the address. */
static bool is_wildcard(const struct sockaddr_storage *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    static const unsigned char mapped[16] = {[10] = 0xff, [11] = 0xff}; /* ::ffff:0.0.0.0 */
    if (address->ss_family == AF_INET) {
        return v4->sin_addr.s_addr == htonl(INADDR_ANY);
    }
    return IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr) ||
           memcmp(&v6->sin6_addr, mapped, sizeof mapped) == 0;
}

bool eepi_tcp_is_loopback(const char *host)
{
    struct sockaddr_storage address;
    socklen_t bytes;
    return address_of(host, 1, &address, &bytes) && is_loopback(&address);
}

eep_status eepi_tcp_check_host(const char *host, bool has_key, char *why, size_t why_bytes)
{
    struct sockaddr_storage address;
    socklen_t bytes;
    const bool is_address = address_of(host, 1, &address, &bytes);
    const char *wrong = NULL;
    if (!has_key && !(is_address && is_loopback(&address))) {
        wrong = "is no loopback address: without a key (key-file=PATH or EEP_KEY_FILE) "
                "connections are not authenticated, so only 127.0.0.0/8, [::1] and localhost are "
                "taken";
    } else if (!is_address) {
        wrong = "is no address: names are not looked up";
    } else if (is_wildcard(&address)) {
        wrong = "stands for every interface: name the address of one";
    }
    if (wrong && why && why_bytes > 0) {
        snprintf(why, why_bytes, "%.80s %s", host, wrong);
    }
    return wrong ? EEP_ERR_INVALID : EEP_OK;
}

void eepi_tcp_prepare(int fd)
{
    const int on = 1, silent = SILENT_MS, probe = PROBE_S, probes = PROBES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &probe, sizeof probe);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe, sizeof probe);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent, sizeof silent);
}

uint64_t eepi_tcp_peer(int fd)
{
    struct sockaddr_storage address = {0};
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
    socklen_t bytes = sizeof address;
    uint64_t network = 0;
    if (getpeername(fd, (struct sockaddr *)&address, &bytes) != 0) {
        return 0;
    }
    if (address.ss_family == AF_INET) {
        return v4->sin_addr.s_addr;
    }
    memcpy(&network, &v6->sin6_addr, sizeof network);
    return network;
}

/* 0, or the error. */
static int connect_bounded(int fd, const struct sockaddr_storage *address, socklen_t bytes,
                           int wait_ms)
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
    if (wait_ms == 0) {
        return 0;
    }
    if (poll(&set, 1, wait_ms) != 1) {
        return ETIMEDOUT;
    }
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

/* A port that the kernel chose as its own end of a connection to nobody: nobody serves there. */
static bool is_own_end(int fd, const struct sockaddr_storage *address, socklen_t bytes)
{
    struct sockaddr_storage own;
    socklen_t size = sizeof own;
    memset(&own, 0, sizeof own);
    return getsockname(fd, (struct sockaddr *)&own, &size) == 0 && size == bytes &&
           memcmp(&own, address, bytes) == 0;
}

static bool is_absence(int error)
{
    return error == ECONNREFUSED || error == ETIMEDOUT || error == EINTR || error == ECONNRESET ||
           error == EADDRNOTAVAIL || error == EHOSTUNREACH || error == ENETUNREACH;
}

/* 0, or the error. The kernel chooses the port when it connects. */
static int bind_from(int fd, const char *from)
{
    const int later = 1;
    struct sockaddr_storage address;
    socklen_t bytes = 0;
    if (!from) {
        return 0;
    }
    if (!address_of(from, 0, &address, &bytes)) {
        return EINVAL;
    }
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &later, sizeof later);
    return bind(fd, (const struct sockaddr *)&address, bytes) == 0 ? 0 : errno;
}

uint64_t eepi_tcp_patience_us(uint32_t num_before)
{
    enum { FIRST_US = 100000, LONGEST_US = 2000000 };
    const uint64_t us = (uint64_t)FIRST_US << (num_before < 8 ? num_before : 8);
    return us < LONGEST_US ? us : LONGEST_US;
}

bool eepi_tcp_is_under_way(int fd)
{
    struct pollfd set = {.fd = fd, .events = POLLOUT};
    return poll(&set, 1, 0) == 0;
}

eep_status eepi_tcp_connect(const char *host, uint16_t port, int wait_ms, int *fd_out)
{
    return eepi_tcp_connect_from(NULL, host, port, wait_ms, fd_out);
}

eep_status eepi_tcp_connect_from(const char *from, const char *host, uint16_t port, int wait_ms,
                                 int *fd_out)
{
    struct sockaddr_storage address;
    socklen_t bytes = 0;
    int fd, error;
    if (!address_of(host, port, &address, &bytes)) {
        return EEP_ERR_INVALID;
    }
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return EEP_ERR_SYSTEM;
    }
    error = bind_from(fd, from);
    error = error == 0 ? connect_bounded(fd, &address, bytes, wait_ms) : error;
    if (error == 0 && is_own_end(fd, &address, bytes)) {
        error = ECONNREFUSED;
    }
    if (error != 0) {
        close(fd);
        errno = error; /* for who says why */
        return is_absence(error) ? EEP_ERR_UNREACHABLE : EEP_ERR_SYSTEM;
    }
    eepi_tcp_prepare(fd);
    *fd_out = fd;
    return EEP_OK;
}

eep_status eepi_tcp_listen(const char *host, uint16_t port, char *error_out, size_t error_bytes,
                           int *fd_out)
{
    const int on = 1;
    struct sockaddr_storage address;
    socklen_t bytes = 0;
    eep_status status = EEP_ERR_INVALID;
    int fd = -1;
    errno = EADDRNOTAVAIL;
    if (address_of(host, port, &address, &bytes)) {
        fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        /* Of a process that ended a moment ago connections may linger. */
        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
            bind(fd, (const struct sockaddr *)&address, bytes) == 0 && listen(fd, BACKLOG) == 0) {
            *fd_out = fd;
            return EEP_OK;
        }
        status = errno == EADDRINUSE ? EEP_ERR_CONFLICT : EEP_ERR_SYSTEM;
    }
    if (error_out && error_bytes > 0) {
        snprintf(error_out, error_bytes, "cannot listen on port %u of %s: %s", (unsigned)port, host,
                 strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return status;
}
