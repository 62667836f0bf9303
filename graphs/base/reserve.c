/* SPDX-License-Identifier: Apache-2.0 */
/* The reserve: given up to take one connection, refuse it, and be had again. */
#include "graphs/base/reserve.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

int eepi_reserve_open(void)
{
    return open("/", O_PATH | O_CLOEXEC);
}

bool eepi_reserve_turn_away(int *reserve, int listen_fd, eepi_reserve_tell tell, const void *user)
{
    if (*reserve >= 0) {
        close(*reserve);
    }
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        tell(fd, user);
    }
    *reserve = eepi_reserve_open();
    return fd >= 0 && *reserve >= 0;
}
