/* SPDX-License-Identifier: Apache-2.0 */
/* How a waiting rank gives way on the host: yield while it is worth it, then sleep on the doorbell
 * of its own window, which publishers ring (futexes in shared memory work across processes). */
#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/table_layout.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MANY_LOOKS = 64, FEW_LOOKS = 4, YIELD_POLLS = 36, SLEEP_NS = 1000000 };

/* Two microseconds, where nobody waits for this core; else the peer may need it. */
uint32_t eepk_looks_at_once(uint32_t num_ranks)
{
    static uint32_t num_cores;
    uint32_t cores = __atomic_load_n(&num_cores, __ATOMIC_RELAXED);

    if (cores == 0) {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        cores = online > 0 ? (uint32_t)online : 1;
        __atomic_store_n(&num_cores, cores, __ATOMIC_RELAXED);
    }
    return num_ranks <= cores ? MANY_LOOKS : FEW_LOOKS;
}

static uint32_t *waiters_of(uint32_t *doorbell)
{
    return doorbell + 1; /* eepk_window_header: doorbell, waiters */
}

void eepk_doorbell_ring(uint32_t *doorbell)
{
    __atomic_fetch_add(doorbell, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(waiters_of(doorbell), __ATOMIC_SEQ_CST) != 0) {
        syscall(SYS_futex, doorbell, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    }
}

void eepk_poll_pause(uint32_t polls, uint32_t *doorbell, uint32_t seen)
{
    struct timespec longest = {0, SLEEP_NS};

    if (polls < YIELD_POLLS) {
        sched_yield();
        return;
    }
    __atomic_fetch_add(waiters_of(doorbell), 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, doorbell, FUTEX_WAIT, seen, &longest, NULL, 0);
    __atomic_fetch_sub(waiters_of(doorbell), 1, __ATOMIC_SEQ_CST);
}
