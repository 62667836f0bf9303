/* SPDX-License-Identifier: Apache-2.0 */
/* One run judged by its scenario, or many of them, each in a process and a folder of its own. */
#include "experiments/run/repeat.h"

#include "experiments/base/end_signals.h"
#include "experiments/children/finish.h"
#include "experiments/base/folder.h"
#include "experiments/launcher/launcher.h"
#include "experiments/base/output.h"
#include "experiments/run/repeat_rows.h"
#include "experiments/base/run_file.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- judging */

static void note_value(void *user, const char *place, const cJSON *value)
{
    (void)place;
    *(bool *)user &= cJSON_IsNull(value);
}

/* Nobody has looked at a foreign engine's answers, and its tokens are its own. */
static bool is_not_told(const expect_clause *clause, const cJSON *found)
{
    static const char *const names[] = {"tokens_wrong", "throughput."};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(clause->path, names[i], strlen(names[i])) == 0) {
            bool all_null = true;
            expect_visit(clause->path, found, note_value, &all_null);
            return all_null;
        }
    }
    return false;
}

/* Whether the run in `dir`, which ended with `code`, is as expected; with `say`, print what is
 * not. `found`: its summary.json; NULL: there is none. */
static bool judge(const options *given, const scenario *tested, const char *dir, int code,
                  const cJSON *found, bool say)
{
    char why[EXPECT_ERROR_BYTES];
    bool excused = tested && tested->may_fail;
    bool met = found && (code == 0 || excused);
    if (say && code != 0 && !excused) {
        printf("  MISSED  the run itself: exit status %d, must be 0\n", code);
    }
    if (say && !found) {
        printf("  MISSED  there is no summary.json in %s\n", dir);
    }
    for (int i = 0; tested && found && i < tested->num_clauses; i++) {
        const expect_clause *clause = &tested->clause[i];
        if (given->engine && is_not_told(clause, found)) {
            printf("  NOT JUDGED  %s: a foreign engine does not tell it  (%s:%d:%d)\n",
                   clause->path, tested->file, clause->line, clause->column);
            continue;
        }
        if (expect_met(clause, found, why)) {
            continue;
        }
        met = false;
        if (say) {
            printf("  MISSED  %s  (%s:%d:%d)\n", why, tested->file, clause->line, clause->column);
        }
    }
    return met;
}

int repeat_once(const options *given, const scenario *tested)
{
    printf("  scenario '%s', seed %" PRId64 "\n", tested->name, given->seed);
    fflush(stdout);
    int code = launcher_run(given);
    if (code == 2) {
        return 2; /* it has said why */
    }
    cJSON *found = run_file_json(given->out_dir, "summary.json");
    bool met = judge(given, tested, given->out_dir, code, found, true);
    if (met) {
        printf("  MET: all %d expectations of '%s'\n", tested->num_clauses, tested->name);
    }
    cJSON_Delete(found);
    return met ? 0 : 1;
}

/* ---------------------------------------------------------------- one of many */

/* Signals are blocked between the runs too, so that none of them costs the rows so far. */
typedef struct repeat_signals {
    sigset_t wanted, before; /* to end, and SIGCHLD; the mask that the runs get */
    bool interrupted;
} repeat_signals;

static void on_signal(repeat_signals *self, int number, pid_t pid)
{
    if (number > 0 && number != SIGCHLD) {
        self->interrupted = true;
        if (pid > 0) {
            kill(pid, SIGTERM);
        }
    }
}

/* What was printed goes out, for as long as no signal comes. */
static void print_end(void)
{
    end_signals_cut_output(true);
    fflush(stdout);
    end_signals_cut_output(false);
}

/* Run in a process of its own; a signal to end is passed on. Returns the run's exit code, 1 if it
 * was ended by a signal. */
