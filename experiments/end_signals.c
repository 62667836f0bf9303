#include "experiments/end_signals.h"

#include <stddef.h>

int end_signals_block(sigset_t *set_out, sigset_t *before_out)
{
    struct sigaction hangup;
    sigemptyset(set_out);
    sigaddset(set_out, SIGINT);
    sigaddset(set_out, SIGTERM);
    sigaddset(set_out, SIGQUIT);
    /* A blocked signal is kept for the reader though it is ignored. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
        sigaddset(set_out, SIGHUP);
    }
    return sigprocmask(SIG_BLOCK, set_out, before_out);
}
