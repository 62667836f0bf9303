/* SPDX-License-Identifier: Apache-2.0 */
/* The properties of steps, of calls and of liveness (docs/PROTOCOL.md, "Invariants"), checked when
 * a step begins and ends, when a process is killed or a call returns, and in the end. */
#include "tests/sim/sim.h"

#include "membership/context/context.h"

#include <string.h>

enum { FRESH_US = 400000, RECENT_US = 2000000, JOIN_PAUSE_US = 1000000, SETTLED_US = 300000 };

/* ------------------------------------------------------------------ steps */

/* S6, R1: what the live view routes to lies in the slot. */
static void check_slots(const sim_process *p, const eepi_view *view)
{
    for (int i = 0; i < sim->shape.num_layers * sim->shape.num_slots; i++) {
        int layer = i / sim->shape.num_slots, slot = i % sim->shape.num_slots;
        const eepi_view_slot *s = eepi_view_slot_at(view, layer, p->seat, slot);
        SIM_MUST(s->state != EEPI_SLOT_HOLDS ||
                     p->rank.weights[(size_t)i * 2][0] == sim_expert_code(layer, s->expert),
                 "S6", "rank %d.%u layer %d slot %d does not hold expert %d", p->seat,
                 p->generation, layer, slot, s->expert);
    }
}

void sim_check_begin(sim_process *p, const eep_step *step)
{
    const eepi_stepper *s = &p->rank.context->stepper;
    const eepi_view *view = sim_committed(step->epoch);
    const int at = (int)(p->num_begun++ % SIM_BEGUN_KEPT);

    SIM_MUST(!p->said_end, "M7", "rank %d.%u begins a step after its end", p->seat, p->generation);
    SIM_MUST(view && view->digest == s->live.digest, "S1",
             "rank %d.%u runs epoch %llu, which is not what was committed", p->seat, p->generation,
             (unsigned long long)step->epoch);
    SIM_MUST(step->epoch >= p->epoch, "S2", "rank %d.%u goes back from %llu to %llu", p->seat,
             p->generation, (unsigned long long)p->epoch, (unsigned long long)step->epoch);
    SIM_MUST(step->step > p->step, "D5", "rank %d.%u begins step %llu after %llu", p->seat,
             p->generation, (unsigned long long)step->step, (unsigned long long)p->step);
    SIM_MUST(step->epoch > p->promised, "M2", "rank %d.%u promised not to serve %llu", p->seat,
             p->generation, (unsigned long long)p->promised);
    if (sim->failed) {
        return;
    }
    SIM_MUST(sim_is_in(view, p) && view->phase == EEPI_VIEW_SERVING, "S4",
             "rank %d.%u is not in epoch %llu", p->seat, p->generation,
             (unsigned long long)step->epoch);
    check_slots(p, view);
    p->epoch = step->epoch;
    p->step = step->step;
    p->begun[at].epoch = step->epoch;
    p->begun[at].step = step->step;
}

static int has_begun(const sim_process *p, const eep_step *step)
{
    for (int i = 0; i < SIM_BEGUN_KEPT; i++) {
        if (p->begun[i].epoch == step->epoch && p->begun[i].step == step->step) {
            return 1;
        }
    }
    return 0;
}

/* Views without a common member know nothing of each other's steps; their tags hold the epoch. */
static int share_members(const eepi_view *a, const eepi_view *b)
{
    for (int seat = 0; a && b && seat < a->shape.max_ranks; seat++) {
        if (eepi_view_is_member(a, seat) && eepi_view_is_member(b, seat) &&
            eepi_view_seat_at(a, seat)->generation == eepi_view_seat_at(b, seat)->generation) {
            return 1;
        }
    }
    return 0;
}

/* L3: that recoveries are struck again while they last is counted. */
void sim_check_fault(void)
{
    for (int i = 0; i < sim->num_processes; i++) {
        const sim_process *p = sim->process[i];
        if (p->alive && !p->over && p->rank.context && p->rank.context->core &&
            eepi_core_is_wedged(p->rank.context->core)) {
            sim->faults_in_recovery++;
            return;
        }
    }
}

