/* SPDX-License-Identifier: Apache-2.0 */
/* Standard output and standard error that cannot stop or silently fail a program. */
#include "experiments/base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int output_end(int code)
{
    errno = 0;
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    if (!lost) {
        return code;
    }
    fprintf(stderr, "%s: standard output cannot be written%s%s: what was printed is lost\n",
            program_invocation_short_name, errno ? ": " : "", errno ? strerror(errno) : "");
    return code ? code : 1;
}

static void end(int code, void *unused)
{
    (void)unused;
    int told = output_end(code);
    if (told != code) {
        _exit(told);
    }
}

void output_begin(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored, as a parent may leave it, children end unseen */
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd) {
            _exit(2); /* not even /dev/null, and nobody to tell it to */
        }
    }
    if (on_exit(end, NULL) != 0) {
        fprintf(stderr, "%s: out of memory\n", program_invocation_short_name);
        exit(2);
    }
}

bool output_is_stuck(int fd)
{
    struct pollfd set = {.fd = fd, .events = POLLOUT};
    return poll(&set, 1, 0) == 0;
}

bool output_is_lost(void)
{
    return ferror(stdout) != 0;
}
