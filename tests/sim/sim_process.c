/* SPDX-License-Identifier: Apache-2.0 */
/* Chance, and the life of processes. */
#include "tests/sim/sim.h"

#include "experiments/base/random.h"
#include "membership/context/context.h"
#include "membership/step/given_memory.h"

#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------------ chance */

uint64_t sim_random(uint64_t limit)
{
    return random_next(&sim->random) % (limit ? limit : 1);
}

uint64_t sim_delay(uint64_t least_us, uint64_t most_us)
{
    uint64_t span = most_us - least_us + 1;

    return least_us + sim_random(sim_random(12) ? span / 10 + 1 : span);
}

void sim_trace(const char *format, ...)
{
    va_list arguments;
    char line[512];
    int used;

    if (!sim->options.trace) {
        return;
    }
    used = snprintf(line, sizeof line, "%9llu ", (unsigned long long)sim->now_us);
    va_start(arguments, format);
    vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
    va_end(arguments);
    puts(line);
}

/* ------------------------------------------------------------------ processes */

sim_process *sim_process_new(int seat)
{
    sim_process *p = calloc(1, sizeof *p);

    if (!p || sim->num_processes == SIM_MAX_PROCESSES) {
        abort();
    }
    p->index = sim->num_processes;
    p->seat = seat;
    p->alive = 1;
    p->pid = 100 + p->index;
    p->started_us = sim->now_us;
    p->offset_us = 5000000;
    if (sim->kinds >> SIM_SKEW & 1u) {
        p->drift_ppm = (int64_t)sim_random(40001) - 20000;
        p->offset_us += sim_random(1000000000);
    }
    sim->process[sim->num_processes++] = p;
    return p;
}

static void wake_all(void *user, uint64_t number)
{
    (void)user;
    (void)number;
    for (int i = 0; i < sim->num_processes; i++) {
        if (sim->process[i]->alive) {
            sim_wake(&sim->process[i]->poll_key, 1);
        }
    }
}

/* Where kernels outlive their process its whole end comes a while after the first sign, and what is
 * in flight goes on storing, perhaps until shortly before the margin is over. */
static uint64_t linger(sim_process *p)
{
    uint64_t until_gone_us = sim_delay(100, 15000);
    uint64_t most_us = SIM_STORES_MARGIN_US - SIM_STORES_MARGIN_US / 16; /* clocks differ */

    p->gone_us = sim->now_us + until_gone_us;
    p->stopped_until_us = 0;
    if (p->rank.context && !p->over && p->rank.context->stepper.in_step) {
        p->stores_until_us = p->gone_us + sim_random(most_us);
    }
    return until_gone_us;
}

void sim_process_end(sim_process *p, const char *why)
{
    if (!p->alive) {
        return;
    }
    sim_trace("%d.%u ends: %s", p->seat, p->generation, why);
    p->alive = 0;
    p->gone_us = sim->now_us;
    /* pidfds fire */
    sim_after(sim->kinds >> SIM_LATE & 1u ? linger(p) : sim_delay(100, 15000), wake_all, NULL, 0);
    if (sim_self() == p) {
        (void)sim_wait(NULL, SIM_NEVER);
    }
}

void sim_process_forget(void)
{
    for (int i = 0; i < sim->num_processes; i++) {
        if (sim->process[i]->rank.context) {
            eepi_memory_forget(sim->process[i]->rank.context);
        }
    }
}

int sim_process_may_store(const sim_process *p)
{
    return p->alive || sim->now_us < p->stores_until_us;
}

/* Nothing of it runs for so long, or until the world heals. */
void sim_process_stop(sim_process *p, uint64_t for_us)
{
    uint64_t until = sim->now_us + for_us;

    if (until > sim->heal_us) {
        until = sim->heal_us;
    }
    if (until > p->stopped_until_us) {
        p->stopped_until_us = until;
    }
    if (until > p->disturbed_us) {
        p->disturbed_us = until;
    }
}
