/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine of this rank, or its operator, says against ranks (rule P11): on its way to the
 * core, and what became of it. */
#ifndef EEPI_ACCUSATIONS_H
#define EEPI_ACCUSATIONS_H

#include "membership/core/core.h"

#include <stdbool.h>

struct eepi_words;

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_words_open(eep_context *context);
void eepi_words_close(eep_context *context);

/* Say it, unless the same or more was said and is not decided. The context's lock is held. */
void eepi_words_say(eep_context *context, const eepi_suspect *suspect);
/* What became of it; of what was never said is_in is true, and nothing waits. With the lock. */
eepi_verdict eepi_words_verdict(const eep_context *context, int seat, uint32_t generation);

/* Take one that the core has not heard; false: there is none. Service thread. */
bool eepi_words_take(eep_context *context, eepi_suspect *suspect_out);
/* The core may have decided: then who waits is woken. Service thread. */
void eepi_words_follow(eep_context *context);
#endif
