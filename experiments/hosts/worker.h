/* SPDX-License-Identifier: Apache-2.0 */
/* `eep-run --worker ADDRESS:PORT`: what starts, signals and ends the ranks of one host for an
 * eep-run elsewhere (its front), and runs the host's agent. It serves one front at a time. When a
 * front is gone, its ranks are told to stop; what still lives after 5 s is killed. */
#ifndef EEPX_WORKER_H
#define EEPX_WORKER_H

#include <sys/types.h>

/* Serve until a signal. Returns the exit code: 0 ended by a signal, or with the front that started
 * it; 1 cannot serve; 2 wrong usage. */
int worker_main(const char *address);
/* The same as process `number` of a launcher's job, which has so many ranks: at a free port of
 * EEP_NETWORK_INTERFACE, which the front learns from the store (launched_notice.h). It ends with
 * its front, or, with 1, if none has come within 90 s, or its front gives up, or `parent` (0: none)
 * has ended. */
int worker_launched(const char *store, int number, int num_ranks, pid_t parent);
#endif
