/* SPDX-License-Identifier: Apache-2.0 */
/* Events, for the caller's function. Any thread. */
#ifndef EEPI_EVENT_H
#define EEPI_EVENT_H

#include "eep/eep.h"

/* Epoch 0: of the newest document that is known. */
void eepi_event(const eep_context *context, eep_event_kind kind, int32_t seat, uint32_t generation,
                uint64_t epoch, uint64_t value);
#endif
