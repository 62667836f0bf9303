/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank of the cluster does: its thread steps, its service carries out the core's actions. */
#include "tests/lib/core/core_cluster_parts.h"

#include "repair/planner/planner.h"

#include <string.h>

/* ------------------------------------------------------------------ the rank thread */

/* Steps only grow, so the search goes back from the newest as far as that step. */
static const cluster_started *started(const cluster_process *p, uint64_t epoch, uint64_t step)
{
    uint64_t num = p->num_started < CLUSTER_STARTED_KEPT ? p->num_started : CLUSTER_STARTED_KEPT;

    for (uint64_t back = 1; back <= num; back++) {
        const cluster_started *s = &p->started[(p->num_started - back) % CLUSTER_STARTED_KEPT];
        if (s->step < step) {
            return NULL;
        }
        if (s->epoch == epoch && s->step == step) {
            return s;
        }
    }
    return NULL;
}

static const cluster_started *newest_started(const cluster_process *p)
{
    static const cluster_started none;

    return p->num_started ? &p->started[(p->num_started - 1) % CLUSTER_STARTED_KEPT] : &none;
}

/* The mail of the step core, as the service thread hands it on. */
static void give_mail(cluster *c, cluster_process *p)
{
    eepi_step_mail mail;

    if (!eepi_stepper_take_mail(&p->stepper, &mail)) {
        return;
    }
    if (mail.flipped) {
        cluster_feed_to(c, p,
                        (eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = mail.flipped_digest});
    }
    if (mail.accused) {
        cluster_feed_to(c, p,
                        (eepi_input){.kind = EEPI_INPUT_ACCUSED,
                                     .seats = mail.accused_seats,
                                     .step = mail.accused_step});
    }
    if (mail.drained && p->blocked) {
        const uint64_t seats[EEPK_SEAT_WORDS] = {p->blocked};
        cluster_feed_to(c, p, (eepi_input){.kind = EEPI_INPUT_BLOCKED, .seats = seats});
    }
    if (mail.drained) {
        cluster_feed_to(c, p,
                        (eepi_input){.kind = EEPI_INPUT_DRAINED,
                                     .step = mail.drained_step,
                                     .collective = p->collective});
    }
}

static void flip(cluster *c, cluster_process *p)
{
    const eepi_live *next = eepi_stepper_flip_to(&p->stepper);

    if (next) {
        const eepi_view *view = c->committed[next->epoch];
        MUST(c, view && view->digest == next->digest, "S1: rank %d installs epoch %llu", p->seat,
             (unsigned long long)next->epoch);
        cluster_check_install(c, p, view);
        (void)eepi_stepper_flipped(&p->stepper);
        p->live = view;
    }
    if (p->stepper.live.epoch == 0) {
        p->live = NULL; /* it has left */
    }
}

static void begin_step(cluster *c, cluster_process *p)
{
    const eepi_stepper *s = &p->stepper;
    uint64_t ahead = 0;

    flip(c, p);
    for (int seat = 0; p->live && seat < p->live->shape.max_ranks; seat++) {
        cluster_process *q = cluster_member(c, p->live, seat);
        if (q && q != p && newest_started(q)->epoch == p->live->epoch &&
            newest_started(q)->step > s->step && newest_started(q)->step > ahead) {
            ahead = newest_started(q)->step;
        }
    }
    if (eepi_stepper_may_begin(s, ahead)) {
        eepk_launch launch = eepi_stepper_begin(&p->stepper, ahead, c->now_us);
        cluster_check_step(c, p);
        MUST(c, launch.step >= newest_started(p)->step, "a step number of rank %d comes again",
             p->seat);
        p->started[p->num_started++ % CLUSTER_STARTED_KEPT] =
            (cluster_started){launch.epoch, launch.step, launch.announce_digest};
    }
    give_mail(c, p);
}

/* How the device would end it now, in the order of docs/PROTOCOL.md, "How a wait ends"; 0: it goes
 * on. */
