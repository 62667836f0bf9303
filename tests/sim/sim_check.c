/* SPDX-License-Identifier: Apache-2.0 */
/* The properties (docs/PROTOCOL.md, "Invariants"), checked where they could first break: when a
 * document enters the register, and when a promise is put. Steps: sim_check_steps.c; tokens:
 * sim_client.c; kernels: sim_kernels.c. */
#include "tests/sim/sim.h"

#include "membership/context/context.h"
#include "membership/service/store_session_state.h"
#include "membership/context/records.h"
#include "repair/planner/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sim_print_ranks(void)
{
    for (int i = 0; i < sim->num_processes; i++) {
        const sim_process *p = sim->process[i];
        const eep_context *c = p->rank.context;
        char text[300] = "opens";
        if (!p->alive) {
            continue;
        }
        if (c && c->core) {
            eepi_core_print(c->core, text, sizeof text);
        }
        printf("  %s%s\n", text, sim->now_us < p->stopped_until_us ? " (stopped)" : "");
        if (c) {
            printf("    runs %llu step %llu%s%s pending %llu staged %llu announced %llu due %d "
                   "ok %llu aborted %llu; last OK %lld us ago; work %d; store %s\n",
                   (unsigned long long)c->stepper.live.epoch, (unsigned long long)c->stepper.step,
                   c->stepper.in_step ? " in step" : "", c->stepper.wedged ? " wedged" : "",
                   (unsigned long long)c->stepper.pending.epoch,
                   (unsigned long long)c->stepper.staged.epoch,
                   (unsigned long long)c->stepper.announced.epoch, c->stepper.flip_due != 0,
                   (unsigned long long)c->stepper.steps_ok,
                   (unsigned long long)c->stepper.steps_aborted,
                   (long long)(sim->now_us - p->last_ok_us), p->rank.num_work,
                   c->session->is_lost ? "lost" : "there");
        }
    }
    if (sim->newest) {
        char text[600];
        eepi_view_print(sim->newest, text, sizeof text);
        printf("  register: %s\n", text);
    }
}

void sim_fail(const char *property, const char *format, ...)
{
    char why[600];
    va_list arguments;

    if (sim->failed) {
        return;
    }
    sim->failed = 1;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    printf("VIOLATION %s seed %llu at %llu us: %s\n", property,
           (unsigned long long)sim->options.seed, (unsigned long long)sim->now_us, why);
    printf("replay: eep-sim --seed %llu%s --trace\n", (unsigned long long)sim->options.seed,
           sim_replay_options());
    sim_print_ranks();
    fflush(stdout);
}

/* M7: a generation of a seat is given once, to whatever host. */
void sim_check_open(const sim_process *p)
{
    for (int i = 0; i < sim->num_processes; i++) {
        const sim_process *q = sim->process[i];
        SIM_MUST(q == p || q->former || q->seat != p->seat || q->generation != p->generation, "M7",
                 "seat %d is taken as %u on host %d, and was on host %d", p->seat, p->generation,
                 p->host, q->host);
    }
}

/* ------------------------------------------------------------------ documents */

const eepi_view *sim_committed(uint64_t epoch)
{
    return epoch >= sim->first_epoch && epoch - sim->first_epoch < SIM_MAX_EPOCHS
               ? sim->committed[epoch - sim->first_epoch]
               : NULL;
}

sim_process *sim_process_of(int seat, uint32_t generation)
{
    for (int i = sim->num_processes - 1; i >= 0; i--) {
        if (sim->process[i]->seat == seat && sim->process[i]->generation == generation &&
            !sim->process[i]->former) {
            return sim->process[i];
        }
    }
    return NULL;
}

int sim_is_named(const eepi_view *view, const sim_process *p)
{
    const eepi_view_seat *s = eepi_view_seat_at(view, p->seat);

    return p->generation != 0 && !p->former && s->generation == p->generation &&
           s->host == sim_host_id(p->host);
}

int sim_is_in(const eepi_view *view, const sim_process *p)
{
    return sim_is_named(view, p) && eepi_view_is_member(view, p->seat);
}

