/* SPDX-License-Identifier: Apache-2.0 */
/* The store of a run, and the launcher's connection to it: a thread of the launcher, a process of
 * its own (--store-process), or one that runs already (--store). And this host's agent, which the
 * launcher embeds unless another one serves (membership/agent/agent.h): it outlives the store. */
#ifndef EEPX_RUN_STORE_H
#define EEPX_RUN_STORE_H

#include "eep/store.h"
#include "experiments/base/private_dir.h"
#include "experiments/children/store_process.h"
#include "experiments/setup/options.h"
#include "membership/agent/agent.h"
#include "membership/store/store_client.h"

#include <stdbool.h>

enum { RUN_STORE_PATH_BYTES = 256 };

typedef struct run_store {
    char path[RUN_STORE_PATH_BYTES]; /* of its socket */
    private_dir dir;                 /* of a store that the launcher runs */
    eep_store *thread;               /* at most one of the two */
    store_process *process;
    eepi_store_client *client; /* after run_store_begin it watches the view */
    eepi_agent *agent;         /* NULL: another one serves */
} run_store;

/* Start it, if it is the launcher's, and connect. False: standard error says why. run_store_close
 * in any case. */
bool run_store_open(const options *given, run_store *out);
/* Before the first rank, when no other run uses the store: with --repeat an instance that the store
 * has is removed, so that each run begins its own. Then the client watches the view. False as
 * above. */
bool run_store_begin(const options *given, run_store *self);
/* After the ranks, which must not see it end. */
void run_store_close(run_store *self, int max_ranks);
#endif
