/* SPDX-License-Identifier: Apache-2.0 */
/* `eep-run --worker ADDRESS:PORT`: what starts, signals and ends the ranks of one host for an
 * eep-run elsewhere (its front), and runs the host's agent. It serves one front at a time. When a
 * front is gone, its ranks are told to stop; what still lives after 5 s is killed. */
#ifndef EEPX_WORKER_H
#define EEPX_WORKER_H

/* Serve until a signal. Returns the exit code: 0 ended by a signal, or with the front that started
 * it; 1 cannot serve; 2 wrong usage. */
int worker_main(const char *address);
#endif