/* It lives, is or was in a view, and has that document or a newer one; of its instance's end it
 * tells nobody. */
static int knows(const sim_process *p, const eepi_view *view)
{
    const eepi_view *known = p->alive && !p->over && p->rank.context && p->rank.context->core
                                 ? eepi_core_view(p->rank.context->core)
                                 : NULL;

    return known && known->epoch >= view->epoch && (p->epoch || sim_is_in(known, p)) &&
           eepi_view_num_active(known) > 0;
}

/* No step under the view it has served last is in flight, and none will begin: it has promised so,
 * or it flipped away from that view, as a leaver does with all others (M3), or it said its end. */
static int has_done_with_view(const sim_process *p)
{
    const eepi_stepper *s = &p->rank.context->stepper;

    return p->said_end || p->promised >= p->epoch || (!s->in_step && s->live.epoch != p->epoch);
}

/* What p launched under its view stores into combine copies of those alone whose tags it has met:
 * of a view that p was told of before the store forgot it, and nobody else runs, it stores rows of
 * its own dispatch only. */
static int is_answered(const sim_process *p, const eepi_view *view)
{
    for (int i = 0; i < sim->num_processes && !p->alive; i++) {
        const sim_process *q = sim->process[i];
        if (q == p || !sim_is_in(view, q)) {
            continue;
        }
        for (int at = 0; at < SIM_BEGUN_KEPT; at++) {
            if (q->begun[at].epoch == p->epoch && p->epoch != 0) {
                return 1;
            }
        }
    }
    return p->alive;
}

/* What it launched may store into memory that the view names (P7). Those who begin an instance
 * again have new windows, whatever their memory is called. */
static int may_reach(const sim_process *p, const eepi_view *view)
{
    const eepi_view *runs = sim_committed(p->epoch);

    if (!sim_process_may_store(p) || !runs || p->fenced || p->over || p->former ||
        has_done_with_view(p) || view->cause == EEPI_VIEW_INITIAL) {
        return 0;
    }
    for (uint64_t epoch = p->epoch + 1; epoch <= view->epoch; epoch++) {
        const eepi_view *later = sim_committed(epoch);
        if (later && later->cause == EEPI_VIEW_INITIAL) {
            return 0;
        }
    }
    return runs->colour == view->colour && runs->serial[runs->colour] == view->serial[view->colour];
}

/* All leave at once (M8). */
static int is_end(const eepi_view *view)
{
    return eepi_view_num_active(view) == 0 && view->cause == EEPI_VIEW_PLANNED;
}

/* A group leaves as a whole. */
static int mate_leaves(const eepi_view *before, const sim_process *p)
{
    const int seats = sim->shape.seats_per_group;

    for (int i = 0; seats && i < sim->num_processes; i++) {
        const sim_process *q = sim->process[i];
        if (q->seat / seats == p->seat / seats && q->rank.leave_asked && sim_is_in(before, q)) {
            return 1;
        }
    }
    return 0;
}

/* Its group has lost a rank, it has said itself that it has failed, or it has no memory for a view:
 * no view can have it, so it has ended its service (P11, P7). */
static int has_given_up(const sim_process *p)
{
    const eep_context *context = p->rank.context; /* its engine may not know it yet */

    if (p->over && p->no_memory && p->ended == EEP_ERR_SYSTEM) {
        return 1;
    }
    return (p->failed || sim_group_is_disturbed(p)) &&
           ((p->over && p->ended == EEP_ERR_EVICTED) || p->said_end ||
            (context && context->outcome.ended == EEP_ERR_EVICTED));
}

static int end_was_asked_for(const eepi_view *before)
{
    int stay = 0;

    for (int i = 0; i < sim->num_processes; i++) {
        const sim_process *p = sim->process[i];
        if (sim_is_in(before, p) && p->rank.end_asked) {
            return 1;
        }
        stay += sim_is_in(before, p) && !p->rank.leave_asked && !mate_leaves(before, p) &&
                p->alive && !has_given_up(p);
    }
    return stay == 0;
}

