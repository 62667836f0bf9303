/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/claim/lease.h"

#include "membership/claim/claim_ask.h"
#include "membership/context/config.h"
#include "membership/context/context.h"
#include "membership/context/event.h"
#include "membership/context/log.h"
#include "membership/context/records.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t eepi_lease_lapse_us(void)
{
    return 2 * eepi_config_lease_us();
}

bool eepi_lease_of(const char *key, int32_t max_ranks, int32_t *seat_out, uint32_t *generation_out)
{
    const size_t prefix = strlen(EEPI_KEY_LEASE);
    char *end;
    unsigned long seat, generation;

    if (strncmp(key, EEPI_KEY_LEASE, prefix) != 0) {
        return false;
    }
    seat = strtoul(key + prefix, &end, 10);
    if (end == key + prefix || *end != '/' || seat >= (unsigned long)max_ranks) {
        return false;
    }
    generation = strtoul(end + 1, &end, 10);
    *seat_out = (int32_t)seat;
    *generation_out = (uint32_t)generation;
    return *end == '\0' && generation > 0 && generation <= UINT32_MAX;
}

static void own_key(const eep_context *context, char key_out[EEPI_STORE_KEY_MAX])
{
    snprintf(key_out, EEPI_STORE_KEY_MAX, EEPI_KEY_LEASE "%d/%u", context->config.rank,
             context->generation);
}

static uint64_t put(eep_context *context)
{
    const eepi_lease_value value = {context->process.host, context->process.home};
    char key[EEPI_STORE_KEY_MAX];

    own_key(context, key);
    return eepi_store_put(context->store, key, &value, sizeof value, 1);
}

static eep_status answer_to(eep_context *context, uint64_t id)
{
    eepi_store_reply reply;
    const eep_status status =
        eepi_store_client_wait(context->store, id, EEPI_STORE_BOUND_US, &reply);

    return status == EEP_OK ? reply.status : status;
}

eep_status eepi_lease_take(eep_context *context)
{
    eep_status status;

    if (!eepi_store_keeps(context->store)) {
        return EEP_OK; /* one host, whose kernel tells of every end */
    }
    status = answer_to(context, eepi_store_lease(context->store, eepi_config_lease_us()));
    if (status == EEP_OK) {
        status = answer_to(context, put(context));
    }
    context->claim.has_lease = status == EEP_OK;
    return status == EEP_OK ? EEP_OK : eepi_store_is_silent(context, status);
}

void eepi_lease_drop(eep_context *context)
{
    char key[EEPI_STORE_KEY_MAX];

    if (context->claim.has_lease) {
        own_key(context, key);
        (void)!answer_to(context, eepi_store_remove(context->store, key));
    }
    context->claim.has_lease = false;
}

/* Two that took the seat at once have put one key, and whoever lost has dropped it. */
eep_status eepi_lease_watch(eep_context *context)
{
    char key[EEPI_STORE_KEY_MAX];

    if (!context->claim.has_lease) {
        return EEP_OK;
    }
    own_key(context, key);
    if (eepi_store_watch(context->store, key) == 0) {
        return EEP_ERR_NO_MEMORY;
    }
    eepi_lease_put(context);
    return EEP_OK;
}

void eepi_lease_put(eep_context *context)
{
    if (context->claim.has_lease) {
        (void)put(context);
    }
}

void eepi_lease_hear(eep_context *context, const eepi_store_reply *reply)
{
    int32_t seat;
    uint32_t generation;

    if (reply->size == 0 &&
        eepi_lease_of(reply->key, context->config.max_ranks, &seat, &generation) &&
        seat == context->config.rank && generation == context->generation) {
        eepi_lease_put(context); /* this process stood still for longer than the lease lasts */
    }
}

void eepi_lease_look(eep_context *context)
{
    const bool lasts =
        !context->claim.has_lease || eepi_now_us() < eepi_store_lease_until_us(context->store);

    if (lasts && context->claim.has_lapsed) {
        eepi_log(context, EEP_LOG_INFO, "this rank's lease lasts again");
    } else if (!lasts && !context->claim.has_lapsed) {
        eepi_log(context, EEP_LOG_WARN,
                 "the store has not renewed this rank's lease: serving goes on, and the instance "
                 "may begin again elsewhere once the leases of all its ranks have lapsed for %llu "
                 "ms and the store answers there",
                 (unsigned long long)(eepi_lease_lapse_us() / 1000));
    }
    context->claim.has_lapsed = !lasts;
}
