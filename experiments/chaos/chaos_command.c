/* SPDX-License-Identifier: Apache-2.0 */
/* Make, start and end the eep-run of a round. */
#include "experiments/chaos/chaos_command.h"

#include "experiments/base/child.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/run_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a round may take beyond its faults: start, slow machines. */
static const double ROUND_SLACK_MS = 60000;

/* ---------------------------------------------------------------- the command */

static void add(chaos_command *self, const char *argument)
{
    self->argument[self->num++] = (char *)argument;
}

static void add_number(chaos_command *self, const char *option, uint64_t value)
{
    char *text = self->number[self->num_numbers++];
    snprintf(text, CHAOS_NUMBER_BYTES, "%" PRIu64, value);
    add(self, option);
    add(self, text);
}

double chaos_command_bound_ms(const chaos_round *round)
{
    return 3 * round->expected_ms + ROUND_SLACK_MS;
}

/* The names of the round's folder and log below that one. */
static void name_files(const char *folder, uint64_t round, char dir[PATH_MAX], char log[PATH_MAX])
{
    snprintf(dir, PATH_MAX, "%.*s/round-%" PRIu64, PATH_MAX - 64, folder, round);
    snprintf(log, PATH_MAX, "%.*s.log", PATH_MAX - 8, dir);
}

void chaos_command_make(const chaos_setup *setup, const chaos_round *round, chaos_command *out)
{
    uint64_t num_ranks = (uint64_t)setup->faults.num_ranks;
    *out = (chaos_command){0};
    name_files(setup->out_dir, setup->faults.round, out->dir, out->log);
    name_files(setup->out_at, setup->faults.round, out->dir_at, out->log_at);
    add(out, setup->program);
    if (setup->hosts_path) {
        add(out, "--hosts");
        add(out, setup->hosts_path);
        add(out, "--serve");
    } else {
        add_number(out, "--ranks", num_ranks);
    }
    add_number(out, "--seed", round->run_seed);
    add_number(out, "--requests", 2 * num_ranks);
    add_number(out, "--keep-busy", 2 * num_ranks);
    add_number(out, "--max-seconds", (uint64_t)(chaos_command_bound_ms(round) / 1e3));
    for (int i = 0; i < round->num_flags; i++) {
        add(out, verb_table[round->flag[i].verb].option);
        add(out, round->flag[i].text);
    }
    for (int i = 0; i < setup->run_flags.num; i++) {
        add(out, setup->run_flags.word[i]);
    }
    add(out, "--quiet");
    add(out, "--no-picture");
    add(out, "--out");
    add(out, out->dir);
}

static void print_word(FILE *file, const char *word)
{
    bool plain = *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyz"
                                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                             "0123456789-_./:@=,+#%")];
    fprintf(file, plain ? "%s" : "'%s'", word);
}

void chaos_command_print(FILE *file, const chaos_command *self, const chaos_round *round)
{
    for (int i = 0; i < self->num; i++) {
        fputs(i ? " " : "", file);
        print_word(file, self->argument[i]);
    }
    fputc('\n', file);
    for (int i = 0; i < round->num_faults && *round->order[i].text; i++) {
        fputs("eep-ctl --out ", file);
        print_word(file, self->dir);
        fprintf(file, " %s ", verb_table[round->order[i].verb].name);
        print_word(file, round->order[i].text);
        fputc('\n', file);
    }
}

/* ---------------------------------------------------------------- the process */

pid_t chaos_command_start(const chaos_command *self, const char *dir, int *pidfd_out)
{
    char *argument[CHAOS_MAX_ARGUMENTS];
    memcpy(argument, self->argument, sizeof argument);
    memcpy(&argument[self->num - 1], &dir, sizeof dir); /* the value of --out */
    int log = run_file_new(self->log_at);
    child_setup setup = CHILD_SETUP;
    setup.death_signal = SIGTERM; /* it ends in order */
    setup.output = setup.errors = log;
    pid_t pid = log < 0 ? -1 : child_exec(&setup, argument[0], argument, NULL, pidfd_out);
    if (pid < 0) {
        fprintf(stderr, "eep-chaos: cannot start %s: %s\n", argument[0], strerror(errno));
    }
    if (log >= 0) {
        close(log);
    }
    return pid;
}

int chaos_command_end(pid_t pid, int pidfd, int signal_fd, double until_ms, bool *interrupted_io)
{
    int wait_status = 0;
    child_event event = CHILD_LATE;
    while (event != CHILD_ENDED) {
        double left_ms = until_ms - now_ms();
        event = child_wait(pidfd, signal_fd, left_ms > 0 ? (int)left_ms + 1 : 0);
        if (event == CHILD_LATE) {
            kill(pid, SIGKILL); /* its ranks die with it */
            event = child_wait(pidfd, signal_fd, 1000);
        }
        struct signalfd_siginfo told;
        if (read(signal_fd, &told, sizeof told) == (ssize_t)sizeof told) {
            *interrupted_io = true;
            kill(pid, SIGTERM);
        }
    }
    close(pidfd);
    while (waitpid(pid, &wait_status, 0) < 0 && errno == EINTR) {
    }
    return WIFSIGNALED(wait_status) ? -WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

void chaos_command_print_log(const chaos_command *self)
{
    char line[512];
    FILE *file = fopen(self->log_at, "re");
    fprintf(stderr, "eep-chaos: eep-run could not begin; it said:\n");
    while (file && fgets(line, sizeof line, file)) {
        fputs(line, stderr);
    }
    if (file) {
        fclose(file);
    }
}

void chaos_command_remove_rows(const chaos_command *self)
{
    static const char *const names[] = {
        "summary.json", "run.json",   "oracle.json", "requests.csv", "tokens.csv",  "steps.csv",
        "events.csv",   "trace.json", "sources.csv", "timeline.png", "timeline.log"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%.*s/%s", PATH_MAX - 32, self->dir_at, names[i]);
        unlink(path);
    }
    rmdir(self->dir_at);
    unlink(self->log_at);
}
