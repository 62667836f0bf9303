/* eep-run: the launcher, or, started by it with --rank-process, one rank. */
#include "experiments/launcher.h"
#include "experiments/rank_main.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    static options how; /* lives as long as the run */
    char error[OPTIONS_ERROR_BYTES];
    if (argc == 2 && strcmp(argv[1], "--rank-process") == 0) {
        return rank_main();
    }
    if (options_parse(argc, argv, &how, error) != EEP_OK) {
        fprintf(stderr, "eep-run: %s\n", error);
        return 2;
    }
    if (how.help) {
        options_print_help(stdout);
        return 0;
    }
    int code = launcher_run(&how);
    options_free(&how);
    return code;
}