static int ended(cluster *c, const cluster_process *p, eepk_status *status)
{
    uint64_t missing = 0, step = p->stepper.step;
    int aborted = 0, newer = 0;

    *status = (eepk_status){.done_step = step, .last_seat = (uint32_t)p->seat};
    for (int seat = 0; seat < p->live->shape.max_ranks; seat++) {
        cluster_process *q = cluster_member(c, p->live, seat);
        const cluster_started *s = q ? started(q, p->live->epoch, step) : NULL;
        const cluster_started *newest = q ? newest_started(q) : NULL;
        if (s) {
            status->flip_digest |= s->announced;
        } else if (q) {
            missing |= 1ull << seat;
            aborted |= q->stepper.wedged && q->alive;
            if (newest->step >= step && newest->epoch >= p->live->epoch) {
                newer |= newest->epoch > p->live->epoch;
                if (newest->step > status->jump_step) {
                    status->jump_step = newest->step;
                }
            }
        }
    }
    if (!missing) {
        return 1;
    }
    if (status->jump_step) {
        status->result = newer ? EEPK_STEP_NEWER_EPOCH : EEPK_STEP_JUMP;
    } else if (aborted) {
        status->result = EEPK_STEP_PEER_ABORT;
    } else {
        status->result = EEPK_STEP_DEADLINE;
    }
    status->suspects[0] = missing;
    return status->result != EEPK_STEP_DEADLINE ||
           c->now_us - p->stepper.began_us > STEP_DEADLINE_US;
}

static void end_step(cluster *c, cluster_process *p, int give_up)
{
    eepk_status status;
    int is_over = ended(c, p, &status);

    if (!is_over && !give_up) {
        return;
    }
    if (!is_over) {
        status.result = EEPK_STEP_HOST_ABORT;
    }
    if (status.result == EEPK_STEP_OK) {
        cluster_check_step(c, p);
    }
    if (eepi_stepper_end(&p->stepper, &status, c->now_us)) {
        p->num_ok++;
        p->last_ok_us = c->now_us;
    } else {
        p->num_aborted++;
    }
    give_mail(c, p);
}

static eepi_live live_of(const cluster_process *p, const eepi_view *view)
{
    return eepi_live_of(view, p->seat, p->generation, p->seats);
}

static void stage(cluster *c, cluster_process *p, const eepi_view *view)
{
    eepi_live live = live_of(p, view);
    eepi_stage_verdict verdict = eepi_stepper_stage(&p->stepper, &live);

    p->held_plan = verdict == EEPI_STAGE_BUSY ? view : NULL;
    if (p->held_plan) {
        return;
    }
    if (p->holds_acks || p->failing_stages) {
        p->failing_stages -= p->failing_stages > 0;
        return; /* no acknowledgement: the plan lapses */
    }
    if (verdict == EEPI_STAGE_GO) {
        eepi_stepper_staged(&p->stepper, &live);
    }
    cluster_push(c, EVENT_INPUT, p, c->now_us + 500 + cluster_random(c, 3000),
                 (eepi_input){.kind = EEPI_INPUT_STAGED, .digest = view->digest});
}

/* The idle bank is idle now, maybe: as eepi_stage_plan does it. */
static void stage_held(cluster *c, cluster_process *p)
{
    const eepi_view *plan = p->held_plan;

    if (!plan || p->stepper.pending.epoch != 0 || p->stepper.wedged) {
        return;
    }
    p->held_plan = NULL;
    if (plan->base_digest == eepi_core_view(p->core)->digest) {
        stage(c, p, plan);
    }
}

void cluster_run_rank(cluster *c, cluster_process *p)
{
    cluster_push_in(c, EVENT_RANK, p, 2000 + cluster_random(c, 3000));
    stage_held(c, p);
    if (c->now_us < p->stuck_until_us || p->over) {
        return;
    }
    if (p->stepper.in_step) {
        end_step(c, p, 0);
    } else if (!p->stepper.wedged) {
        begin_step(c, p);
    }
}

void cluster_drain(cluster *c, cluster_process *p)
{
    if (c->now_us < p->stuck_until_us) {
        if (p->stuck_until_us != CLUSTER_FOREVER) {
            cluster_push(c, EVENT_DRAINED, p, p->stuck_until_us, (eepi_input){0});
        }
        return;
    }
    if (p->stepper.in_step) {
        end_step(c, p, 1); /* the abort word may come too late to stop it */
    }
    give_mail(c, p);
}

/* ------------------------------------------------------------------ actions */

static void wedge(cluster *c, cluster_process *p)
{
    int in_step = eepi_stepper_wedge(&p->stepper);

    p->num_wedges++;
    cluster_push_in(c, EVENT_DRAINED, p, 100 + (in_step ? cluster_random(c, 10000) : 0));
}

static void follow_seats(cluster_process *p, const eepi_view *view)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *s = eepi_view_seat_at(view, seat);
        p->seats[seat] = (eep_seat){(eep_seat_state)s->state, s->generation};
    }
}

