/* SPDX-License-Identifier: Apache-2.0 */
/* Another process that has weights to be fetched, over either carrier, and the copiers that ask it.
 */
#ifndef EEPX_BENCH_BULK_PEER_H
#define EEPX_BENCH_BULK_PEER_H

#include "eep/store.h"
#include "experiments/base/private_dir.h"
#include "transport/bulk/bulk.h"
#include "transport/holder/holder.h"

#include <stdbool.h>
#include <sys/types.h>

enum { BULK_PEER_ADDRESS_BYTES = 64 };

typedef struct bulk_peer {
    pid_t pid; /* -1: there is none */
    int go_fd, report_fd;
    /* Behind its length, by carrier: shared memory, UCX. */
    unsigned char address[2][BULK_PEER_ADDRESS_BYTES];
} bulk_peer;

/* A copier in this process, in `seat`; `land` may be NULL. What prevents it is written to standard
 * error; the program ends. */
eepi_bulk *bulk_peer_copier(eep_bulk carrier, const char *holder_path, int seat,
                            eepi_bulk_serve_fn serve, eepi_bulk_land_fn land,
                            eepi_bulk_done_fn done, void *user);
/* Progress until there is nothing to do, then sleep: as a rank's service thread does. */
void bulk_peer_turn(eepi_bulk *const *copiers, int num);

/* A store with a holder in a folder of its own, and the other process, which serves. */
typedef struct bulk_pair {
    private_dir directory;
    char holder_path[EEPI_HOLDER_PATH_BYTES];
    eep_store *store;
    bulk_peer peer;
} bulk_pair;

/* To be called before this process has threads. `binds`: the calling thread and the other process
 * are bound to a core of their own each. False: `program` said on standard error why not.
 * bulk_pair_close in any case. */
bool bulk_pair_open(bulk_pair *pair, const char *program, eepi_bulk_serve_fn serve, bool binds);
/* The other process is ended and waited for, once. */
void bulk_pair_end_peer(bulk_pair *pair);
void bulk_pair_close(bulk_pair *pair);
#endif
