/* SPDX-License-Identifier: Apache-2.0 */
/* eep-chaos: rounds of random faults on rank processes, each round one eep-run, until the time is
 * up or something is not as it must be. */
#include "eep/store.h"
#include "experiments/base/program_dir.h"
#include "experiments/chaos/chaos.h"
#include "experiments/chaos/chaos_command.h"
#include "experiments/chaos/chaos_drive.h"
#include "experiments/chaos/chaos_hosts.h"
#include "experiments/chaos/chaos_judge.h"
#include "experiments/chaos/chaos_table.h"
#include "experiments/base/end_signals.h"
#include "experiments/base/folder.h"
#include "experiments/base/output.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/child.h"
#include "experiments/base/commit.h"
#include "experiments/base/args.h"
#include "experiments/setup/hosts_file.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { EXIT_GOOD, EXIT_VIOLATION, EXIT_USAGE, EXIT_INTERRUPTED = 130 };
static const double EXPEL_MS = 1000;          /* the library's default floor */
static const double ORACLE_SLACK_MS = 300000; /* of a round, beyond its bound */

typedef struct campaign {
    chaos_setup setup;
    chaos_hosts hosts; /* of --hosts */
    hosts_file *file;
    const char *mix;
    double minutes;
    uint64_t total; /* faults */
    bool one_round, dry_run;
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
    {"--seed", ARGS_WHOLE, AT(setup.faults.seed), 0, 0x1p64, NULL, "S", "1",
     "of all that is random"},
    {"--round", ARGS_WHOLE, AT(setup.faults.round), 1, UINT32_MAX, NULL, "K", NULL,
     "only round K of the seed; its rows are kept"},
    {"--ranks", ARGS_WHOLE, AT(setup.faults.num_ranks), CHAOS_FEWEST_RANKS, CHAOS_MAX_RANKS, NULL,
     "N", "8", "rank processes"},
    {"--faults", ARGS_WHOLE, AT(setup.faults.num_faults), 1, CHAOS_MAX_FAULTS, NULL, "N", NULL,
     "in each round; default: 12 to 20, drawn"},
    {"--out", ARGS_TEXT, AT(setup.out_dir), 0, 0, NULL, "DIR", "eep-chaos-out",
     "the folder of chaos.csv, and of the rows of a round that failed"},
    {"--hosts", ARGS_TEXT, AT(setup.hosts_path), 0, 0, NULL, "FILE", NULL,
     "faults of the hosts of that file, as of eep-run --hosts, and of the network between them"},
    {"--mix", ARGS_TEXT, AT(mix), 0, 0, NULL, "KIND[=SHARE],...", NULL,
     "of --hosts: the kinds of faults that are drawn, and how often beside each other"},
    {"--store-race", ARGS_FLAG, AT(setup.faults.store_race), 0, 0, NULL, NULL, NULL,
     "also let ranks die in the instant in which the store comes back empty"},
    {"--dry-run", ARGS_FLAG, AT(dry_run), 0, 0, NULL, NULL, NULL,
     "print the eep-run command of the round (--round, else 1) and end"},
    {"--", ARGS_REST, AT(setup.run_flags), 0, 0, NULL, "OPTION...", NULL,
     "options for eep-run, in each round"},
};
static const args_table table = {
    .program = "eep-chaos",
    .synopsis = "[OPTION]... [-- OPTION OF EEP-RUN...]",
    .about =
        "Run rounds of random faults on rank processes until the first violation. The faults are\n"
        "crashes, pauses, slow ranks and store outages, some of them together. The rows of the\n"
        "violation are kept, and how to replay it is told. docs/CHAOS.md has the mix of faults\n"
        "and what is checked.",
    .section = {ARGS_SECTION(NULL, rows)},
    .notes = "Exit status: 0 no violation; 1 one; 2 bad usage, or a round could not begin; 130 a\n"
             "signal.",
    .given = offsetof(campaign, given),
};

/* The options for eep-run must leave alone what the mix and the checks rely on. */
static bool check_run_flags(const args_rest *flags)
{
    static const char *const own[] = {"--ranks",     "--out",   "--expel-ms",
                                      "--no-oracle", "--hosts", "--launched"};
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
    if (flags->num > CHAOS_MAX_RUN_FLAGS) {
        fprintf(stderr, "eep-chaos: more than %d arguments after --\n", CHAOS_MAX_RUN_FLAGS);
    }
    return flags->num <= CHAOS_MAX_RUN_FLAGS;
}

