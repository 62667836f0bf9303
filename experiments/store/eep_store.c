/* SPDX-License-Identifier: Apache-2.0 */
/* eep-store: the store as a program of its own. */
#include "eep/store.h"
#include "experiments/base/end_signals.h"
#include "experiments/base/output.h"
#include "experiments/base/args.h"
#include "membership/store/store_conn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { TEXT_BYTES = 256, SAY_S = 10 }; /* a line about refused connections at most so often */

typedef struct store_options {
    const char *path, *forgotten;
    args_given given;
} store_options;

#define AT(field) ARGS_AT(store_options, field)
static const args_row rows[] = {
    {"--path", ARGS_TEXT, AT(path), 0, 0, NULL, "PATH", NULL,
     "the socket; at most 107 bytes; its directory must belong to this user and be closed to all "
     "others (mode 0700); or tcp://HOST:PORT?local=PATH, to serve on an address too: of the "
     "loopback "
     "interface, or with &key-file=FILE (or EEP_KEY_FILE) any",
     NULL, 'p'},
    {"--forget", ARGS_TEXT, AT(forgotten), 0, 0, NULL, "PATH", NULL,
     "remove what an instance left in the store that answers there, once none of its processes is "
     "left",
     NULL, 'f'},
};
static const args_table table = {
    .program = "eep-store",
    .synopsis = "--path PATH\n--forget PATH",
    .about =
        "Serve libeep's key-value store on the unix socket PATH, and on an address if PATH names "
        "one.\n"
        "It ends with SIGINT, SIGTERM, SIGQUIT or SIGHUP. It prints one line when it is ready.\n"
        "State lives in memory and ends with the program. Who comes over TCP and has not the key "
        "is\n"
        "refused and counted, in lines on standard error.",
    .section = {ARGS_SECTION(NULL, rows)},
    .notes = "Exit status: 0 stopped by a signal; 1 cannot serve; 2 wrong usage.",
    .given = offsetof(store_options, given),
    .shortens = true,
};

/* A line about refused connections, if there are more than the last one said. */
static void say_refused(const eep_store *store, char said[TEXT_BYTES])
{
    const eepi_secure_counts counts = eepi_store_counts(store);
    char text[TEXT_BYTES];
    (void)eepi_secure_counts_text(&counts, text, sizeof text);
    if (strcmp(text, said) != 0) {
        memcpy(said, text, TEXT_BYTES);
        fprintf(stderr, "eep-store: refused so far: %s\n", text);
    }
}

/* Until a signal ends it; 0, or an error. */
static int wait_for_end(const eep_store *store, const sigset_t *stop)
{
    const struct timespec pause = {.tv_sec = SAY_S};
    char said[TEXT_BYTES] = "";
    int number;
    while ((number = sigtimedwait(stop, NULL, &pause)) < 0 && (errno == EAGAIN || errno == EINTR)) {
        say_refused(store, said);
    }
    say_refused(store, said);
    return number > 0 ? 0 : errno;
}

static int serve(const char *path)
{
    char error[256] = "out of memory";
    sigset_t stop;
    eep_store *store = NULL;
    struct rlimit limit; /* a connection per rank */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (end_signals_block(&stop, NULL) != 0) {
        fprintf(stderr, "eep-store: cannot block signals\n");
        return 1;
    }
    if (eep_store_open(path, error, sizeof error, &store) != EEP_OK) {
        fprintf(stderr, "eep-store: %s\n", error);
        return 1;
    }
    end_signals_cut_output(true);
    printf("eep-store: ready on %s\n", path);
    fflush(stdout);
    end_signals_cut_output(false);
    int failed = wait_for_end(store, &stop);
    eep_store_close(store);
    return failed ? 1 : 0;
}

static int forget(const char *path)
{
    char error[256] = "";
    if (eep_store_forget(path, error, sizeof error) == EEP_OK) {
        return 0;
    }
    fprintf(stderr, "eep-store: %s\n", error);
    return 1;
}

int main(int argc, char **argv)
{
    store_options options = {0};
    int code = 0;
    output_begin();
    if (!args_begin(&table, &options, argc, argv, &code)) {
        return code;
    }
    if (options.forgotten) {
        return forget(options.forgotten);
    }
    if (!options.path) {
        fputs("eep-store: --path is missing\n", stderr);
        args_print_help(&table, stderr);
        return ARGS_EXIT_USAGE;
    }
    return serve(options.path);
}
