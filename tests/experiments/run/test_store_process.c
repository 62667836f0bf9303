/* SPDX-License-Identifier: Apache-2.0 */
/* The store's process, killed, stopped and started anew under a client's eyes. */
#include "experiments/base/program_dir.h"
#include "experiments/children/store_process.h"
#include "tests/lib/store_fixture.h"

#include <signal.h>
#include <sys/prctl.h>

TestSuite(store_process, .init = make_directory, .fini = remove_directory);

/* The tests lie in a folder of their own. */
static store_process *open_process(void)
{
    char program[PATH_MAX];
    store_process *process = NULL;
    cr_assert_eq(program_dir_path("../experiments/eep-store", program), 0);
    cr_assert_eq(access(program, X_OK), 0, "%s is not built", program);
    cr_assert_eq(store_process_open_program(program, path, &process), EEP_OK);
    return process;
}

/* Events up to the one of that kind. */
static void wait_event(eepi_store_client *client, eepi_store_reply_kind kind)
{
    while (next(client).kind != kind) {
    }
}

static void wait_ended(store_process *process)
{
    uint64_t end_us = eepi_now_us() + BOUND_US;
    while (store_process_runs(process)) {
        cr_assert_lt(eepi_now_us(), end_us, "the killed store does not end");
        poll(NULL, 0, 1);
    }
}

Test(store_process, serves_and_leaves_nothing_behind)
{
    store_process *process = open_process();
    cr_expect(store_process_runs(process));
    eepi_store_client *client = open_client();
    put(client, "key", "value");
    eepi_store_client_close(client);
    store_process_close(process);
    cr_expect_neq(access(path, F_OK), 0, "the socket file is still there");
    cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "a child is not reaped");
}

Test(store_process, comes_back_empty_where_it_was)
{
    store_process *process = open_process();
    eepi_store_client *client = open_client();
    for (int i = 0; i < 3; i++) {
        put(client, "key", "value");
        cr_expect_null(store_process_refuses(process, VERB_STORE_KILL));
        cr_expect_not_null(store_process_refuses(process, VERB_STORE_START));
        cr_expect_not_null(store_process_refuses(process, VERB_STORE_CONT));
        cr_assert_eq(store_process_kill(process), EEP_OK);
        cr_expect_not_null(store_process_refuses(process, VERB_STORE_KILL));
        cr_expect_not_null(store_process_refuses(process, VERB_STORE_STOP));
        cr_expect_not_null(store_process_refuses(process, VERB_STORE_CONT));
        cr_expect_null(store_process_refuses(process, VERB_STORE_START));
        cr_expect_eq(store_process_kill(process), EEP_ERR_NOT_FOUND);
        cr_expect_eq(store_process_stop(process), EEP_ERR_NOT_FOUND);
        wait_event(client, EEPI_STORE_DISCONNECTED);
        if (i == 1) { /* else it is still ending when it is started */
            wait_ended(process);
        }
        cr_assert_eq(store_process_start(process), EEP_OK);
        wait_event(client, EEPI_STORE_RECONNECTED);
        cr_expect_eq(wait_for(client, eepi_store_get(client, "key")).status, EEP_ERR_NOT_FOUND);
    }
    eepi_store_client_close(client);
    store_process_close(process);
}

Test(store_process, keeps_what_it_holds_while_stopped)
{
    store_process *process = open_process();
    eepi_store_client *client = open_client();
    eepi_store_reply reply;
    put(client, "key", "value");
    cr_assert_eq(store_process_stop(process), EEP_OK);
    cr_expect(store_process_runs(process));
    /* The signal is on its way, so it may answer some more. A slow machine may take longer over an
     * answer than a wait lasts: the request that got none in time is then still good. */
    uint64_t id = eepi_store_get(client, "key");
    time_t begin = time(NULL);
    int answers = 1;
    while (answers && time(NULL) - begin < 10) {
        answers = eepi_store_client_wait(client, id, 50000, &reply) == EEP_OK;
        if (answers) {
            id = eepi_store_get(client, "key");
        }
    }
    cr_expect(!answers, "a stopped store answers");
    cr_expect_null(store_process_refuses(process, VERB_STORE_CONT));
    cr_assert_eq(store_process_cont(process), EEP_OK);
    cr_expect_not_null(store_process_refuses(process, VERB_STORE_CONT));
    cr_expect_eq(wait_for(client, id).status, EEP_OK);
    cr_expect_eq(store_process_cont(process), EEP_OK); /* it is not stopped any more */
    cr_expect_eq(store_process_start(process), EEP_ERR_STATE);
    eepi_store_client_close(client);
    store_process_close(process);
}

Test(store_process, can_be_killed_while_stopped)
{
    store_process *process = open_process();
    cr_assert_eq(store_process_stop(process), EEP_OK);
    cr_assert_eq(store_process_kill(process), EEP_OK);
    cr_assert_eq(store_process_start(process), EEP_OK);
    cr_assert_eq(store_process_stop(process), EEP_OK);
    store_process_close(process);
}

Test(store_process, says_when_it_cannot_start)
{
    store_process *process = NULL;
    cr_expect_eq(store_process_open_program("/nowhere/eep-store", path, &process), EEP_ERR_SYSTEM);
    cr_expect_eq(store_process_open_program("/bin/false", path, &process), EEP_ERR_SYSTEM);
    cr_expect_null(process);
    cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "a child is not reaped");
}

/* A launcher that is killed leaves no store behind. */
Test(store_process, dies_with_its_owner)
{
    int ready[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    pid_t owner = fork();
    if (owner == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        (void)open_process();
        (void)!write(ready[1], "r", 1);
        for (;;) {
            pause();
        }
    }
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    eepi_store_client *client = open_client();
    kill_child(owner);
    wait_event(client, EEPI_STORE_DISCONNECTED);
    eepi_store_client_close(client);
}
