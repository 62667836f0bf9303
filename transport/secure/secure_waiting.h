/* SPDX-License-Identifier: Apache-2.0 */
/* The connections of one listener whose peers have not proved the key yet: at most
 * EEPI_SECURE_BEFORE_MAX, each for EEPI_SECURE_BEFORE_US. Nobody can hold more of the process by
 * merely connecting. Where one more comes, the address with most of them loses its oldest. So a
 * single address that floods the listener crowds out itself. Pure; one thread. */
#ifndef EEPI_SECURE_WAITING_H
#define EEPI_SECURE_WAITING_H

#include "transport/secure/secure_channel.h"

typedef struct eepi_secure_waiter {
    void *owner;      /* what the listener's own code calls the connection */
    uint64_t address; /* equal for connections from one address (eepi_tcp_peer) */
    uint64_t since_us;
} eepi_secure_waiter;

/* Zero-initialised is empty. */
typedef struct eepi_secure_waiting {
    eepi_secure_waiter waiter[EEPI_SECURE_BEFORE_MAX]; /* oldest first */
    int num;
    uint64_t bound_us; /* 0: EEPI_SECURE_BEFORE_US; tests want less */
} eepi_secure_waiting;

/* One more. Returns the owner that has to go for it, already removed: the caller closes it, as
 * EEPI_SECURE_CROWDED. NULL: there was room. */
void *eepi_secure_waiting_add(eepi_secure_waiting *waiting, void *owner, uint64_t address,
                              uint64_t now_us);
/* It has proved the key, or is gone. Unknown ones are allowed. */
void eepi_secure_waiting_remove(eepi_secure_waiting *waiting, const void *owner);
/* One whose time is up, removed: the caller closes it, as EEPI_SECURE_UNPROVEN, and asks again.
 * NULL: none; *next_us_out is when to ask again, UINT64_MAX if nobody waits. */
void *eepi_secure_waiting_expire(eepi_secure_waiting *waiting, uint64_t now_us,
                                 uint64_t *next_us_out);
#endif
