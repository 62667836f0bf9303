/* SPDX-License-Identifier: Apache-2.0 */
/* eep-chaos: rounds of random faults on rank processes, each round one eep-run, until the time is
 * up or something is not as it must be. */
#include "experiments/base/program_dir.h"
#include "experiments/chaos/chaos.h"
#include "experiments/chaos/chaos_judge.h"
#include "experiments/chaos/chaos_table.h"
#include "experiments/base/end_signals.h"
#include "experiments/base/folder.h"
#include "experiments/base/output.h"
#include "experiments/base/run_file.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/child.h"
#include "experiments/base/commit.h"
#include "experiments/base/args.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 2 * CHAOS_MAX_FLAGS + 128, MAX_RUN_FLAGS = 64, NUMBER_BYTES = 32 };
enum { EXIT_GOOD, EXIT_VIOLATION, EXIT_USAGE, EXIT_INTERRUPTED = 130 };
static const double EXPEL_MS = 1000; /* the library's default floor */
/* What a round may take beyond its faults: start, slow machines; then the oracle. */
static const double ROUND_SLACK_MS = 60000, ORACLE_SLACK_MS = 300000;

typedef struct campaign {
    chaos_config faults;
    double minutes;
    uint64_t total; /* faults */
    bool one_round, dry_run;
    const char *out_dir;
    args_rest run_flags;
    args_given given;
    /* progress */
    double begin_ms;
    int signal_fd;
    bool interrupted;
    FILE *csv;
    folder_opened out; /* the output folder is ours while this is open */
    chaos_table table;
} campaign;

/* ---------------------------------------------------------------- the command line */

#define AT(field) ARGS_AT(campaign, field)
static const args_row rows[] = {
    {"--minutes", ARGS_NUMBER, AT(minutes), 1e-6, 1e5, NULL, "M", "1",
     "begin no round after M minutes"},
    {"--total", ARGS_WHOLE, AT(total), 1, 1000000, NULL, "N", NULL,
     "begin no round after N faults either"},
    {"--seed", ARGS_WHOLE, AT(faults.seed), 0, 0x1p64, NULL, "S", "1", "of all that is random"},
    {"--round", ARGS_WHOLE, AT(faults.round), 1, UINT32_MAX, NULL, "K", NULL,
     "only round K of the seed; its rows are kept"},
    {"--ranks", ARGS_WHOLE, AT(faults.num_ranks), CHAOS_FEWEST_RANKS, CHAOS_MAX_RANKS, NULL, "N",
     "8", "rank processes"},
    {"--faults", ARGS_WHOLE, AT(faults.num_faults), 1, CHAOS_MAX_FAULTS, NULL, "N", NULL,
     "in each round; default: 12 to 20, drawn"},
    {"--out", ARGS_TEXT, AT(out_dir), 0, 0, NULL, "DIR", "eep-chaos-out",
     "the folder of chaos.csv, and of the rows of a round that failed"},
    {"--store-race", ARGS_FLAG, AT(faults.store_race), 0, 0, NULL, NULL, NULL,
     "also let ranks die in the instant in which the store comes back empty"},
    {"--dry-run", ARGS_FLAG, AT(dry_run), 0, 0, NULL, NULL, NULL,
     "print the eep-run command of the round (--round, else 1) and end"},
    {"--", ARGS_REST, AT(run_flags), 0, 0, NULL, "OPTION...", NULL,
     "options for eep-run, in each round"},
};
static const args_table table = {
    .program = "eep-chaos",
    .synopsis = "[OPTION]... [-- OPTION OF EEP-RUN...]",
    .about =
        "Run rounds of random faults on rank processes until the first violation. The faults are\n"
        "crashes, pauses, slow ranks and store outages, some of them together. The rows of the\n"
        "violation are kept, and how to replay it is told. docs/CHAOS.md has the mix of faults\n"
        "and what is checked. Hosts and networks: tests/hosts/network_chaos.py, in the same page.",
    .section = {ARGS_SECTION(NULL, rows)},
    .notes = "Exit status: 0 no violation; 1 one; 2 bad usage, or a round could not begin; 130 a\n"
             "signal.",
    .given = offsetof(campaign, given),
};

/* The options for eep-run must leave alone what the mix and the checks rely on. */
static bool check_run_flags(const args_rest *flags)
{
    static const char *const own[] = {"--ranks", "--out", "--expel-ms", "--no-oracle"};
    for (int i = 0; i < flags->num; i++) {
        for (size_t k = 0; k < sizeof own / sizeof own[0]; k++) {
            size_t length = strlen(own[k]);
            const char *flag = flags->word[i];
            if (strncmp(flag, own[k], length) == 0 && (!flag[length] || flag[length] == '=')) {
                fprintf(stderr, "eep-chaos: %s behind --: the mix and the checks rely on it\n",
                        own[k]);
                return false;
            }
        }
    }
    if (flags->num > MAX_RUN_FLAGS) {
        fprintf(stderr, "eep-chaos: more than %d arguments after --\n", MAX_RUN_FLAGS);
    }
    return flags->num <= MAX_RUN_FLAGS;
}

