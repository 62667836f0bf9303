/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that a program starts: each ends with the thread that started it, blocks no signals
 * that the program holds back, and is waited for with a bound. */
#ifndef EEPX_CHILD_H
#define EEPX_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    CHILD_CHANNEL = 3,       /* the descriptor of setup.channel in the child */
    CHILD_NOT_STARTED = 127, /* exit status: the program could not be started; stderr says why */
};

/* How a child begins. Descriptors: -1, as ours. Their numbers must not be each other's targets. */
typedef struct child_setup {
    int death_signal;     /* what it gets when the thread that started it ends */
    int output, errors;   /* become its standard output and standard error */
    int channel;          /* becomes CHILD_CHANNEL */
    bool closes_rest;     /* all above the standard ones, and the channel, are closed in it; a
                           * program that is started has none of those with close-on-exec anyway */
    bool has_own_group;   /* it is in a process group of its own: ^C is not for it */
    unsigned life_s;      /* SIGALRM ends it after that; 0: no bound */
    const sigset_t *mask; /* the signals that it blocks; NULL: none */
} child_setup;
#define CHILD_SETUP                                                                                \
    ((child_setup){.death_signal = SIGKILL, .output = -1, .errors = -1, .channel = -1})

/* A copy of this process. 0 in the child, which begins as `setup` says; its pid in the parent; -1
 * with errno. `pidfd_out`: NULL, or a descriptor that is readable once the child has ended. */
pid_t child_fork(const child_setup *setup, int *pidfd_out);
/* A process that runs the program `file`. `variables`: its environment; NULL: ours. If the program
 * cannot be started, the child says so on its standard error and ends with CHILD_NOT_STARTED. */
pid_t child_exec(const child_setup *setup, const char *file, char *const arguments[],
                 char *const variables[], int *pidfd_out);

/* Has it ended? Then it is reaped. What somebody else has waited for has ended too: *status_out is
 * then left as it is. Does not block. `status_out` may be NULL. */
bool child_has_ended(pid_t pid, int *status_out);
/* SIGKILL and reap it; errno stays. 0: none. Blocks until the kernel has ended it. */
void child_kill(pid_t pid, int *status_out);

typedef enum child_event {
    CHILD_ENDED,     /* the child, which is not reaped yet */
    CHILD_SIGNALLED, /* `signal_fd` is readable, and the child still runs */
    CHILD_LATE,      /* neither within the bound */
} child_event;
/* Wait for the first of these. `signal_fd`: a signalfd, or -1; `bound_ms` -1: no bound. */
child_event child_wait(int pidfd, int signal_fd, int bound_ms);
#endif
