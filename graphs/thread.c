#include "graphs/thread.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>

typedef struct start {
    const char *name;
    void *(*run)(void *user);
    void *user;
} start;

static void *begin(void *argument)
{
    start s = *(start *)argument;

    free(argument);
    prctl(PR_SET_NAME, s.name, 0, 0, 0);
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
    start *s = malloc(sizeof(*s));
    pthread_attr_t attributes;
    sigset_t before;
    int error;

    if (!s)
        return EEP_ERR_NO_MEMORY;
    *s = (start){name, run, user};
    error = pthread_attr_init(&attributes);
    if (error == 0) {
        error = pthread_attr_setstacksize(&attributes, stack_bytes);
        eepi_signals_block(&before);
        if (error == 0)
            error = pthread_create(thread_out, &attributes, begin, s);
        eepi_signals_restore(&before);
        pthread_attr_destroy(&attributes);
    }
    if (error == 0)
        return EEP_OK;
    free(s);
    errno = error;
    return EEP_ERR_SYSTEM;
}
