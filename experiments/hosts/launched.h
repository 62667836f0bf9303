/* SPDX-License-Identifier: Apache-2.0 */
/* `eep-run --launched`: the processes of a launcher's job, one on each host. Each is the worker of
 * its host. Process 0 has that worker as a child, and is the front. One thread. */
#ifndef EEPX_LAUNCHED_H
#define EEPX_LAUNCHED_H

#include "experiments/setup/options.h"

#include <sys/types.h>

typedef struct launched {
    pid_t worker; /* the front's child; 0: none */
    int pidfd;
} launched;

/* Be what this process is in the job, behind options_check. -1: the front; where its hosts are
 * stands in given->hosts, and launched_end follows. Else it was a worker, or told why it cannot be
 * the front: the exit code. */
int launched_begin(options *given, launched *self_out);
/* The front ends: no worker waits for it any more. Its own one has ended. */
void launched_end(launched *self, const options *given);
#endif
