/* Waking the service thread by its descriptor, the rank thread by condition and doorbell. */
#include "membership/context/wake.h"

#include "membership/context/context.h"

#include <unistd.h>

void eepi_service_wake(eep_context *context)
{
    const uint64_t one = 1;
    const ssize_t written = write(context->wake_fd, &one, sizeof one);

    (void)written; /* a full counter wakes as well */
}

void eepi_rank_wake(eep_context *context)
{
    eepk_window_header *header = eepi_window_header(context->window);

    pthread_cond_broadcast(&context->changed);
    eepk_doorbell_ring(&header->doorbell);
}