void cluster_filled(cluster *c, cluster_process *p, const eepi_view *view)
{
    eepi_fill fills[CLUSTER_MAX_SLOTS];
    int n = eepi_plan_fills(view, p->seat, fills, CLUSTER_MAX_SLOTS);

    if (!eepi_core_view(p->core) || eepi_core_view(p->core)->digest != view->digest) {
        return; /* cancelled */
    }
    for (int i = 0; i < n; i++) {
        p->experts[fills[i].slot] = fills[i].expert;
    }
    cluster_feed(c, p->seat, (eepi_input){.kind = EEPI_INPUT_FILLED, .digest = view->digest});
    if (n > 0 && c->options.late_bad_reads > 0 && fills[0].source == EEPI_SOURCE_FILE) {
        c->options.late_bad_reads--;
        p->file_is_bad = 1;
        cluster_publish(c, p);
    }
}

static eepi_member record_of(const cluster *c, const cluster_process *p)
{
    return (eepi_member){p->seat,
                         p->generation,
                         1,
                         (uint8_t)p->leaving,
                         p->experts,
                         p->checksums,
                         &p->backup,
                         .has_checkpoint =
                             c->options.checkpoints && p->seat % 2 == 0 && !p->file_is_bad,
                         .claims = &p->claim};
}

void cluster_publish(cluster *c, cluster_process *p)
{
    eepi_member record = record_of(c, p);
    eepi_input input = {.kind = EEPI_INPUT_MEMBER};

    record.experts = cluster_keep(c, p->experts, sizeof p->experts);
    record.checksums = cluster_keep(c, p->checksums, sizeof p->checksums);
    input.member = cluster_keep(c, &record, sizeof record);
    cluster_to_store(c, p, EVENT_PUT, input);
}

/* Rule R1: the old content of a FILLING slot is gone from now on. */
static void fill(cluster *c, cluster_process *p, const eepi_view *view)
{
    eepi_fill fills[CLUSTER_MAX_SLOTS];
    int n = eepi_plan_fills(view, p->seat, fills, CLUSTER_MAX_SLOTS);

    MUST(c,
         view->phase == EEPI_VIEW_REPAIRING ? p->stepper.wedged
                                            : p->live && p->live->epoch == view->epoch,
         "R1: rank %d fills slots of a view that it does not run", p->seat);
    for (int i = 0; i < n; i++) {
        const int from = eepi_source_seat(fills[i].source, p->seat);
        p->experts[fills[i].slot] = -1;
        if (eepi_source_is_file(fills[i].source) && cluster_read_is_bad(c, view, from)) {
            return;
        }
    }
    p->num_fills += (uint64_t)n;
    cluster_push(c, EVENT_FILLED, p,
                 c->now_us + 1000 + cluster_random(c, 20000) + (n ? p->fill_delay_us : 0),
                 (eepi_input){.kind = EEPI_INPUT_FILLED, .digest = view->digest, .view = view});
}

static void put_report(cluster *c, cluster_process *p, const eepi_report *report)
{
    eepi_report copy = *report;
    eepi_input input = {.kind = EEPI_INPUT_REPORT};

    MUST(c, !p->stepper.in_step, "M2: rank %d reports in a step", p->seat);
    copy.suspects =
        cluster_keep(c, copy.suspects, (size_t)copy.num_suspects * sizeof *copy.suspects);
    input.report = cluster_keep(c, &copy, sizeof copy);
    p->promised = copy.epoch;
    cluster_to_store(c, p, EVENT_PUT, input);
}

void cluster_tell_wedge(cluster *c, cluster_process *p)
{
    cluster_to_store(c, p, EVENT_WEDGE,
                     (eepi_input){.wedge = p->told_wedge, .revision = p->wedge_revision});
}

/* As eepi_store_note_wedge does it. */
static void note_wedge(cluster *c, cluster_process *p, const eepi_input *input)
{
    const eepi_view *view = eepi_core_view(p->core);

    p->wedge_revision = input->revision;
    if (view && p->told_wedge.epoch == view->epoch && input->wedge.epoch < view->epoch) {
        cluster_tell_wedge(c, p);
    }
}

static void put_ack(cluster *c, cluster_process *p, const eepi_ack *ack)
{
    if (ack->kind == EEPI_ACK_STAGED && p->die_at_ack_us) {
        cluster_push_in(c, EVENT_DIE, p, p->die_at_ack_us);
        p->die_at_ack_us = 0;
    }
    cluster_to_store(
        c, p, EVENT_PUT,
        (eepi_input){.kind = EEPI_INPUT_ACK, .ack = cluster_keep(c, ack, sizeof *ack)});
}

