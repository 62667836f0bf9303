/* SPDX-License-Identifier: Apache-2.0 */
/* eep-bench-mpi: a layer's dispatch and combine beside the same over MPI_Alltoallv. It starts
 * mpirun once for each number of ranks, whose processes are this program again. */
#include "experiments/base/child.h"
#include "experiments/base/commit.h"
#include "experiments/base/output.h"
#include "experiments/bench/mpi/mpi_bench.h"
#include "experiments/bench/world.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77, LARGEST = 1 << 20, MOST_WORDS = 64, STEPS_OF_ALL_RANKS = 16 };
static const char result_variable[] = "EEP_BENCH_MPI_RESULT";

#define AT(field) ARGS_AT(mpi_bench_options, field)
static const args_row rows[] = {
    {"--ranks", ARGS_WHOLE, AT(ranks), 2, BENCH_MAX_RANKS, NULL, "N", NULL,
     "processes; default: 2, then 8"},
    {"--blocks", ARGS_WHOLE, AT(blocks), 1, LARGEST, NULL, "N", "20",
     "blocks, each of which has every side"},
    {"--steps", ARGS_WHOLE, AT(steps), 1, LARGEST, NULL, "N", NULL,
     "steps of a side in a block; default: 16 over the ranks"},
    {"--layers", ARGS_WHOLE, AT(layers), 1, 64, NULL, "N", "4", "layers of a step"},
    {"--tokens", ARGS_WHOLE, AT(tokens), 1, LARGEST, NULL, "N", "128", "tokens per rank"},
    {"--hidden", ARGS_WHOLE, AT(hidden), 1, LARGEST, NULL, "N", "7168", "elements per row"},
    {"--experts", ARGS_WHOLE, AT(experts), 1, LARGEST, NULL, "N", "256", "experts per layer"},
    {"--topk", ARGS_WHOLE, AT(topk), 1, 32, NULL, "N", "8", "experts per token"},
    {"--mpi-huge", ARGS_FLAG, AT(mpi_huge), 0, 0, NULL, NULL, NULL,
     "give MPI's rows huge pages; libeep's windows have none"},
    {"--network", ARGS_FLAG, AT(network), 0, 0, NULL, NULL, NULL,
     "both sides over TCP on the loopback interface, in the place of shared memory"},
    {"--ucx", ARGS_FLAG, AT(ucx), 0, 0, NULL, NULL, NULL,
     "with --network: libeep's rows over UCX (EEP_NETWORK=ucx)"},
    {"--csv", ARGS_TEXT, AT(csv), 0, 0, NULL, "FILE", NULL, "keep rows, with how they were made"},
    {"--append", ARGS_FLAG, AT(append), 0, 0, NULL, NULL, NULL, "behind those that the file has"},
    {"--commit", ARGS_TEXT, AT(commit), 0, 0, NULL, "ID", NULL,
     "for the rows, where the build does not know it"},
    {"--quick", ARGS_FLAG, AT(quick), 0, 0, NULL, NULL, NULL,
     "tiny: shows that it works, measures nothing"},
};
static const args_table table = {
    .program = "eep-bench-mpi",
    .synopsis = "[OPTION]...",
    .about = "Measure dispatch and combine of ranks in processes beside the same over\n"
             "MPI_Alltoallv, in one run and in blocks that alternate. docs/BENCH.md says how.",
    .section = {ARGS_SECTION(NULL, rows)},
    .notes = "Exit status: 0 done; 1 a check failed, or it could not be measured; 2 usage;\n"
             "3 measured, but a bar is missed; 77 no Open MPI here.",
    .given = offsetof(mpi_bench_options, given),
};

/* ------------------------------------------------------------------ in a job */

/* To the program that started mpirun: a status other than 0 would make mpirun call it a failure. */
static int tell_result(int result)
{
    const char *path = getenv(result_variable);
    FILE *file = path ? fopen(path, "we") : NULL;

    if (!file) {
        return result;
    }
    fprintf(file, "%d\n", result);
    return fclose(file) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void make_tiny(mpi_bench_options *o)
{
    o->blocks = 2;
    o->steps = 1;
    o->layers = 2;
    o->tokens = 3;
    o->hidden = 256;
    o->experts = 16;
    o->topk = 4;
}

/* ------------------------------------------------------------------ jobs */

/* What rank 0 has told, or the failure of mpirun. */
static int result_of(int status, int fd)
{
    char text[16] = "";

    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_NOT_STARTED) {
        fprintf(stderr, "eep-bench-mpi: mpirun is not in PATH (Debian: openmpi-bin)\n");
        return EXIT_SKIPPED;
    }
    if (status != 0 || pread(fd, text, sizeof text - 1, 0) <= 0) {
        return EXIT_FAILURE;
    }
    return atoi(text);
}

