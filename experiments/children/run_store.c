/* SPDX-License-Identifier: Apache-2.0 */
/* The store of a run: started if it is the launcher's, connected to, and ended. */
#include "experiments/children/run_store.h"

#include "membership/process/seat_file.h"
#include "membership/store/store_socket.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static const char STORE_NAME[] = "/store";
static const uint64_t STORE_TIMEOUT_US = 5000000;
enum { ERROR_BYTES = 512 };

/* Before the store, which would embed one otherwise. */
static bool start_agent(run_store *self)
{
    char path[PATH_MAX], error[ERROR_BYTES] = "";
    const eepi_agent_config config = {.path = path};
    eep_status status = eepi_store_local_path(self->path, path, error, sizeof error);
    if (status == EEP_OK) {
        status = eepi_agent_open(&config, error, sizeof error, &self->agent);
    }
    if (status != EEP_OK && status != EEP_ERR_CONFLICT) {
        fprintf(stderr, "eep-run: the agent of this host: %s\n", error);
        return false;
    }
    return true;
}

/* In a folder of its own, as a process or as a thread. */
static bool start(run_store *self, bool as_process)
{
    char error[RUN_STORE_PATH_BYTES] = "", why[PRIVATE_DIR_ERROR_BYTES];
    size_t longest = PRIVATE_DIR_BYTES - sizeof STORE_NAME;
    if (private_dir_make("eep-run", longest, &self->dir, why) != 0) {
        fprintf(stderr, "eep-run: %s\n", why);
        return false;
    }
    snprintf(self->path, sizeof self->path, "%s%s", self->dir.path, STORE_NAME);
    if (!start_agent(self)) {
        return false;
    }
    eep_status status = as_process ? store_process_open(self->path, &self->process)
                                   : eep_store_open(self->path, error, sizeof error, &self->thread);
    if (status != EEP_OK) {
        fprintf(stderr, "eep-run: store: %s: %s\n", eep_strerror(status), error);
    }
    return status == EEP_OK;
}

bool run_store_open(const options *given, run_store *out)
{
    if (given->store_path && strlen(given->store_path) >= sizeof out->path) {
        fprintf(stderr, "eep-run: --store: '%.40s...' has more than %d bytes\n", given->store_path,
                RUN_STORE_PATH_BYTES - 1);
        return false;
    }
    if (given->store_path) {
        snprintf(out->path, sizeof out->path, "%s", given->store_path);
    } else if (!start(out, given->store_process)) {
        return false;
    }
    eep_status status = eepi_store_client_open(out->path, STORE_TIMEOUT_US, &out->client);
    if (status != EEP_OK) {
        fprintf(stderr, "eep-run: no store answers at '%s': %s\n", out->path, eep_strerror(status));
        return false;
    }
    return !given->store_path || given->hosts || start_agent(out); /* else each host has its own */
}

bool run_store_begin(const options *given, run_store *self)
{
    char error[ERROR_BYTES] = "";
    if (given->num_repeats && given->store_path &&
        eep_store_forget(given->store_path, error, sizeof error) != EEP_OK) {
        fprintf(stderr, "eep-run: --repeat: the last run cannot be removed from the store: %s\n",
                error);
        return false;
    }
    (void)eepi_store_watch(self->client, "view");
    return true;
}

void run_store_close(run_store *self, int max_ranks)
{
    if (self->client) {
        eepi_store_client_close(self->client);
    }
    if (self->thread) {
        eep_store_close(self->thread);
    }
    store_process_close(self->process);
    eepi_agent_close(self->agent);
    if (*self->dir.path) {
        eepi_seats_remove(self->path, (int32_t)max_ranks);
        private_dir_remove(&self->dir);
    }
}
