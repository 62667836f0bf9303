#include "experiments/finish.h"
#include "experiments/beside.h"
#include "experiments/folder.h"
#include "experiments/run_file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---------------------------------------------------------------- the folder */

static bool is_empty(const char *dir)
{
    DIR *entries = opendir(dir);
    bool empty = entries != NULL;
    for (struct dirent *entry = NULL; empty && (entry = readdir(entries));) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    }
    if (entries) {
        closedir(entries);
    }
    return empty;
}

static eep_status write_model(const options *how, char error[FINISH_ERROR_BYTES])
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/run.json", how->out_dir);
    FILE *file = fopen(path, "we");
    int failed = !file;
    if (file) {
        fprintf(file,
                "{\"seed\": %" PRId64 ", \"num_layers\": %" PRId64 ", \"hidden\": %" PRId64
                ", \"inner\": %" PRId64 ", \"num_experts\": %" PRId64 ", \"top_k\": %" PRId64
                ", \"vocabulary\": %" PRId64 ", \"dtype\": \"%s\"}\n",
                how->seed, how->num_layers, how->hidden, how->inner, how->num_experts, how->top_k,
                how->vocabulary, options_dtype_name(how));
        failed = ferror(file);
        failed |= fclose(file);
    }
    if (failed) {
        snprintf(error, FINISH_ERROR_BYTES, "--out: cannot write '%s/run.json': %s", how->out_dir,
                 strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    return EEP_OK;
}

eep_status finish_make_dir(const char *dir, bool force, char error[FINISH_ERROR_BYTES])
{
    struct stat info;
    if (folder_make(dir) != 0 || stat(dir, &info) != 0) {
        snprintf(error, FINISH_ERROR_BYTES, "--out: cannot make folder '%s': %s", dir,
                 strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    if (!S_ISDIR(info.st_mode)) {
        snprintf(error, FINISH_ERROR_BYTES, "--out: '%s' is not a folder", dir);
        return EEP_ERR_INVALID;
    }
    if (!force && !is_empty(dir)) {
        snprintf(error, FINISH_ERROR_BYTES,
                 "--out: '%s' is not empty; give another folder, or --force to write into it", dir);
        return EEP_ERR_INVALID;
    }
    return EEP_OK;
}

/* With --force an older run's may be there: if this run writes none, nobody must read those. */
static eep_status remove_old(const char *dir, char error[FINISH_ERROR_BYTES])
{
    static const char *const names[] = {"summary.json", "plan.json",   "oracle.json", "run.json",
                                        "requests.csv", "tokens.csv",  "steps.csv",   "events.csv",
                                        "trace.json",   "timeline.png"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%.*s/%s", PATH_MAX - 32, dir, names[i]);
        if (unlink(path) != 0 && errno != ENOENT) {
            snprintf(error, FINISH_ERROR_BYTES, "--out: cannot remove the older '%s/%s': %s", dir,
                     names[i], strerror(errno));
            return EEP_ERR_SYSTEM;
        }
    }
    return EEP_OK;
}

eep_status finish_prepare_dir(const options *how, char error[FINISH_ERROR_BYTES])
{
    eep_status status = finish_make_dir(how->out_dir, how->force, error);
    if (status == EEP_OK) {
        status = remove_old(how->out_dir, error);
    }
    return status == EEP_OK ? write_model(how, error) : status;
}

/* ---------------------------------------------------------------- other programs */

/* Run a program with our standard output and wait; its exit code, or -1 if it did not run to its
 * end. Signals that the launcher holds back are let through again in it. */
static int run_program(const char *file, char *const arguments[])
{
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t pid = 0;
    int wait_status = 0;
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    fflush(stdout);
    int failed = posix_spawnp(&pid, file, NULL, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    if (failed) {
        fprintf(stderr, "eep-run: cannot start %s: %s\n", file, strerror(failed));
        return -1;
    }
    while (waitpid(pid, &wait_status, 0) < 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
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

void finish_run_oracle(const char *dir, summary_oracle *oracle_out)
{
    char program[PATH_MAX], verdict[PATH_MAX];
    static char name[] = "eep-oracle", json[] = "--json";
    *oracle_out = (summary_oracle){0};
    if (beside_us(name, program) != 0 ||
        snprintf(verdict, sizeof verdict, "%s/oracle.json", dir) >= (int)sizeof verdict) {
        fprintf(stderr, "eep-run: eep-oracle: path too long\n");
        return;
    }
    char *folder = strdup(dir);
    char *const arguments[] = {name, folder, json, verdict, NULL};
    int code = folder ? run_program(program, arguments) : -1;
    free(folder);
    if (code < 0 || !read_verdict(dir, oracle_out)) {
        *oracle_out = (summary_oracle){0};
        fprintf(stderr, "eep-run: eep-oracle gave no verdict (exit %d)\n", code);
    } else if (code > 1) {
        oracle_out->ran = false; /* it did not get to the end of its check */
    }
}

/* ---------------------------------------------------------------- the picture */

void finish_draw_timeline(const char *dir)
{
    char drawing[PATH_MAX] = "";
    static char python[] = "/usr/bin/python3"; /* Debian's, which has its matplotlib */
#ifdef EEP_TIMELINE_SCRIPT
    snprintf(drawing, sizeof drawing, "%s", EEP_TIMELINE_SCRIPT);
#endif
    if (access(drawing, R_OK) != 0 &&
        (beside_us("timeline.py", drawing) != 0 || access(drawing, R_OK) != 0)) {
        fprintf(stderr, "eep-run: no picture: timeline.py not found\n");
        return;
    }
    char *folder = strdup(dir);
    char *const arguments[] = {python, drawing, folder, NULL};
    if (!folder || run_program(python, arguments) != 0) {
        fprintf(stderr, "eep-run: no picture: python3 with matplotlib is needed for %s\n", drawing);
    }
    free(folder);
}
