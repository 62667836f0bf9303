/* SPDX-License-Identifier: Apache-2.0 */
/* Block the signals that end a program, and let them cut off output that nobody reads. */
#include "experiments/base/end_signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <ucontext.h>
#include <unistd.h>

static void fill(sigset_t *set_out)
{
    struct sigaction hangup;
    sigemptyset(set_out);
    sigaddset(set_out, SIGINT);
    sigaddset(set_out, SIGTERM);
    sigaddset(set_out, SIGQUIT);
    /* A blocked signal is kept for the reader though it is ignored. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
        sigaddset(set_out, SIGHUP);
    }
}

int end_signals_block(sigset_t *set_out, sigset_t *before_out)
{
    fill(set_out);
    return sigprocmask(SIG_BLOCK, set_out, before_out);
}

void end_signals_cut_stuck(void)
{
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        struct pollfd set = {.fd = fd, .events = POLLOUT};
        int nowhere = poll(&set, 1, 0) == 0 ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
        if (nowhere >= 0) {
            dup2(nowhere, fd);
            close(nowhere);
        }
    }
}

/* The write that waits now is begun anew, and finds the other file. */
static void cut(int number, siginfo_t *info, void *interrupted)
{
    ucontext_t *goes_on = interrupted;
    int error = errno;
    (void)info;
    end_signals_cut_stuck();
    sigaddset(&goes_on->uc_sigmask, number); /* once is enough: it stays for its reader */
    kill(getpid(), number);
    errno = error;
}

void end_signals_cut_output(bool may)
{
    sigset_t set;
    fill(&set);
    struct sigaction action = {
        .sa_sigaction = cut, .sa_mask = set, .sa_flags = SA_SIGINFO | SA_RESTART};
    for (int number = 1; may && number < SIGRTMIN; number++) {
        if (sigismember(&set, number) == 1) {
            sigaction(number, &action, NULL);
        }
    }
    sigprocmask(may ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
}