/* The address of the store among them; NULL: there is none. */
static const char *store_of(const args_rest *flags)
{
    const char *found = NULL;
    for (int i = 0; i < flags->num; i++) {
        const char *flag = flags->word[i];
        if (strcmp(flag, "--store") == 0 && i + 1 < flags->num) {
            found = flags->word[++i];
        } else if (strncmp(flag, "--store=", 8) == 0) {
            found = flag + 8;
        }
    }
    return found;
}

/* Read the file of --hosts, and see what can be done to those hosts. */
static bool take_hosts(campaign *self)
{
    char error[HOSTS_ERROR_BYTES], left_out[CHAOS_NAMES_BYTES];
    if (hosts_file_load(self->setup.hosts_path, &self->file, error) != EEP_OK) {
        fprintf(stderr, "eep-chaos: --hosts: %s\n", error);
        return false;
    }
    if (self->file->num_hosts < 2 || self->file->num_ranks < CHAOS_FEWEST_RANKS ||
        self->file->num_ranks > CHAOS_MAX_RANKS) {
        fprintf(stderr,
                "eep-chaos: --hosts: %s has %d hosts and %d ranks: 2 hosts or more are needed, and "
                "%d to %d ranks\n",
                self->setup.hosts_path, self->file->num_hosts, self->file->num_ranks,
                CHAOS_FEWEST_RANKS, CHAOS_MAX_RANKS);
        return false;
    }
    self->hosts = (chaos_hosts){
        .file = self->file, .own = chaos_hosts_own(self->file), .mix = chaos_hosts_mix};
    if (self->mix && chaos_mix_parse(self->mix, &self->hosts.mix, error) != EEP_OK) {
        fprintf(stderr, "eep-chaos: %s\n", error);
        return false;
    }
    bool is_any = chaos_hosts_fit(&self->hosts, left_out);
    if (*left_out) {
        fprintf(stderr, "eep-chaos: %s: not drawn, since %s has no command or no host for it\n",
                left_out, self->setup.hosts_path);
    }
    self->setup.faults.num_ranks = self->file->num_ranks;
    return is_any;
}

static bool check_hosts(campaign *self)
{
    const char *wrong = self->mix && !self->setup.hosts_path ? "--mix: only with --hosts"
                        : !self->setup.hosts_path            ? NULL
                        : args_is_given(&table, self, offsetof(campaign, setup.faults.num_ranks))
                            ? "--ranks: the file of --hosts has them"
                        : self->setup.faults.store_race ? "--store-race: not with --hosts"
                                                        : NULL;
    if (wrong) {
        fprintf(stderr, "eep-chaos: %s\n", wrong);
        return false;
    }
    return !self->setup.hosts_path || take_hosts(self);
}

static void print_replay(FILE *file, const campaign *self)
{
    const chaos_config *faults = &self->setup.faults;
    fprintf(file, "eep-chaos --seed %" PRIu64 " --round %" PRIu64, faults->seed, faults->round);
    if (self->setup.hosts_path) {
        fprintf(file, " --hosts '%s'", self->setup.hosts_path);
    } else {
        fprintf(file, " --ranks %d", faults->num_ranks);
    }
    if (self->mix) {
        fprintf(file, " --mix '%s'", self->mix);
    }
    if (faults->num_faults) {
        fprintf(file, " --faults %d", faults->num_faults);
    }
    fprintf(file, "%s --out %s/replay-%" PRIu64, faults->store_race ? " --store-race" : "",
            self->setup.out_dir, faults->round);
    for (int i = 0; i < self->setup.run_flags.num; i++) {
        fprintf(file, "%s '%s'", i ? "" : " --", self->setup.run_flags.word[i]);
    }
    fputc('\n', file);
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
           self->setup.faults.round, round->num_faults, verdict->tokens, took_ms / 1e3,
           verdict->good ? "ok" : "VIOLATION", self->table.num_faults, spent, self->minutes, left);
    fflush(stdout);
    end_signals_cut_output(false);
}

static void tell_violation(const campaign *self, const chaos_round *round, const chaos_command *run,
                           const chaos_verdict *verdict)
{
    printf("\nVIOLATION in round %" PRIu64 " of seed %" PRIu64 ": %s\n", self->setup.faults.round,
           self->setup.faults.seed, verdict->why);
    printf("  rows: %s\n  output: %s\n  replay: ", run->dir, run->log);
    print_replay(stdout, self);
    fputs("  or: ", stdout);
    chaos_command_print(stdout, run, round);
}

