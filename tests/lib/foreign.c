/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/foreign.h"

#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_FDS = 253, NOBODY = 65534, PASS_RIGHTS = 83, MOST_OPEN = 1024 };

int foreign_send(int fd, const void *message, size_t bytes, const int *fds, int num)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(MOST_FDS * sizeof(int))];
    } control;
    struct iovec part = {(void *)(size_t)message, bytes};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    memset(&control, 0, sizeof(control));
    if (num > 0) {
        head.msg_control = &control;
        head.msg_controllen = CMSG_SPACE((size_t)num * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN((size_t)num * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, (size_t)num * sizeof(int));
    }
    return sendmsg(fd, &head, MSG_NOSIGNAL) == (ssize_t)bytes ? 0 : errno;
}

int foreign_lingering(int seconds)
{
    static char block[65536];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    const struct linger linger = {.l_onoff = 1, .l_linger = seconds};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(listener, 1), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    while (send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    return fd; /* the listener stays open, and reads nothing */
}

pid_t foreign_listener(int type, char path_out[108])
{
    char folder[] = "/tmp/eep-foreign-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int ready[2];
    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chown(folder, NOBODY, NOBODY), 0);
    snprintf(path_out, 108, "%s/socket", folder);
    memcpy(address.sun_path, path_out, strlen(path_out) + 1);
    cr_assert_eq(pipe(ready), 0);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
        if (setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0 &&
            prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
            bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 8) == 0 &&
            write(ready[1], "y", 1) == 1) {
            alarm(30);
            for (;;) {
                pause();
            }
        }
        _exit(1);
    }
    char byte = 'n';
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

void foreign_end(pid_t pid, const char *path)
{
    char folder[108];
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(path);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    rmdir(folder);
}

int foreign_count_fds(pid_t pid)
{
    char path[64];
    int num = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *entries = opendir(path);
    cr_assert_not_null(entries);
    while (readdir(entries) != NULL) {
        num++;
    }
    closedir(entries);
    return num;
}

void foreign_allow_fds(void)
{
    const int on = 1;
    for (int fd = 0; fd < MOST_OPEN; fd++) {
        (void)setsockopt(fd, SOL_SOCKET, PASS_RIGHTS, &on, sizeof on);
    }
}
