/* SPDX-License-Identifier: Apache-2.0 */
/* Lines for people, written without waiting. */
#include "graphs/base/say.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* POLLOUT says that a terminal has some room, not that it has enough, and another process may take
 * it first. The descriptor is shared with other processes, so it is not made non-blocking itself:
 * the pipe or terminal is opened anew. -1: that is not possible. */
static int open_anew(int fd)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void eepi_say(int fd, const char *text, size_t bytes)
{
    struct pollfd out = {.fd = fd, .events = POLLOUT};
    struct stat info;
    int own = -1;

    if (poll(&out, 1, 0) == 0 || fstat(fd, &info) != 0) {
        return;
    }
    if (S_ISSOCK(info.st_mode)) {
        (void)!send(fd, text, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        return;
    }
    if (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode)) {
        own = open_anew(fd);
    }
    (void)!write(own >= 0 ? own : fd, text, bytes);
    if (own >= 0) {
        close(own);
    }
}
