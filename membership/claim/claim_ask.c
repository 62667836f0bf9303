/* SPDX-License-Identifier: Apache-2.0 */
/* One request to the store and its answer, in eep_open. */
#include "membership/claim/claim_ask.h"

#include "membership/context/context.h"
#include "membership/context/records.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

eep_status eepi_store_is_silent(eep_context *context, eep_status status)
{
    if (context->store && *eepi_store_client_why(context->store)) {
        return eepi_fail(context, status, "the store at %s takes no connection: %s",
                         context->store_path, eepi_store_client_why(context->store));
    }
    return eepi_fail(context, status, "the store at %s does not answer: %s", context->store_path,
                     eep_strerror(status));
}

eep_status eepi_ask_store(eep_context *context, uint64_t id, void **value_out, size_t *size_out,
                          uint64_t *revision_out)
{
    eepi_store_reply reply;
    eep_status status = eepi_store_client_wait(context->store, id, EEPI_STORE_BOUND_US, &reply);

    *value_out = NULL; /* callers free it whatever comes */
    *size_out = 0;
    if (status != EEP_OK) {
        return status;
    }
    *revision_out = reply.revision;
    *size_out = reply.size;
    if (reply.status == EEP_OK && reply.size > 0) {
        *value_out = malloc(reply.size);
        if (!*value_out) {
            return EEP_ERR_NO_MEMORY;
        }
        memcpy(*value_out, reply.value, reply.size);
    }
    return reply.status == EEP_ERR_NOT_FOUND ? EEP_OK : reply.status;
}

eep_status eepi_ask_end(eep_context *context, int seat, uint32_t *generation_out)
{
    _Alignas(8) uint8_t bytes[sizeof(eepi_end)] = {0};
    char key[EEPI_STORE_KEY_MAX];
    eepi_end end = {0};
    uint64_t revision;
    void *value = NULL;
    size_t size = 0;
    eep_status status;

    snprintf(key, sizeof key, EEPI_KEY_EXIT "%d", seat);
    status = eepi_ask_store(context, eepi_store_get(context->store, key), &value, &size, &revision);
    if (value && size == sizeof bytes) {
        memcpy(bytes, value, size);
    }
    free(value);
    *generation_out = 0;
    if (status != EEP_OK) {
        return eepi_store_is_silent(context, status);
    }
    if (size == sizeof bytes &&
        eepi_end_decode(bytes, size, context->config.max_ranks, &end) == EEP_OK) {
        *generation_out = end.generation;
    }
    return EEP_OK;
}