/* Rule M8: nobody of an instance that has ended is left when the next one begins, but one whose
 * lease has lapsed (N21). And its steps are below those of the next one (D5). */
static void check_beginning(const eepi_view *before, const eepi_view *view, const sim_process *p)
{
    if (!before || view->cause != EEPI_VIEW_INITIAL || p->former || sim_is_in(view, p)) {
        return;
    }
    SIM_MUST(!p->released_epoch || !p->alive || p->said_end || p->lapsed_epoch > p->released_epoch,
             "M8", "rank %d.%u, whose instance ended with epoch %llu, lives when %llu begins",
             p->seat, p->generation, (unsigned long long)p->released_epoch,
             (unsigned long long)view->epoch);
    SIM_MUST(p->epoch == 0 || p->epoch > before->epoch || p->step < view->first_step, "D5",
             "rank %d.%u started step %llu, an instance begins with %llu", p->seat, p->generation,
             (unsigned long long)p->step, (unsigned long long)view->first_step);
}

/* What a commit changes for a process. */
static void check_commit_of(const eepi_view *before, const eepi_view *view, sim_process *p)
{
    int is_fault = view->cause == EEPI_VIEW_FAULT;
    const uint32_t generation = eepi_view_seat_at(view, p->seat)->generation;

    if (p->generation == 0) {
        return;
    }
    p->was_member |= sim_is_in(view, p);
    p->fenced = !sim_is_in(view, p) && (p->fenced || (before && sim_hosts_fence(before, view, p)));
    sim_check_lapse(before, view, p);
    if (before && sim_is_in(before, p) && !sim_is_in(view, p)) {
        p->expelled_epoch = view->epoch;
        sim->expelled_alive += (uint64_t)(p->alive && is_fault);
        if (is_end(view) && !sim_leases_end(before, view)) {
            p->released_epoch = view->epoch;
        }
        SIM_MUST(is_fault || sim_leases_end(before, view) || p->rank.leave_asked ||
                     mate_leaves(before, p) ||
                     (is_end(view) &&
                      (p->dies || !p->alive || has_given_up(p) || end_was_asked_for(before))) ||
                     (view->cause == EEPI_VIEW_INITIAL && (!p->alive || has_given_up(p))),
                 "M1", "rank %d.%u is expelled by a planned change", p->seat, p->generation);
    }
    check_beginning(before, view, p);
    SIM_MUST(!sim_process_may_store(p) || p->generation >= generation ||
                 (before && eepi_view_seat_at(before, p->seat)->generation == generation) ||
                 p->fenced || (p->lapsed_us && !p->was_member) || p->said_end ||
                 (!p->alive && !may_reach(p, view)),
             "M7", "rank %d.%u lives, or may store, and %u is let in", p->seat, p->generation,
             generation);
    SIM_MUST(!is_fault || sim_is_in(view, p) || !is_answered(p, view) || !may_reach(p, view), "P7",
             "rank %d.%u may still store into the windows of epoch %llu", p->seat, p->generation,
             (unsigned long long)view->epoch);
    SIM_MUST(!is_fault || !sim_is_in(view, p) || p->step < view->first_step, "M2",
             "rank %d.%u started step %llu, first_step is %llu", p->seat, p->generation,
             (unsigned long long)p->step, (unsigned long long)view->first_step);
}

/* R1: what is to be filled can be checked. */
static void check_fills(const eepi_view *view)
{
    for (int i = 0; i < sim->shape.num_layers * sim->shape.num_slots; i++) {
        int layer = i / sim->shape.num_slots, slot = i % sim->shape.num_slots;
        for (int seat = 0; seat < view->shape.max_ranks; seat++) {
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            SIM_MUST(s->state != EEPI_SLOT_FILLING ||
                         *eepi_view_checksum_at(view, layer, s->expert) != 0,
                     "R1", "epoch %llu: layer %d expert %d is FILLING, and nobody knows it",
                     (unsigned long long)view->epoch, layer, s->expert);
        }
    }
}

