/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a run: the second process, or thread, that takes the name eep-rank-1 stands still
 * for a minute before it does anything else, as one does that loads much
 * (tests/run/thread_ranks.sh).
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum { LONG_S = 60 };

int prctl(int option, ...)
{
    static int num_named;
    int (*real)(int, unsigned long, unsigned long, unsigned long, unsigned long) = NULL;
    unsigned long argument[4];
    va_list list;

    va_start(list, option);
    for (int i = 0; i < 4; i++) {
        argument[i] = va_arg(list, unsigned long);
    }
    va_end(list);
    if (option == PR_SET_NAME && strcmp((const char *)argument[0], "eep-rank-1") == 0 &&
        __atomic_fetch_add(&num_named, 1, __ATOMIC_SEQ_CST) == 1) {
        struct timespec pause = {LONG_S, 0};
        nanosleep(&pause, NULL);
    }
    *(void **)&real = dlsym(RTLD_NEXT, "prctl");
    return real(option, argument[0], argument[1], argument[2], argument[3]);
}
