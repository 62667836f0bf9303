/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into rank processes: the first pidfd_open calls for other ranks find no descriptor
 * left, as many as the variable EEP_TEST_NO_PIDFD says (tests/run/unwatched.sh). */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARGUMENTS = 6 };

static int left;

static int is_rank(const char *process)
{
    char path[64], line[4096] = "";
    int fd;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%s/cmdline", process);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, line, sizeof line - 1) : 0;
    if (fd >= 0) {
        close(fd);
    }
    return n > 0 && memmem(line, (size_t)n, "--rank-process", strlen("--rank-process")) != NULL;
}

static __attribute__((constructor)) void begin(void)
{
    const char *most = getenv("EEP_TEST_NO_PIDFD");

    if (is_rank("self")) {
        left = most ? atoi(most) : 0;
    }
}

static int is_refused(long pid)
{
    char process[24];

    snprintf(process, sizeof process, "%ld", pid);
    return is_rank(process) && __atomic_fetch_sub(&left, 1, __ATOMIC_SEQ_CST) > 0;
}

long syscall(long number, ...)
{
    static long (*real)(long number, ...);
    long arguments[ARGUMENTS];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < ARGUMENTS; i++) {
        arguments[i] = va_arg(list, long);
    }
    va_end(list);
    if (!real) {
        void *found = dlsym(RTLD_NEXT, "syscall");
        memcpy(&real, &found, sizeof real);
    }
    if (number == SYS_pidfd_open && is_refused(arguments[0])) {
        errno = EMFILE;
        return -1;
    }
    return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}