static void draw(const campaign *self, chaos_round *round_out)
{
    if (self->setup.hosts_path) {
        chaos_hosts_draw(&self->setup.faults, &self->hosts, round_out);
    } else {
        chaos_draw(&self->setup.faults, round_out);
    }
}

/* Weights are of the round's seed, so no round goes on with the instance of the last one. */
static bool forget_instance(const campaign *self)
{
    const char *store = self->setup.hosts_path ? store_of(&self->setup.run_flags) : NULL;
    char why[512];
    if (store && eep_store_forget(store, why, sizeof why) != EEP_OK) {
        fprintf(stderr, "eep-chaos: the last run cannot be removed from the store: %s\n", why);
        return false;
    }
    return true;
}

/* Run it to its end or to the bound; its exit code, or minus the signal that ended it. INT_MIN: it
 * could not be started. */
static int run_round(campaign *self, const chaos_round *round, const chaos_command *run,
                     chaos_driven *driven)
{
    double until_ms = now_ms() + chaos_command_bound_ms(round) + ORACLE_SLACK_MS;
    folder_opened dir;
    int pidfd = -1;
    if (folder_make(run->dir_at) != 0 || folder_open(run->dir_at, false, &dir) != 0) {
        fprintf(stderr, "eep-chaos: --out: cannot make folder '%s': %s\n", run->dir,
                strerror(errno));
        return INT_MIN;
    }
    pid_t pid = forget_instance(self) ? chaos_command_start(run, dir.path, &pidfd) : -1;
    int code = INT_MIN;
    if (pid > 0 && self->setup.hosts_path) {
        *driven = (chaos_driven){.dir = dir.path,
                                 .num_ranks = self->file->num_ranks,
                                 .pidfd = pidfd,
                                 .signal_fd = self->signal_fd,
                                 .until_ms = until_ms};
        chaos_drive(round, driven);
        if (*driven->why) {
            kill(pid, SIGTERM); /* it does not get on: what it has done so far counts */
        }
    }
    if (pid > 0) {
        code = chaos_command_end(pid, pidfd, self->signal_fd, until_ms, &self->interrupted);
    }
    folder_close(&dir);
    return code;
}

static eep_status judge(const campaign *self, const chaos_round *round, const chaos_driven *driven,
                        const char *dir, int code, chaos_verdict *verdict_out)
{
    return self->setup.hosts_path
               ? chaos_judge_hosts(round, self->file, driven, dir, code, verdict_out)
               : chaos_judge(round, dir, code, verdict_out);
}

/* One round; EXIT_GOOD to go on. */
static int do_round(campaign *self)
{
    static chaos_round round; /* too big for the stack */
    static chaos_verdict verdict;
    static chaos_command run;
    static chaos_driven driven;
    draw(self, &round);
    chaos_command_make(&self->setup, &round, &run);
    if (self->dry_run) {
        chaos_command_print(stdout, &run, &round);
        return EXIT_GOOD;
    }
    double begin_ms = now_ms();
    int code = run_round(self, &round, &run, &driven);
    if (code == INT_MIN) {
        return EXIT_USAGE;
    }
    if (code == EXIT_USAGE ||
        code == CHILD_NOT_STARTED) { /* of eep-run as well: bad usage is no violation */
        chaos_command_print_log(&run);
        return EXIT_USAGE;
    }
    if (self->interrupted) {
        printf("interrupted in round %" PRIu64 "; its rows are in %s\n", self->setup.faults.round,
               run.dir);
        return EXIT_INTERRUPTED;
    }
    if (judge(self, &round, &driven, run.dir_at, code, &verdict) != EEP_OK ||
        chaos_table_add(&self->table, &round, &verdict) != EEP_OK) {
        fprintf(stderr, "eep-chaos: out of memory\n");
        return EXIT_USAGE;
    }
    chaos_table_rows(self->csv, &self->setup.faults, &round, &verdict);
    if (fflush(self->csv) != 0) {
        fprintf(stderr, "eep-chaos: --out: a row cannot be written into '%s/chaos.csv': %s\n",
                self->setup.out_dir, strerror(errno));
        return EXIT_USAGE;
    }
    tell_progress(self, &round, &verdict, now_ms() - begin_ms);
    if (!verdict.good) {
        tell_violation(self, &round, &run, &verdict);
        return EXIT_VIOLATION;
    }
    if (!self->one_round) {
        chaos_command_remove_rows(&run);
    }
    return EXIT_GOOD;
}

