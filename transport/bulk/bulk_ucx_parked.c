/* SPDX-License-Identifier: Apache-2.0 */
/* Workers of closed copiers. UCX 1.13 ends the process by an assertion if a worker is destroyed
 * while a connection that a peer has begun is being made, and nothing tells whether one is. So the
 * worker of a closed copier lives on for 10 s, without an owner: other copiers of this process
 * progress it, until whatever was begun has come about or failed. While there is no other, nobody
 * progresses it, and its time stands still: it ends with the process, or after the next copier's.
 *
 * Each holds about seven descriptors. The next copier with the same settings takes one over, with
 * its listener, and has an address of its own by its nonce. So a process has no more workers than
 * copiers were open at once, however often it opens and closes. None goes before its time but one
 * that still sends from memory of its owner, who is about to free it (bulk_ucx.c). */
#include "transport/bulk/bulk_ucx.h"

#include <pthread.h>
#include <unistd.h>

enum { PARKED_US = 10000000, PAUSE_US = 1000000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bulk_ucx *parked; /* newest first; under the lock */
static uint32_t num_parked;

/* Under the lock. */
static bulk_ucx *take_out(bulk_ucx **link)
{
    bulk_ucx *bulk = *link;
    *link = bulk->next_parked;
    __atomic_sub_fetch(&num_parked, 1, __ATOMIC_RELAXED);
    return bulk;
}

/* Under the lock. A forked child's copies are its parent's, and are left alone. */
static void progress_all(void)
{
    uint64_t now_us = eepi_now_us();
    bulk_ucx **link = &parked;
    while (*link != NULL) {
        bulk_ucx *bulk = *link;
        if (bulk->parked_by != getpid()) {
            link = &bulk->next_parked;
            continue;
        }
        if (bulk->parked_us == 0 || now_us - bulk->progressed_us > PAUSE_US) {
            bulk->parked_us = now_us; /* what was begun could not come about meanwhile */
        }
        bulk->progressed_us = now_us;
        if (now_us - bulk->parked_us >= PARKED_US) {
            eepi_bulk_destroy(take_out(link));
            continue;
        }
        ucp_worker_progress(bulk->worker);
        eepi_bulk_peers_reap(bulk);
        link = &bulk->next_parked;
    }
}

void eepi_bulk_park(bulk_ucx *bulk)
{
    pthread_mutex_lock(&lock);
    bulk->parked_us = 0; /* its time begins when it is progressed */
    bulk->parked_by = getpid();
    bulk->next_parked = parked;
    parked = bulk;
    __atomic_add_fetch(&num_parked, 1, __ATOMIC_RELAXED);
    progress_all();
    pthread_mutex_unlock(&lock);
}

bulk_ucx *eepi_bulk_unpark(uint64_t settings)
{
    bulk_ucx *found = NULL;
    if (__atomic_load_n(&num_parked, __ATOMIC_RELAXED) == 0) {
        return NULL;
    }
    pthread_mutex_lock(&lock);
    bulk_ucx **link = &parked;
    while (*link != NULL && ((*link)->settings != settings || (*link)->parked_by != getpid())) {
        link = &(*link)->next_parked;
    }
    if (*link != NULL) {
        found = take_out(link);
    }
    progress_all(); /* the others: this may end some */
    pthread_mutex_unlock(&lock);
    return found;
}

void eepi_bulk_progress_parked(void)
{
    if (__atomic_load_n(&num_parked, __ATOMIC_RELAXED) == 0 || pthread_mutex_trylock(&lock) != 0) {
        return;
    }
    progress_all();
    pthread_mutex_unlock(&lock);
}
