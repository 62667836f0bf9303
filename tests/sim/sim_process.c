/* SPDX-License-Identifier: Apache-2.0 */
/* Chance, the life of processes, and the ports of their NICs. */
#include "tests/sim/sim.h"

#include "experiments/base/random.h"
#include "membership/context/context.h"
#include "membership/weights/given_memory.h"
#include "repair/link_costs.h"
#include "transport/ibverbs.h"

#include <errno.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
    p->host = sim_host_for(seat);
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
            sim_wake(&sim->process[i]->poll_key, SIM_POLLERS);
        }
    }
    for (int i = 0; i < sim->num_agents; i++) {
        if (sim->agent[i]->alive) {
            sim_wake(&sim->agent[i]->poll_key, SIM_POLLERS);
        }
    }
}

/* Where kernels outlive their process its whole end comes a while after the first sign, and what is
 * in flight goes on storing, perhaps for ever. */
static uint64_t linger(sim_process *p)
{
    uint64_t until_gone_us = sim_delay(100, 15000);

    p->gone_us = sim->now_us + until_gone_us;
    p->stopped_until_us = 0;
    if (p->rank.context && !p->over && p->rank.context->stepper.in_step) {
        p->stores_until_us = sim_random(3) ? p->gone_us + sim_random(SIM_STORES_US) : SIM_NEVER;
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

static void end_dying(void *user, uint64_t number)
{
    (void)number;
    sim_process_end(user, "its threads have stopped");
}

/* Its threads go on for a moment, as if nothing was. */
void sim_process_kill(sim_process *p, const char *why)
{
    if (!p->alive || p->dies) {
        return;
    }
    if (!p->bell) {
        sim_process_end(p, why);
        return;
    }
    sim_trace("%d.%u dies: %s", p->seat, p->generation, why);
    p->dies = 1;
    sim_bell_ring(p);
    sim_after(sim_delay(10, 3000), end_dying, p, 0);
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

/* ------------------------------------------------------------------ ports */

typedef struct sim_nic {
    struct ibv_context context;
    sim_process *process;
} sim_nic;

/* Only histories with that kind of fault have NICs. */
static struct ibv_device **list_nics(int *num_devices)
{
    static struct ibv_device nic = {.name = "sim_nic"};
    static struct ibv_device *nics[] = {&nic, NULL};

    *num_devices = (int)(sim->kinds >> SIM_PORT & 1u);
    return *num_devices ? nics : NULL;
}

static void forget_list(struct ibv_device **list)
{
    (void)list;
}

static struct ibv_context *open_nic(struct ibv_device *device)
{
    sim_nic *nic = calloc(1, sizeof *nic);

    if (!nic) {
        abort();
    }
    nic->context.device = device;
    nic->process = sim_self();
    nic->process->port_fd = nic->context.async_fd = sim_fd_new(SIM_FD_EVENT, nic->process);
    return &nic->context;
}

static int close_nic(struct ibv_context *context)
{
    ((sim_nic *)context)->process->port_fd = 0;
    (void)close(context->async_fd);
    free(context);
    return 0;
}

static int query_nic(struct ibv_context *context, struct ibv_device_attr *attributes)
{
    (void)context;
    attributes->phys_port_cnt = SIM_PORTS;
    return 0;
}

static int query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attributes)
{
    const sim_process *p = ((sim_nic *)context)->process;

    attributes->state = p->port_is_down[port - 1] ? IBV_PORT_DOWN : IBV_PORT_ACTIVE;
    attributes->active_width = 2;
    attributes->active_speed = 32;
    return 0;
}

static int get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
    sim_process *p = ((sim_nic *)context)->process;
    uint64_t told;

    if (p->port_events == 0) {
        errno = EAGAIN;
        return -1;
    }
    if (--p->port_events == 0) {
        (void)!read(context->async_fd, &told, sizeof told);
    }
    event->event_type = IBV_EVENT_PORT_ERR; /* which one, and what it is now, is asked */
    return 0;
}

static void ack_async_event(struct ibv_async_event *event)
{
    (void)event;
}

const eepi_verbs *eepi_verbs_system(void)
{
    static const eepi_verbs verbs = {list_nics, forget_list, open_nic,        close_nic,
                                     query_nic, query_port,  get_async_event, ack_async_event};

    return &verbs;
}

void sim_port_set(sim_process *p, int port, int is_down)
{
    if (p->port_is_down[port] == is_down) {
        return;
    }
    sim_trace("port %d of %d.%u is %s", port + 1, p->seat, p->generation, is_down ? "down" : "up");
    p->port_is_down[port] = is_down;
    if (p->alive && p->port_fd) {
        p->port_events++;
        (void)!write(p->port_fd, &(uint64_t){1}, sizeof(uint64_t));
    }
}

uint32_t sim_nic_rate(const sim_process *p)
{
    int active = 0;

    for (int port = 0; port < SIM_PORTS; port++) {
        active += !p->port_is_down[port];
    }
    if (!p->port_fd) {
        return 0;
    }
    return active ? (uint32_t)(active * (4 * 25781.25 / 8)) : EEPI_RATE_DOWN;
}
