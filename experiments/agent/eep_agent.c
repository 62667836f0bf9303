/* SPDX-License-Identifier: Apache-2.0 */
/* eep-agent: the agent of a host as a program of its own. */
#include "experiments/base/args.h"
#include "experiments/base/end_signals.h"
#include "experiments/base/output.h"
#include "membership/agent/agent.h"
#include "membership/store/store_socket.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

enum { ERROR_BYTES = 512 };

typedef struct agent_options {
    const char *store, *listen, *key;
    args_given given;
} agent_options;

#define AT(field) ARGS_AT(agent_options, field)
static const args_row rows[] = {
    {"--store", ARGS_TEXT, AT(store), 0, 0, NULL, "ADDRESS", NULL,
     "the instance's store, as its ranks are told of it: PATH, tcp://HOST:PORT?local=PATH or "
     "etcd://...?local=PATH; PATH.holder is the agent's socket, PATH.agent its lock",
     NULL, 's'},
    {"--listen", ARGS_TEXT, AT(listen), 0, 0, NULL, "ADDRESS:PORT", NULL,
     "speak to the agents of other hosts, who reach this one here; an address of this host's own "
     "on the network between the hosts. Without it: this host alone",
     NULL, 'l'},
    {"--key", ARGS_TEXT, AT(key), 0, 0, NULL, "FILE", NULL,
     "with the job's key, as `openssl rand -hex 32` writes one, of mode 0600; default: "
     "EEP_KEY_FILE",
     NULL, 'k'},
};
static const args_table table = {
    .program = "eep-agent",
    .synopsis = "--store ADDRESS [--listen ADDRESS:PORT] [--key FILE]",
    .about =
        "Serve the ranks of this host: keep their shared memory by name, see their ends, and tell\n"
        "the agents of other hosts how they do. One per host; a second one is refused. Ranks "
        "serve\n"
        "on when it ends, and attach to the next one.\n"
        "It ends with SIGINT, SIGTERM, SIGQUIT or SIGHUP. It prints one line when it is ready.",
    .section = {ARGS_SECTION(NULL, rows)},
    .notes =
        "EEP_HOST_ID names the host, as for ranks. Exit status: 0 stopped by a signal; 1 cannot\n"
        "serve; 2 wrong usage; 3 another agent serves this host.",
    .given = offsetof(agent_options, given),
    .shortens = true,
};

static void note(void *user, const char *text)
{
    (void)user;
    fprintf(stderr, "eep-agent: %s\n", text);
}

/* A descriptor for each rank and its memory, and for each other host. */
static void raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int serve(const agent_options *options)
{
    char path[PATH_MAX], error[ERROR_BYTES] = "";
    const eepi_agent_config config = {.path = path,
                                      .listen = options->listen,
                                      .store = options->store,
                                      .key_file = options->key,
                                      .note = note};
    eepi_agent *agent = NULL;
    sigset_t stop;
    int signal_number = 0;
    raise_limit();
    if (end_signals_block(&stop, NULL) != 0) {
        fprintf(stderr, "eep-agent: cannot block signals\n");
        return 1;
    }
    eep_status status = eepi_store_local_path(options->store, path, error, sizeof error);
    if (status == EEP_OK) {
        status = eepi_agent_open(&config, error, sizeof error, &agent);
    }
    if (status != EEP_OK) {
        fprintf(stderr, "eep-agent: %s\n", error);
        return status == EEP_ERR_CONFLICT ? 3 : 1;
    }
    end_signals_cut_output(true);
    printf("eep-agent: ready for ranks of %s\n", path);
    fflush(stdout);
    end_signals_cut_output(false);
    int failed = sigwait(&stop, &signal_number);
    eepi_agent_close(agent);
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    agent_options options = {0};
    int code = 0;
    output_begin();
    if (!args_begin(&table, &options, argc, argv, &code)) {
        return code;
    }
    if (!options.store) {
        fputs("eep-agent: --store is missing\n", stderr);
        args_print_help(&table, stderr);
        return ARGS_EXIT_USAGE;
    }
    return serve(&options);
}
