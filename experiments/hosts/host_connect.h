/* SPDX-License-Identifier: Apache-2.0 */
/* How eep-run gets to the worker of a host: it connects, and starts one where nobody answers. One
 * thread, a link's. */
#ifndef EEPX_HOST_CONNECT_H
#define EEPX_HOST_CONNECT_H

#include "experiments/hosts/host_clock.h"
#include "experiments/hosts/worker_stream.h"
#include "experiments/setup/hosts_file.h"

#include <stdbool.h>
#include <sys/types.h>

typedef struct host_connect_config {
    const hosts_entry *host;
    eepi_secure_key key;
    uint64_t front; /* this eep-run, a random number */
    const void *begin;
    size_t begin_bytes; /* the body of BEGIN */
} host_connect_config;

typedef struct host_connect {
    host_connect_config config;
    pid_t starter; /* the host's start command, while it runs; 0: none */
    bool started;  /* it was used: the worker ends with us */
    bool is_fatal; /* after a failure: trying again changes nothing */
    bool resumes;  /* what the journal has belongs to ranks that may live: no worker is started */
    host_journal journal;
} host_connect;

/* Try once. EEP_OK: the worker is ready, and `clock` knows its clock. Else the reason is in `why`
 * (HOST_NOTE_BYTES). Takes up to some seconds. With `resumes` EEP_OK says that the last connection
 * goes on, and EEP_ERR_STATE that there is nothing to go on with. */
EEP_MUST_CHECK eep_status host_connect_try(host_connect *self, worker_stream *stream_out,
                                           host_clock *clock_out, char *why);
/* The start command ends by itself once the worker does: within a bound, else it is killed. */
void host_connect_close(host_connect *self);
#endif
