/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs of the core that arise while an action is carried out. Any file of the service thread
 * posts; membership/service/feed.c alone takes out, in order, once the core's last actions are
 * done. So the core stands still while its actions, which point into it, are carried out.
 *
 * Service thread. Room for one input per seat and one per action: the core asks for one kill per
 * process until it has heard what became of it, and each other action posts one input at most. */
#ifndef EEPI_INBOX_H
#define EEPI_INBOX_H

#include "membership/core/core.h"

#include <stdbool.h>

typedef struct eepi_inbox eepi_inbox;

/* NULL: out of memory. */
eepi_inbox *eepi_inbox_open(int32_t max_ranks);
void eepi_inbox_close(eepi_inbox *inbox);
/* The input waits until it is taken, so it points to nothing. */
void eepi_inbox_post(eepi_inbox *inbox, const eepi_input *input);
/* Take the oldest; false: there is none. */
bool eepi_inbox_take(eepi_inbox *inbox, eepi_input *input_out);
#endif
