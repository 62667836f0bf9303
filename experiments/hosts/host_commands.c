/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that disturb hosts and networks, as child processes. */
#include "experiments/hosts/host_commands.h"

#include "experiments/base/child.h"
#include "experiments/base/monotonic.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { MAX_WAITING = 64, OWN_VARIABLES = 3, OWN_BYTES = VERB_FILE_BYTES + 16 };
static const uint64_t BOUND_NS = 60000000000; /* of one command */

typedef struct waiting_command {
    verb what;
    host_names names;
} waiting_command;

struct host_commands {
    const hosts_file *file;
    waiting_command waiting[MAX_WAITING]; /* [0] runs, if there is a process */
    int num;
    pid_t pid; /* 0: none */
    uint64_t began_ns;
    char *failed; /* why [0] could not be started */
    bool cut;     /* a fault of the network is not healed */
    bool down[HOSTS_MAX];
};

eep_status host_commands_open(const hosts_file *file, host_commands **commands_out)
{
    host_commands *self = calloc(1, sizeof *self);
    if (!self) {
        return EEP_ERR_NO_MEMORY;
    }
    self->file = file;
    *commands_out = self;
    return EEP_OK;
}

/* ---------------------------------------------------------------- run */

/* Our environment, without those of these names, and with them. NULL: no memory. */
static char **environment_with(char own[OWN_VARIABLES][OWN_BYTES])
{
    size_t num = 0, used = 0;
    while (environ[num]) {
        num++;
    }
    char **variables = calloc(num + OWN_VARIABLES + 1, sizeof *variables);
    for (size_t i = 0; variables && i < num; i++) {
        bool is_own = false;
        for (int o = 0; o < OWN_VARIABLES; o++) {
            is_own |= strncmp(environ[i], own[o], strcspn(own[o], "=") + 1) == 0;
        }
        if (!is_own) {
            variables[used++] = environ[i];
        }
    }
    for (int o = 0; variables && o < OWN_VARIABLES; o++) {
        variables[used++] = own[o];
    }
    return variables;
}

static pid_t start(const host_commands *self, const waiting_command *command)
{
    static char shell[] = "sh", flag[] = "-c";
    char own[OWN_VARIABLES][OWN_BYTES];
    char *const words[] = {shell, flag, self->file->command[command->what], NULL};
    child_setup setup = CHILD_SETUP;
    snprintf(own[0], OWN_BYTES, "HOSTS=%s", command->names.side[0]);
    snprintf(own[1], OWN_BYTES, "OTHERS=%s", command->names.side[1]);
    snprintf(own[2], OWN_BYTES, "MS=%g", command->names.ms);
    char **variables = environment_with(own);
    setup.output = STDERR_FILENO;
    setup.has_own_group = true; /* ^C ends the run in order, with the healing */
    pid_t pid = variables ? child_exec(&setup, "/bin/sh", words, variables, NULL) : -1;
    int failure = variables ? errno : ENOMEM;
    free(variables);
    errno = failure;
    return pid;
}

static void begin_next(host_commands *self)
{
    if (self->num > 0 && !self->pid && !self->failed) {
        self->began_ns = now_ns();
        self->pid = start(self, &self->waiting[0]);
        if (self->pid < 0) {
            self->pid = 0;
            self->failed = strerror(errno);
        }
    }
}

/* What is to be mended at the end. */
static void note(host_commands *self, const waiting_command *command)
{
    char name[HOST_NAME_BYTES];
    bool is_net = command->what == VERB_PARTITION || command->what == VERB_ONE_WAY ||
                  command->what == VERB_DELAY || command->what == VERB_RESET;
    self->cut |= is_net;
    if (command->what == VERB_HEAL && !*command->names.side[0]) {
        self->cut = false;
    }
    if (command->what == VERB_NIC_DOWN || command->what == VERB_NIC_UP) {
        (void)host_names_next(command->names.side[0], name);
        int host = hosts_file_find(self->file, name);
        if (host >= 0) {
            self->down[host] = command->what == VERB_NIC_DOWN;
        }
    }
}

eep_status host_commands_run(host_commands *self, verb what, const host_names *names)
{
    if (self->num == MAX_WAITING) {
        return EEP_ERR_NO_MEMORY;
    }
    self->waiting[self->num] = (waiting_command){what, *names};
    note(self, &self->waiting[self->num++]);
    begin_next(self);
    return EEP_OK;
}

/* ---------------------------------------------------------------- end */

bool host_commands_next(host_commands *self, host_commands_done *done_out)
{
    int status = 0;
    if (self->num == 0) {
        return false;
    }
    *done_out = (host_commands_done){.what = self->waiting[0].what,
                                     .names = self->waiting[0].names,
                                     .began_ns = self->began_ns,
                                     .ended_ns = now_ns()};
    if (self->failed) {
        snprintf(done_out->why, sizeof done_out->why, "it cannot be started: %s", self->failed);
    } else if (child_has_ended(self->pid, &status)) {
        if (status) {
            snprintf(done_out->why, sizeof done_out->why, "it ended %s %d",
                     WIFSIGNALED(status) ? "by signal" : "with status",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        }
    } else if (done_out->ended_ns - self->began_ns > BOUND_NS) {
        kill(-self->pid, SIGKILL); /* what it has started, too: it has a group of its own */
        child_kill(self->pid, NULL);
        snprintf(done_out->why, sizeof done_out->why, "it took more than a minute");
    } else {
        return false;
    }
    self->pid = 0;
    self->failed = NULL;
    self->num--;
    memmove(&self->waiting[0], &self->waiting[1], (size_t)self->num * sizeof self->waiting[0]);
    begin_next(self);
    return true;
}

bool host_commands_are_busy(const host_commands *self)
{
    return self->num > 0;
}

static void mend(host_commands *self, verb what, const char *hosts)
{
    host_names names = {.ms = 0};
    snprintf(names.side[0], sizeof names.side[0], "%s", hosts);
    if (self->file->command[what]) {
        (void)!host_commands_run(self, what, &names);
    }
}

void host_commands_close(host_commands *self)
{
    const struct timespec nap = {0, 5000000};
    host_commands_done done;
    if (!self) {
        return;
    }
    if (self->cut) {
        mend(self, VERB_HEAL, "");
    }
    for (int i = 0; i < self->file->num_hosts; i++) {
        if (self->down[i]) {
            mend(self, VERB_NIC_UP, self->file->host[i].name);
        }
    }
    while (host_commands_are_busy(self)) {
        if (!host_commands_next(self, &done)) {
            nanosleep(&nap, NULL);
        } else if (*done.why) {
            fprintf(stderr, "eep-run: the command of %s for %s: %s\n", verb_table[done.what].name,
                    *done.names.side[0] ? done.names.side[0] : "all hosts", done.why);
        }
    }
    free(self);
}
