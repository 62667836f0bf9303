/* SPDX-License-Identifier: Apache-2.0 */
/* A process that is one rank. */
#include "experiments/rank/rank_main.h"

#include "experiments/rank/rank.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int rank_main(void)
{
    static rank_config config;
    const char *control = getenv(RANK_ENV_CONTROL_FD), *text = getenv(RANK_ENV_OPTIONS);
    const char *joiner = getenv(RANK_ENV_JOINER), *seat = getenv("EEP_RANK");
    if (!control || !text || !seat || rank_setup_from_text(text, &config.setup) != EEP_OK) {
        fprintf(stderr, "--rank-process is for eep-run's own use\n");
        return 2;
    }
    config.seat = atoi(seat);
    config.store_path = getenv("EEP_STORE");
    config.control_fd = atoi(control);
    fcntl(config.control_fd, F_SETFD, FD_CLOEXEC); /* it came through an exec */
    config.joiner = joiner && strcmp(joiner, "1") == 0;
    rank *self = rank_new(&config);
    if (!self) {
        fprintf(stderr, "rank %s: out of memory\n", seat);
        return RANK_EXIT_FAILED;
    }
    int code = rank_run(self);
    rank_free(self);
    return code;
}
