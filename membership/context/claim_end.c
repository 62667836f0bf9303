/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a seat's present or former holder is told to all, and the seat is given back. Calling
 * thread of eep_open and eep_close. The service thread gives a seat back, too. */
#include "membership/context/claim_end.h"

#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/context/records.h"
#include "membership/process/seat_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

eep_status eepi_claim_end(eep_context *context, const eepi_end *end, uint64_t bound_us)
{
    char key[EEPI_STORE_KEY_MAX];
    eepi_store_reply reply;
    eep_status status;

    snprintf(key, sizeof key, EEPI_KEY_EXIT "%d", end->seat);
    status = eepi_store_client_wait(
        context->store, eepi_store_put(context->store, key, end, sizeof *end, 0), bound_us, &reply);
    return status == EEP_OK ? reply.status : status;
}

void eepi_claim_give_back(eep_context *context)
{
    const eepi_seat_holder own = {.generation = context->generation,
                                  .pid = (int32_t)getpid(),
                                  .pid_start = context->process.start,
                                  .home = context->process.home,
                                  .lock_fd = context->claim.has_seat ? context->claim.lock_fd : -1};

    if (context->claim.has_seat &&
        eepi_seat_release(context->store_path, context->config.rank, &own) != EEP_OK) {
        eepi_log(context, EEP_LOG_WARN, "%s.seat%d stays taken until this process ends: %s",
                 context->store_path, context->config.rank, strerror(errno));
    }
    context->claim.has_seat = false;
}

void eepi_claim_release(eep_context *context, uint64_t bound_us)
{
    const eepi_end end = {context->config.rank, context->generation, EEPI_END_STORES};

    eepi_claim_give_back(context);
    if (context->claim.is_recorded) {
        (void)!eepi_claim_end(context, &end, bound_us);
    }
}
