/* SPDX-License-Identifier: Apache-2.0 */
/* Several hosts, in a quarter of the histories: 2 to 4, each with its own processes, seat files and
 * agent. Ranks of different hosts share no memory. They hear each other by beats that their agents
 * carry, and their rows go through the network. The store keeps all. What fails: the way between
 * two hosts, in both directions or in one; a host's whole network; hosts, which end or stand still;
 * agents; the store, which refuses writes, or whose watch says nothing. */
#include "tests/sim/sim.h"

#include "membership/process/host.h"

#include <stdlib.h>
#include <string.h>

enum {
    BEAT_US = 20000,        /* an agent's, with those of all its seats */
    OWN_BEAT_US = 100000,   /* of a rank whose agent does not speak for it (rule N11) */
    AFTERWARDS_US = 2500000 /* what a cut has caused shows by then */
};

int sim_hosts_are_cut(int from, int to)
{
    return sim->now_us < sim->cut_until_us[from][to];
}

uint64_t sim_host_id(int host)
{
    return sim->num_hosts ? 1000 + (uint64_t)host : 1;
}

uint64_t eepi_host_id(void)
{
    return sim_host_id(sim_self()->host);
}

int sim_hosts_hear(const sim_process *from, int to)
{
    const int has_agents =
        sim->now_us >= sim->agent_back_us[from->host] && sim->now_us >= sim->agent_back_us[to];

    return from->alive && sim->now_us >= from->stopped_until_us &&
           !sim_hosts_are_cut(from->host, to) &&
           (has_agents || sim->now_us / SIM_BEAT_US % (OWN_BEAT_US / SIM_BEAT_US) == 0);
}

/* ------------------------------------------------------------------ faults */

static void disturb_host(int host, uint64_t until_us)
{
    for (int i = 0; i < sim->num_processes; i++) {
        sim_process *p = sim->process[i];
        if (p->host == host && p->disturbed_us < until_us) {
            p->disturbed_us = until_us;
        }
    }
    if (sim->host_disturbed_us[host] < until_us) {
        sim->host_disturbed_us[host] = until_us;
    }
}

/* All that runs there, its agents too; NULL: that was all. */
static sim_process *next_of(int host, int *at)
{
    const int num = sim->num_processes + sim->num_agents;

    for (; *at < num; (*at)++) {
        sim_process *p =
            *at < sim->num_processes ? sim->process[*at] : sim->agent[*at - sim->num_processes];
        if (p->host == host && p->alive) {
            (*at)++;
            return p;
        }
    }
    return NULL;
}

static void cut(int from, int to, uint64_t for_us)
{
    sim->cut_until_us[from][to] = sim->now_us + for_us;
    disturb_host(from, sim->now_us + for_us + AFTERWARDS_US);
    disturb_host(to, sim->now_us + for_us + AFTERWARDS_US);
}

static void cut_pair(int a, int b, uint64_t for_us)
{
    sim_trace("hosts %d and %d are cut for %llu us", a, b, (unsigned long long)for_us);
    cut(a, b, for_us);
    if (sim_random(3)) { /* else one way is enough */
        cut(b, a, for_us);
    }
}

/* A host without network, and perhaps without the store. */
static void isolate(int host, uint64_t for_us)
{
    const int from_store = (int)sim_random(3) != 0;
    int at = 0;

    sim_trace("host %d is cut off for %llu us%s", host, (unsigned long long)for_us,
              from_store ? ", from the store, too" : "");
    for (int other = 0; other < sim->num_hosts; other++) {
        if (other != host) {
            cut(host, other, for_us);
            cut(other, host, for_us);
        }
    }
    for (sim_process *p; from_store && (p = next_of(host, &at)) != NULL;) {
        p->cut_until_us = sim->now_us + for_us;
        sim_store_break(p);
    }
}

static void end_host(int host)
{
    int at = 0;

    sim_trace("host %d loses power", host);
    disturb_host(host, sim->now_us + AFTERWARDS_US);
    for (sim_process *p; (p = next_of(host, &at)) != NULL;) {
        p->lost_power = 1;
        sim_process_end(p, "its host lost power");
    }
}

static void freeze_host(int host, uint64_t for_us)
{
    int at = 0;

    sim_trace("host %d stands still for %llu us", host, (unsigned long long)for_us);
    disturb_host(host, sim->now_us + for_us + AFTERWARDS_US);
    for (sim_process *p; (p = next_of(host, &at)) != NULL;) {
        sim_process_stop(p, for_us);
    }
}

