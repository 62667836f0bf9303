/* SPDX-License-Identifier: Apache-2.0 */
/* The processes of eep-run that have ranks: one each (`eep-run --rank-process`), or one process
 * with all ranks as threads (`eep-run --rank-host`). */
#ifndef EEPX_RANK_MAIN_H
#define EEPX_RANK_MAIN_H

#include <stdint.h>

/* Names of their environment variables besides EEP_RANK, EEP_SIZE and EEP_STORE. */
#define RANK_ENV_CONTROL_FD "EEP_CONTROL_FD"  /* the socket to the launcher */
#define RANK_ENV_OPTIONS    "EEP_RUN_OPTIONS" /* rank_setup_to_text */
#define RANK_ENV_JOINER     "EEP_RUN_JOINER"  /* "1": the job serves already */

/* Serve as one rank, EEP_RANK, until told to stop; returns the exit code (rank.h). EEP_CONTROL_FD
 * is wire.h's socket. The process has no other work. */
int rank_main(void);

/* Orders to a host of ranks, a packet each, at EEP_CONTROL_FD. */
typedef enum host_order_kind {
    HOST_START,  /* with two descriptors: the rank's control socket, the pipe for its end */
    HOST_SIGNAL, /* `value`: SIGKILL, SIGSTOP or SIGCONT, as for a process */
} host_order_kind;
typedef struct host_order {
    uint32_t kind;
    int32_t seat;
    int32_t value; /* START: 1: the job serves already */
} host_order;

/* Start and signal ranks as told, until the launcher hangs up. When a rank ends, its control socket
 * is closed, then an int is written to its pipe: what waitpid would say of a process. */
int rank_host_main(void);
#endif
