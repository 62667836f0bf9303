/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of the kernels, read at the end of a step that was asked for them (rule T4: nothing
 * waits for the device), and loads that the engine supplies. */
#include "membership/loads/loads.h"

#include "graphs/base/public_call.h"
#include "membership/context/context.h"

#include <stdlib.h>
#include <string.h>

eep_status eepi_loads_open(eep_context *context)
{
    struct eepi_loads *loads = calloc(1, sizeof *loads);

    context->observed.loads = loads;
    if (!loads) {
        return EEP_ERR_NO_MEMORY;
    }
    loads->num = (size_t)context->config.num_layers * (size_t)context->config.num_experts;
    loads->set = calloc(loads->num, sizeof *loads->set);
    loads->counts = calloc(loads->num, sizeof *loads->counts);
    return loads->set && loads->counts ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_loads_close(eep_context *context)
{
    if (context->observed.loads) {
        free(context->observed.loads->set);
        free(context->observed.loads->counts);
    }
    free(context->observed.loads);
}

bool eepi_loads_begin_step(eep_context *context)
{
    context->observed.loads->asked = context->observed.loads->wanted;
    return context->observed.loads->asked;
}

void eepi_loads_end_step(eep_context *context)
{
    struct eepi_loads *loads = context->observed.loads;

    if (!loads->asked) {
        return;
    }
    memcpy(loads->counts, eepi_tables_loads(context->tables), loads->num * sizeof *loads->counts);
    loads->asked = loads->wanted = false;
}

void eepi_loads_read(eep_context *context, uint64_t *counts_out)
{
    struct eepi_loads *loads = context->observed.loads;

    pthread_mutex_lock(&context->lock);
    memcpy(counts_out, loads->counts, loads->num * sizeof *counts_out);
    loads->wanted = true;
    pthread_mutex_unlock(&context->lock);
}

eepi_loads_set_state eepi_loads_read_set(eep_context *context, uint32_t *loads_out)
{
    struct eepi_loads *loads = context->observed.loads;
    eepi_loads_set_state state = EEPI_LOADS_MEASURED;

    pthread_mutex_lock(&context->lock);
    if (loads->is_set) {
        state = loads->is_anew ? EEPI_LOADS_SET_ANEW : EEPI_LOADS_SET_AS_BEFORE;
    }
    if (state == EEPI_LOADS_SET_ANEW) {
        memcpy(loads_out, loads->set, loads->num * sizeof *loads_out);
        loads->is_anew = false;
    }
    pthread_mutex_unlock(&context->lock);
    return state;
}

eep_status eep_loads_get(eep_context *context, uint64_t *loads_out)
{
    eep_status status = eepi_check_context("eep_loads_get", context);

    if (status != EEP_OK) {
        return status;
    }
    if (!loads_out) {
        return eepi_refuse(EEP_ERR_INVALID, "eep_loads_get: loads_out is NULL");
    }
    eepi_loads_read(context, loads_out);
    return EEP_OK;
}

eep_status eep_waits_get(eep_context *context, uint64_t *waited_ns_out)
{
    eep_status status = eepi_check_context("eep_waits_get", context);
    const uint64_t *waited;

    if (status != EEP_OK) {
        return status;
    }
    if (!waited_ns_out) {
        return eepi_refuse(EEP_ERR_INVALID, "eep_waits_get: waited_ns_out is NULL");
    }
    waited = eepi_tables_waited(context->tables);
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        waited_ns_out[seat] = __atomic_load_n(&waited[seat], __ATOMIC_RELAXED);
    }
    return EEP_OK;
}

eep_status eep_loads_set(eep_context *context, const uint32_t *loads)
{
    eep_status status = eepi_check_context("eep_loads_set", context);

    if (status != EEP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->lock);
    context->observed.loads->is_set = context->observed.loads->is_anew = loads != NULL;
    if (loads) {
        memcpy(context->observed.loads->set, loads, context->observed.loads->num * sizeof *loads);
    }
    pthread_mutex_unlock(&context->lock);
    eepi_service_wake(context);
    return EEP_OK;
}
