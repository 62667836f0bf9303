/* SPDX-License-Identifier: Apache-2.0 */
/* Leases at a store that keeps all, and what may follow from one that has lapsed (rule N21). */
#include "tests/sim/sim.h"

#include "membership/claim/lease.h"

#include <stdio.h>
#include <stdlib.h>

#define LEASE_US "300000" /* shorter than many faults take */

void sim_leases_open(void)
{
    (void)!setenv("EEP_LEASE_US", LEASE_US, 1);
}

/* ------------------------------------------------------------------ nobody reaches the store */

enum { COMES_AFTER_US = 400000, SHOWS_US = 2500000 }; /* leases have lapsed by then */

/* Beside each process that lives, on another host. It is refused if the lease is there. */
static void come(void *user, uint64_t number)
{
    const int num = sim->num_processes;

    (void)user, (void)number;
    for (int i = 0; i < num && !sim->healed; i++) {
        const sim_process *p = sim->process[i];
        if (p->alive && p->generation && p->seat < sim->shape.num_ranks) {
            sim_rank_start(p->seat);
            sim->process[sim->num_processes - 1]->host = (p->host + 1) % sim->num_hosts;
        }
    }
}

static void lose(void *user, uint64_t for_us)
{
    (void)user;
    sim_trace("nobody reaches the store for %llu us", (unsigned long long)for_us);
    sim->faults++;
    for (int i = 0; i < sim->num_processes; i++) {
        sim_process *p = sim->process[i];
        p->cut_until_us = sim->now_us + for_us;
        p->disturbed_us = sim->now_us + for_us + SHOWS_US;
        sim->host_disturbed_us[p->host] = p->disturbed_us;
        sim_store_break(p);
    }
    sim_after(COMES_AFTER_US, come, NULL, 0);
}

/* A node's backups stay on its host, so there are none where seats move. */
void sim_leases_lose(void)
{
    if (sim->num_hosts > 1 && sim_random(4) == 0) {
        sim->shape.backup_copies = 0;
        sim_after(300000 + sim_random(900000), lose, NULL, 600000 + sim_random(900000));
    }
}

/* ------------------------------------------------------------------ whose lease has lapsed */

static void note(void *user, const char *key, uint64_t revision, eepi_store_value *value)
{
    int32_t seat;
    uint32_t generation;

    (void)user, (void)revision, (void)value;
    if (!eepi_lease_of(key, SIM_MAX_SEATS, &seat, &generation)) {
        return;
    }
    for (int i = 0; i < sim->num_processes; i++) {
        sim_process *p = sim->process[i];
        if (p->seat == seat && p->generation == generation) {
            p->lease_us = sim->now_us;
        }
    }
}

static bool has_lapsed(const sim_process *p)
{
    return p->lease_us != 0 && sim->now_us - p->lease_us >= eepi_lease_lapse_us();
}

void sim_leases_note(const eepi_store_table *table)
{
    eepi_store_table_list(table, EEPI_KEY_LEASE, note, NULL);
    for (int i = 0; i < sim->num_processes; i++) {
        if (has_lapsed(sim->process[i])) {
            sim->process[i]->lapsed_us = sim->now_us;
        }
    }
}

/* That view ends an instance over processes whose end nobody has told. */
bool sim_leases_end(const eepi_view *before, const eepi_view *view)
{
    return before && !eepi_view_has_lapsed(before) && eepi_view_has_lapsed(view);
}

void sim_check_lapse(const eepi_view *before, const eepi_view *view, sim_process *p)
{
    if (sim_leases_end(before, view) && sim_is_named(before, p) &&
        eepi_view_seat_at(before, p->seat)->state != EEP_SEAT_VACANT) {
        p->lapsed_epoch = view->epoch;
        SIM_MUST(
            !p->alive || has_lapsed(p), "N21",
            "epoch %llu ends the instance, and the lease of rank %d.%u, which lives, was there "
            "%llu us ago",
            (unsigned long long)view->epoch, p->seat, p->generation,
            (unsigned long long)(sim->now_us - p->lease_us));
        sim->lapsed_alive += (uint64_t)p->alive;
    }
}

/* Else the next one that opens would end an instance that serves. */
void sim_check_leases(void)
{
    if (!sim->store_keeps || sim->failed) {
        return;
    }
    (void)sim_run(sim->now_us + 2 * eepi_lease_lapse_us(), NULL);
    for (int i = 0; i < sim->num_processes && !sim->failed; i++) {
        const sim_process *p = sim->process[i];
        if (p->alive && p->rank.joined && !p->over) {
            SIM_MUST(sim->now_us - p->lease_us < eepi_lease_lapse_us(), "N21",
                     "rank %d.%u serves, and its lease was last there %llu us ago", p->seat,
                     p->generation, (unsigned long long)(sim->now_us - p->lease_us));
        }
    }
}
