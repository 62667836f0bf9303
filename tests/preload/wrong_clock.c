/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into all processes of a run: the wall clock of every other one is a day ahead, of the
 * rest a day behind (tests/run/circumstances.sh). */
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>

enum { DAY_S = 86400 };

int clock_gettime(clockid_t clock, struct timespec *time_out)
{
    int (*real)(clockid_t, struct timespec *) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, time_out);
    if (!failed && clock == CLOCK_REALTIME) {
        time_out->tv_sec += getpid() % 2 ? DAY_S : -DAY_S;
    }
    return failed;
}