/* ---------------------------------------------------------------- one round's command */

typedef struct command {
    char *argument[MAX_ARGUMENTS];
    int num;
    char number[8][NUMBER_BYTES];
    int num_numbers;
    char dir[PATH_MAX], log[PATH_MAX]; /* to tell */
    /* The same by the descriptor of the campaign's folder, whose name may come to lead elsewhere.
     */
    char dir_at[PATH_MAX], log_at[PATH_MAX];
} command;

static void add(command *self, const char *argument)
{
    self->argument[self->num++] = (char *)argument;
}

static void add_number(command *self, const char *option, uint64_t value)
{
    char *text = self->number[self->num_numbers++];
    snprintf(text, NUMBER_BYTES, "%" PRIu64, value);
    add(self, option);
    add(self, text);
}

static double bound_ms(const chaos_round *round)
{
    return 3 * round->expected_ms + ROUND_SLACK_MS;
}

static void make_command(const campaign *self, const chaos_round *round, const char *program,
                         command *out)
{
    uint64_t num_ranks = (uint64_t)self->faults.num_ranks;
    *out = (command){0};
    snprintf(out->dir, sizeof out->dir, "%.*s/round-%" PRIu64, PATH_MAX - 64, self->out_dir,
             self->faults.round);
    snprintf(out->log, sizeof out->log, "%.*s.log", PATH_MAX - 8, out->dir);
    snprintf(out->dir_at, sizeof out->dir_at, "%.*s/round-%" PRIu64, PATH_MAX - 64, self->out.path,
             self->faults.round);
    snprintf(out->log_at, sizeof out->log_at, "%.*s.log", PATH_MAX - 8, out->dir_at);
    add(out, program);
    add_number(out, "--ranks", num_ranks);
    add_number(out, "--seed", round->run_seed);
    add_number(out, "--requests", 2 * num_ranks);
    add_number(out, "--keep-busy", 2 * num_ranks);
    add_number(out, "--max-seconds", (uint64_t)(bound_ms(round) / 1e3));
    for (int i = 0; i < round->num_flags; i++) {
        add(out, verb_table[round->flag[i].verb].option);
        add(out, round->flag[i].text);
    }
    for (int i = 0; i < self->run_flags.num; i++) {
        add(out, self->run_flags.word[i]);
    }
    add(out, "--quiet");
    add(out, "--no-picture");
    add(out, "--out");
    add(out, out->dir);
}

static void print_command(FILE *file, const command *self)
{
    for (int i = 0; i < self->num; i++) {
        const char *argument = self->argument[i];
        bool plain = *argument && !argument[strspn(argument, "abcdefghijklmnopqrstuvwxyz"
                                                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                             "0123456789-_./:@=,+#%")];
        fprintf(file, plain ? "%s%s" : "%s'%s'", i ? " " : "", argument);
    }
    fputc('\n', file);
}

static void print_replay(FILE *file, const campaign *self)
{
    fprintf(file, "eep-chaos --seed %" PRIu64 " --round %" PRIu64 " --ranks %d", self->faults.seed,
            self->faults.round, self->faults.num_ranks);
    if (self->faults.num_faults) {
        fprintf(file, " --faults %d", self->faults.num_faults);
    }
    fprintf(file, "%s --out %s/replay-%" PRIu64, self->faults.store_race ? " --store-race" : "",
            self->out_dir, self->faults.round);
    for (int i = 0; i < self->run_flags.num; i++) {
        fprintf(file, "%s '%s'", i ? "" : " --", self->run_flags.word[i]);
    }
    fputc('\n', file);
}

/* ---------------------------------------------------------------- one round's process */

