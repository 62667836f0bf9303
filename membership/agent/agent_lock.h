/* SPDX-License-Identifier: Apache-2.0 */
/* One agent per host (rule N12), by a lock on a small file beside the seats' files:
 *
 *   PATH.agent    "generation pid start home\n": of the agent that serves, or of the last one
 *
 * The generation grows with each agent. Other hosts take no word of an older one; so an agent that
 * they know leaves the file behind. Where somebody has removed it the store knows that generation
 * (agent_roll.h).
 * The lock is an open file description's and goes with its process. A child that an agent's process
 * forked, and that has not called exec, keeps it: if the process in the file has ended the lock
 * counts as free, and the socket alone decides who serves. */
#ifndef EEPI_AGENT_LOCK_H
#define EEPI_AGENT_LOCK_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct eepi_agent_lock {
    int fd;
    uint64_t generation; /* of the agent that has the lock now */
} eepi_agent_lock;

/* EEP_ERR_CONFLICT: another agent serves; EEP_ERR_SYSTEM; `error_out` says who, or why. */
EEP_MUST_CHECK eep_status eepi_agent_lock_take(const char *path, eepi_agent_lock *lock_out,
                                               char *error_out, size_t error_bytes);
/* From now on the agent has this generation, a higher one. EEP_ERR_SYSTEM (errno). */
EEP_MUST_CHECK eep_status eepi_agent_lock_raise(eepi_agent_lock *lock, uint64_t generation);
/* `removes`: the file too, for an agent that no other host knows. */
void eepi_agent_lock_release(eepi_agent_lock *lock, const char *path, bool removes);
#endif
