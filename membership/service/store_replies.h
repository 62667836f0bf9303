/* SPDX-License-Identifier: Apache-2.0 */
/* What comes from the store becomes inputs of the core. Service thread. */
#ifndef EEPI_STORE_REPLIES_H
#define EEPI_STORE_REPLIES_H

#include "eep/eep.h"
#include "membership/store/store_client.h"

void eepi_store_reply_handle(eep_context *context, const eepi_store_reply *reply);
/* For eep_join: what this rank waits for, and whether a view can be formed at all. */
void eepi_look_at_arrivals(eep_context *context);
#endif