/* Start eep-run, whose output goes to the round's log; its pid, or -1, which is told. */
static pid_t start_run(const command *run, const char *dir, int *pidfd_out)
{
    char *argument[MAX_ARGUMENTS];
    memcpy(argument, run->argument, sizeof argument);
    memcpy(&argument[run->num - 1], &dir, sizeof dir); /* the value of --out */
    int log = run_file_new(run->log_at);
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

/* Run it to its end or to the bound; its exit code, or minus the signal that ended it. INT_MIN: it
 * could not be started. */
static int run_round(campaign *self, const command *run, const char *dir, double longest_ms)
{
    int wait_status = 0, pidfd = -1;
    double until_ms = now_ms() + longest_ms;
    pid_t pid = start_run(run, dir, &pidfd);
    if (pid < 0) {
        return INT_MIN;
    }
    child_event event = CHILD_LATE;
    while (event != CHILD_ENDED) {
        double left_ms = until_ms - now_ms();
        event = child_wait(pidfd, self->signal_fd, left_ms > 0 ? (int)left_ms + 1 : 0);
        if (event == CHILD_LATE) {
            kill(pid, SIGKILL); /* its ranks die with it */
            event = child_wait(pidfd, self->signal_fd, 1000);
        }
        struct signalfd_siginfo told;
        if (read(self->signal_fd, &told, sizeof told) == (ssize_t)sizeof told) {
            self->interrupted = true;
            kill(pid, SIGTERM);
        }
    }
    close(pidfd);
    while (waitpid(pid, &wait_status, 0) < 0 && errno == EINTR) {
    }
    return WIFSIGNALED(wait_status) ? -WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

/* A round that passed leaves its line only. */
static void remove_rows(const command *run)
{
    static const char *const names[] = {
        "summary.json", "run.json",   "oracle.json", "requests.csv", "tokens.csv",  "steps.csv",
        "events.csv",   "trace.json", "sources.csv", "timeline.png", "timeline.log"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%.*s/%s", PATH_MAX - 32, run->dir_at, names[i]);
        unlink(path);
    }
    rmdir(run->dir_at);
    unlink(run->log_at);
}

/* ---------------------------------------------------------------- the campaign */

static void tell_progress(const campaign *self, const chaos_round *round,
                          const chaos_verdict *verdict, double took_ms)
{
    double spent = (now_ms() - self->begin_ms) / 60e3;
    double left = self->one_round || spent > self->minutes ? 0 : self->minutes - spent;
    end_signals_cut_output(true);
    printf("round %" PRIu64 ": %d faults, %.0f tokens, %.0f s, %s | %zu faults so far, %.1f of "
           "%.1f min, about %.1f min left\n",
           self->faults.round, round->num_faults, verdict->tokens, took_ms / 1e3,
           verdict->good ? "ok" : "VIOLATION", self->table.num_faults, spent, self->minutes, left);
    fflush(stdout);
    end_signals_cut_output(false);
}

static void tell_violation(const campaign *self, const command *run, const chaos_verdict *verdict)
{
    printf("\nVIOLATION in round %" PRIu64 " of seed %" PRIu64 ": %s\n", self->faults.round,
           self->faults.seed, verdict->why);
    printf("  rows: %s\n  output: %s\n  replay: ", run->dir, run->log);
    print_replay(stdout, self);
    fputs("  or: ", stdout);
    print_command(stdout, run);
}

/* One round; EXIT_GOOD to go on. */
static void print_log(const command *run)
{
    char line[512];
    FILE *file = fopen(run->log_at, "re");
    fprintf(stderr, "eep-chaos: eep-run could not begin; it said:\n");
    while (file && fgets(line, sizeof line, file)) {
        fputs(line, stderr);
    }
    if (file) {
        fclose(file);
    }
}

static int do_round(campaign *self, const char *program)
{
    static chaos_round round; /* too big for the stack */
    static chaos_verdict verdict;
    static command run;
    chaos_draw(&self->faults, &round);
    make_command(self, &round, program, &run);
    if (self->dry_run) {
        print_command(stdout, &run);
        return EXIT_GOOD;
    }
    double begin_ms = now_ms();
    static folder_opened dir;
    if (folder_make(run.dir_at) != 0 || folder_open(run.dir_at, false, &dir) != 0) {
        fprintf(stderr, "eep-chaos: --out: cannot make folder '%s': %s\n", run.dir,
                strerror(errno));
        return EXIT_USAGE;
    }
    int code = run_round(self, &run, dir.path, bound_ms(&round) + ORACLE_SLACK_MS);
    folder_close(&dir);
    if (code == INT_MIN) {
        return EXIT_USAGE;
    }
    if (code == EXIT_USAGE ||
        code == CHILD_NOT_STARTED) { /* of eep-run as well: bad usage is no violation */
        print_log(&run);
        return EXIT_USAGE;
    }
    if (self->interrupted) {
        printf("interrupted in round %" PRIu64 "; its rows are in %s\n", self->faults.round,
               run.dir);
        return EXIT_INTERRUPTED;
    }
    if (chaos_judge(&round, run.dir_at, code, &verdict) != EEP_OK ||
        chaos_table_add(&self->table, &round, &verdict) != EEP_OK) {
        fprintf(stderr, "eep-chaos: out of memory\n");
        return EXIT_USAGE;
    }
    chaos_table_rows(self->csv, &self->faults, &round, &verdict);
    if (fflush(self->csv) != 0) {
        fprintf(stderr, "eep-chaos: --out: a row cannot be written into '%s/chaos.csv': %s\n",
                self->out_dir, strerror(errno));
        return EXIT_USAGE;
    }
    tell_progress(self, &round, &verdict, now_ms() - begin_ms);
    if (!verdict.good) {
        tell_violation(self, &run, &verdict);
        return EXIT_VIOLATION;
    }
    if (!self->one_round) {
        remove_rows(&run);
    }
    return EXIT_GOOD;
}

static bool open_csv(campaign *self, int argc, char **argv)
{
    char path[PATH_MAX], why[FOLDER_WHY_BYTES];
    if (folder_make(self->out_dir) != 0 || folder_open(self->out_dir, true, &self->out) != 0) {
        fprintf(stderr, "eep-chaos: --out: cannot make folder '%s': %s\n", self->out_dir,
                strerror(errno));
        return false;
    }
    if (!folder_takes_results(&self->out.info, false, why)) {
        fprintf(stderr, "eep-chaos: --out: '%s': %s; give another folder\n", self->out_dir, why);
        return false;
    }
    if (folder_hold(self->out.path, &self->out.held) != 0) {
        fprintf(stderr, "eep-chaos: --out: cannot take folder '%s': %s\n", self->out_dir,
                errno == EWOULDBLOCK ? "another campaign writes into it now"
                                     : folder_hold_error(errno));
        return false;
    }
    snprintf(path, sizeof path, "%.*s/chaos.csv", PATH_MAX - 32, self->out.path);
    self->csv = fopen(path, "wxe");
    if (!self->csv) {
        fprintf(stderr, "eep-chaos: --out: cannot make '%s/chaos.csv': %s; give another folder\n",
                self->out_dir, strerror(errno));
        folder_close(&self->out);
        return false;
    }
    fprintf(self->csv, "# commit %s\n# command", commit_text());
    for (int i = 0; i < argc; i++) {
        fprintf(self->csv, " %s", argv[i]);
    }
    fputs("\n", self->csv);
    chaos_table_head(self->csv);
    if (fflush(self->csv) != 0) {
        fprintf(stderr, "eep-chaos: --out: cannot write '%s/chaos.csv': %s\n", self->out_dir,
                strerror(errno));
        return false;
    }
    return true;
}

static int run_campaign(campaign *self, const char *program)
{
    int code = EXIT_GOOD;
    self->begin_ms = now_ms();
    if (self->one_round) {
        code = do_round(self, program);
    }
    for (self->faults.round = self->one_round ? self->faults.round : 1;
         !self->one_round && code == EXIT_GOOD && self->table.num_faults < self->total &&
         now_ms() - self->begin_ms < self->minutes * 60e3;
         self->faults.round++) {
        code = do_round(self, program);
    }
    end_signals_cut_output(true); /* from here on it is only printed */
    chaos_table_print(&self->table, stdout);
    if (code == EXIT_USAGE && self->table.num_rounds == 0) {
        char path[PATH_MAX]; /* without rows, it would only be in the next campaign's way */
        snprintf(path, sizeof path, "%.*s/chaos.csv", PATH_MAX - 16, self->out.path);
        unlink(path);
        printf("  not begun: %s has no rows\n", self->out_dir);
        return code;
    }
    printf("  %s: %s/chaos.csv\n",
           code == EXIT_GOOD        ? "no violation"
           : code == EXIT_VIOLATION ? "VIOLATION"
                                    : "not ended",
           self->out_dir);
    return code;
}

int main(int argc, char **argv)
{
    static campaign self;
    char program[PATH_MAX];
    sigset_t signals;
    output_begin();
    self = (campaign){.faults = {.round = 1, .expel_ms = EXPEL_MS}, .total = UINT64_MAX};
    int code = EXIT_GOOD;
    if (!args_begin(&table, &self, argc, argv, &code)) {
        return code;
    }
    self.one_round = args_is_given(&table, &self, offsetof(campaign, faults.round));
    if (!check_run_flags(&self.run_flags)) {
        return EXIT_USAGE;
    }
    if (program_dir_path("eep-run", program) != 0 || access(program, X_OK) != 0) {
        fprintf(stderr, "eep-chaos: eep-run is not beside it\n");
        return EXIT_USAGE;
    }
    if (self.dry_run) {
        return do_round(&self, program);
    }
    if (end_signals_block(&signals, NULL) != 0) {
        fprintf(stderr, "eep-chaos: signals cannot be blocked: %s\n", strerror(errno));
        return EXIT_USAGE;
    }
    self.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (self.signal_fd < 0 || !open_csv(&self, argc, argv)) {
        return EXIT_USAGE;
    }
    code = run_campaign(&self, program);
    folder_close(&self.out);
    chaos_table_free(&self.table);
    if (fclose(self.csv) != 0 && code == EXIT_GOOD) {
        fprintf(stderr, "eep-chaos: --out: cannot write '%s/chaos.csv': %s\n", self.out_dir,
                strerror(errno));
        code = EXIT_USAGE;
    }
    return code;
}