static bool open_csv(campaign *self, int argc, char **argv)
{
    char path[PATH_MAX], why[FOLDER_WHY_BYTES];
    if (folder_make(self->setup.out_dir) != 0 ||
        folder_open(self->setup.out_dir, true, &self->out) != 0) {
        fprintf(stderr, "eep-chaos: --out: cannot make folder '%s': %s\n", self->setup.out_dir,
                strerror(errno));
        return false;
    }
    if (!folder_takes_results(&self->out.info, false, why)) {
        fprintf(stderr, "eep-chaos: --out: '%s': %s; give another folder\n", self->setup.out_dir,
                why);
        return false;
    }
    if (folder_hold(self->out.path, &self->out.held) != 0) {
        fprintf(stderr, "eep-chaos: --out: cannot take folder '%s': %s\n", self->setup.out_dir,
                errno == EWOULDBLOCK ? "another campaign writes into it now"
                                     : folder_hold_error(errno));
        return false;
    }
    snprintf(path, sizeof path, "%.*s/chaos.csv", PATH_MAX - 32, self->out.path);
    self->csv = fopen(path, "wxe");
    if (!self->csv) {
        fprintf(stderr, "eep-chaos: --out: cannot make '%s/chaos.csv': %s; give another folder\n",
                self->setup.out_dir, strerror(errno));
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
        fprintf(stderr, "eep-chaos: --out: cannot write '%s/chaos.csv': %s\n", self->setup.out_dir,
                strerror(errno));
        return false;
    }
    return true;
}

static int run_campaign(campaign *self)
{
    int code = EXIT_GOOD;
    self->begin_ms = now_ms();
    if (self->one_round) {
        code = do_round(self);
    }
    for (self->setup.faults.round = self->one_round ? self->setup.faults.round : 1;
         !self->one_round && code == EXIT_GOOD && self->table.num_faults < self->total &&
         now_ms() - self->begin_ms < self->minutes * 60e3;
         self->setup.faults.round++) {
        code = do_round(self);
    }
    end_signals_cut_output(true); /* from here on it is only printed */
    chaos_table_print(&self->table, stdout);
    if (code == EXIT_USAGE && self->table.num_rounds == 0) {
        char path[PATH_MAX]; /* without rows, it would only be in the next campaign's way */
        snprintf(path, sizeof path, "%.*s/chaos.csv", PATH_MAX - 16, self->out.path);
        unlink(path);
        printf("  not begun: %s has no rows\n", self->setup.out_dir);
        return code;
    }
    printf("  %s: %s/chaos.csv\n",
           code == EXIT_GOOD        ? "no violation"
           : code == EXIT_VIOLATION ? "VIOLATION"
                                    : "not ended",
           self->setup.out_dir);
    return code;
}

int main(int argc, char **argv)
{
    static campaign self;
    char program[PATH_MAX];
    sigset_t signals;
    output_begin();
    self = (campaign){.setup.faults = {.round = 1, .expel_ms = EXPEL_MS}, .total = UINT64_MAX};
    int code = EXIT_GOOD;
    if (!args_begin(&table, &self, argc, argv, &code)) {
        return code;
    }
    self.one_round = args_is_given(&table, &self, offsetof(campaign, setup.faults.round));
    if (!check_run_flags(&self.setup.run_flags) || !check_hosts(&self)) {
        return EXIT_USAGE;
    }
    if (program_dir_path("eep-run", program) != 0 || access(program, X_OK) != 0) {
        fprintf(stderr, "eep-chaos: eep-run is not beside it\n");
        return EXIT_USAGE;
    }
    self.setup.program = program;
    self.setup.out_at = self.out.path;
    if (self.dry_run) {
        return do_round(&self);
    }
    if (end_signals_block(&signals, NULL) != 0) {
        fprintf(stderr, "eep-chaos: signals cannot be blocked: %s\n", strerror(errno));
        return EXIT_USAGE;
    }
    self.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (self.signal_fd < 0 || !open_csv(&self, argc, argv)) {
        return EXIT_USAGE;
    }
    code = run_campaign(&self);
    folder_close(&self.out);
    chaos_table_free(&self.table);
    hosts_file_free(self.file);
    if (fclose(self.csv) != 0 && code == EXIT_GOOD) {
        fprintf(stderr, "eep-chaos: --out: cannot write '%s/chaos.csv': %s\n", self.setup.out_dir,
                strerror(errno));
        code = EXIT_USAGE;
    }
    return code;
}
