/* SPDX-License-Identifier: Apache-2.0 */
/* Binding: within what the process may use, one core per rank where there are enough, from many
 * threads at once. Larger machines are played by hwloc's synthetic topologies. */
#include "transport/topology.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEXT_BYTES = 256 };

static const eepi_thread_role roles[] = {EEPI_THREAD_RANK, EEPI_THREAD_SERVICE,
                                         EEPI_THREAD_HEARTBEAT};

static eepi_topology *open_topology(const char *synthetic)
{
    eepi_topology *topology = NULL;
    if (synthetic != NULL) {
        setenv("HWLOC_SYNTHETIC", synthetic, 1);
    }
    cr_assert_eq(eepi_topology_open(&topology), EEP_OK);
    return topology;
}

static const char *plan(const eepi_topology *topology, eepi_thread_role role, int seat,
                        int num_ranks)
{
    static char text[TEXT_BYTES];
    cr_assert_eq(eepi_topology_plan(topology, role, seat, num_ranks, text, sizeof text), EEP_OK);
    return text;
}

Test(topology, counts_what_the_process_may_use)
{
    cpu_set_t before;
    cr_assert_eq(sched_getaffinity(0, sizeof before, &before), 0);
    eepi_topology *topology = open_topology(NULL);
    cr_assert_eq(eepi_topology_num_pus(topology), CPU_COUNT(&before));
    cr_assert_geq(eepi_topology_num_cores(topology), 1);
    cr_assert_leq(eepi_topology_num_cores(topology), CPU_COUNT(&before));
    cr_assert_geq(eepi_topology_num_numa(topology), 1);
    eepi_topology_close(topology);
    eepi_topology_close(NULL);
}

/* In a process with one thread that may use only `cpu`: 0, or the number of the failing step. */
static int bind_on_one_cpu(int cpu)
{
    cpu_set_t one, now;
    eepi_topology *topology = NULL;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) {
        return 1;
    }
    if (eepi_topology_open(&topology) != EEP_OK || eepi_topology_num_pus(topology) != 1) {
        return 2;
    }
    for (int num_ranks = 1; num_ranks <= 9; num_ranks++) {
        for (size_t r = 0; r < 3; r++) {
            if (eepi_topology_bind(topology, roles[r], num_ranks - 1, num_ranks) != EEP_OK ||
                sched_getaffinity(0, sizeof now, &now) != 0 || !CPU_EQUAL(&now, &one)) {
                return 3;
            }
        }
    }
    eepi_topology_close(topology);
    return 0;
}

Test(topology, never_escapes_a_narrower_affinity)
{
    cpu_set_t before;
    int last = 0, state = -1;
    cr_assert_eq(sched_getaffinity(0, sizeof before, &before), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        last = CPU_ISSET(cpu, &before) ? cpu : last;
    }
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(bind_on_one_cpu(last));
    }
    cr_assert_eq(waitpid(pid, &state, 0), pid);
    cr_assert(WIFEXITED(state) && WEXITSTATUS(state) == 0, "state %x", (unsigned)state);
}

typedef struct binder {
    const eepi_topology *topology;
    int seat, num_ranks;
    int failures;
} binder;

/* Bind over and over, as a rank of an ever other size would; what the kernel says must be the
 * plan. */
static void *bind_often(void *arg)
{
    binder *self = arg;
    for (int i = 0; i < 200; i++) {
        eepi_thread_role role = roles[(size_t)i % 3];
        char wanted[TEXT_BYTES], cpu[16];
        cpu_set_t now;
        if (eepi_topology_bind(self->topology, role, self->seat, self->num_ranks) != EEP_OK ||
            eepi_topology_plan(self->topology, role, self->seat, self->num_ranks, wanted,
                               sizeof wanted) != EEP_OK ||
            sched_getaffinity(0, sizeof now, &now) != 0) {
            self->failures++;
            continue;
        }
        snprintf(cpu, sizeof cpu, "%d", sched_getcpu());
        if (CPU_COUNT(&now) == 1 && strcmp(cpu, wanted) != 0) {
            self->failures++;
        }
    }
    return NULL;
}

