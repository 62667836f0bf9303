/* Workers of closed copiers. UCX 1.13 ends the process by an assertion if a worker is destroyed
 * while a connection that a peer has begun is being made, and nothing tells whether one is. So the
 * worker of a closed copier lives on for a while, without an owner: other copiers of this process
 * progress it, until whatever was begun has come about or failed. In a process without others it
 * ends with the process. */
#include "transport/bulk_internal.h"

#include <pthread.h>

/* Each has about nine descriptors: where there are many, the older ones go sooner. */
enum { PARKED_US = 10000000, MANY_PARKED = 32, PARKED_AMONG_MANY_US = 1000000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static eepi_bulk *parked; /* under the lock */
static uint32_t num_parked;

void eepi_bulk_park(eepi_bulk *bulk)
{
    pthread_mutex_lock(&lock);
    bulk->parked_us = 0; /* its time begins when it is progressed */
    bulk->next_parked = parked;
    parked = bulk;
    __atomic_add_fetch(&num_parked, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&lock);
}

void eepi_bulk_progress_parked(void)
{
    if (__atomic_load_n(&num_parked, __ATOMIC_RELAXED) == 0 || pthread_mutex_trylock(&lock) != 0)
        return;
    uint64_t now_us = eepi_bulk_now_us();
    uint64_t bound_us = num_parked > MANY_PARKED ? PARKED_AMONG_MANY_US : PARKED_US;
    eepi_bulk **link = &parked;
    while (*link != NULL) {
        eepi_bulk *bulk = *link;
        if (bulk->parked_us == 0)
            bulk->parked_us = now_us;
        if (now_us - bulk->parked_us < bound_us) {
            ucp_worker_progress(bulk->worker);
            eepi_bulk_peers_reap(bulk);
            link = &bulk->next_parked;
            continue;
        }
        *link = bulk->next_parked;
        __atomic_sub_fetch(&num_parked, 1, __ATOMIC_RELAXED);
        eepi_bulk_destroy(bulk);
    }
    pthread_mutex_unlock(&lock);
}
