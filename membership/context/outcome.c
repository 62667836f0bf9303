/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's service ends, or fails closed: noted, said in the log, and the rank thread woken. */
#include "membership/context/outcome.h"

#include "eep/control.h"
#include "membership/context/context.h"
#include "membership/context/log.h"

#include <stdio.h>

void eepi_abort_running(eep_context *context)
{
    __atomic_store_n(eepi_tables_abort_step(context->tables), context->stepper.step,
                     __ATOMIC_RELEASE);
}

void eepi_end_service(eep_context *context, eep_status status, const char *why)
{
    char epoch[32] = "";

    if (context->known_epoch != 0) {
        snprintf(epoch, sizeof epoch, " (epoch %llu)", (unsigned long long)context->known_epoch);
    }
    pthread_mutex_lock(&context->lock);
    if (context->outcome.ended == EEP_OK) {
        context->outcome.ended = status;
        snprintf(context->outcome.why, sizeof context->outcome.why, "%s%s", why, epoch);
    }
    if (context->stepper.in_step) {
        eepi_abort_running(context);
    }
    pthread_mutex_unlock(&context->lock);
    eepi_log(context, status == EEP_ERR_DRAINED ? EEP_LOG_INFO : EEP_LOG_WARN, "%s%s", why, epoch);
    eepi_rank_wake(context);
    eepi_ready(context, EEP_READY_OVER);
}

void eepi_fail_closed(eep_context *context, const char *why)
{
    pthread_mutex_lock(&context->lock);
    context->outcome.uncovered = true;
    context->outcome.num_closed++;
    snprintf(context->outcome.why, sizeof context->outcome.why, "%s", why);
    pthread_mutex_unlock(&context->lock);
    eepi_log(context, EEP_LOG_ERROR, "no rank can serve after epoch %llu: %s",
             (unsigned long long)context->known_epoch, why);
    eepi_rank_wake(context);
    eepi_ready(context, EEP_READY_OVER);
}
