/* SPDX-License-Identifier: Apache-2.0 */
/* Shares of the machine: by hand, and of a child that burns. */
#include "experiments/base/machine.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

Test(machine, shares_are_of_all_that_there_was)
{
    const machine_time begin = {.all = 100, .busy = 50, .own = 5};
    const machine_time end = {.all = 120, .busy = 66, .own = 17};
    machine_use use = machine_use_between(&begin, &end);
    cr_expect_gt(use.num_cpus, 0);
    cr_expect_float_eq(use.own, 0.6, 1e-9);
    cr_expect_float_eq(use.others, 0.2, 1e-9);
    const machine_time coarse = {.all = 120, .busy = 61.9, .own = 17}; /* ticks are coarse */
    cr_expect_eq(machine_use_between(&begin, &coarse).others, 0);
    cr_expect_eq(machine_use_between(&begin, &begin).num_cpus, 0);
}

Test(machine, a_child_is_our_own_while_it_lives_and_when_it_has_ended)
{
    machine_time begin, lives, ended;
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        for (volatile unsigned i = 0;; i++) {
        }
    }
    cr_assert(machine_time_now(&child, 1, &begin));
    cr_assert_leq(begin.busy, begin.all);
    do { /* until it has had 50 ms: on a busy machine that takes a while */
        nanosleep(&(struct timespec){0, 10000000}, NULL);
        cr_assert(machine_time_now(&child, 1, &lives));
    } while (lives.own - begin.own < 0.05);
    const pid_t twice[] = {child, 0, child};
    machine_time again;
    cr_assert(machine_time_now(twice, 3, &again));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    cr_assert(machine_time_now(NULL, 0, &ended));
    cr_expect_lt(again.own, ended.own + 0.05, "nobody counts twice");
    cr_expect_gt(ended.own, lives.own - 0.03, "it is not lost with its end");
}
