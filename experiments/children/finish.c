/* SPDX-License-Identifier: Apache-2.0 */
/* The output folder of a run, and the programs that are run on it: oracle and picture. */
#include "experiments/children/finish.h"
#include "experiments/base/program_dir.h"
#include "experiments/base/child.h"
#include "experiments/base/run_file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---------------------------------------------------------------- the folder */

static bool is_empty(const char *dir)
{
    DIR *entries = opendir(dir);
    bool empty = entries != NULL;
    for (struct dirent *entry = NULL; empty && (entry = readdir(entries));) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, FOLDER_HELD) == 0;
    }
    if (entries) {
        closedir(entries);
    }
    return empty;
}

static eep_status write_model(const options *given, const char *dir, char error[FINISH_ERROR_BYTES])
{
    FILE *file = run_file_create(dir, "run.json");
    const char *quote = given->seed < OPTIONS_MAX_SEED ? "" : "\""; /* as the oracle wants it */
    bool failed = !file;
    char skew[40] = "";
    if (given->router_skew > 0) {
        snprintf(skew, sizeof skew, ", \"router_skew\": %" PRId64, given->router_skew);
    }
    if (file) {
        fprintf(file,
                "{\"seed\": %s%" PRId64 "%s, \"num_layers\": %" PRId64 ", \"hidden\": %" PRId64
                ", \"inner\": %" PRId64 ", \"num_experts\": %" PRId64 ", \"top_k\": %" PRId64
                ", \"vocabulary\": %" PRId64 "%s, \"dtype\": \"%s\"}\n",
                quote, given->seed, quote, given->num_layers, given->hidden, given->inner,
                given->num_experts, given->top_k, given->vocabulary, skew,
                options_dtype_name(given));
        failed = ferror(file);
        failed |= fclose(file) != 0;
    }
    if (failed) {
        snprintf(error, FINISH_ERROR_BYTES, "--out: cannot write '%s/run.json': %s", given->out_dir,
                 strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    return EEP_OK;
}

/* Why it cannot be held: errno, and whose lock it is. */
static eep_status say_taken(const char *dir, const char *real_dir, char error[FINISH_ERROR_BYTES])
{
    char path[PATH_MAX], whose[64] = "";
    const char *reason = folder_hold_error(errno);
    bool busy = errno == EWOULDBLOCK;
    struct stat info;
    snprintf(path, sizeof path, "%.*s/" FOLDER_HELD, PATH_MAX - 32, real_dir);
    if (lstat(path, &info) == 0 && info.st_uid != geteuid()) {
        snprintf(whose, sizeof whose, " (" FOLDER_HELD " is user %u's)", (unsigned)info.st_uid);
    }
    if (busy) {
        snprintf(error, FINISH_ERROR_BYTES,
                 "--out: another run writes into '%s' now%s; give another folder, or wait for its "
                 "end",
                 dir, whose);
        return EEP_ERR_INVALID;
    }
    snprintf(error, FINISH_ERROR_BYTES, "--out: cannot take folder '%s': %s%s", dir, reason, whose);
    return EEP_ERR_SYSTEM;
}

eep_status finish_take_dir(const options *given, folder_opened *out, char error[FINISH_ERROR_BYTES])
{
    const char *dir = given->out_dir, *real_dir = given->out_at ? given->out_at : dir;
    char why[FOLDER_WHY_BYTES];
    if (folder_make(real_dir) != 0 || folder_open(real_dir, !given->out_at, out) != 0) {
        eep_status status = errno == ENOTDIR ? EEP_ERR_INVALID : EEP_ERR_SYSTEM;
        snprintf(error, FINISH_ERROR_BYTES, "--out: cannot %s folder '%s': %s",
                 access(real_dir, F_OK) == 0 ? "open" : "make", dir, strerror(errno));
        return status;
    }
    if (!folder_takes_results(&out->info, given->force, why)) {
        snprintf(error, FINISH_ERROR_BYTES,
                 "--out: '%s': %s; give another folder, or --force if you trust all who can change "
                 "what is in it",
                 dir, why);
        folder_close(out);
        return EEP_ERR_INVALID;
    }
    if (folder_hold(out->path, &out->held) != 0) {
        eep_status status = say_taken(dir, out->path, error);
        folder_close(out);
        return status;
    }
    if (!given->force && !is_empty(out->path)) {
        snprintf(error, FINISH_ERROR_BYTES,
                 "--out: '%s' is not empty; give another folder, or --force to write into it", dir);
        folder_close(out);
        return EEP_ERR_INVALID;
    }
    return EEP_OK;
}

/* With --force the results of an older run may be there. If this run writes none of a kind, the
 * older ones must not be read as its own. */
static eep_status remove_old(const char *dir, const char *real_dir, char error[FINISH_ERROR_BYTES])
{
    static const char *const names[] = {
        "summary.json", "plan.json",  "oracle.json", "run.json",    "requests.csv", "tokens.csv",
        "steps.csv",    "events.csv", "startup.csv", "sources.csv", "trace.json",   "timeline.png"};
    enum { NUM = sizeof names / sizeof names[0] };
    /* All are looked at first: a run that is refused has removed none. */
    for (int i = 0; i < 2 * NUM; i++) {
        const char *name = names[i % NUM];
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%.*s/%s", PATH_MAX - 32, real_dir, name);
        bool failed = (i < NUM ? run_file_can_replace(real_dir, name) : unlink(path)) != 0;
        if (failed && (i < NUM || errno != ENOENT)) {
            snprintf(error, FINISH_ERROR_BYTES, "--out: cannot remove the older '%s/%s': %s", dir,
                     name, strerror(errno));
            return EEP_ERR_SYSTEM;
        }
    }
    return EEP_OK;
}

eep_status finish_prepare_dir(const options *given, const char *dir, char error[FINISH_ERROR_BYTES])
{
    eep_status status = remove_old(given->out_dir, dir, error);
    return status == EEP_OK ? write_model(given, dir, error) : status;
}

/* ---------------------------------------------------------------- other programs */

enum { PROGRAM_FAILED = -1, PROGRAM_INTERRUPTED = -2 };

static bool can_read(int fd)
{
    struct pollfd set = {.fd = fd, .events = POLLIN};
    return poll(&set, 1, 0) == 1 && set.revents & POLLIN;
}

/* Run a program and wait. It prints to `out_fd` (-1: as we do). Our standard output is not flushed
 * before: it may be stuck. Its exit code, or PROGRAM_FAILED if it did not run to its end. A signal
 * to end, which `signal_fd` tells of, ends it. */
static int run_program(const char *file, char *const arguments[], int out_fd, int signal_fd)
{
    int wait_status = 0, pidfd = -1;
    child_setup setup = CHILD_SETUP;
    setup.output = out_fd;
    pid_t pid = child_exec(&setup, file, arguments, NULL, &pidfd);
    if (pid < 0) {
        fprintf(stderr, "eep-run: cannot start %s: %s\n", file, strerror(errno));
        return PROGRAM_FAILED;
    }
    if (child_wait(pidfd, signal_fd, -1) != CHILD_ENDED) {
        kill(pid, SIGKILL);
    }
    close(pidfd);
    while (waitpid(pid, &wait_status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(wait_status) && can_read(signal_fd)) {
        return PROGRAM_INTERRUPTED; /* by the launcher, or by the sender of the same signal to both
                                       (^C) */
    }
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : PROGRAM_FAILED;
}

/* ---------------------------------------------------------------- the oracle */

/* False if the member is missing or not a number. */
static bool read_number(const cJSON *root, const char *name, double *value_out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, name);
    if (!cJSON_IsNumber(item)) {
        return false;
    }
    *value_out = item->valuedouble;
    return true;
}

static bool read_verdict(const char *dir, summary_oracle *out)
{
    cJSON *root = run_file_json(dir, "oracle.json");
    double checked = 0, wrong = 0, digests = 0, missing = 0, doubled = 0, seconds = 0;
    bool good =
        read_number(root, "tokens_checked", &checked) &&
        read_number(root, "tokens_wrong", &wrong) && read_number(root, "digests_wrong", &digests) &&
        read_number(root, "tokens_missing", &missing) &&
        read_number(root, "tokens_doubled", &doubled) && read_number(root, "seconds", &seconds);
    if (good) {
        *out = (summary_oracle){.ran = true,
                                .tokens_checked = (int64_t)checked,
                                .tokens_wrong = (int64_t)wrong,
                                .digests_wrong = (int64_t)digests,
                                .tokens_missing = (int64_t)missing,
                                .tokens_doubled = (int64_t)doubled,
                                .seconds = seconds};
    }
    cJSON_Delete(root);
    return good;
}

void finish_run_oracle(const char *dir, int signal_fd, summary_oracle *oracle_out)
{
    char program[PATH_MAX], verdict[PATH_MAX];
    static char name[] = "eep-oracle";
    *oracle_out = (summary_oracle){0};
    if (program_dir_path(name, program) != 0) {
        fprintf(stderr, "eep-run: eep-oracle: the folder of eep-run: %s\n", strerror(errno));
        return;
    }
    if (snprintf(verdict, sizeof verdict, "%s/oracle.json", dir) >= (int)sizeof verdict) {
        fprintf(stderr, "eep-run: eep-oracle: path too long\n");
        return;
    }
    int out_fd =
        run_file_new(verdict); /* by us, for it is in a folder that links may be put into */
    if (out_fd < 0) {
        fprintf(stderr, "eep-run: cannot write '%s': %s\n", verdict, strerror(errno));
        return;
    }
    char *folder = strdup(dir);
    char *const arguments[] = {name, folder, NULL};
    int code = folder ? run_program(program, arguments, out_fd, signal_fd) : PROGRAM_FAILED;
    free(folder);
    close(out_fd);
    if (code == PROGRAM_INTERRUPTED) {
        oracle_out->interrupted = true;
    } else if (code == CHILD_NOT_STARTED) { /* it has said why */
        *oracle_out = (summary_oracle){0};
    } else if (code < 0 || !read_verdict(dir, oracle_out)) {
        *oracle_out = (summary_oracle){0};
        fprintf(stderr, "eep-run: eep-oracle gave no verdict (exit %d)\n", code);
    } else if (code > 1) {
        oracle_out->ran = false; /* it did not get to the end of its check */
    }
    if (!oracle_out->ran) {
        unlink(verdict); /* it is empty, or not the whole */
    }
}

/* ---------------------------------------------------------------- the picture */

void finish_draw_timeline(const char *dir, int signal_fd)
{
    char drawing[PATH_MAX] = "";
    static char python[] = "/usr/bin/python3"; /* Debian's, which has its matplotlib */
#ifdef EEP_TIMELINE_SCRIPT
    snprintf(drawing, sizeof drawing, "%s", EEP_TIMELINE_SCRIPT);
#endif
    if (access(drawing, R_OK) != 0 &&
        (program_dir_path("timeline.py", drawing) != 0 || access(drawing, R_OK) != 0)) {
        fprintf(stderr, "eep-run: no picture: timeline.py not found\n");
        return;
    }
    char *folder = strdup(dir);
    char *const arguments[] = {python, drawing, folder, NULL};
    int code = folder ? run_program(python, arguments, -1, signal_fd) : PROGRAM_FAILED;
    if (code == PROGRAM_INTERRUPTED) {
        fprintf(stderr, "eep-run: no picture: interrupted\n");
    } else if (code != 0) {
        fprintf(stderr, "eep-run: no picture: python3 with matplotlib is needed for %s\n", drawing);
    }
    free(folder);
}
