/* SPDX-License-Identifier: Apache-2.0 */
/* Rank and size out of each launcher's variables, and what is refused. */
#include "eep/launch.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A launcher may have started this test. */
static const char *const variables[] = {"EEP_LAUNCHER",
                                        "EEP_RANK",
                                        "EEP_SIZE",
                                        "EEP_LOCAL_RANK",
                                        "EEP_LOCAL_SIZE",
                                        "EEP_STORE",
                                        "EEP_NETWORK_INTERFACE",
                                        "EEP_LEADER_ADDRESS",
                                        "RANK",
                                        "WORLD_SIZE",
                                        "LOCAL_RANK",
                                        "LOCAL_WORLD_SIZE",
                                        "MASTER_ADDR",
                                        "OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "OMPI_COMM_WORLD_LOCAL_RANK",
                                        "OMPI_COMM_WORLD_LOCAL_SIZE",
                                        "PMIX_RANK",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "MPI_LOCALRANKID",
                                        "MPI_LOCALNRANKS",
                                        "SLURM_PROCID",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SLURM_NTASKS",
                                        "SLURM_LOCALID",
                                        "SLURM_NODEID",
                                        "SLURM_STEP_TASKS_PER_NODE",
                                        "LWS_WORKER_INDEX",
                                        "LWS_GROUP_SIZE",
                                        "LWS_LEADER_ADDRESS"};

static void clear(void)
{
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        unsetenv(variables[i]);
    }
}

/* The environment is "NAME=VALUE NAME=VALUE" and nothing else of launchers. */
static void set(const char *environment)
{
    char text[600], *rest = text;
    const char *word;

    clear();
    snprintf(text, sizeof text, "%s", environment);
    while ((word = strtok_r(rest, " ", &rest)) != NULL) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        cr_assert_eq(setenv(word, equals + 1, 1), 0);
    }
}

TestSuite(launch, .init = clear, .timeout = 20);

#define TORCHRUN "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4"
#define OPENMPI                                                                                    \
    "OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=1 "                  \
    "OMPI_COMM_WORLD_LOCAL_SIZE=4"
#define SLURM                                                                                      \
    "SLURM_PROCID=5 SLURM_STEP_NUM_TASKS=8 SLURM_LOCALID=1 SLURM_NODEID=1 "                        \
    "SLURM_STEP_TASKS_PER_NODE=4(x2)"
#define EEP "EEP_RANK=5 EEP_SIZE=8 EEP_LOCAL_RANK=1 EEP_LOCAL_SIZE=4"

typedef struct answer {
    const char *environment;
    int32_t rank, num_ranks, local_rank, local_size;
    const char *said; /* in `source` */
} answer;

