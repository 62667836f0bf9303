/* SPDX-License-Identifier: Apache-2.0 */
/* UCX's manners in a process that is not ours: see ucx_process.c. */
#ifndef EEPI_UCX_PROCESS_H
#define EEPI_UCX_PROCESS_H

/* Give the signals that UCX took when it was loaded back to what they were, unless UCX's own
 * variables ask for its handlers. It happens by itself when libeep is loaded, and so does the
 * redirection of UCX's log; whoever uses UCX calls this so that the linker keeps that code when the
 * library is an archive. Idempotent. Any thread. */
void eepi_ucx_quiet(void);
#endif