static int run_one(const options *given, const char *log, repeat_signals *signals)
{
    int state = W_EXITCODE(1, 0);
    if (!output_is_stuck(STDOUT_FILENO)) {
        print_end();
    }
    int log_fd = run_file_new(log);
    if (log_fd < 0) {
        fprintf(stderr, "eep-run: '%s': %s\n", log, strerror(errno));
        return 2;
    }
    child_setup setup = CHILD_SETUP;
    setup.death_signal = SIGTERM; /* it ends in order */
    setup.mask = &signals->before;
    setup.output = setup.errors = log_fd;
    pid_t pid = child_fork(&setup, NULL);
    if (pid == 0) {
        close(log_fd);
        __fpurge(stdout); /* what the parent could not print is not for the log */
        clearerr(stdout);
        _exit(output_end(launcher_run(given)));
    }
    int failure = errno;
    close(log_fd);
    while (pid > 0 && !child_has_ended(pid, &state)) {
        on_signal(signals, sigwaitinfo(&signals->wanted, NULL), pid);
    }
    if (signals->interrupted) {
        end_signals_cut_stuck(); /* its signal was taken, and ends no wait for a reader */
    }
    if (pid < 0) {
        fprintf(stderr, "eep-run: fork: %s\n", strerror(failure));
        return 2;
    }
    return WIFEXITED(state) ? WEXITSTATUS(state) : 1;
}

/* The command that does this run alone. */
static void print_command(const options *given, int argc, char **argv)
{
    static const char *const left_out[] = {"--repeat", "--seed", "--out"};
    static const char *const flags_out[] = {"--same-seed", "--keep-going"};
    fputs("  again: ", stdout);
    for (int i = 0; i < argc; i++) {
        bool skip = false;
        for (int k = 0; k < 2; k++) {
            skip |= strcmp(argv[i], flags_out[k]) == 0;
        }
        for (int k = 0; k < 3; k++) {
            size_t length = strlen(left_out[k]);
            bool named = strncmp(argv[i], left_out[k], length) == 0;
            skip |= named && argv[i][length] == '=';
            if (named && argv[i][length] == '\0') {
                skip = true;
                i++; /* its value */
                break;
            }
        }
        if (!skip) {
            const char *quote = strpbrk(argv[i], " *?[]$;&|<>()'\"\\") ? "'" : "";
            printf("%s%s%s ", quote, argv[i], quote);
        }
    }
    printf("--seed %" PRId64 "\n", given->seed);
}

/* The largest pause of a summary; < 0: there is none. */
static double longest_pause(const cJSON *found)
{
    const cJSON *fault = NULL;
    double longest = -1;
    cJSON_ArrayForEach(fault, cJSON_GetObjectItem(found, "faults"))
    {
        const cJSON *pause = cJSON_GetObjectItem(fault, "pause_ms");
        longest =
            cJSON_IsNumber(pause) && pause->valuedouble > longest ? pause->valuedouble : longest;
    }
    return longest;
}

/* ---------------------------------------------------------------- many */

static int write_rows(const repeat_rows *kept, const char *dir, const scenario *tested)
{
    cJSON *root = repeat_rows_json(kept);
    if (root) {
        cJSON_AddStringToObject(root, "scenario", tested ? tested->name : "");
    }
    int failed = run_file_write_json(root, dir, "repeat.json") != EEP_OK;
    FILE *file = run_file_create(dir, "repeat.csv");
    if (file) {
        repeat_rows_csv(kept, file);
    }
    failed |= !file || ferror(file);
    failed |= file && fclose(file) != 0;
    if (failed) {
        fprintf(stderr, "eep-run: repeat.json and repeat.csv cannot be written into '%s': %s\n",
                dir, strerror(errno));
    }
    return failed;
}

/* The line about a run, and below it what it misses and how to repeat it. */
static void print_run(const options *given, const scenario *tested, const repeat_run_row *row,
                      int code, const cJSON *found, int argc, char **argv)
{
    double pause_ms = longest_pause(found);
    end_signals_cut_output(true);
    printf("%6.1f s  %s", row->seconds, row->met ? "met   " : "MISSED");
    if (pause_ms >= 0) {
        printf("  longest pause %.1f ms", pause_ms);
    }
    puts("");
    if (!row->met) {
        (void)judge(given, tested, given->out_dir, code, found, true);
        printf("  rows: %s, output: %s.log\n", given->out_dir, given->out_dir);
        print_command(given, argc, argv);
    }
    print_end();
}

