/* SPDX-License-Identifier: Apache-2.0 */
/* The sender thread: one turn of each lane, again and again; between them it sleeps on the doorbell
 * of ring 0, or polls where kernels cannot ring. */
#include "transport/network/network_state.h"

#include "graphs/base/clock.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    YIELDS = 16,           /* before it sleeps */
    POLLED_US = 50,        /* a nap where kernels do not ring, */
    POLLED_IDLE_US = 1000, /* and when nothing was put for so long: */
    POLLED_BUSY_US = 1000000,
    AWAY_US = 100000, /* it was not scheduled for so long: not the peers were silent (M6) */
};

static void sleep_for(eepi_network *network, uint32_t seen, uint64_t us)
{
    const struct timespec longest = {(time_t)(us / 1000000u), (long)(us % 1000000u) * 1000};

    if (!network->config.kernels_ring) {
        nanosleep(&longest, NULL);
        return;
    }
    __atomic_fetch_add(&network->doorbell[1], 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, network->doorbell, FUTEX_WAIT, seen, &longest, NULL, 0);
    __atomic_fetch_sub(&network->doorbell[1], 1, __ATOMIC_SEQ_CST);
}

static uint64_t nap_us(const eepi_network *network, uint64_t now_us, uint64_t moved_us,
                       uint64_t next_us)
{
    uint64_t nap = next_us - now_us;

    if (!network->config.kernels_ring) {
        const uint64_t most = now_us - moved_us < POLLED_BUSY_US ? POLLED_US : POLLED_IDLE_US;
        nap = nap < most ? nap : most;
    }
    return nap;
}

static void forgive_gap(eepi_network *network, uint64_t gap_us)
{
    for (uint32_t i = 0; i < network->shape.num_queues; i++) {
        eepi_lane_forgive(&network->lane[i], gap_us);
    }
}

static bool turn_all(eepi_network *network, uint64_t now_us, uint64_t *next_us)
{
    bool any = network->carrier->progress && network->carrier->progress(network);

    for (uint32_t i = 0; i < network->shape.num_queues; i++) {
        any |= eepi_lane_turn(network, &network->lane[i], now_us, next_us);
    }
    return any;
}

void *eepi_sender_run(void *user)
{
    eepi_network *network = user;
    uint64_t last_us = eepi_now_us(), moved_us = last_us;
    uint32_t yields = 0;

    while (!__atomic_load_n(&network->stop, __ATOMIC_ACQUIRE)) {
        /* before the look: what is put behind it rings again */
        const uint32_t seen = __atomic_load_n(network->doorbell, __ATOMIC_ACQUIRE);
        const uint64_t now_us = eepi_now_us();
        uint64_t next_us = now_us + EEPI_LANE_ROUND_US;
        if (now_us - last_us > AWAY_US) {
            forgive_gap(network, now_us - last_us);
        }
        last_us = now_us;
        if (turn_all(network, now_us, &next_us)) {
            moved_us = now_us;
            yields = 0;
        } else if (yields < YIELDS) {
            yields++;
            sched_yield();
        } else if (next_us > now_us &&
                   (!network->carrier->may_sleep || network->carrier->may_sleep(network))) {
            sleep_for(network, seen, nap_us(network, now_us, moved_us, next_us));
        }
    }
    return NULL;
}
