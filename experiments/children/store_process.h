/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher's store as a process of its own, so that it can be killed, stopped and started anew
 * like a rank. One thread owns it, and lives as long: the process dies with that thread. */
#ifndef EEPX_STORE_PROCESS_H
#define EEPX_STORE_PROCESS_H

#include "eep/status.h"
#include "experiments/script/verbs.h"

#include <stdbool.h>
#include <sys/types.h>

typedef struct store_process store_process;

/* Start the eep-store that lies beside this program, on that socket (its folder must be this
 * user's, of mode 0700), and wait until it serves. Blocks at most 5 s. EEP_ERR_TIMEOUT: it was not
 * ready by then and is killed; EEP_ERR_SYSTEM: it cannot be started, or gave up; EEP_ERR_NO_MEMORY.
 * The reason is on standard error. */
EEP_MUST_CHECK eep_status store_process_open(const char *socket_path, store_process **out);
/* The same with that program: for tests, which lie elsewhere. */
EEP_MUST_CHECK eep_status store_process_open_program(const char *program, const char *socket_path,
                                                     store_process **out);
/* Kill it if it runs, reap it, remove its socket file. NULL is ignored. */
void store_process_close(store_process *self);

/* Is it there, stopped or not? Reaps it if it has ended. Does not block. */
bool store_process_runs(store_process *self);
/* Its process; 0: there is none (NULL too), or it was reaped. */
pid_t store_process_pid(const store_process *self);
/* Why nothing comes of the verb, one of the store's, on it now; NULL: something does. */
const char *store_process_refuses(store_process *self, verb what);
/* SIGKILL: what it held is lost, its socket file stays and takes no connection. EEP_ERR_NOT_FOUND
 * here and from the next two: there is no process. They do not block. */
EEP_MUST_CHECK eep_status store_process_kill(store_process *self);
/* SIGSTOP: its socket takes connections and requests, and answers none. */
EEP_MUST_CHECK eep_status store_process_stop(store_process *self);
/* SIGCONT; nothing happens to one that is not stopped. */
EEP_MUST_CHECK eep_status store_process_cont(store_process *self);
/* Start it again, empty, on the same socket, whose stale file it replaces. Waits for the end of one
 * that was killed just now, then as store_process_open does, at most 5 s in all. EEP_ERR_STATE: it
 * runs and was not killed. */
EEP_MUST_CHECK eep_status store_process_start(store_process *self);
#endif
