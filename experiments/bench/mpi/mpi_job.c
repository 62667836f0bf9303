/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory of the job's processes: each makes a memfd, and the others open it by /proc. */
#include "experiments/bench/mpi/mpi_job.h"

#include "graphs/device/device_share.h"

#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>

/* Where another process finds a descriptor of this one. */
typedef struct place {
    int pid, fd;
} place;

/* This rank's memory and all others', as this process reaches them. It stays to the end. */
static void open_shares(void *user, size_t bytes, void **addresses_out)
{
    const mpi_job *job = user;
    eepi_share share = {.fd = -1};
    place own, all[BENCH_MAX_RANKS];
    char why[256] = "";

    if (eepi_host_share_make(NULL, bytes, &share, why, sizeof why) != EEP_OK) {
        bench_fatal("a window of %zu bytes: %s", bytes, why);
    }
    addresses_out[job->rank] = share.address;
    own = (place){(int)getpid(), share.fd};
    MPI_Allgather(&own, sizeof own, MPI_BYTE, all, sizeof own, MPI_BYTE, MPI_COMM_WORLD);
    for (int i = 0; i < job->num_ranks; i++) {
        char path[64];
        int fd;
        if (i == job->rank) {
            continue;
        }
        snprintf(path, sizeof path, "/proc/%d/fd/%d", all[i].pid, all[i].fd);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            bench_fatal("rank %d's memory: %s: %s", i, path, strerror(errno));
        }
        if (eepi_host_share_map(NULL, fd, bytes, &share, why, sizeof why) != EEP_OK) {
            bench_fatal("rank %d's memory: %s", i, why);
        }
        addresses_out[i] = share.address;
        close(fd);
    }
    MPI_Barrier(MPI_COMM_WORLD); /* nobody closes what another is about to open */
}

void mpi_job_open(mpi_job *job)
{
    void *addresses[BENCH_MAX_RANKS];
    pthread_barrierattr_t attributes;

    MPI_Comm_rank(MPI_COMM_WORLD, &job->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &job->num_ranks);
    if (job->num_ranks > BENCH_MAX_RANKS) {
        bench_fatal("%d ranks: at most %d", job->num_ranks, BENCH_MAX_RANKS);
    }
    open_shares(job, sizeof *job->shared, addresses);
    job->shared = addresses[0];
    if (job->rank == 0 &&
        (pthread_barrierattr_init(&attributes) != 0 ||
         pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
         pthread_barrier_init(&job->shared->barrier, &attributes, (unsigned)job->num_ranks) != 0)) {
        bench_fatal("no barrier for %d processes", job->num_ranks);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    job->peers = (bench_peers){job->rank, &job->shared->barrier, open_shares, job};
}

void mpi_job_meet(const mpi_job *job)
{
    pthread_barrier_wait(&job->shared->barrier);
}