static const answer answers[] = {
    {"", -1, 0, -1, 0, ""},
    {EEP, 5, 8, 1, 4, "rank 5 from EEP_RANK, 8 ranks from EEP_SIZE, local rank 1 from"},
    {TORCHRUN, 5, 8, 1, 4, "rank 5 from RANK, 8 ranks from WORLD_SIZE, local rank 1 from LOCAL_"},
    {OPENMPI, 5, 8, 1, 4, "rank 5 from OMPI_COMM_WORLD_RANK, 8 ranks from OMPI_COMM_WORLD_SIZE"},
    {"PMIX_RANK=3 EEP_SIZE=8", 3, 8, -1, 0, "rank 3 from PMIX_RANK, 8 ranks from EEP_SIZE"},
    {"PMI_RANK=3 PMI_SIZE=8 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2", 3, 8, 1, 2, "from PMI_RANK"},
    {SLURM, 5, 8, 1, 4, "4 ranks here from SLURM_STEP_TASKS_PER_NODE"},
    {"SLURM_PROCID=6 SLURM_STEP_NUM_TASKS=7 SLURM_LOCALID=0 SLURM_NODEID=2 "
     "SLURM_STEP_TASKS_PER_NODE=3(x2),1",
     6, 7, 0, 1, "rank 6 from SLURM_PROCID"},
    /* sbatch sets these for the script, which is no rank. */
    {"SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=8", -1, 0, -1, 0, ""},
    {"LWS_WORKER_INDEX=2 LWS_GROUP_SIZE=4", 2, 4, -1, 0, "rank 2 from LWS_WORKER_INDEX"},
    {"LWS_WORKER_INDEX=2 LWS_GROUP_SIZE=4 EEP_LOCAL_RANK=3 EEP_LOCAL_SIZE=8", 19, 32, 3, 8,
     "32 ranks from LWS_GROUP_SIZE"},
    {"LWS_WORKER_INDEX=1 LWS_GROUP_SIZE=2 " TORCHRUN, 5, 8, 1, 4, "rank 5 from RANK"},
    /* All that say a number say the same: the first is named. */
    {EEP " " TORCHRUN " " OPENMPI " " SLURM " PMIX_RANK=5", 5, 8, 1, 4, "rank 5 from EEP_RANK"},
    {OPENMPI " " SLURM, 5, 8, 1, 4, "rank 5 from OMPI_COMM_WORLD_RANK"},
    /* One is named, where a launcher runs inside another one. */
    {"EEP_LAUNCHER=torchrun SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 " TORCHRUN, 5, 8, 1, 4, "RANK"},
    {"EEP_LAUNCHER=torchrun RANK=1 WORLD_SIZE=2", 1, 2, -1, 0, "rank 1 from RANK, 2 ranks"},
    {"EEP_LAUNCHER=slurm SLURM_PROCID=1 RANK=7 EEP_SIZE=2", 1, 2, -1, 0, "from SLURM_PROCID"},
    {"EEP_LAUNCHER=eep EEP_RANK=2 EEP_SIZE=4 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1", 2, 4,
     -1, 0, "rank 2 from EEP_RANK, 4 ranks from EEP_SIZE"},
    /* A replacement takes any seat, whatever its own launch is numbered like. */
    {"EEP_RANK=any EEP_SIZE=4 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1", EEP_RANK_ANY, 4, -1, 0,
     "any free seat from EEP_RANK, 4 ranks from EEP_SIZE"},
    /* RANK without LOCAL_RANK may be a node's index, and is not looked at. */
    {"EEP_RANK=5 EEP_SIZE=8 RANK=1 WORLD_SIZE=2", 5, 8, -1, 0, "rank 5 from EEP_RANK"},
    {"EEP_RANK= EEP_SIZE= RANK=", -1, 0, -1, 0, ""},
    {"EEP_RANK=0 EEP_SIZE=1024", 0, 1024, -1, 0, "rank 0 from EEP_RANK"},
};

Test(launch, each_launcher_is_read)
{
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const answer *a = &answers[i];
        eep_launch_info it;
        eep_config config;

        set(a->environment);
        cr_assert_eq(eep_launch_read(EEP_SIZED(&it)), EEP_OK, "%s: %s", a->environment,
                     eep_error_text());
        cr_expect(it.rank == a->rank && it.num_ranks == a->num_ranks &&
                      it.local_rank == a->local_rank && it.local_size == a->local_size,
                  "%s: rank %d of %d, local %d of %d", a->environment, it.rank, it.num_ranks,
                  it.local_rank, it.local_size);
        cr_expect(a->said[0] ? strstr(it.source, a->said) != NULL : it.source[0] == '\0', "%s: %s",
                  a->environment, it.source);
        eep_config_init(&config);
        cr_expect(config.rank == a->rank && config.num_ranks == a->num_ranks, "%s", a->environment);
    }
}

