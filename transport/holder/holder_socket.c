/* SPDX-License-Identifier: Apache-2.0 */
/* Messages with at most one descriptor, and whether the other side is trusted. */
#include "transport/holder/holder_socket.h"

#include "transport/holder/holder.h"
#include "graphs/base/own_user.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    REACHED_NAME_BYTES = 80, /* of a name behind /proc/self/fd/N/./ in a socket's address */
    MOST_FDS = 253,          /* SCM_MAX_FD of Linux */
    PASS_RIGHTS = 83         /* SO_PASSRIGHTS of Linux 6.16, which headers may lack */
};

void eepi_holder_path(const char *store_path, char path_out[EEPI_HOLDER_PATH_BYTES])
{
    const char *slash = strrchr(store_path, '/');
    const char *name = slash != NULL ? slash + 1 : store_path;
    size_t bytes = strlen(name);
    if (bytes <= REACHED_NAME_BYTES) {
        snprintf(path_out, EEPI_HOLDER_PATH_BYTES, "%s.holder", store_path);
    } else {
        snprintf(path_out, EEPI_HOLDER_PATH_BYTES, "%.*s%016llx.holder", (int)(name - store_path),
                 store_path, (unsigned long long)XXH64(name, bytes, 0));
    }
}

bool eepi_holder_reach(const char *path, char address_out[EEPI_HOLDER_ADDRESS_BYTES],
                       int *directory_out)
{
    char directory[EEPI_HOLDER_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    *directory_out = -1;
    if (strlen(path) < EEPI_HOLDER_ADDRESS_BYTES) {
        snprintf(address_out, EEPI_HOLDER_ADDRESS_BYTES, "%s", path);
        return *path != '\0';
    }
    if (slash == NULL || strlen(path) >= sizeof directory) {
        return false;
    }
    snprintf(directory, sizeof directory, "%.*s", (int)(slash - path), path);
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    if (snprintf(address_out, EEPI_HOLDER_ADDRESS_BYTES, "/proc/self/fd/%d/./%s", fd, slash + 1) >=
        EEPI_HOLDER_ADDRESS_BYTES) {
        close(fd);
        return false;
    }
    *directory_out = fd;
    return true;
}

int eepi_holder_send(int fd, const void *message, size_t bytes, int passed_fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = (void *)(uintptr_t)message, .iov_len = bytes};
    struct msghdr head = {.msg_iov = &piece, .msg_iovlen = 1};
    if (passed_fd >= 0) {
        memset(&control, 0, sizeof(control));
        head.msg_control = &control;
        head.msg_controllen = sizeof(control);
        struct cmsghdr *part = CMSG_FIRSTHDR(&head);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(part), &passed_fd, sizeof(int));
    }
    ssize_t sent = 0;
    do {
        sent = sendmsg(fd, &head, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)bytes ? 0 : -1;
}

eep_status eepi_holder_send_status(int error)
{
    bool is_ours = error == ETOOMANYREFS || error == EMFILE || error == ENFILE || error == ENOMEM ||
                   error == ENOBUFS;
    return is_ours ? EEP_ERR_SYSTEM : EEP_ERR_UNREACHABLE;
}

void eepi_holder_drop_fd(int fd)
{
    const struct linger none = {.l_onoff = 0};
    int error = errno;
    if (fd < 0) {
        return;
    }
    /* Not a look at it by fstat first: that waits for the server of a file. */
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(fd);
    errno = error;
}

void eepi_holder_refuse_fds(int fd)
{
    const int off = 0;
    int error = errno;
    (void)setsockopt(fd, SOL_SOCKET, PASS_RIGHTS, &off, sizeof off);
    errno = error;
}

/* The descriptors of a part of a message; the first of all stays, the others are dropped. */
static int take_fds(const struct cmsghdr *part, int num, int *first)
{
    size_t bytes = part->cmsg_len - CMSG_LEN(0);
    for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int), num++) {
        int fd = -1;
        memcpy(&fd, CMSG_DATA(part) + at, sizeof fd);
        if (num == 0) {
            *first = fd;
        } else {
            eepi_holder_drop_fd(fd);
        }
    }
    return num;
}

ssize_t eepi_holder_receive(int fd, void *message, size_t bytes, int *passed_out, bool *lost_out)
{
    union {
        struct cmsghdr header;
        /* For all that a message may carry: those without room the kernel would close, and wait
         * for one that lingers. */
        char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = message, .iov_len = bytes};
    struct msghdr head = {.msg_iov = &piece,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = sizeof(control)};
    ssize_t got = 0;
    int num = 0, resets = 0;
    *passed_out = -1;
    *lost_out = false;
    /* Linux tells the reset first, and once, where the other side closed with something of ours
     * unread: what it has said before that is behind it. */
    do {
        got = recvmsg(fd, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
    if (got < 0) {
        return got;
    }
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&head); part != NULL;
         part = CMSG_NXTHDR(&head, part)) {
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
            num = take_fds(part, num, passed_out);
        }
    }
    bool is_cut = (head.msg_flags & MSG_CTRUNC) != 0;
    *lost_out = is_cut && num == 0;
    if (num > 1 || (num == 1 && (is_cut || got == 0))) { /* no message of ours */
        eepi_holder_drop_fd(*passed_out);
        *passed_out = -1;
        return (ssize_t)bytes + 1;
    }
    return (head.msg_flags & MSG_TRUNC) != 0 ? (ssize_t)bytes + 1 : got;
}

bool eepi_holder_is_trusted(int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 &&
           eepi_user_is_trusted(peer.uid);
}

bool eepi_holder_is_served(int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    int error = errno;
    bool is_served = true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && peer.pid > 0) {
        int process = (int)syscall(SYS_pidfd_open, peer.pid, 0);
        struct pollfd end = {.fd = process, .events = POLLIN};
        is_served = process >= 0 ? poll(&end, 1, 0) <= 0 : errno != ESRCH;
        if (process >= 0) {
            close(process);
        }
    }
    errno = error;
    return is_served;
}

bool eepi_holder_is_formed(const eepi_holder_message *message, ssize_t bytes)
{
    if (bytes != (ssize_t)sizeof *message || message->magic != EEPI_HOLDER_MAGIC) {
        return false;
    }
    size_t end = 0;
    while (end < sizeof message->name && message->name[end] > ' ' && message->name[end] < 127) {
        end++;
    }
    return end < sizeof message->name && message->name[end] == '\0';
}

void eepi_holder_hang_up(int epoll_fd, int fd)
{
    if (fd < 0) {
        return;
    }
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    shutdown(fd, SHUT_RDWR);
    eepi_holder_drop_fd(fd); /* a holder may have passed anything as a connection */
}
