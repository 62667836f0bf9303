/* SPDX-License-Identifier: Apache-2.0 */
/* The signals that end a program in order. */
#ifndef EEPX_END_SIGNALS_H
#define EEPX_END_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

/* Block SIGINT, SIGTERM, SIGQUIT and SIGHUP, and put them into `set_out` for sigwaitinfo() or
 * signalfd(). Without SIGHUP if it is ignored: nohup starts programs so. Threads that are started
 * later inherit it. `before_out`: the mask until now, may be NULL. -1 with errno. */
int end_signals_block(sigset_t *set_out, sigset_t *before_out);

/* A program that prints while they are blocked waits for as long as nobody reads. True: from now on
 * such a signal replaces standard output, and standard error, by /dev/null if it takes nothing at
 * that moment. The signal itself stays pending, for the reader of signals. False: they are blocked
 * again. Between the two only print and flush; one thread. */
void end_signals_cut_output(bool may);
/* The same at once, for a program that was told to end before it prints. */
void end_signals_cut_stuck(void);
#endif
