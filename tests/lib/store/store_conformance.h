/* SPDX-License-Identifier: Apache-2.0 */
/* What libeep asks of a store: one suite that every backend must pass, through the client's
 * interface (membership/store/store_client.h). Run against the embedded store, in this process and
 * in one of its own, and against the simulator's. One thread drives all clients, with requests of
 * several under way at once. */
#ifndef TESTS_STORE_CONFORMANCE_H
#define TESTS_STORE_CONFORMANCE_H

#include "membership/store/store_client.h"

#include <stdbool.h>

/* A backend and the world that it runs in. The store is empty at first. */
typedef struct store_world {
    const char *address;      /* for eepi_store_client_open */
    void (*pass)(void *user); /* let a little time pass: a fraction of a millisecond */
    uint64_t (*now_us)(void *user);
    void (*cut)(void *user, eepi_store_client *client); /* its connection breaks */
    void (*restart)(void *user); /* the store's process ends, another comes */
    bool forgets;                /* and it begins empty */
    bool lists;                  /* it has remove and list, which libeep does without, */
    bool leases;                 /* and leases */
    void *user;
} store_world;

/* NULL: it conforms. Else what is wrong; *case_out names the case. Until the next call. */
const char *store_conformance(const store_world *world, const char **case_out);
#endif