static void next_fault(void *user, uint64_t number)
{
    const int host = (int)sim_random((uint64_t)sim->num_hosts);
    const int other = (host + 1 + (int)sim_random((uint64_t)sim->num_hosts - 1)) % sim->num_hosts;
    const uint64_t for_us = sim_delay(50000, 1500000);

    (void)user;
    (void)number;
    if (sim->now_us + for_us >= sim->heal_us) {
        return;
    }
    sim->faults++;
    sim_check_fault();
    switch (sim_random(8)) {
    case 0:
    case 1:
        cut_pair(host, other, for_us);
        break;
    case 2:
        isolate(host, for_us);
        break;
    case 3:
        end_host(host);
        break;
    case 4:
        freeze_host(host, for_us);
        break;
    case 5:
        if (sim->has_agents) {
            sim_agent_fault(host, for_us);
            break;
        }
        sim_trace("the agent of host %d is gone for %llu us", host, (unsigned long long)for_us);
        sim->agent_back_us[host] = sim->now_us + for_us;
        break;
    case 6:
        sim_store_refuse_writes(for_us);
        break;
    default:
        sim_store_mute(for_us);
        break;
    }
    sim_after(sim_delay(50000, 900000), next_fault, NULL, 0);
}

/* ------------------------------------------------------------------ checks */

/* N7: it reaches members through their gates alone, since none that stays shares its host. The
 * windows of those that come are new. */
int sim_hosts_fence(const eepi_view *before, const eepi_view *view, const sim_process *p)
{
    for (int i = 0; i < sim->num_processes; i++) {
        const sim_process *q = sim->process[i];
        if (q->host == p->host && sim_is_in(before, q) && sim_is_in(view, q)) {
            return 0;
        }
    }
    return sim->num_hosts && p->was_member && !sim_is_in(view, p);
}

/* N9: a document names the host of each member. */
static void check_named(const eepi_view *view)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        int is_there = !eepi_view_is_member(view, seat);
        for (int i = 0; i < sim->num_processes && !is_there; i++) {
            is_there = sim->process[i]->seat == seat && sim_is_in(view, sim->process[i]);
        }
        SIM_MUST(is_there || !sim->num_hosts, "N9",
                 "epoch %llu: no process of the host that is named has taken seat %d as %u",
                 (unsigned long long)view->epoch, seat, eepi_view_seat_at(view, seat)->generation);
    }
}

/* N10: where hosts and ends are all that fails, nobody goes who is not on such a host. */
void sim_check_hosts(const eepi_view *before, const eepi_view *view)
{
    check_named(view);
    for (int i = 0; before && i < sim->num_processes; i++) {
        const sim_process *p = sim->process[i];
        if (eepi_view_is_fenced(view, p->seat) && !eepi_view_is_fenced(before, p->seat) &&
            sim_is_named(view, p)) {
            SIM_MUST(sim_hosts_fence(before, view, p), "N7",
                     "rank %d.%u is taken for fenced in epoch %llu beside a member of its host",
                     p->seat, p->generation, (unsigned long long)view->epoch);
        }
    }
    for (int i = 0; i < sim->num_processes && sim->hosts_only && !sim->shape.seats_per_group; i++) {
        const sim_process *p = sim->process[i];
        SIM_MUST(!before || !p->alive || p->leaving || p->dies || !sim_is_in(before, p) ||
                     sim_is_in(view, p) || view->cause != EEPI_VIEW_FAULT ||
                     sim->now_us < sim->host_disturbed_us[p->host] ||
                     sim->now_us < p->disturbed_us + AFTERWARDS_US,
                 "N10", "rank %d.%u of host %d is left out of epoch %llu, and its host was well",
                 p->seat, p->generation, p->host, (unsigned long long)view->epoch);
    }
}

/* ------------------------------------------------------------------ life */

void sim_hosts_open(void)
{
    sim_shape *s = &sim->shape;

    sim->num_hosts = 2 + (int)(sim->options.seed % 3);
    sim->num_hosts = sim->num_hosts < s->num_ranks ? sim->num_hosts : s->num_ranks;
    s->ranks_per_node = (s->max_ranks + sim->num_hosts - 1) / sim->num_hosts;
    sim->num_hosts = (s->max_ranks + s->ranks_per_node - 1) / s->ranks_per_node;
    sim->store_keeps = true;
    if (!sim->joiners_only) {
        sim_after(200000 + sim_random(600000), next_fault, NULL, 0);
        sim_leases_lose();
    }
}

/* Mostly that of the seat's node; a seat may come back on another host. */
int sim_host_for(int seat)
{
    const int home = sim->num_hosts ? seat / sim->shape.ranks_per_node : 0;

    if (sim->num_hosts && sim->shape.backup_copies == 0 && sim->now_us > 1000000 &&
        sim_random(4) == 0) {
        return (int)sim_random((uint64_t)sim->num_hosts);
    }
    return home;
}

void sim_hosts_heal(void)
{
    memset(sim->cut_until_us, 0, sizeof sim->cut_until_us);
    memset(sim->agent_back_us, 0, sizeof sim->agent_back_us);
    sim_agents_heal();
}