static void check_coverage(const eepi_view *view)
{
    int fills = eepi_plan_fills(view, -1, NULL, 0), uncovered = eepi_view_num_uncovered(view, -1);
    int serving = view->phase == EEPI_VIEW_SERVING;

    SIM_MUST(serving == (uncovered == 0) || eepi_view_num_active(view) == 0, "S7",
             "epoch %llu: %d experts uncovered", (unsigned long long)view->epoch, uncovered);
    SIM_MUST(serving || (view->cause == EEPI_VIEW_FAULT && fills) ||
                 (view->cause == EEPI_VIEW_INITIAL && fills && view->base_digest != 0),
             "M1", "epoch %llu: %d slots FILLING", (unsigned long long)view->epoch, fills);
    check_fills(view);
    SIM_MUST(!fills || !serving || view->cause == EEPI_VIEW_PLANNED, "R1",
             "epoch %llu: %d slots FILLING", (unsigned long long)view->epoch, fills);
}

/* M4: what it was made from, the newest document; where somebody is left out alive, that nobody
 * else knows a newer one is enough, and epochs leap over those. */
static const eepi_view *base_of(const eepi_view *view)
{
    const eepi_view *base = NULL;

    for (uint64_t at = sim->first_epoch; at < view->epoch && at - sim->first_epoch < SIM_MAX_EPOCHS;
         at++) {
        const eepi_view *one = sim_committed(at);
        if (one && one->digest == view->base_digest) {
            base = one;
        } else if (one && base) {
            for (int i = 0; i < sim->num_processes; i++) {
                SIM_MUST(!knows(sim->process[i], one) || !sim_is_in(view, sim->process[i]), "M4",
                         "epoch %llu is made without %llu, which rank %d.%u knows",
                         (unsigned long long)view->epoch, (unsigned long long)at,
                         sim->process[i]->seat, sim->process[i]->generation);
            }
        }
    }
    SIM_MUST(base || sim->newest == NULL, "M4", "epoch %llu: base",
             (unsigned long long)view->epoch);
    return base;
}

static void trace_document(const eepi_view *view)
{
    char text[400];

    if (sim->options.trace) {
        eepi_view_print(view, text, sizeof text);
        sim_trace("register: %s first_step %llu by %d", text, (unsigned long long)view->first_step,
                  view->proposer);
    }
}

static void check_document(const eepi_view *view)
{
    const eepi_view *same = sim_committed(view->epoch), *before;
    const char *why = "";

    if (sim->first_epoch == 0) {
        sim->first_epoch = view->epoch;
    }
    SIM_MUST(eepi_view_check(view, view->bytes, &why) == EEP_OK, "S1", "epoch %llu: %s",
             (unsigned long long)view->epoch, why);
    SIM_MUST(!same || same->digest == view->digest, "S2", "epoch %llu has two payloads",
             (unsigned long long)view->epoch);
    if (same || sim->failed) {
        sim_trace("register: epoch %llu again", (unsigned long long)view->epoch);
        sim->in_register = same;
        return;
    }
    SIM_MUST(view->epoch - sim->first_epoch < SIM_MAX_EPOCHS || view->epoch < sim->first_epoch,
             "L1", "epoch %llu: one view after the other", (unsigned long long)view->epoch);
    SIM_MUST(view->epoch >= sim->first_epoch, "S2", "epoch %llu after %llu",
             (unsigned long long)view->epoch, (unsigned long long)sim->first_epoch);
    before = base_of(view);
    if (sim->failed) {
        return;
    }
    for (int i = 0; before && i < sim->num_processes; i++) { /* by a document leapt over */
        sim_process *p = sim->process[i];
        if (sim_is_in(view, p) && p->expelled_epoch > before->epoch) {
            p->expelled_epoch = 0;
        }
        if (p->released_epoch > before->epoch) {
            p->released_epoch = 0;
        }
    }
    trace_document(view);
    sim->committed[view->epoch - sim->first_epoch] = eepi_view_copy(view);
    sim->in_register = sim->newest = sim->committed[view->epoch - sim->first_epoch];
    sim->views++;
    sim->committed_us = sim->now_us;
    sim->begun_us = view->cause == EEPI_VIEW_INITIAL ? sim->now_us : sim->begun_us;
    check_coverage(view);
    if (before) {
        sim_check_orders(before, view);
        sim_check_hosts(before, view);
    }
    sim_check_words(before, view);
    for (int seat = 0; before && seat < view->shape.max_ranks; seat++) {
        SIM_MUST(eepi_view_seat_at(before, seat)->generation <=
                     eepi_view_seat_at(view, seat)->generation,
                 "S12", "epoch %llu: seat %d", (unsigned long long)view->epoch, seat);
    }
    SIM_MUST(!before || (before->colour != view->colour) == (view->cause == EEPI_VIEW_FAULT), "P7",
             "epoch %llu: the colour changes with fault views only",
             (unsigned long long)view->epoch);
    for (int colour = 0; before && colour < EEPK_COLOURS; colour++) {
        sim->renewals += view->serial[colour] != before->serial[colour];
        SIM_MUST(view->serial[colour] == before->serial[colour] || colour != before->colour, "P7",
                 "epoch %llu: memory is replaced under those who use it",
                 (unsigned long long)view->epoch);
    }
    for (int i = 0; i < sim->num_processes; i++) {
        check_commit_of(before, view, sim->process[i]);
    }
    if (sim_leases_end(before, view)) {
        sim->lapses++;
    } else if (before && is_end(view)) {
        sim->ends++;
        sim_begin_again(view->epoch);
    }
}

