/* SPDX-License-Identifier: Apache-2.0 */
/* Priorities of the threads of this process, while a rank in it prepares itself. */
#include "experiments/rank/joiner_nice.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Only with CAP_SYS_NICE or a high enough limit. */
static bool may_undo(void)
{
    struct rlimit limit;
    return geteuid() == 0 || (getrlimit(RLIMIT_NICE, &limit) == 0 && limit.rlim_cur >= 20);
}

bool joiner_nice_begin(void)
{
    return may_undo() && setpriority(PRIO_PROCESS, 0, JOINER_NICE) == 0;
}

/* On Linux a nice value belongs to a thread: all that exist by now, those of other ranks that
 * prepare themselves in this process as well. */
void joiner_nice_end(int seat)
{
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task = NULL; tasks && (task = readdir(tasks));) {
        if (task->d_name[0] != '.' && setpriority(PRIO_PROCESS, (id_t)atoi(task->d_name), 0) != 0 &&
            errno != ESRCH) {
            fprintf(stderr, "rank %d: cannot go back to normal priority: %s\n", seat,
                    strerror(errno));
        }
    }
    if (tasks) {
        closedir(tasks);
    }
}
