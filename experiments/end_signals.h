/* The signals that end a program in order. */
#ifndef EEPX_END_SIGNALS_H
#define EEPX_END_SIGNALS_H

#include <signal.h>

/* Block SIGINT, SIGTERM, SIGQUIT and SIGHUP, and put them into `set_out` for sigwaitinfo() or
 * signalfd(). Without SIGHUP if it is ignored: nohup starts programs so. Threads that are started
 * later inherit it. `before_out`: the mask until now, may be NULL. -1 with errno. */
int end_signals_block(sigset_t *set_out, sigset_t *before_out);
#endif
