/* SPDX-License-Identifier: Apache-2.0 */
/* What a run needs of RLIMIT_NOFILE, counted from its ranks. */
#include "experiments/children/descriptor_limit.h"

#include <stdio.h>
#include <sys/resource.h>

/* The smallest limits with which runs of 1 to 24 ranks start. The launcher has a socket and a
 * process descriptor per rank, the connections and backups of this host's agent, and with the store
 * in it that store's connections; a rank watches each other one. Each passes one to the agent while
 * it attaches, maybe all at once. */
enum {
    LAUNCHER_OWN = 16,
    LAUNCHER_PER_RANK = 3,
    STORE_OWN = 6,
    STORE_PER_RANK = 5,
    RANK_OWN = 23,
    RANK_PER_RANK = 1,
    THREADS_OWN = 12,
    THREADS_PER_RANK = 20,
};

void descriptor_limit_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

bool descriptor_limit_fits(const options *given, char error[DESCRIPTOR_LIMIT_ERROR_BYTES])
{
    struct rlimit limit;
    unsigned long long ranks = (unsigned long long)given->num_ranks;
    unsigned long long launcher = LAUNCHER_OWN + LAUNCHER_PER_RANK * ranks;
    launcher += given->store_process ? 0 : STORE_OWN + STORE_PER_RANK * ranks;
    unsigned long long rank =
        given->threads ? THREADS_OWN + THREADS_PER_RANK * ranks : RANK_OWN + RANK_PER_RANK * ranks;
    bool ours = launcher >= rank;
    unsigned long long need = ours ? launcher : rank;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) {
        return true;
    }
    snprintf(error, DESCRIPTOR_LIMIT_ERROR_BYTES,
             "descriptors: limit %llu (hard limit %llu), and with %llu ranks %s needs at least "
             "%llu: raise the limit (ulimit -n), or lower --ranks",
             (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max, ranks,
             ours             ? "eep-run"
             : given->threads ? "their process"
                              : "each",
             need);
    return false;
}
