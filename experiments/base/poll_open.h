/* SPDX-License-Identifier: Apache-2.0 */
/* poll() for sets in which entries stay free: the kernel refuses more entries than the process may
 * have descriptors, also where most are -1. */
#ifndef EEPX_POLL_OPEN_H
#define EEPX_POLL_OPEN_H

#include "eep/eep.h"

#include <poll.h>

enum { POLL_OPEN_MOST = 64 + 2 * EEP_MAX_RANKS };

/* As ppoll over those of `set` whose descriptor is not -1; `num` is at most POLL_OPEN_MOST. A call
 * that fails with other than EINTR has waited for 10 ms, so that a loop around it cannot spin, and
 * leaves errno. */
int poll_open(struct pollfd *set, nfds_t num, double longest_ms);
#endif
