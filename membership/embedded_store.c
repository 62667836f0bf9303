/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded store as programs open it: with the host's agent, unless another one serves. */
#include "eep/store.h"

#include "graphs/base/public_call.h"
#include "membership/agent/agent.h"
#include "membership/store/store_server.h"

#include <stdio.h>

static eep_status open_both(const char *path, char *text, struct eep_store **store_out)
{
    eepi_agent_config agent = {0};
    struct eep_store *store = NULL;
    eep_status status = eepi_store_serve(path, text, &store);

    if (status != EEP_OK) {
        return status;
    }
    agent.path = store->path;
    status = eepi_agent_open(&agent, text, EEPI_ERROR_TEXT_BYTES, &store->agent);
    if (status != EEP_OK && status != EEP_ERR_CONFLICT) {
        eepi_store_serve_no_more(store);
        return status;
    }
    *store_out = store;
    return EEP_OK;
}

eep_status eep_store_open(const char *path, char *error_out, size_t error_bytes,
                          eep_store **store_out)
{
    eep_status status = eepi_check_given("eep_store_open", "path", path);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_store_open", "store_out", store_out);
    }
    if (status == EEP_OK) {
        char text[EEPI_ERROR_TEXT_BYTES] = "";
        status = open_both(path, text, store_out);
        if (status != EEP_OK) {
            (void)!eepi_refuse(status, "%s", text);
        }
    }
    if (status != EEP_OK && error_out && error_bytes > 0) {
        snprintf(error_out, error_bytes, "%s", eep_error_text());
    }
    return status;
}

void eep_store_close(eep_store *store)
{
    if (store) {
        eepi_agent_close(store->agent);
        eepi_store_serve_no_more(store);
    }
}
