/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold at every commit, every installed view and every step of the cluster. */
#include "tests/lib/core/core_cluster_parts.h"

#include "repair/planner/planner.h"

static int is_in(const eepi_view *view, const cluster_process *p)
{
    return eepi_view_has(view, p->seat, p->generation);
}

/* It leaves, or another one of its group does. */
static int group_leaves(cluster *c, int seat)
{
    for (int mate = 0; mate < c->options.max_ranks; mate++) {
        const cluster_process *p =
            eepi_view_are_mates(&c->config.shape, seat, mate) ? cluster_at(c, mate) : NULL;
        if (p && p->leaving) {
            return 1;
        }
    }
    return 0;
}

/* What a commit changes for a process that lived in the document before. */
static void check_commit_of(cluster *c, const eepi_view *before, const eepi_view *view,
                            cluster_process *p)
{
    int is_fault = view->cause == EEPI_VIEW_FAULT;
    uint32_t now = eepi_view_seat_at(view, p->seat)->generation;

    if (before && is_in(before, p) && !is_in(view, p)) {
        p->expelled_epoch = view->epoch;
        MUST(c,
             is_fault || group_leaves(c, p->seat) ||
                 ((view->cause == EEPI_VIEW_INITIAL || eepi_view_num_active(view) == 0) &&
                  !p->alive), /* a beginning, or the end, goes on without the dead */
             "M1: rank %d expelled by a planned change", p->seat);
    }
    MUST(c, !(p->alive && p->generation < now), "M7: rank %d.%u lives, %u is let in", p->seat,
         p->generation, now);
    if (is_fault && p->alive && p->live && !is_in(view, p) && p->promised < p->live->epoch) {
        MUST(c,
             p->live->colour != view->colour ||
                 p->live->serial[view->colour] != view->serial[view->colour],
             "P7: rank %d.%u may still store into the windows of epoch %llu", p->seat,
             p->generation, (unsigned long long)view->epoch);
    }
    if (is_fault && is_in(view, p)) {
        for (int i = 0; i < CLUSTER_STARTED_KEPT; i++) {
            MUST(c, p->started[i].step < view->first_step, "M2: rank %d started step %llu", p->seat,
                 (unsigned long long)p->started[i].step);
        }
    }
}

/* Epochs leap where somebody is left out alive. */
static const eepi_view *newest_before(const cluster *c, uint64_t epoch)
{
    while (epoch > 0 && !c->committed[epoch - 1]) {
        epoch--;
    }
    return epoch > 0 ? c->committed[epoch - 1] : NULL;
}

/* S2, S7, R1, S12, M2 at the moment of a compare-and-swap. */
void cluster_check_commit(cluster *c, const eepi_view *view)
{
    const eepi_view *before = newest_before(c, view->epoch);
    const eepi_view *same = c->committed[view->epoch];
    const char *why = "";
    int fills = eepi_plan_fills(view, -1, NULL, 0), uncovered = eepi_view_num_uncovered(view, -1);

    MUST(c, eepi_view_check(view, view->bytes, &why) == EEP_OK, "%s", why);
    MUST(c, !same || same->digest == view->digest, "S2: epoch %llu has two payloads",
         (unsigned long long)view->epoch);
    if (same) {
        return;
    }
    c->committed[view->epoch] = view;
    c->num_committed++;
    MUST(c, view->epoch == 1 || (before && before->digest == view->base_digest), "M4: base");
    MUST(c,
         eepi_view_num_active(view) == 0 || /* the instance has ended */
             (view->phase == EEPI_VIEW_SERVING) == (uncovered == 0),
         "S7: %d uncovered", uncovered);
    MUST(c,
         view->phase == EEPI_VIEW_SERVING || (view->cause == EEPI_VIEW_FAULT && fills) ||
             (view->cause == EEPI_VIEW_INITIAL && fills && before),
         "M1: %d FILLING", fills);
    MUST(c, !fills || view->phase == EEPI_VIEW_REPAIRING || view->cause == EEPI_VIEW_PLANNED,
         "R1: %d FILLING", fills);
    for (int expert = 0; expert < view->shape.num_experts; expert++) {
        int is_filled = 0;
        for (int i = 0; i < view->shape.max_ranks * view->shape.num_slots; i++) {
            const int seat = i / view->shape.num_slots;
            const eepi_view_slot *s = eepi_view_slot_at(view, 0, seat, i % view->shape.num_slots);
            const int from = eepi_source_seat(s->source, seat);
            is_filled += s->state == EEPI_SLOT_FILLING && s->expert == expert &&
                         (eepi_source_is_file(s->source) ? eepi_view_has_checkpoint(view, from)
                                                         : eepi_view_is_member(view, from));
        }
        MUST(c,
             view->phase == EEPI_VIEW_SERVING ||
                 is_filled == !eepi_view_num_replicas(view, 0, expert),
             "S7: expert %d", expert);
    }
    if (before) {
        MUST(c, (before->colour != view->colour) == (view->cause == EEPI_VIEW_FAULT),
             "P7: the colour changes with each fault view and no other");
        for (int colour = 0; colour < EEPI_VIEW_COLOURS; colour++) {
            MUST(c, view->serial[colour] == before->serial[colour] || colour != before->colour,
                 "P7: the memory of colour %d is replaced while it is in use", colour);
        }
        for (int seat = 0; seat < view->shape.max_ranks; seat++) {
            MUST(c,
                 eepi_view_seat_at(before, seat)->generation <=
                     eepi_view_seat_at(view, seat)->generation,
                 "S12: seat %d", seat);
        }
    }
    for (int i = 0; i < c->num_processes; i++) {
        check_commit_of(c, before, view, &c->process[i]);
    }
}