/* One job, of `ranks` processes. Its exit status. */
static int run_job(const char *program, const mpi_bench_options *o, int ranks, bool append,
                   int argc, char **argv)
{
    char number[16], path[64];
    char *words[MOST_WORDS] = {"env",
                               "mpirun",
                               "-n",
                               number,
                               "--bind-to",
                               "none",
                               "--mca",
                               "mpi_yield_when_idle",
                               "1",
                               "--oversubscribe",
                               (char *)program};
    int n = 11, pidfd = -1, status = 0, result, fd = memfd_create("result", MFD_CLOEXEC);
    const child_setup setup = CHILD_SETUP;
    pid_t pid;

    snprintf(number, sizeof number, "%d", ranks);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), fd);
    if (o->network) { /* MPI's choice for such processes is shared memory */
        (void)setenv("OMPI_MCA_pml", "ob1", 1);
        (void)setenv("OMPI_MCA_btl", "tcp,self", 1);
        (void)setenv("OMPI_MCA_btl_tcp_if_include", "lo", 1);
        (void)setenv("EEP_NETWORK", o->ucx ? "ucx" : "tcp", 1);
        (void)setenv("EEP_NETWORK_INTERFACE", "lo", 1);
    }
    if (fd < 0 || argc + n + 4 > MOST_WORDS || setenv(result_variable, path, 1) != 0) {
        fprintf(stderr, "eep-bench-mpi: no job can be started\n");
        return EXIT_FAILURE;
    }
    for (int i = 1; i < argc; i++) {
        words[n++] = argv[i];
    }
    words[n++] = "--ranks";
    words[n++] = number;
    if (append) {
        words[n++] = "--append";
    }
    words[n] = NULL;
    pid = child_exec(&setup, "/usr/bin/env", words, NULL, &pidfd);
    if (pid < 0) {
        perror("eep-bench-mpi: mpirun");
        close(fd);
        return EXIT_FAILURE;
    }
    (void)child_wait(pidfd, -1, -1);
    close(pidfd);
    (void)child_has_ended(pid, &status);
    result = result_of(status, fd);
    close(fd);
    return result;
}

/* mpirun refuses root unless it is told twice. */
static void allow_root(void)
{
    if (geteuid() == 0) {
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    }
}

static int run_jobs(const mpi_bench_options *o, int argc, char **argv)
{
    static const int both[] = {2, 8};
    char program[PATH_MAX] = "";
    int result = EXIT_SUCCESS;

    if (readlink("/proc/self/exe", program, sizeof program - 1) <= 0) {
        perror("eep-bench-mpi: /proc/self/exe");
        return EXIT_FAILURE;
    }
    allow_root();
    for (size_t i = 0; i < (o->ranks ? 1 : sizeof both / sizeof both[0]); i++) {
        const int one =
            run_job(program, o, o->ranks ? o->ranks : both[i], o->append || i > 0, argc, argv);
        if (one != EXIT_SUCCESS && one != MPI_BENCH_MISSED) {
            return one;
        }
        result = one ? one : result;
    }
    return result;
}

int main(int argc, char **argv)
{
    mpi_bench_options o = {.commit = commit_text()};
    int result = 0;

    output_begin();
    if (!args_begin(&table, &o, argc, argv, &result)) {
        return result;
    }
    if (o.ucx && !o.network) {
        fprintf(stderr, "eep-bench-mpi: --ucx is for --network\n");
        return ARGS_EXIT_USAGE;
    }
    if (mpi_bench_missing()) {
        fprintf(stderr, "eep-bench-mpi: %s\n", mpi_bench_missing());
        return EXIT_SKIPPED;
    }
    if (!getenv("OMPI_COMM_WORLD_SIZE")) {
        return run_jobs(&o, argc, argv);
    }
    if (o.quick) {
        make_tiny(&o);
    }
    if (!o.steps) {
        o.steps = o.ranks && o.ranks < STEPS_OF_ALL_RANKS ? STEPS_OF_ALL_RANKS / o.ranks : 1;
    }
    result = mpi_bench_run(&o, argc, argv);
    return tell_result(result);
}