/* All of the view have stepped, and were left alone, since before that time. */
static int is_settled(const eepi_view *view, uint64_t since_us)
{
    for (int seat = 0; view && seat < view->shape.max_ranks; seat++) {
        const sim_process *q;
        if (!eepi_view_is_member(view, seat)) {
            continue;
        }
        q = sim_process_of(seat, eepi_view_seat_at(view, seat)->generation);
        if (!q || q->first_ok_us == 0 || q->first_ok_us + SETTLED_US > since_us ||
            (q->disturbed_us && q->disturbed_us + SETTLED_US > since_us)) {
            return 0;
        }
    }
    return view && sim->committed_us + SETTLED_US < since_us;
}

/* Fault views behind that epoch: each left out joiners. */
static uint64_t num_fault_views(uint64_t behind_epoch)
{
    uint64_t num = 0, epoch = behind_epoch < sim->first_epoch ? sim->first_epoch : behind_epoch + 1;

    for (; sim->newest && epoch <= sim->newest->epoch; epoch++) {
        const eepi_view *view = sim->committed[epoch - sim->first_epoch];
        num += view && view->cause == EEPI_VIEW_FAULT;
    }
    return num;
}

/* L4: for each view that leaves out joiners which hang or die nobody waits longer than it takes to
 * expel one; and as long as no view has one of them, not at all: a step takes no longer than steps
 * do. */
static void check_join_pause(const sim_process *p)
{
    uint64_t since_us = p->last_ok_us > p->idle_us ? p->last_ok_us : p->idle_us;
    uint64_t pause_us = sim->now_us - since_us;
    uint64_t two_steps_us = 2 * sim_longest_step_us();
    uint64_t num_left_out;

    if (!sim->joiners_only || sim->survivors_from_us == 0 || p->disturbed_us ||
        p->last_ok_us < sim->survivors_from_us) {
        return;
    }
    if (pause_us > sim->longest_join_pause_us) {
        sim->longest_join_pause_us = pause_us;
    }
    num_left_out = num_fault_views(p->last_ok_epoch);
    SIM_MUST(pause_us <= JOIN_PAUSE_US * (num_left_out > 1 ? num_left_out : 1), "L4",
             "rank %d.%u waited %llu us for joiners, of whom %llu views left some out", p->seat,
             p->generation, (unsigned long long)pause_us, (unsigned long long)num_left_out);
    SIM_MUST(pause_us <= two_steps_us || !is_settled(sim->newest, since_us), "L4",
             "rank %d.%u waited %llu us for joiners that no view has", p->seat, p->generation,
             (unsigned long long)pause_us);
}

/* P6: ranks that began a step with different shapes know better in the next one of that view. The
 * first step of another view may be begun by others, who have heard nothing. */
void sim_check_aborted(sim_process *p, const char *why)
{
    sim_rank *r = &p->rank;
    const uint64_t epoch = r->context->stepper.live.epoch;

    r->num_mixed = r->mixed_epoch == epoch ? r->num_mixed : 0;
    r->mixed_epoch = epoch;
    r->num_mixed = strstr(why, "with another shape") ? r->num_mixed + 1 : 0;
    sim->mixed_steps += r->num_mixed > 0;
    SIM_MUST(r->num_mixed < SIM_SHAPES ||
                 (sim->num_hosts && sim->now_us < sim->host_disturbed_us[p->host]),
             "P6", "rank %d.%u: %d steps in a row: %s", p->seat, p->generation, r->num_mixed, why);
}

