/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the library: named, with a stack of a fixed size, and deaf to signals, which are the
 * program's. */
#ifndef EEPI_THREAD_H
#define EEPI_THREAD_H

#include "eep/status.h"

#include <stdbool.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>

enum {
    EEPI_STACK_BYTES = 2 << 20,       /* of threads that run libeep's code and UCX's */
    EEPI_STACK_BYTES_WORKER = 8 << 20 /* of those that run a caller's kernels */
};

/* Start `run(user)`, with all signals blocked but those that a fault of its own raises. `name`: at
 * most 15 characters. EEP_ERR_SYSTEM, and errno is set. */
EEP_MUST_CHECK eep_status eepi_thread_start(pthread_t *thread_out, const char *name,
                                            size_t stack_bytes, void *(*run)(void *user),
                                            void *user);

enum { EEPI_THREAD_ERROR_BYTES = 256 };
/* `error` that eepi_thread_start left in errno, with the call and the limits that may be the cause;
 * `text` is returned. */
const char *eepi_thread_error(int error, char *text, size_t text_bytes);

/* The same signals blocked in this thread, around calls in which another library may start threads:
 * those inherit the mask. `before_out` is for the restoring call. */
void eepi_signals_block(sigset_t *before_out);
void eepi_signals_restore(const sigset_t *before);

/* Is this thread inside a callback that the library called, or inside a kernel's host body, which a
 * stream's own thread runs? What waits for the library's threads would wait for itself there. */
bool eepi_thread_is_in_callback(void);
bool eepi_thread_is_in_kernel(void);
void eepi_kernel_begin(void);
void eepi_kernel_end(void);
/* Around each call of a callback of the program's; the first returns how many of them are nested.
 */
int eepi_callback_begin(void);
void eepi_callback_end(void);
#endif
