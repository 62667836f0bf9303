/* SPDX-License-Identifier: Apache-2.0 */
/* The death bells of the world: a dying process marks the words in its window, and whoever listens
 * looks at all of them. Some are not woken, as where the waiter that the kernel chose cannot run.
 * In histories without SIM_BELL no bell rings before memory is gone, and nobody listens. */
#include "membership/process/bell.h"
#include "tests/sim/sim.h"

#include <pthread.h>
#include <stdlib.h>

enum { UNWOKEN_OF = 8 };

struct eepi_bell {
    eepi_bell_config config;
    eepk_window_header *own;
    pthread_t thread;
    int stop;
    struct {
        const eepk_window_header *header;
        uint32_t generation;
        int is_told;
    } peers[SIM_MAX_SEATS];
};

static char bell_key; /* what all listeners sleep on */

eepi_bell_word eepi_bell_says(const eepk_window_header *header)
{
    return (eepi_bell_word)header->bell[0].futex;
}

static void ring(eepk_window_header *header, eepi_bell_word word)
{
    header->bell[0].futex = word;
    for (int i = 0; i < sim->num_processes; i++) {
        if (sim_random(UNWOKEN_OF)) {
            sim_wake(&bell_key, 1);
        }
    }
}

void sim_bell_ring(sim_process *p)
{
    if (p->bell) {
        ring(p->bell->own, EEPI_BELL_ENDS);
    }
}

static void *listen(void *argument)
{
    eepi_bell *bell = argument;

    while (!bell->stop) {
        for (int seat = 0; seat < bell->config.max_ranks; seat++) {
            const uint32_t generation = bell->peers[seat].generation;
            if (bell->peers[seat].header && !bell->peers[seat].is_told &&
                eepi_bell_says(bell->peers[seat].header) != EEPI_BELL_HANGS) {
                bell->peers[seat].is_told = 1;
                bell->config.rang(bell->config.user, seat, generation,
                                  eepi_bell_says(bell->peers[seat].header));
            }
        }
        if (!bell->stop) {
            (void)sim_wait(&bell_key, SIM_NEVER);
        }
    }
    return NULL;
}

eep_status eepi_bell_open(const eepi_bell_config *config, eepk_window_header *own,
                          eepi_bell **bell_out)
{
    eepi_bell *bell = calloc(1, sizeof *bell);

    bell->config = *config;
    bell->own = own;
    if (sim->kinds >> SIM_BELL & 1u) {
        pthread_create(&bell->thread, NULL, listen, bell);
        sim_self()->bell = bell;
    }
    *bell_out = bell;
    return EEP_OK;
}

void eepi_bell_close(eepi_bell *bell, bool rings)
{
    if (!bell) {
        return;
    }
    if (sim->kinds >> SIM_BELL & 1u) {
        bell->stop = 1;
        if (rings) {
            ring(bell->own, EEPI_BELL_CLOSED);
        }
        sim_wake(&bell_key, SIM_MAX_PROCESSES);
        pthread_join(bell->thread, NULL);
        sim_self()->bell = NULL;
    }
    free(bell);
}

void eepi_bell_watch(eepi_bell *bell, int32_t seat, uint32_t generation,
                     const eepk_window_header *header)
{
    if (bell->peers[seat].header != header || bell->peers[seat].generation != generation) {
        bell->peers[seat].header = header;
        bell->peers[seat].generation = generation;
        bell->peers[seat].is_told = 0;
    }
}

void eepi_bell_unwatch(eepi_bell *bell, int32_t seat)
{
    bell->peers[seat].header = NULL;
}
