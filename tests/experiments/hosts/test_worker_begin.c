/* SPDX-License-Identifier: Apache-2.0 */
/* What a front may tell a worker of the ranks that it starts. */
#include "experiments/hosts/worker_ranks.h"
#include "experiments/setup/hosts_file.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* All texts of a BEGIN but the last, which is empty: no agent. */
static const char texts[] = "build\0size\0etcd://127.0.0.1\0options";

/* The status of a BEGIN with that variable. */
static eep_status begin_with(const char *variable)
{
    char body[256] = "";
    size_t bytes = sizeof texts + 1;
    worker_begin begin = {.num_variables = 0};
    memcpy(body, texts, sizeof texts);
    memcpy(body + bytes, variable, strlen(variable) + 1);
    eep_status status = worker_begin_set(&begin, body, bytes + strlen(variable) + 1);
    if (status == EEP_OK) {
        cr_expect_eq(begin.num_variables, 1);
        cr_expect_str_eq(begin.variable[0], variable);
    }
    free(begin.body);
    return status;
}

Test(worker_begin, variables_of_libeep_and_ucx_are_taken)
{
    cr_expect_eq(begin_with("EEP_NETWORK_INTERFACE=eth0"), EEP_OK);
    cr_expect_eq(begin_with("EEP_KEY_FILE=/a=b"), EEP_OK);
    cr_expect_eq(begin_with("UCX_LOG_LEVEL=info"), EEP_OK);
}

/* The key lets a front start ranks and agents, and no other program (docs/HOSTS.md). */
Test(worker_begin, no_variable_starts_or_loads_another_program)
{
    static const char *const refused[] = {
        "LD_PRELOAD=/tmp/x.so",
        "PATH=/tmp",
        "UCX_GDB_COMMAND=/tmp/x.sh",
        "UCX_HANDLE_ERRORS=debug",
        "UCX_MODULE_DIR=/tmp",
        "UCX_MODULES=all",
        "UCX_ERROR_MAIL_TO=somebody",
        "UCX_ERROR_SIGNALS=7",
        "EEP_lower=1",
        "EEP_NO_VALUE",
        "=EEP_X",
        "",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        cr_expect_eq(begin_with(refused[i]), EEP_ERR_PROTOCOL, "'%s'", refused[i]);
        cr_expect(!hosts_variable_is_taken(refused[i]) || !strchr(refused[i], '='), "'%s'",
                  refused[i]);
    }
}

Test(worker_begin, a_body_that_is_cut_is_refused)
{
    worker_begin begin = {.num_variables = 0};
    for (size_t bytes = 0; bytes <= sizeof texts; bytes++) {
        cr_expect_eq(worker_begin_set(&begin, texts, bytes), EEP_ERR_PROTOCOL, "%zu", bytes);
    }
    free(begin.body);
}