static void perform_view(cluster *c, cluster_process *p, const eepi_action *action)
{
    const eepi_view *view = cluster_keep(c, action->view, action->view->bytes);
    eepi_live live;

    switch (action->kind) {
    case EEPI_ACTION_CAS:
        p->num_cas++;
        cluster_to_store(c, p, EVENT_CAS, (eepi_input){.view = view, .revision = action->revision});
        break;
    case EEPI_ACTION_PLAN:
        cluster_to_store(c, p, EVENT_PUT, (eepi_input){.kind = EEPI_INPUT_PLAN, .view = view});
        break;
    case EEPI_ACTION_STAGE:
        stage(c, p, view);
        break;
    case EEPI_ACTION_INSTALL:
        live = live_of(p, view);
        follow_seats(p, view);
        eepi_stepper_withdraw(&p->stepper);
        eepi_stepper_install(&p->stepper, &live, view->cause == EEPI_VIEW_PLANNED);
        break;
    case EEPI_ACTION_ANNOUNCE:
        live = live_of(p, view);
        follow_seats(p, view);
        if (!live.leaves && eepi_stepper_stage(&p->stepper, &live) == EEPI_STAGE_GO) {
            eepi_stepper_staged(&p->stepper, &live);
        }
        eepi_stepper_announce(&p->stepper, &live);
        break;
    case EEPI_ACTION_FILL:
        fill(c, p, view);
        break;
    default: /* EEPI_ACTION_EXPELLED */
        break;
    }
}

static void perform(cluster *c, cluster_process *p, const eepi_action *action)
{
    cluster_process *other;

    switch (action->kind) {
    case EEPI_ACTION_WEDGE:
        wedge(c, p);
        break;
    case EEPI_ACTION_REPORT:
        put_report(c, p, &action->report);
        break;
    case EEPI_ACTION_TELL_WEDGE:
        MUST(c, p->stepper.wedged, "N22: rank %d tells that it has stopped, and steps", p->seat);
        p->told_wedge = action->wedge;
        cluster_tell_wedge(c, p);
        break;
    case EEPI_ACTION_LISTEN:
    case EEPI_ACTION_IGNORE:
        cluster_to_store(c, p, action->kind == EEPI_ACTION_LISTEN ? EVENT_LISTEN : EVENT_IGNORE,
                         (eepi_input){0});
        break;
    case EEPI_ACTION_READ:
        cluster_to_store(c, p, EVENT_READ, (eepi_input){0});
        break;
    case EEPI_ACTION_ACK:
        put_ack(c, p, &action->ack);
        break;
    case EEPI_ACTION_KILL:
        p->num_kills++;
        other = cluster_process_of(c, action->suspect.seat, action->suspect.generation);
        if (other->unkillable) {
            cluster_feed_to(
                c, p, (eepi_input){.kind = EEPI_INPUT_NOT_KILLED, .suspect = action->suspect});
        } else {
            cluster_push_in(c, EVENT_DIE, other, 200 + cluster_random(c, 3000));
        }
        break;
    case EEPI_ACTION_EXIT:
        cluster_to_store(c, p, EVENT_PUT,
                         (eepi_input){.kind = EEPI_INPUT_EXIT, .end = action->end});
        break;
    case EEPI_ACTION_MEMBER:
        p->leaving = 1;
        cluster_publish(c, p);
        break;
    case EEPI_ACTION_UNCOVERED:
        c->num_uncovered++; /* it waits for a joiner that brings the experts */
        break;
    case EEPI_ACTION_EVICTED:
    case EEPI_ACTION_DRAINED: /* the engine ends its process */
        p->over = 1;
        cluster_push_in(c, EVENT_DIE, p, 1000 + cluster_random(c, 20000));
        break;
    case EEPI_ACTION_CANCEL:
    case EEPI_ACTION_REFUSED:
    case EEPI_ACTION_SUSPECTED:
        break;
    default:
        perform_view(c, p, action);
        break;
    }
}

void cluster_feed_to(cluster *c, cluster_process *p, eepi_input input)
{
    eepi_action actions[EEPI_CORE_MAX_ACTIONS];
    const eepi_action *from;
    uint64_t wake;
    int n;

    if (!p->alive) {
        return;
    }
    input.now_us = c->now_us;
    from = eepi_core_handle(p->core, &input, &n);
    memcpy(actions, from, (size_t)n * sizeof *actions);
    for (int i = 0; i < n; i++) {
        perform(c, p, &actions[i]);
    }
    if (input.kind == EEPI_INPUT_WEDGE) {
        note_wedge(c, p, &input);
    }
    wake = eepi_core_wake_us(p->core);
    if (wake != UINT64_MAX && (p->wake_us <= c->now_us || wake < p->wake_us)) {
        p->wake_us = wake > c->now_us ? wake : c->now_us + 1;
        cluster_push(c, EVENT_TICK, p, p->wake_us, (eepi_input){.revision = 1});
    }
}

void cluster_feed(cluster *c, int seat, eepi_input input)
{
    cluster_feed_to(c, cluster_at(c, seat), input);
}
