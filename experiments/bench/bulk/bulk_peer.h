/* SPDX-License-Identifier: Apache-2.0 */
/* Another process that has weights to be fetched, over either carrier, and the copiers that ask it.
 */
#ifndef EEPX_BENCH_BULK_PEER_H
#define EEPX_BENCH_BULK_PEER_H

#include "transport/bulk/bulk.h"

#include <sys/types.h>

enum { BULK_PEER_ADDRESS_BYTES = 64 };

typedef struct bulk_peer {
    pid_t pid; /* -1: there is none */
    int go_fd, report_fd;
    /* Behind its length, by carrier: shared memory, UCX. */
    unsigned char address[2][BULK_PEER_ADDRESS_BYTES];
} bulk_peer;

/* A copier in this process, in `seat`. What prevents it is written to standard error; the program
 * ends. */
eepi_bulk *bulk_peer_copier(eep_bulk carrier, const char *holder_path, int seat,
                            eepi_bulk_serve_fn serve, eepi_bulk_done_fn done, void *user);
/* Progress until there is nothing to do, then sleep: as a rank's service thread does. */
void bulk_peer_turn(eepi_bulk *const *copiers, int num);
/* The other process: made before this one has threads. 0, or -1 with errno. */
int bulk_peer_make(bulk_peer *peer, const char *holder_path, eepi_bulk_serve_fn serve);
/* It begins, since the holder is there now. 0, or -1. */
int bulk_peer_begin(bulk_peer *peer);
#endif