/* The store has lost its memory, and nobody lives who served and knew a document that new: what was
 * committed after this one's base is forgotten, and its processes with it. */
static int is_forgotten(const eepi_view *view)
{
    if (!sim->newest || view->epoch > sim->newest->epoch) {
        return 0;
    }
    for (int i = 0; i < sim->num_processes; i++) {
        if (knows(sim->process[i], view)) {
            return 0;
        }
    }
    return 1;
}

void sim_check_commit(const eepi_view *view)
{
    if (is_forgotten(view)) {
        sim_trace("nobody remembers epoch %llu", (unsigned long long)view->epoch);
        if (view->epoch < sim->first_epoch) {
            memset(sim->committed, 0, sizeof sim->committed);
            sim->first_epoch = view->epoch;
        }
        for (uint64_t at = view->epoch - sim->first_epoch; at < SIM_MAX_EPOCHS; at++) {
            sim->committed[at] = NULL;
        }
        memset(sim->completed, 0, sizeof sim->completed);
        sim->in_register = sim->newest = NULL;
        for (int i = 0; i < sim->num_processes; i++) {
            sim_process *p = sim->process[i];
            p->former |= !p->alive && p->epoch >= view->epoch;
            if (p->expelled_epoch >= view->epoch) {
                p->expelled_epoch = 0;
            }
            if (p->released_epoch >= view->epoch) {
                p->released_epoch = 0;
            }
        }
    }
    check_document(view);
}

/* Rules M7 and N8: the end of another process was seen, or said by itself. It shows those of older
 * ones, but for those that are fenced, or whose claim has lapsed (N7, N21). */
static void check_told_end(const sim_process *p, const eepi_end *end)
{
    for (int i = 0; i < sim->num_processes; i++) {
        const sim_process *q = sim->process[i];
        const int is_free = q->fenced || (q->lapsed_us && !q->was_member);
        SIM_MUST(q->seat != end->seat || q->generation == 0 || q->generation > end->generation ||
                     (q->generation < end->generation && is_free) || q == p || q->former ||
                     !q->alive || q->said_end,
                 "M7", "%d.%u tells that %d.%u has ended, and %d.%u of host %d lives", p->seat,
                 p->generation, end->seat, end->generation, q->seat, q->generation, q->host);
    }
}

/* Rule M7: who says its own end has no step in flight, and begins none. */
static void check_own_end(sim_process *p, const char *key, const void *bytes, size_t size)
{
    eepi_end end;

    if (strncmp(key, EEPI_KEY_EXIT, strlen(EEPI_KEY_EXIT)) != 0 || size != sizeof end) {
        return;
    }
    memcpy(&end, bytes, sizeof end);
    if (end.seat != p->seat || end.generation != p->generation) {
        check_told_end(p, &end);
        return;
    }
    if (!p->alive) {
        return;
    }
    SIM_MUST(!p->rank.context || !p->rank.context->stepper.in_step, "M7",
             "rank %d.%u says its end in a step", p->seat, p->generation);
    p->said_end = 1;
}

