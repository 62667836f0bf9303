/* Workers of closed copiers. UCX 1.13 ends the process by an assertion if a worker is destroyed
 * while a connection that a peer has begun is being made, and nothing tells whether one is. So the
 * worker of a closed copier lives on for a while, without an owner: other copiers of this process
 * progress it, until whatever was begun has come about or failed. In a process without others it
 * ends with the process.
 *
 * Each holds about seven descriptors, so there is a bound on how many there are: at each close and
 * open the oldest beyond it are progressed for a moment and go. */
#include "transport/bulk_ucx.h"

#include <pthread.h>
#include <sched.h>

enum {
    PARKED_US = 10000000,
    MOST_PARKED = 16,
    LAST_US = 1000 /* of progress before a worker that is one too many goes */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bulk_ucx *parked; /* newest first; under the lock */
static uint32_t num_parked;

static void destroy_parked(bulk_ucx **link)
{
    bulk_ucx *bulk = *link;
    *link = bulk->next_parked;
    __atomic_sub_fetch(&num_parked, 1, __ATOMIC_RELAXED);
    eepi_bulk_destroy(bulk);
}

/* Under the lock. */
static void progress_all(void)
{
    uint64_t now_us = eepi_bulk_now_us();
    bulk_ucx **link = &parked;
    while (*link != NULL) {
        bulk_ucx *bulk = *link;
        if (bulk->parked_us == 0)
            bulk->parked_us = now_us;
        if (now_us - bulk->parked_us >= PARKED_US) {
            destroy_parked(link);
            continue;
        }
        ucp_worker_progress(bulk->worker);
        eepi_bulk_peers_reap(bulk);
        link = &bulk->next_parked;
    }
}

/* Under the lock. */
static void trim(void)
{
    while (num_parked > MOST_PARKED) {
        bulk_ucx **oldest = &parked;
        while ((*oldest)->next_parked != NULL)
            oldest = &(*oldest)->next_parked;
        uint64_t until_us = eepi_bulk_now_us() + LAST_US;
        while (eepi_bulk_now_us() < until_us) {
            if (ucp_worker_progress((*oldest)->worker) == 0)
                sched_yield();
            eepi_bulk_peers_reap(*oldest);
        }
        destroy_parked(oldest);
    }
}

void eepi_bulk_park(bulk_ucx *bulk)
{
    pthread_mutex_lock(&lock);
    bulk->parked_us = 0; /* its time begins when it is progressed */
    bulk->next_parked = parked;
    parked = bulk;
    __atomic_add_fetch(&num_parked, 1, __ATOMIC_RELAXED);
    progress_all();
    trim();
    pthread_mutex_unlock(&lock);
}

void eepi_bulk_park_trim(void)
{
    if (__atomic_load_n(&num_parked, __ATOMIC_RELAXED) == 0)
        return;
    pthread_mutex_lock(&lock);
    progress_all();
    trim();
    pthread_mutex_unlock(&lock);
}

void eepi_bulk_progress_parked(void)
{
    if (__atomic_load_n(&num_parked, __ATOMIC_RELAXED) == 0 || pthread_mutex_trylock(&lock) != 0)
        return;
    progress_all();
    pthread_mutex_unlock(&lock);
}
