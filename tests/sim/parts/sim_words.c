/* SPDX-License-Identifier: Apache-2.0 */
/* Engines that say something against other ranks, between two steps; and what must hold of words
 * and of groups at each commit (P11). */
#include "tests/sim/sim.h"

#include "eep/control.h"
#include "experiments/base/random.h"

#include <string.h>

enum { PERIOD_US = 250000, ONE_OF = 5, SLACK_US = 50000, RECENT_US = 3000000 };

/* All of what a rank is told is the document that was committed with that epoch. */
static void check_snapshot(const sim_process *p)
{
    eep_seat seats[SIM_MAX_SEATS];
    eep_snapshot snapshot;
    const eepi_view *view;

    if (eep_snapshot_get(p->rank.context, EEP_SIZED(&snapshot), NULL, seats) != EEP_OK) {
        return;
    }
    view = sim_committed(snapshot.epoch);
    for (int seat = 0; view && seat < sim->shape.max_ranks; seat++) {
        const int is_in =
            seats[seat].state == EEP_SEAT_ACTIVE || seats[seat].state == EEP_SEAT_RETIRING;
        SIM_MUST(is_in == eepi_view_is_member(view, seat) &&
                     (!is_in || eepi_view_has(view, seat, seats[seat].generation)),
                 "P11", "rank %d.%u is told of seat %d what epoch %llu does not say", p->seat,
                 p->generation, seat, (unsigned long long)snapshot.epoch);
    }
}

static void note(const sim_process *by, int seat, uint32_t generation)
{
    sim_process *p = sim_process_of(seat, generation);

    if (p) {
        p->accused_us = sim->now_us;
        p->accusers |= 1ull << (by->index % 64);
        p->failed |= p == by;
    }
}

static void expel(sim_process *p, int seat, uint32_t generation, uint64_t timeout_us)
{
    eep_verdict verdict;
    const eepi_view *view;
    eep_status status;

    p->call_us = sim->now_us;
    status = eep_expel(p->rank.context, seat, generation, timeout_us, EEP_SIZED(&verdict));
    sim_check_call(p, "eep_expel", timeout_us + SLACK_US);
    sim_trace("%d.%u expels %d.%u: %s", p->seat, p->generation, seat, generation,
              status == EEP_OK ? "it is out" : eep_error_text());
    if (status == EEP_OK && !(seat == p->seat && generation == p->generation)) {
        view = sim_committed(verdict.epoch);
        SIM_MUST(verdict.is_out == 1 && (!view || !eepi_view_has(view, seat, generation)), "P11",
                 "rank %d.%u is told that %d.%u is out, and epoch %llu has it", p->seat,
                 p->generation, seat, generation, (unsigned long long)verdict.epoch);
    } else if (status == EEP_ERR_CONFLICT) {
        view = sim_committed(verdict.kept_epoch);
        SIM_MUST(!view || eepi_view_has(view, seat, generation), "P11",
                 "rank %d.%u is told that epoch %llu kept %d.%u", p->seat, p->generation,
                 (unsigned long long)verdict.kept_epoch, seat, generation);
    } else {
        SIM_MUST(status == EEP_OK || status == EEP_ERR_TIMEOUT || status == EEP_ERR_STATE ||
                     status == EEP_ERR_NOT_FOUND || status == EEP_ERR_EVICTED ||
                     status == EEP_ERR_DRAINED || sim_ended_for_memory(p, status),
                 "P11", "eep_expel: %s", eep_error_text());
    }
}

void sim_words_sometimes(sim_process *p)
{
    static const eep_fault_kind kinds[] = {EEP_FAULT_RESET, EEP_FAULT_DEVICE, EEP_FAULT_BAD_ANSWER};
    static const uint64_t timeouts_us[] = {0, 30000, 700000, 4000000};
    const uint64_t period = sim->now_us / PERIOD_US;
    uint64_t state = sim->options.seed * 6271u + period * 37u + (uint64_t)p->index;
    int seat;
    uint32_t generation;

    if (!(sim->kinds >> SIM_WORD & 1u) || period == p->word_period || sim->now_us >= sim->heal_us) {
        return;
    }
    p->word_period = period;
    check_snapshot(p);
    if (random_next(&state) % ONE_OF != 0) {
        return;
    }
    seat = (int)(random_next(&state) % (uint64_t)sim->shape.max_ranks);
    generation = sim->newest ? eepi_view_seat_at(sim->newest, seat)->generation : 1;
    generation += random_next(&state) % 16 == 0; /* that nobody knows */
    if (seat == p->seat && generation == p->generation) {
        if (random_next(&state) % 4 == 0 &&
            eep_fault_report(p->rank.context, seat, generation, EEP_FAULT_DEVICE) == EEP_OK) {
            sim_trace("%d.%u says that its device has failed", seat, generation);
            note(p, seat, generation);
        }
        return;
    }
    sim->faults++;
    note(p, seat, generation);
    if (random_next(&state) % 2) {
        const eep_fault_kind kind = kinds[random_next(&state) % 3];
        const eep_status status = eep_fault_report(p->rank.context, seat, generation, kind);
        sim_trace("%d.%u reports %d.%u (%s): %s", p->seat, p->generation, seat, generation,
                  eep_fault_kind_name(kind), eep_strerror(status));
    } else {
        expel(p, seat, generation, timeouts_us[random_next(&state) % 4]);
    }
    check_snapshot(p);
}

int sim_group_is_disturbed(const sim_process *p)
{
    const int seats = sim->shape.seats_per_group;

    for (int i = 0; seats && i < sim->num_processes; i++) {
        const sim_process *q = sim->process[i];
        if (q != p && q->seat / seats == p->seat / seats &&
            (!q->alive || q->over || q->slow_us || q->accused_us || q->failed ||
             q->disturbed_us + RECENT_US >= sim->now_us)) {
            return 1;
        }
    }
    return 0;
}

/* A group is in a view as a whole. The word of a rank that is left out itself is worth nothing: who
 * is left out for words alone has an accuser who stays. */
void sim_check_words(const eepi_view *before, const eepi_view *view)
{
    const int seats = sim->shape.seats_per_group;

    for (int seat = 0; seats && seat < view->shape.max_ranks; seat++) {
        SIM_MUST(eepi_view_is_member(view, seat) == eepi_view_is_member(view, seat - seat % seats),
                 "P11", "epoch %llu: seat %d is not as its group is",
                 (unsigned long long)view->epoch, seat);
    }
    for (int i = 0; before && view->cause == EEPI_VIEW_FAULT && i < sim->num_processes; i++) {
        const sim_process *p = sim->process[i];
        int stays = 0;
        if (!sim_is_in(before, p) || sim_is_in(view, p) || !p->alive || p->over || p->dies ||
            p->failed || p->slow_us || p->disturbed_us + RECENT_US >= sim->now_us ||
            !p->accused_us || sim_group_is_disturbed(p) ||
            p->promised < before->epoch) { /* left out for its silence */
            continue;
        }
        for (int by = 0; by < sim->num_processes; by++) {
            stays |= p->accusers >> (by % 64) & 1u && sim_is_in(view, sim->process[by]);
        }
        SIM_MUST(stays, "P11",
                 "rank %d.%u is left out of epoch %llu for the words of none that stays", p->seat,
                 p->generation, (unsigned long long)view->epoch);
    }
}
