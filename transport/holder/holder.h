/* SPDX-License-Identifier: Apache-2.0 */
/* The holder: who keeps a host's shared memory by name, and introduces its ranks to each other.
 *
 * A rank that copies bytes to others within the host keeps them in a sealed memfd that the holder
 * holds; who asks for it by name gets a descriptor that can only be mapped for reading. For the
 * messages between two ranks the holder makes a pair of sockets and gives each rank one end, so
 * that neither bytes nor requests ever go through the holder, and no port is opened. When it dies,
 * what it has introduced goes on; ranks come back to the next one at the same path by themselves
 * and hold their memory again.
 *
 * Memory may be retained: it stays when the client that put it there has ended, until somebody
 * releases it, another instance begins, or the holder closes (backups of weights).
 *
 * A client that has no memory held is a guest: at most a quarter of the descriptors, and at
 * most 256, go to guests, and a guest makes room when descriptors run out.
 *
 * It trusts its user and nobody else (SECURITY.md). The host's agent serves it
 * (membership/agent/agent.h). */
#ifndef EEPI_HOLDER_H
#define EEPI_HOLDER_H

#include "eep/status.h"
#include "transport/holder/holder_wire.h"

#include <stdbool.h>
#include <stddef.h>

enum { EEPI_HOLDER_PATH_BYTES = 4096 + 16, EEPI_HOLDER_ADDRESS_BYTES = 108 };

typedef struct eepi_holder eepi_holder;

/* How many clients and pieces of memory there may be, and how long a client may take to say hello;
 * 0: the default. */
typedef struct eepi_holder_limits {
    uint32_t max_clients, max_held_per_client, max_retained;
    uint64_t max_retained_bytes; /* 0: three quarters of the machine's memory */
    uint64_t hello_us;
} eepi_holder_limits;

/* What an agent does with requests that are not the holder's own. Holder's thread. */
typedef struct eepi_holder_agent {
    /* That client, whose pulse is held as `pulse_fd`, hands over `pidfd`, which the agent takes
     * over on EEP_OK only. `passed_out`: what goes with the answer, and stays the agent's. */
    eep_status (*attach)(void *user, const eepi_holder_message *message, int pidfd, int pulse_fd,
                         int *passed_out);
    /* DETACH, or KILL. */
    eep_status (*say)(void *user, const eepi_holder_message *message);
    void *user;
} eepi_holder_agent;

/* The socket of the holder that belongs to the store at `store_path`: PATH.holder, or, where the
 * name would be too long, another one in the same directory that follows from it. Any thread. */
void eepi_holder_path(const char *store_path, char path_out[EEPI_HOLDER_PATH_BYTES]);
/* That path as a socket's address, which takes 107 bytes: a longer path is reached through a
 * descriptor of its directory, which the caller closes (-1: none) when it has connected or, with a
 * socket that listens, removed it. false: it cannot be reached. Any thread. */
bool eepi_holder_reach(const char *path, char address_out[EEPI_HOLDER_ADDRESS_BYTES],
                       int *directory_out);

/* Serve on a listening socket (SOCK_SEQPACKET, non-blocking; who may connect to it is the caller's
 * care) from a thread of its own. The socket stays the caller's and must live until
 * eepi_holder_close. `limits` may be NULL, and `agent`: such requests are then refused.
 * EEP_ERR_SYSTEM (errno says why), EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_holder_open(int listen_fd, const eepi_holder_limits *limits,
                                           const eepi_holder_agent *agent,
                                           eepi_holder **holder_out);
/* Close all connections, let go of all memory. NULL is ignored. */
void eepi_holder_close(eepi_holder *holder);
#endif