/* S1, S2, S6: what a rank puts live. */
void cluster_check_install(cluster *c, cluster_process *p, const eepi_view *view)
{
    const eepi_view *committed = c->committed[view->epoch];

    MUST(c, committed && committed->digest == view->digest, "S1: rank %d installs epoch %llu",
         p->seat, (unsigned long long)view->epoch);
    MUST(c, view->epoch > p->installed_epoch, "S2: rank %d", p->seat);
    MUST(c, is_in(view, p) && view->phase == EEPI_VIEW_SERVING, "S4: rank %d", p->seat);
    p->installed_epoch = view->epoch;
    for (int slot = 0; slot < view->shape.num_slots; slot++) {
        const eepi_view_slot *s = eepi_view_slot_at(view, 0, p->seat, slot);
        MUST(c, s->state != EEPI_SLOT_HOLDS || s->expert == p->experts[slot],
             "S6: rank %d slot %d holds %d, not %d", p->seat, slot, p->experts[slot], s->expert);
    }
}

/* M2, S3, S4: a promise is kept; nobody outside a view steps under it or a later one. */
void cluster_check_step(cluster *c, const cluster_process *p)
{
    const eepi_view *newest = NULL;

    for (int i = 0; i < c->num_processes; i++) {
        if (c->process[i].installed_epoch &&
            (!newest || c->process[i].installed_epoch > newest->epoch)) {
            newest = c->committed[c->process[i].installed_epoch];
        }
    }
    MUST(c, p->live->epoch > p->promised, "M2: rank %d promised not to serve %llu", p->seat,
         (unsigned long long)p->promised);
    MUST(c, is_in(newest, p) || p->live->epoch < p->expelled_epoch, "S4: rank %d.%u", p->seat,
         p->generation);
    for (int slot = 0; slot < p->live->shape.num_slots; slot++) {
        const eepi_view_slot *s = eepi_view_slot_at(p->live, 0, p->seat, slot);
        MUST(c, s->state != EEPI_SLOT_HOLDS || s->expert == p->experts[slot],
             "R1: rank %d computes with slot %d while it is overwritten", p->seat, slot);
    }
}

int cluster_is_serving(cluster *c)
{
    int serving = 0;

    if (!c->view || c->view->phase != EEPI_VIEW_SERVING) {
        return 0;
    }
    for (int seat = 0; seat < c->view->shape.max_ranks; seat++) {
        cluster_process *p = cluster_member(c, c->view, seat);
        if (!p) {
            continue;
        }
        if (!p->alive || p->stepper.wedged || !p->live || p->live->digest != c->view->digest ||
            !p->stepper.warm || c->now_us - p->last_ok_us > 200000) {
            return 0;
        }
        serving++;
    }
    return serving > 0;
}
