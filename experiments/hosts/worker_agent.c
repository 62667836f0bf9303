/* SPDX-License-Identifier: Apache-2.0 */
/* eep-agent as a worker's child. */
#include "experiments/hosts/worker_agent.h"

#include "experiments/base/child.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/program_dir.h"
#include "graphs/base/say.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { AGAIN_MS = 300, END_MS = 2000, EXIT_OTHER_SERVES = 3 };

static void close_output(worker_agent *self)
{
    if (self->output >= 0) {
        close(self->output);
        self->output = -1;
    }
}

eep_status worker_agent_start(worker_agent *self, const worker_begin *begin)
{
    static char name[] = "eep-agent", store_flag[] = "--store", listen_flag[] = "--listen";
    char program[PATH_MAX];
    char *store = (char *)(uintptr_t)begin->text[HOST_BEGIN_STORE]; /* exec takes them unchanged */
    char *listen = (char *)(uintptr_t)begin->text[HOST_BEGIN_AGENT];
    char *const words[] = {name, store_flag, store, listen_flag, listen, NULL};
    int ends[2] = {-1, -1};
    self->again_ns = 0;
    if (self->pid || !*listen) {
        return EEP_OK;
    }
    if (program_dir_path("eep-agent", program) != 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        return EEP_ERR_SYSTEM;
    }
    char **variables = worker_environment(begin, NULL, 0);
    child_setup setup = CHILD_SETUP;
    setup.output = setup.errors = ends[1];
    pid_t pid = variables ? child_exec(&setup, program, words, variables, &self->pidfd) : -1;
    int failure = variables ? errno : ENOMEM;
    free(variables);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        errno = failure;
        return EEP_ERR_SYSTEM;
    }
    close_output(self);
    self->pid = pid;
    self->output = ends[0];
    *self->said = '\0';
    self->state = WORKER_AGENT_BEGINS;
    return EEP_OK;
}

/* What it says is passed on to our standard error, but for the line that tells it is ready. */
static void listen_to(worker_agent *self)
{
    char text[sizeof self->said];
    ssize_t bytes = 0;
    while (self->output >= 0 && (bytes = read(self->output, text, sizeof text - 1)) > 0) {
        text[bytes] = '\0';
        if (self->state == WORKER_AGENT_BEGINS && strstr(text, "ready")) {
            self->state = WORKER_AGENT_SERVES;
            continue;
        }
        eepi_say(STDERR_FILENO, text, (size_t)bytes);
        text[strcspn(text, "\n")] = '\0';
        snprintf(self->said, sizeof self->said, "%s", text);
    }
}

/* It has ended: because of a verb, since another one serves, or for a reason of its own. */
static void note_end(worker_agent *self, int status, char *why)
{
    close(self->pidfd);
    self->pidfd = -1;
    self->pid = 0;
    listen_to(self);
    close_output(self);
    if (self->state == WORKER_AGENT_NONE) {
        return;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OTHER_SERVES) {
        self->state = WORKER_AGENT_ELSEWHERE;
        return;
    }
    self->state = WORKER_AGENT_BEGINS;
    self->again_ns = now_ns() + (uint64_t)AGAIN_MS * 1000000u;
    snprintf(why, HOST_NOTE_BYTES, "its agent ended %s %d%s%s",
             WIFSIGNALED(status) ? "by signal" : "with status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), *self->said ? ": " : "",
             self->said);
}

void worker_agent_look(worker_agent *self, const worker_begin *begin, char *why)
{
    int status = 0;
    *why = '\0';
    listen_to(self);
    if (self->pid && child_has_ended(self->pid, &status)) {
        note_end(self, status, why);
    }
    if (self->again_ns && now_ns() >= self->again_ns && worker_agent_start(self, begin) != EEP_OK) {
        snprintf(why, HOST_NOTE_BYTES, "its agent cannot be started: %s", strerror(errno));
        self->again_ns = now_ns() + (uint64_t)AGAIN_MS * 1000000u;
    }
}

void worker_agent_signal(worker_agent *self, int signal_number)
{
    if (signal_number == SIGKILL && self->state != WORKER_AGENT_ELSEWHERE) {
        self->state = WORKER_AGENT_NONE;
        self->again_ns = 0;
    }
    if (self->pid) { /* not waited for yet, hence its pid cannot be another's */
        kill(self->pid, signal_number);
    }
}

void worker_agent_end(worker_agent *self)
{
    int pidfd = self->pidfd;
    self->state = WORKER_AGENT_NONE;
    self->again_ns = 0;
    if (!self->pid) {
        return;
    }
    kill(self->pid, SIGCONT);
    kill(self->pid, SIGTERM);
    (void)child_wait(pidfd, -1, END_MS);
    child_kill(self->pid, NULL);
    close(pidfd);
    close_output(self);
    *self = WORKER_AGENT_INITIAL;
}
