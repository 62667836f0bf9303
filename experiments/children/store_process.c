/* SPDX-License-Identifier: Apache-2.0 */
/* eep-store as a child process: signals, start, end. */
#include "experiments/children/store_process.h"
#include "experiments/base/program_dir.h"
#include "experiments/base/child.h"
#include "experiments/base/monotonic.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { START_BOUND_MS = 5000, REAP_NAP_NS = 1000000 };

struct store_process {
    pid_t pid;   /* 0: none, or reaped */
    bool killed; /* by store_process_kill; perhaps not reaped yet */
    bool stopped;
    char program[PATH_MAX], path[PATH_MAX];
};

/* ---------------------------------------------------------------- signals and end */

bool store_process_runs(store_process *self)
{
    if (self->pid && child_has_ended(self->pid, NULL)) {
        self->pid = 0;
    }
    return self->pid != 0;
}

pid_t store_process_pid(const store_process *self)
{
    return self ? self->pid : 0;
}

/* Not reaped yet, hence its pid cannot be another's. */
static eep_status send_signal(store_process *self, int signal_number)
{
    if (!store_process_runs(self) || self->killed) {
        return EEP_ERR_NOT_FOUND;
    }
    return kill(self->pid, signal_number) == 0 ? EEP_OK : EEP_ERR_SYSTEM;
}

const char *store_process_refuses(store_process *self, verb what)
{
    bool lives = store_process_runs(self) && !self->killed;
    if (what == VERB_STORE_START) {
        return lives ? "the store runs: kill it first" : NULL;
    }
    if (!lives) {
        return "the store has no process: store-start starts it";
    }
    return what == VERB_STORE_CONT && !self->stopped ? "the store is not stopped" : NULL;
}

eep_status store_process_kill(store_process *self)
{
    eep_status status = send_signal(self, SIGKILL);
    self->killed |= status == EEP_OK;
    return status;
}

eep_status store_process_stop(store_process *self)
{
    eep_status status = send_signal(self, SIGSTOP);
    self->stopped |= status == EEP_OK;
    return status;
}

eep_status store_process_cont(store_process *self)
{
    self->stopped = false;
    return send_signal(self, SIGCONT);
}

static void kill_and_reap(store_process *self)
{
    if (store_process_runs(self)) {
        child_kill(self->pid, NULL);
        self->pid = 0;
    }
}

void store_process_close(store_process *self)
{
    if (!self) {
        return;
    }
    kill_and_reap(self);
    unlink(self->path);
    free(self);
}

/* ---------------------------------------------------------------- start */

/* Until the first line of the store has come; it prints no other. */
static eep_status wait_ready(const store_process *self, int fd, double until_ms)
{
    for (;;) {
        double left_ms = until_ms - now_ms();
        struct pollfd set = {.fd = fd, .events = POLLIN};
        char byte;
        int ready = poll(&set, 1, left_ms > 0 ? (int)left_ms + 1 : 0);
        if (ready == 0) {
            fprintf(stderr, "eep-run: %s was not ready on %s within %d ms\n", self->program,
                    self->path, START_BOUND_MS);
            return EEP_ERR_TIMEOUT;
        }
        ssize_t bytes = ready > 0 ? read(fd, &byte, 1) : -1;
        if (bytes < 0 && errno == EINTR) {
            continue;
        }
        if (bytes <= 0) {
            fprintf(stderr, "eep-run: %s ended before it served on %s\n", self->program,
                    self->path);
            return EEP_ERR_SYSTEM;
        }
        if (byte == '\n') {
            return EEP_OK;
        }
    }
}

/* The store's standard output tells when it is ready. The store has a process group of its own: ^C
 * is for the launcher, which ends the store last. */
static eep_status start(store_process *self, double until_ms)
{
    static char name[] = "eep-store", option[] = "--path";
    char *const arguments[] = {name, option, self->path, NULL};
    int out[2] = {-1, -1};
    if (access(self->program, X_OK) != 0 || pipe2(out, O_CLOEXEC) != 0) {
        fprintf(stderr, "eep-run: cannot start %s: %s\n", self->program, strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    child_setup setup = CHILD_SETUP;
    setup.output = out[1];
    setup.has_own_group = true;
    pid_t pid = child_exec(&setup, self->program, arguments, NULL, NULL);
    close(out[1]);
    eep_status status = EEP_ERR_SYSTEM;
    if (pid < 0) {
        fprintf(stderr, "eep-run: cannot start %s: %s\n", self->program, strerror(errno));
    } else {
        self->pid = pid;
        self->killed = self->stopped = false;
        status = wait_ready(self, out[0], until_ms);
    }
    close(out[0]);
    if (status != EEP_OK) {
        kill_and_reap(self);
    }
    return status;
}

eep_status store_process_start(store_process *self)
{
    const struct timespec nap = {0, REAP_NAP_NS};
    double until_ms = now_ms() + START_BOUND_MS;
    if (store_process_runs(self) && !self->killed) {
        return EEP_ERR_STATE;
    }
    /* A killed store's socket answers until the kernel has torn the process down. */
    while (store_process_runs(self)) {
        if (now_ms() >= until_ms) {
            fprintf(stderr, "eep-run: the killed store does not end\n");
            return EEP_ERR_TIMEOUT;
        }
        nanosleep(&nap, NULL);
    }
    return start(self, until_ms);
}

eep_status store_process_open_program(const char *program, const char *socket_path,
                                      store_process **out)
{
    store_process *self = calloc(1, sizeof *self);
    if (!self) {
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status = EEP_ERR_SYSTEM;
    if (snprintf(self->program, sizeof self->program, "%s", program) >= PATH_MAX ||
        snprintf(self->path, sizeof self->path, "%s", socket_path) >= PATH_MAX) {
        fprintf(stderr, "eep-run: eep-store: path too long\n");
    } else {
        status = start(self, now_ms() + START_BOUND_MS);
    }
    if (status != EEP_OK) {
        free(self); /* a file at that path is not this store's */
        return status;
    }
    *out = self;
    return EEP_OK;
}

eep_status store_process_open(const char *socket_path, store_process **out)
{
    char program[PATH_MAX];
    if (program_dir_path("eep-store", program) != 0) {
        fprintf(stderr, "eep-run: eep-store: the folder of eep-run: %s\n", strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    return store_process_open_program(program, socket_path, out);
}