/* The i-th run, from 0: run, judge, print, keep its numbers. `at` leads to the folder of all. */
static int run_numbered(options given, const scenario *tested, int64_t i, const char *out_path,
                        repeat_rows *kept, repeat_signals *signals, int argc, char **argv)
{
    char dir[PATH_MAX], dir_at[PATH_MAX], log[PATH_MAX + 8];
    if (snprintf(dir_at, sizeof dir_at, "%s/%04" PRId64, out_path, i + 1) >= (int)sizeof dir_at ||
        snprintf(dir, sizeof dir, "%s/%04" PRId64, given.out_dir, i + 1) >= (int)sizeof dir) {
        fprintf(stderr, "eep-run: --out: '%s' is too long\n", given.out_dir);
        return 2;
    }
    snprintf(log, sizeof log, "%s.log", dir_at);
    given.seed += given.same_seed ? 0 : i;
    given.out_dir = dir;
    given.out_at = dir_at;
    double begin_s = now_s();
    printf("run %04" PRId64 "  seed %-6" PRId64 " ", i + 1, given.seed);
    int code = run_one(&given, log, signals);
    if (signals->interrupted || code == 2) {
        printf("%s: see %s.log\n", signals->interrupted ? "interrupted" : "could not be run", dir);
        return code == 2 ? 2 : 1;
    }
    cJSON *found = run_file_json(dir_at, "summary.json");
    repeat_run_row row = {.run = i + 1,
                          .seed = given.seed,
                          .seconds = now_s() - begin_s,
                          .met = judge(&given, tested, dir, code, found, false)};
    print_run(&given, tested, &row, code, found, argc, argv);
    eep_status status = repeat_rows_add(kept, row, found);
    cJSON_Delete(found);
    if (status != EEP_OK) {
        fprintf(stderr, "eep-run: out of memory\n");
        return 2;
    }
    return row.met ? 0 : 1;
}

/* All seeds up to the last run's can be given. */
static bool has_seeds(const options *given)
{
    int64_t more = given->same_seed ? 0 : given->num_repeats - 1;
    if (more <= OPTIONS_MAX_SEED - given->seed) {
        return true;
    }
    fprintf(stderr,
            "eep-run: --repeat: seed %" PRId64 " and %" PRId64 " more are above %" PRId64
            ", the largest; give a smaller --seed, or --same-seed\n",
            given->seed, more, OPTIONS_MAX_SEED);
    return false;
}

/* Results of older runs that are in the way are found now, and not after the last run. */
static bool has_room(const options *given, const char *dir)
{
    static const char *const names[] = {"repeat.json", "repeat.csv"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (run_file_can_replace(dir, names[i]) != 0) {
            fprintf(stderr, "eep-run: --out: cannot remove the older '%s/%s': %s\n", given->out_dir,
                    names[i], strerror(errno));
            return false;
        }
    }
    return true;
}

int repeat_many(const options *given, const scenario *tested, int argc, char **argv)
{
    char error[FINISH_ERROR_BYTES];
    repeat_rows kept = {0};
    int64_t num_met = 0, num_run = 0;
    repeat_signals signals = {0};
    int code = 0;
    folder_opened out;
    if (!has_seeds(given)) {
        return 2;
    }
    if (finish_take_dir(given, &out, error) != EEP_OK) {
        fprintf(stderr, "eep-run: %s\n", error);
        return 2;
    }
    if (!has_room(given, out.path)) {
        folder_close(&out);
        return 2;
    }
    if (end_signals_block(&signals.wanted, &signals.before) != 0) {
        fprintf(stderr, "eep-run: signals cannot be blocked: %s\n", strerror(errno));
        folder_close(&out);
        return 2;
    }
    sigaddset(&signals.wanted, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals.wanted, NULL);
    for (int64_t i = 0; i < given->num_repeats && code != 2 && !signals.interrupted; i++) {
        int one = run_numbered(*given, tested, i, out.path, &kept, &signals, argc, argv);
        on_signal(&signals, sigtimedwait(&signals.wanted, NULL, &(struct timespec){0}), 0);
        num_run++;
        num_met += one == 0;
        code = one > code ? one : code;
        if (one && !given->keep_going) {
            break;
        }
    }
    code = signals.interrupted && !code ? 1 : code;
    code = write_rows(&kept, out.path, tested) ? 2 : code;
    folder_close(&out);
    end_signals_cut_output(true); /* from here on it is only printed */
    if (kept.num_values) {
        repeat_rows_print(&kept, stdout);
    }
    printf("\n  %" PRId64 " of %" PRId64 " runs met what is expected (%" PRId64
           " asked for); repeat.json and repeat.csv: %s\n",
           num_met, num_run, given->num_repeats, given->out_dir);
    repeat_rows_free(&kept);
    return code;
}
