/* How the threads of a context wake each other. Any thread, with the context's lock or without. */
#ifndef EEPI_WAKE_H
#define EEPI_WAKE_H

#include "eep/eep.h"

/* Wake the service thread. */
void eepi_service_wake(eep_context *context);
/* Wake the rank thread wherever it waits for the service thread. */
void eepi_rank_wake(eep_context *context);
#endif