Test(topology, many_threads_bind_through_one_topology)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    binder binders[THREADS];
    eepi_topology *topology = open_topology(NULL);
    int num_pus = eepi_topology_num_pus(topology);
    for (int i = 0; i < THREADS; i++) {
        int num_ranks = i % 2 == 0 ? num_pus : num_pus + 1;
        binders[i] = (binder){topology, i % num_ranks, num_ranks, 0};
        cr_assert_eq(pthread_create(&threads[i], NULL, bind_often, &binders[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
        cr_assert_eq(binders[i].failures, 0, "thread %d", i);
    }
    eepi_topology_close(topology);
}

Test(topology, rejects_foreign_seats_and_roles)
{
    char text[TEXT_BYTES];
    eepi_topology *topology = open_topology(NULL);
    cr_assert_eq(eepi_topology_bind(topology, EEPI_THREAD_RANK, 1, 1), EEP_ERR_INVALID);
    cr_assert_eq(eepi_topology_bind(topology, EEPI_THREAD_RANK, -1, 1), EEP_ERR_INVALID);
    cr_assert_eq(eepi_topology_bind(topology, EEPI_THREAD_RANK, 0, 0), EEP_ERR_INVALID);
    cr_assert_eq(eepi_topology_bind(topology, (eepi_thread_role)7, 0, 1), EEP_ERR_INVALID);
    cr_assert_eq(eepi_topology_plan(topology, EEPI_THREAD_RANK, 0, 1, text, 1), EEP_ERR_INVALID);
    eepi_topology_close(topology);
}

Test(topology, a_core_per_rank_while_there_are_enough)
{
    eepi_topology *topology = open_topology("package:2 core:4 pu:2");
    cr_assert_eq(eepi_topology_num_pus(topology), 16);
    cr_assert_eq(eepi_topology_num_cores(topology), 8);
    /* Two ranks: one in each package. */
    cr_assert_str_eq(plan(topology, EEPI_THREAD_RANK, 0, 2), "0");
    cr_assert_str_eq(plan(topology, EEPI_THREAD_RANK, 1, 2), "8");
    cr_assert_str_eq(plan(topology, EEPI_THREAD_SERVICE, 1, 2), "8-9");
    cr_assert_str_eq(plan(topology, EEPI_THREAD_HEARTBEAT, 0, 2), "0-1");
    for (int num_ranks = 1; num_ranks <= 16; num_ranks++) {
        int seen[16] = {0}, cores[8] = {0}, most = num_ranks <= 8 ? 1 : 2;
        for (int seat = 0; seat < num_ranks; seat++) {
            int pu = atoi(plan(topology, EEPI_THREAD_RANK, seat, num_ranks));
            cr_assert_eq(seen[pu]++, 0, "%d ranks share PU %d", num_ranks, pu);
            cr_assert_leq(++cores[pu / 2], most, "%d ranks crowd core %d", num_ranks, pu / 2);
        }
    }
    cr_assert_eq(eepi_topology_bind(topology, EEPI_THREAD_RANK, 0, 2), EEP_ERR_UNSUPPORTED);
    eepi_topology_close(topology);
}

Test(topology, more_ranks_than_pus_keep_to_their_numa_node)
{
    eepi_topology *topology = open_topology("package:2 [numa] core:2 pu:1");
    cr_assert_eq(eepi_topology_num_numa(topology), 2);
    int first = 0;
    for (int seat = 0; seat < 8; seat++) {
        const char *text = plan(topology, EEPI_THREAD_RANK, seat, 8);
        cr_assert(strcmp(text, "0-1") == 0 || strcmp(text, "2-3") == 0, "%s", text);
        first += strcmp(text, "0-1") == 0;
        cr_assert_str_eq(plan(topology, EEPI_THREAD_SERVICE, seat, 8), "0-3");
        cr_assert_str_eq(plan(topology, EEPI_THREAD_HEARTBEAT, seat, 8), "0-3");
    }
    cr_assert_eq(first, 4, "both nodes get their share");
    eepi_topology_close(topology);
}