/* S3, S8, D5: a step ends OK with every member of its view, and under one view only. */
void sim_check_ok(sim_process *p, const eep_step *step, int32_t shape)
{
    const eepi_view *view = sim_committed(step->epoch);
    const int at = (int)(step->step % 1024);

    for (int seat = 0; view && seat < view->shape.max_ranks; seat++) {
        const sim_process *q;
        if (!eepi_view_is_member(view, seat)) {
            continue;
        }
        q = sim_process_of(seat, eepi_view_seat_at(view, seat)->generation);
        SIM_MUST(q && has_begun(q, step), "S3", "rank %d.%u: step %llu of %llu ended OK without %d",
                 p->seat, p->generation, (unsigned long long)step->step,
                 (unsigned long long)step->epoch, seat);
    }
    SIM_MUST(sim->completed[at].step != step->step || sim->completed[at].epoch == step->epoch ||
                 !share_members(sim_committed(sim->completed[at].epoch), view),
             "D5", "step %llu ended OK under %llu and under %llu", (unsigned long long)step->step,
             (unsigned long long)sim->completed[at].epoch, (unsigned long long)step->epoch);
    SIM_MUST(sim->completed[at].step != step->step || sim->completed[at].epoch != step->epoch ||
                 sim->completed[at].shape == shape,
             "P6", "step %llu ended OK with shape %d and with shape %d",
             (unsigned long long)step->step, sim->completed[at].shape, shape);
    p->rank.num_mixed = 0;
    sim->completed[at].shape = shape;
    sim->completed[at].step = step->step;
    sim->completed[at].epoch = step->epoch;
    SIM_MUST(p->expelled_epoch == 0 || step->epoch < p->expelled_epoch, "S4",
             "rank %d.%u completes a step of %llu", p->seat, p->generation,
             (unsigned long long)step->epoch);
    check_join_pause(p);
    if (p->last_ok_us && sim->now_us - p->last_ok_us > sim->longest_pause_us) {
        sim->longest_pause_us = sim->now_us - p->last_ok_us;
    }
    p->last_ok_us = sim->now_us;
    p->last_ok_epoch = step->epoch;
    p->first_ok_us = p->first_ok_us ? p->first_ok_us : sim->now_us;
    p->num_ok++;
    sim->steps_ok++;
}

/* L5: who is killed as silent, stuck or left out was stopped, slow or cut off not long ago; or it
 * had wedged, and others who could not hear of that missed it. */
void sim_check_kill(const sim_process *p)
{
    const int is_meant = p->accused_us != 0 || p->failed || sim_group_is_disturbed(p) ||
                         (sim->num_hosts && sim->now_us < sim->host_disturbed_us[p->host]);

    SIM_MUST(p->rank.joined || p->disturbed_us || is_meant, "L6",
             "rank %d.%u is killed while it warms up", p->seat, p->generation);
    SIM_MUST(p->slow_us || p->over || p->disturbed_us + RECENT_US >= sim->now_us || is_meant ||
                 (sim->newest && p->promised >= sim->newest->epoch),
             "L5", "rank %d.%u is killed although nothing was wrong with it", p->seat,
             p->generation);
}

/* L2: a call ends within its bound, if its process ran all the time. */
void sim_check_call(sim_process *p, const char *name, uint64_t bound_us)
{
    uint64_t took = sim->now_us - p->call_us;

    SIM_MUST(took <= bound_us + bound_us / 20 || p->disturbed_us >= p->call_us || p->slow_us, "L2",
             "rank %d.%u: %s took %llu us, its bound is %llu", p->seat, p->generation, name,
             (unsigned long long)took, (unsigned long long)bound_us);
}

/* ------------------------------------------------------------------ liveness */

/* L1: all seats of the first view are in the register's, their processes run it and complete steps;
 * collectives; nobody else is alive; nobody waits for an end that it asked for, nor do all. */
int sim_all_serve(void)
{
    const eepi_view *view = sim->in_register;
    int members = 0, stay = 0;

    if (!view || view->phase != EEPI_VIEW_SERVING) {
        return 0;
    }
    for (int i = 0; i < sim->num_processes; i++) {
        const sim_process *p = sim->process[i];
        if (!p->alive) {
            continue;
        }
        if (!p->rank.context || p->over || !sim_is_in(view, p) ||
            p->rank.context->stepper.live.digest != view->digest ||
            sim->now_us - p->last_ok_us > FRESH_US || p->ends_instance ||
            p->collective_ok_us < sim->heal_us || /* P13 */
            p->told_nic != sim_nic_rate(p)) {     /* L7 */
            return 0;
        }
        members++;
        stay += !p->leaving;
    }
    return stay > 0 && members >= sim->shape.num_ranks && members == eepi_view_num_active(view);
}

int sim_has_converged(void)
{
    return sim_client_is_done() && sim_all_serve();
}
