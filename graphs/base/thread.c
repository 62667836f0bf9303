/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the library, what the calling thread is in (a kernel, a callback), and the words for a
 * thread that could not be started. */
#include "graphs/base/thread.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct start {
    const char *name;
    void *(*run)(void *user);
    void *user;
    bool is_short; /* it works in short pieces */
} start;

enum { SLICE_NS = 100000 }; /* the shortest that there is */

static _Thread_local int num_callbacks, is_in_kernel;

bool eepi_thread_is_in_callback(void)
{
    return num_callbacks > 0 || is_in_kernel;
}

bool eepi_thread_is_in_kernel(void)
{
    return is_in_kernel;
}

void eepi_kernel_begin(void)
{
    is_in_kernel = 1;
}

void eepi_kernel_end(void)
{
    is_in_kernel = 0;
}

int eepi_callback_begin(void)
{
    return ++num_callbacks;
}

void eepi_callback_end(void)
{
    num_callbacks--;
}

/* As the kernel has it. */
typedef struct slice_attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
} slice_attributes;

/* Ask for short turns on the processor, since Linux 6.12: this thread is due soon after it was
 * woken, and gets no more of the processor. It needs no right. Threads that compute keep theirs. */
static void take_short_slices(void)
{
    slice_attributes attributes = {0};

    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0 &&
        attributes.policy == SCHED_OTHER) {
        attributes.size = sizeof attributes;
        attributes.flags = 0;
        attributes.runtime = SLICE_NS;
        (void)syscall(SYS_sched_setattr, 0, &attributes, 0);
    }
}

static void *begin(void *argument)
{
    start s = *(start *)argument;

    free(argument);
    prctl(PR_SET_NAME, s.name, 0, 0, 0);
    if (s.is_short) {
        take_short_slices();
    }
    return s.run(s.user);
}

void eepi_signals_block(sigset_t *before_out)
{
    sigset_t blocked;

    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &blocked, before_out);
}

void eepi_signals_restore(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

eep_status eepi_thread_start(pthread_t *thread_out, const char *name, size_t stack_bytes,
                             void *(*run)(void *user), void *user)
{
    start *s = malloc(sizeof *s);
    pthread_attr_t attributes;
    sigset_t before;
    int error;

    if (!s) {
        return EEP_ERR_NO_MEMORY; /* and malloc has set errno */
    }
    *s = (start){name, run, user, stack_bytes == EEPI_STACK_BYTES};
    error = pthread_attr_init(&attributes);
    if (error == 0) {
        error = pthread_attr_setstacksize(&attributes, stack_bytes);
        eepi_signals_block(&before);
        if (error == 0) {
            error = pthread_create(thread_out, &attributes, begin, s);
        }
        eepi_signals_restore(&before);
        pthread_attr_destroy(&attributes);
    }
    if (error == 0) {
        return EEP_OK;
    }
    free(s);
    errno = error;
    return EEP_ERR_SYSTEM;
}

static void say_limit(char *text, size_t text_bytes, const char *what, int resource)
{
    struct rlimit limit;
    size_t used = strlen(text);

    if (getrlimit(resource, &limit) != 0) {
        return;
    }
    if (limit.rlim_cur == RLIM_INFINITY) {
        snprintf(text + used, text_bytes - used, "%s: no limit", what);
    } else {
        snprintf(text + used, text_bytes - used, "%s: limit %llu", what,
                 (unsigned long long)limit.rlim_cur);
    }
}

const char *eepi_thread_error(int error, char *text, size_t text_bytes)
{
    snprintf(text, text_bytes, "pthread_create: %s", strerror(error));
    if (error == EAGAIN || error == ENOMEM) {
        say_limit(text, text_bytes, " (threads of this user, ulimit -u", RLIMIT_NPROC);
        say_limit(text, text_bytes, "; address space, ulimit -v", RLIMIT_AS);
        snprintf(text + strlen(text), text_bytes - strlen(text),
                 "; the system and the control group have limits too)");
    }
    return text;
}
