/* eep-store: the store as a program of its own. */
#include "eep/store.h"
#include "experiments/base/end_signals.h"
#include "experiments/base/output.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

static const char usage_text[] =
    "usage: eep-store --path PATH | --forget PATH\n"
    "Serve libeep's key-value store on the unix socket PATH until SIGINT, SIGTERM,\n"
    "SIGQUIT or SIGHUP.\n"
    "\n"
    "  -p, --path PATH  the socket; at most 107 bytes; its directory must belong to\n"
    "                   this user and be closed to all others (mode 0700)\n"
    "  -f, --forget PATH  remove what an instance left in the store that answers there,\n"
    "                   once none of its processes is left\n"
    "  --version        the program and its version\n"
    "  -h, --help       this text\n"
    "\n"
    "Prints one line when it is ready. State lives in memory and ends with the program.\n"
    "Exit status: 0 stopped by a signal, 1 cannot serve, 2 wrong usage.\n";

static int serve(const char *path)
{
    char error[256] = "out of memory";
    sigset_t stop;
    eep_store *store = NULL;
    int signal_number = 0;
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
    int failed = sigwait(&stop, &signal_number);
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
    static const struct option options[] = {
        {"path", required_argument, NULL, 'p'},
        {"forget", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *path = NULL;
    int option;
    output_begin();
    if (output_version(argc, argv)) {
        return 0;
    }
    while ((option = getopt_long(argc, argv, "p:f:h", options, NULL)) != -1) {
        if (option == 'p') {
            path = optarg;
        } else if (option == 'f') {
            return forget(optarg);
        } else if (option == 'h') {
            fputs(usage_text, stdout);
            return 0;
        } else {
            fputs(usage_text, stderr);
            return 2;
        }
    }
    if (!path || optind != argc) {
        fprintf(stderr, "eep-store: %s\n%s", path ? "unexpected argument" : "--path is missing",
                usage_text);
        return 2;
    }
    return serve(path);
}