/* What a rank tells of its links (L7). */
static void note_links(sim_process *p, const char *key, const void *bytes, size_t size)
{
    eepi_record record;
    void *copy;

    if (!p->rank.context || strncmp(key, EEPI_KEY_MEMBER, strlen(EEPI_KEY_MEMBER)) != 0) {
        return;
    }
    copy = malloc(size);
    memcpy(copy, bytes, size);
    if (eepi_record_decode(copy, size, &p->rank.context->view_shape, &record) == EEP_OK) {
        p->told_nic = record.member.rates[EEPI_RATE_NIC];
    }
    free(copy);
}

/* Rule N20: a put without compare may come late, behind its writer's successor. */
static void check_key(const sim_process *p, const char *key)
{
    static const char *const prefixes[] = {EEPI_KEY_REPORT, EEPI_KEY_ACK};

    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const size_t length = strlen(prefixes[i]);
        unsigned seat = 0, generation = 0;
        SIM_MUST(strncmp(key, prefixes[i], length) != 0 ||
                     (sscanf(key + length, "%u/%u", &seat, &generation) == 2 &&
                      (int)seat == p->seat && generation == p->generation),
                 "N20", "%d.%u puts %s", p->seat, p->generation, key);
    }
}

/* Rule M2: a report is put when no step of its epoch or an older one is in flight, and the gate of
 * the own window lets nothing of it in. */
void sim_check_put(sim_process *p, const char *key, const void *bytes, size_t size)
{
    eepi_report report;
    void *copy;

    check_own_end(p, key, bytes, size);
    check_key(p, key);
    note_links(p, key, bytes, size);
    if (strncmp(key, EEPI_KEY_REPORT, strlen(EEPI_KEY_REPORT)) != 0) {
        return;
    }
    copy = malloc(size);
    memcpy(copy, bytes, size);
    if (eepi_report_decode(copy, size, sim->shape.max_ranks, &report) == EEP_OK) {
        const eepi_stepper *s = &p->rank.context->stepper;
        SIM_MUST(!p->alive || !s->in_step || s->live.epoch > report.epoch, "M2",
                 "rank %d.%u is in step %llu of %llu and has promised %llu", p->seat, p->generation,
                 (unsigned long long)s->step, (unsigned long long)s->live.epoch,
                 (unsigned long long)report.epoch);
        SIM_MUST(!p->alive || !sim_network_lets_in(p, report.epoch), "M2",
                 "rank %d.%u has promised %llu, and rows of it are still placed", p->seat,
                 p->generation, (unsigned long long)report.epoch);
        if (report.epoch > p->promised) {
            p->promised = report.epoch;
        }
    }
    free(copy);
}

/* The newest epoch whose document the writer of a record has. Who is no member writes none back,
 * nor who serves no more, though its engine may not know that yet. */
uint64_t sim_known_epoch(const sim_process *p, const char *key)
{
    const eepi_view *view;

    if (p->over || !p->rank.context || p->rank.context->outcome.ended != EEP_OK ||
        strncmp(key, EEPI_KEY_MEMBER, strlen(EEPI_KEY_MEMBER)) != 0) {
        return 0;
    }
    view = eepi_core_view(p->rank.context->core);
    return view && eepi_view_is_member(view, p->seat) &&
                   eepi_view_seat_at(view, p->seat)->generation == p->generation
               ? view->epoch
               : 0;
}

/* M4: who reads a member's record finds in the register what that one knew when it wrote it. */
void sim_check_behind(const sim_process *p, uint64_t known, uint64_t in_register)
{
    SIM_MUST(known <= in_register, "M4",
             "the record of %d.%u, who knows epoch %llu, comes where the register has %llu",
             p->seat, p->generation, (unsigned long long)known, (unsigned long long)in_register);
}
