/* SPDX-License-Identifier: Apache-2.0 */
/* eep-run: the launcher, or, started by it with --rank-process, one rank; or a host's worker. */
#include "experiments/launcher/launcher.h"
#include "experiments/base/output.h"
#include "experiments/hosts/launched.h"
#include "experiments/hosts/worker.h"
#include "experiments/rank/rank_main.h"
#include "experiments/run/checkpoint_write.h"
#include "experiments/rows/about.h"
#include "experiments/run/repeat.h"
#include "experiments/setup/scenario.h"
#include "experiments/rows/summary.h"
#include "graphs/cuda/cuda_environment.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A path of `expect` that no summary has: a run would only find it missing at its end. */
static bool paths_are_known(const scenario *tested, char error[SCENARIO_ERROR_BYTES])
{
    cJSON *sample = summary_sample();
    char why[EXPECT_ERROR_BYTES];
    bool known = true;
    for (int i = 0; i < tested->num_clauses && known; i++) {
        const expect_clause *clause = &tested->clause[i];
        known = expect_is_known(clause, sample, why);
        if (!known) {
            snprintf(error, SCENARIO_ERROR_BYTES, "%.360s:%d:%d: %s", tested->file, clause->line,
                     clause->column, why);
        }
    }
    cJSON_Delete(sample);
    return known;
}

/* Options of the scenario, then of the command line. False: `error` says why not. */
static bool read_scenario(const char *file, int num, char **argument, scenario *tested,
                          options *given, char error[SCENARIO_ERROR_BYTES])
{
    options_free(given);
    options_set_defaults(given);
    if (scenario_load(file, tested, error) != EEP_OK ||
        scenario_apply(tested, given, error) != EEP_OK) {
        return false;
    }
    if (options_take(given, num, argument, error) != EEP_OK) {
        return false;
    }
    return scenario_check(tested, given, error) == EEP_OK && paths_are_known(tested, error);
}

/* --check-only FILE...: each by itself. */
static int check_files(int num, char **file)
{
    int code = 0;
    for (int i = 0; i < num; i++) {
        options given = {0};
        scenario tested = {0};
        char error[SCENARIO_ERROR_BYTES];
        bool good = read_scenario(file[i], 0, NULL, &tested, &given, error);
        if (good) {
            printf("ok    %-24s %s%s\n", tested.name, file[i], tested.is_long ? "  (long)" : "");
        } else {
            fprintf(stderr, "eep-run: %s\n", error);
            code = 2;
        }
        options_free(&given);
        scenario_free(&tested);
    }
    if (num == 0) {
        fprintf(stderr, "eep-run: --check-only needs scenario files\n");
    }
    return num ? code : 2;
}

static int run(options *given, const scenario *judged, int argc, char **argv)
{
    launched job = {.worker = 0};
    int code = given->launched ? launched_begin(given, &job) : -1;
    if (code >= 0) {
        return code;
    }
    char *command = about_command(argc, argv);
    given->command = command;
    given->scenario_name = judged ? judged->name : NULL;
    code = given->num_repeats ? repeat_many(given, judged, argc, argv)
           : judged           ? repeat_once(given, judged)
                              : launcher_run(given);
    free(command);
    if (given->launched) {
        launched_end(&job, given);
    }
    return code;
}

int main(int argc, char **argv)
{
    static options given; /* lives as long as the run */
    static scenario tested;
    static char error[SCENARIO_ERROR_BYTES];
    static_assert((int)SCENARIO_ERROR_BYTES >= (int)OPTIONS_ERROR_BYTES,
                  "one buffer for both messages");
    output_begin();
    /* Here for all that comes of it: ranks and hosts of ranks inherit the launcher's environment.
     */
    eepi_cuda_environment_set();
    if (argc == 2 && strcmp(argv[1], "--rank-process") == 0) {
        return rank_main();
    }
    if (argc == 2 && strcmp(argv[1], "--rank-host") == 0) {
        return rank_host_main();
    }
    if (argc == 3 && strcmp(argv[1], "--worker") == 0) {
        return worker_main(argv[2]);
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--worker") == 0 || strncmp(argv[i], "--worker=", 9) == 0) {
            fprintf(stderr, "eep-run: a worker is started by '--worker ADDRESS:PORT' and nothing "
                            "else: the eep-run that connects says what to run\n");
            return 2;
        }
    }
    if (argc >= 2 && strcmp(argv[1], "--check-only") == 0) {
        return check_files(argc - 2, argv + 2);
    }
    /* Once to learn of a scenario; if there is one, again on top of its options. */
    options_set_defaults(&given);
    bool good = options_take(&given, argc - 1, argv + 1, error) == EEP_OK;
    if (good && given.help) {
        options_print_help(stdout);
        return 0;
    }
    if (good && given.version) {
        args_print_version("eep-run");
        return 0;
    }
    const char *file = given.scenario_path;
    if (good && file) {
        good = read_scenario(file, argc - 1, argv + 1, &tested, &given, error);
    } else if (good) {
        good = options_check(&given, error) == EEP_OK;
    }
    if (!good) {
        fprintf(stderr, "eep-run: %s\n", error);
        return 2;
    }
    if (given.check_only) {
        return file ? check_files(1, (char *[]){(char *)file}) : check_files(0, NULL);
    }
    if (given.checkpoint_write) {
        return checkpoint_write(&given);
    }
    return run(&given, file ? &tested : NULL, argc, argv);
}