static const struct refusal {
    const char *environment;
    const char *said[4];
} refusals[] = {
    {"EEP_RANK=abc", {"EEP_RANK is \"abc\"", "0 to 1023, or any"}},
    {"EEP_RANK=1024", {"EEP_RANK is \"1024\""}},
    {"EEP_RANK=+1", {"EEP_RANK is \"+1\""}},
    {"EEP_SIZE=0", {"EEP_SIZE is \"0\"", "1 to 1024"}},
    {"EEP_SIZE=99999999999999999999999", {"EEP_SIZE is \"9999"}},
    {"EEP_RANK=Any", {"EEP_RANK is \"Any\""}},
    {"RANK=1 WORLD_SIZE=two LOCAL_RANK=0", {"WORLD_SIZE is \"two\""}},
    {"RANK=1 WORLD_SIZE=2 LOCAL_RANK=-1", {"LOCAL_RANK is \"-1\""}},
    {"PMIX_RANK=any", {"PMIX_RANK is \"any\": it must be a whole number from 0 to 1023"}},
    {"SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_TASKS_PER_NODE=4(y2)",
     {"SLURM_STEP_TASKS_PER_NODE is \"4(y2)\""}},
    {"SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_TASKS_PER_NODE=2(x2) SLURM_NODEID=2",
     {"SLURM_STEP_TASKS_PER_NODE is \"2(x2)\"", "node 2"}},
    {"SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_TASKS_PER_NODE=4 SLURM_NODEID=x",
     {"SLURM_NODEID is \"x\""}},
    {"EEP_LAUNCHER=mpirun " OPENMPI, {"EEP_LAUNCHER is \"mpirun\"", "openmpi"}},
    /* Two that disagree: both variables, both values, what to do. */
    {"EEP_RANK=0 " TORCHRUN,
     {"EEP_RANK says 0 and RANK says 5", "the rank", "EEP_LAUNCHER to eep or torchrun"}},
    {TORCHRUN " SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=8",
     {"RANK says 5 and SLURM_PROCID says 1", "EEP_LAUNCHER to torchrun or slurm"}},
    {"EEP_RANK=5 EEP_SIZE=4 " OPENMPI, {"EEP_SIZE says 4 and OMPI_COMM_WORLD_SIZE says 8"}},
    {TORCHRUN " OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_LOCAL_RANK=0",
     {"LOCAL_RANK says 1 and OMPI_COMM_WORLD_LOCAL_RANK says 0"}},
    {SLURM " EEP_LOCAL_SIZE=2", {"EEP_LOCAL_SIZE says 2 and SLURM_STEP_TASKS_PER_NODE says 4"}},
    {"LWS_WORKER_INDEX=0 LWS_GROUP_SIZE=2 " TORCHRUN,
     {"RANK says 5 and LWS_WORKER_INDEX says 1", "times the ranks of a worker"}},
    {"LWS_WORKER_INDEX=2 LWS_GROUP_SIZE=4 EEP_LOCAL_SIZE=8",
     {"EEP_LOCAL_SIZE says that a pod has 8", "EEP_LOCAL_RANK"}},
    {"LWS_WORKER_INDEX=200 LWS_GROUP_SIZE=4 EEP_LOCAL_SIZE=8 EEP_LOCAL_RANK=0",
     {"LWS_WORKER_INDEX is 200", "8 ranks in each pod"}},
    {"EEP_LAUNCHER=slurm EEP_RANK=0 SLURM_PROCID=1", {"EEP_RANK says 0 and SLURM_PROCID says 1"}},
    {"RANK=1 WORLD_SIZE=2", {"RANK is \"1\" and LOCAL_RANK is not set", "index of a node"}},
};

Test(launch, what_is_malformed_or_disagrees_is_refused_by_name)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *r = &refusals[i];
        eep_launch_info it, before;
        eep_config config;

        memset(&it, 0x5a, sizeof it);
        it.struct_bytes = sizeof it;
        before = it;
        set(r->environment);
        cr_expect_eq(eep_launch_read(&it), EEP_ERR_INVALID, "%s: %s", r->environment, it.source);
        for (size_t part = 0; part < 4 && r->said[part]; part++) {
            cr_expect(strstr(eep_error_text(), r->said[part]), "%s: %s", r->environment,
                      eep_error_text());
        }
        cr_expect(memcmp(&it, &before, sizeof it) == 0, "%s: something is written", r->environment);
        eep_config_init(&config); /* a caller that sets both is not disturbed */
        cr_expect(config.rank < EEP_RANK_ANY && config.num_ranks < 0, "%s", r->environment);
    }
}

Test(launch, texts_are_copied_whole_or_refused)
{
    char address[400];
    eep_launch_info it;

    set("EEP_STORE=etcd://10.0.0.1:2379?local=/run/eep/s EEP_NETWORK_INTERFACE=eth1 "
        "LWS_LEADER_ADDRESS=engine-0.engine MASTER_ADDR=10.0.0.7");
    cr_assert_eq(eep_launch_read(EEP_SIZED(&it)), EEP_OK);
    cr_expect_str_eq(it.store, "etcd://10.0.0.1:2379?local=/run/eep/s");
    cr_expect_str_eq(it.address, "eth1");
    cr_expect_str_eq(it.leader, "10.0.0.7");
    cr_expect_str_eq(it.source, "store from EEP_STORE");
    memset(address, 'a', sizeof address - 1);
    address[sizeof address - 1] = '\0';
    setenv("MASTER_ADDR", address, 1);
    cr_assert_eq(eep_launch_read(EEP_SIZED(&it)), EEP_ERR_INVALID);
    cr_expect(strstr(eep_error_text(), "MASTER_ADDR has 399 bytes, and at most 255"), "%s",
              eep_error_text());
    cr_expect_str_eq(it.leader, "");
    cr_expect_eq(eep_launch_read(NULL), EEP_ERR_INVALID);
}
