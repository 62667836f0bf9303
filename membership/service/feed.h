/* SPDX-License-Identifier: Apache-2.0 */
/* The core's inputs: the only file that calls eepi_core_handle, and takes from the inbox. Service
 * thread, and never while an action is carried out. */
#ifndef EEPI_FEED_H
#define EEPI_FEED_H

#include "eep/eep.h"
#include "membership/core/core.h"

/* Handle an input, which may point to the caller's memory, behind those that were posted, and carry
 * out what follows. */
void eepi_feed(eep_context *context, const eepi_input *input);
/* Tell the core who takes nothing of what this rank has put for it (rule N16). */
void eepi_feed_blocked(eep_context *context);
/* Tell it what this rank's engine says of others. */
void eepi_feed_words(eep_context *context);
/* Handle what was posted, and what is posted meanwhile. */
void eepi_feed_posted(eep_context *context);
#endif
