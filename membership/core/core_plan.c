/* The planned side of the membership core: the first view, joins and leaves (rules M3, M7, M10). */
#include "membership/core/core_state.h"

#include <stdio.h>
#include <string.h>

enum { RETRY_US = 200000 };
#define FIRST_STEP_STRIDE (1ull << 32) /* more steps than one instance runs between two views */

static const uint64_t *backup_of(const core_peer *peer, const eepi_view_shape *shape, int layer)
{
    return peer->backup + (size_t)layer * (((size_t)shape->num_experts + 63) / 64);
}

/* As "64 + 128". */
static void say_sizes(const uint64_t *tensor_bytes, char *text, size_t bytes)
{
    size_t used = 0;

    text[0] = '\0';
    for (int i = 0; i < EEP_MAX_TENSORS && tensor_bytes[i] && used < bytes; i++) {
        used += (size_t)snprintf(text + used, bytes - used, "%s%llu", i ? " + " : "",
                                 (unsigned long long)tensor_bytes[i]);
    }
}

/* The seat whose tensors all others of the draft are to have: ours, once we are in it, else its
 * lowest, so that all who propose a first view refuse the same ranks. -1: nobody is in it. */
static int whose_tensors_count(const eepi_core *core, const eepi_view *draft)
{
    if (eepi_view_is_member(draft, core->config.seat)) {
        return core->config.seat;
    }
    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        if (eepi_view_is_member(draft, seat)) {
            return seat;
        }
    }
    return -1;
}

/* A repair copies an expert between any two ranks, so its tensors have the same sizes on all. 0,
 * and `why`: they have not. */
static int has_their_tensors(eepi_core *core, const eepi_view *draft, int seat)
{
    const int other = whose_tensors_count(core, draft);
    const uint64_t *here = core->peers[seat].tensor_bytes;
    const uint64_t *there = other < 0 ? here : core->peers[other].tensor_bytes;
    char here_text[72], there_text[72];

    if (memcmp(here, there, sizeof core->peers[seat].tensor_bytes) == 0) {
        return 1;
    }
    say_sizes(here, here_text, sizeof here_text);
    say_sizes(there, there_text, sizeof there_text);
    snprintf(
        core->why, sizeof core->why,
        "rank %d has tensors of %s bytes per expert, and rank %d of %s: give all ranks the same",
        seat, here_text, other, there_text);
    return 0;
}

/* Put a seat's process into the draft: generation, what its slots hold, its backups. Two replicas
 * of an expert with different checksums are refused (S6), and other tensor sizes; `why` names
 * them. */
int eepi_core_admit(eepi_core *core, eepi_view *draft, int seat)
{
    const eepi_view_shape *shape = &draft->shape;
    core_peer *peer = &core->peers[seat];

    if (!has_their_tensors(core, draft, seat)) {
        return 0;
    }
    for (int layer = 0; layer < shape->num_layers; layer++) {
        for (int slot = 0; slot < shape->num_slots; slot++) {
            size_t i = (size_t)layer * (size_t)shape->num_slots + (size_t)slot;
            int32_t expert = peer->experts[i];
            uint64_t *sum;
            if (expert < 0) {
                continue;
            }
            sum = eepi_view_checksum_at(draft, layer, expert);
            if (*sum != 0 && peer->checksums[i] != *sum) {
                snprintf(core->why, sizeof core->why,
                         "rank %d holds other weights of layer %d expert %d than the instance "
                         "(checksum %016llx, not %016llx)",
                         seat, layer, expert, (unsigned long long)peer->checksums[i],
                         (unsigned long long)*sum);
                return 0;
            }
        }
    }
    for (int layer = 0; layer < shape->num_layers; layer++) {
        const uint64_t *backup = backup_of(peer, shape, layer);
        for (int slot = 0; slot < shape->num_slots; slot++) {
            size_t i = (size_t)layer * (size_t)shape->num_slots + (size_t)slot;
            if (peer->experts[i] >= 0) {
                *eepi_view_checksum_at(draft, layer, peer->experts[i]) = peer->checksums[i];
            }
        }
        for (int expert = 0; expert < shape->num_experts; expert++) {
            eepi_view_set_backup(draft, seat, layer, expert,
                                 backup[expert / 64] >> (expert % 64) & 1u);
        }
    }
    eepi_view_seat_at(draft, seat)->generation = peer->generation;
    eepi_view_seat_at(draft, seat)->state = EEP_SEAT_ACTIVE;
    eepi_plan_apply_seat(draft, seat, peer->experts);
    return 1;
}

/* The process that the newest document names for the seat has ended: somebody saw it, or a newer
 * one took the seat, which it may only after that (M7). */
static int has_ended(const eepi_core *core, int seat)
{
    uint32_t last = core->has_view ? eepi_view_seat_at(core->view, seat)->generation : 0;

    return last == 0 || eepi_core_has_exited(core, seat, last) ||
           core->peers[seat].generation > last;
}

/* An instance begins, or begins again after all of its processes have ended: nobody is left who
 * could let anybody in. No lease is needed between such views (M8): the ends were observed. */
static int may_begin(const eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        const core_peer *peer = &core->peers[seat];
        uint32_t last = core->has_view ? eepi_view_seat_at(core->view, seat)->generation : 0;
        int is_first = seat < core->config.num_ranks;
        if (core->has_view && eepi_view_is_member(core->view, seat) && !has_ended(core, seat)) {
            return 0;
        }
        /* whoever left with all others may not have heard of it yet (M8) */
        if (eepi_core_has_ended(core) &&
            eepi_view_seat_at(core->view, seat)->state == EEP_SEAT_QUARANTINED &&
            !has_ended(core, seat)) {
            return 0;
        }
        if (is_first && (!peer->ready || peer->generation <= last || !has_ended(core, seat) ||
                         eepi_core_has_exited(core, seat, peer->generation))) {
            return 0;
        }
    }
    return 1;
}

/* The newest document (empty: none yet) without its members. Step numbers go on far above those of
 * the instance that has ended (D5); its windows are gone with it. */
static eepi_view *draft_beginning(eepi_core *core)
{
    eepi_view *draft = core->draft;

    memcpy(draft, core->view, core->view->bytes);
    draft->base_digest = core->has_view ? core->view->digest : 0;
    draft->first_step = core->has_view ? core->view->first_step + FIRST_STEP_STRIDE : 1;
    draft->epoch++;
    draft->phase = EEPI_VIEW_SERVING;
    draft->cause = EEPI_VIEW_INITIAL;
    draft->proposer = core->config.seat;
    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        eepi_view_seat *s = eepi_view_seat_at(draft, seat);
        eepi_core_drop_backups(draft, seat);
        if (s->state != EEP_SEAT_QUARANTINED || has_ended(core, seat)) {
            s->state = EEP_SEAT_VACANT;
        }
    }
    eepi_plan_drop_gone(draft);
    if (eepi_core_has_ended(core)) { /* what begins now may have other weights */
        eepi_view_forget_checksums(draft);
    }
    return draft;
}

static void refuse(eepi_core *core, int seat)
{
    eepi_action *action = eepi_core_act(core, EEPI_ACTION_REFUSED);

    action->why = core->why;
    action->suspect.seat = seat;
    action->suspect.generation = core->peers[seat].generation;
    core->peers[seat].ready = 0;
}

/* All members of the newest document have ended, and not in order. */
static void say_how_to_forget(eepi_core *core)
{
    char why[EEPI_CORE_WHY_BYTES - 120];

    if (!core->has_view || eepi_core_has_ended(core)) {
        return;
    }
    snprintf(why, sizeof why, "%.130s", core->why);
    snprintf(core->why, sizeof core->why,
             "%s; that instance has not ended in order: eep_store_forget, or eep-store --forget, "
             "removes what it left",
             why);
}

static void fail_to_begin(eepi_core *core)
{
    core->uncovered = 1;
    eepi_core_act(core, EEPI_ACTION_UNCOVERED)->why = core->why;
}

/* Did we load what the first view has in our seat? Overwrites the draft. */
static int has_loaded_first_view(eepi_core *core)
{
    const eepi_view_shape *shape = &core->config.shape;
    const int32_t *experts = core->peers[core->config.seat].experts;

    memcpy(core->draft, core->view, core->view->bytes); /* empty: there is none yet */
    for (int seat = 0; seat < core->config.num_ranks; seat++) {
        *eepi_view_seat_at(core->draft, seat) = (eepi_view_seat){1, EEP_SEAT_ACTIVE, {0}};
    }
    if (eepi_plan_initial(core->draft) != EEP_OK) {
        return 1;
    }
    for (int i = 0; i < shape->num_layers * shape->num_slots; i++) {
        const eepi_view_slot *s = eepi_view_slot_at(core->draft, i / shape->num_slots,
                                                    core->config.seat, i % shape->num_slots);
        if (experts[i] != (s->state == EEPI_SLOT_HOLDS ? s->expert : -1)) {
            return 0;
        }
    }
    return 1;
}

/* Somebody has loaded what an instance lacked that has ended, or that the store has forgotten
 * since. Backups cannot
 * help: nobody knows the checksums of what no slot holds. Whoever it is goes, and comes again. */
static void begin_with_gaps(eepi_core *core)
{
    snprintf(core->why, sizeof core->why, "%d experts have no slot in the first view",
             eepi_view_num_uncovered(core->draft, -1));
    if (has_loaded_first_view(core)) {
        fail_to_begin(core);
        return;
    }
    core->status = CORE_OVER;
    eepi_core_act(core, EEPI_ACTION_EVICTED);
}

void eepi_core_advance_initial(eepi_core *core)
{
    eepi_view *draft;
    uint64_t turn_us;
    int fills = 0;

    if (core->config.seat >= core->config.num_ranks || core->cas_in_flight || core->uncovered ||
        !core->register_was_read || !may_begin(core)) {
        return;
    }
    if (core->ready_us == 0) {
        core->ready_us = core->now_us;
    }
    turn_us = core->ready_us + (uint64_t)core->config.seat * core->config.propose_delay_us;
    if (core->now_us < turn_us) {
        eepi_core_wake_at(core, turn_us);
        return;
    }
    draft = draft_beginning(core);
    for (int seat = 0; seat < core->config.num_ranks; seat++) {
        if (!eepi_core_admit(core, draft, seat)) {
            if (has_their_tensors(core, draft,
                                  seat)) { /* else what an instance left is not the cause */
                say_how_to_forget(core);
            }
            refuse(core, seat); /* all hear which, and why; another process may come in its place */
            fail_to_begin(core);
            return;
        }
    }
    if ((!core->has_view || eepi_core_has_ended(core)) && eepi_view_num_uncovered(draft, -1) > 0) {
        begin_with_gaps(core);
        return;
    }
    /* who took its seat while somebody of an instance that ended still lived has loaded what that
     * one lacked */
    if (eepi_plan_coverage(draft, core->table, &fills, core->why, sizeof core->why) != EEP_OK) {
        say_how_to_forget(core);
        fail_to_begin(core);
        return;
    }
    draft->phase = fills ? EEPI_VIEW_REPAIRING : EEPI_VIEW_SERVING;
    if (!core->has_view) {
        core->revision = 0;
    }
    eepi_core_commit(core);
}

/* A process that may be let in now: newer than the seat's last one. The stores of all before it
 * have ended (M7, P8), of those too whom only a view let in that the store forgot. */
int eepi_core_may_join(const eepi_core *core, const eepi_view *draft, int seat)
{
    const core_peer *peer = &core->peers[seat];
    uint32_t last = eepi_view_seat_at(draft, seat)->generation;

    return peer->ready && !peer->leaving && !eepi_view_is_member(draft, seat) &&
           peer->generation > last &&
           (peer->generation == 1 ||
            eepi_core_stores_have_ended(core, seat, peer->generation - 1)) &&
           !eepi_core_has_exited(core, seat, peer->generation) &&
           core->now_us >= peer->plan_after_us;
}

/* Somebody who runs the present view must stay in the next one: those who are new follow, and two
 * views that share no member would need a lease between them (M8). */
static int may_leave(const eepi_core *core, const eepi_view *draft, int seat)
{
    int staying = 0;

    for (int other = 0; other < draft->shape.max_ranks; other++) {
        staying += other != seat && eepi_view_is_member(core->view, other) &&
                   eepi_view_is_member(draft, other);
    }
    return staying > 0 && core->peers[seat].leaving &&
           eepi_view_has(draft, seat, core->peers[seat].generation) &&
           eepi_plan_can_leave(draft, core->table, seat);
}

/* Does the plan take or drop the seat against the present view? */
static int plan_changes(const eepi_core *core, int seat)
{
    return eepi_view_is_member(core->plan, seat) != eepi_view_is_member(core->view, seat);
}

static int plan_is_acknowledged(const eepi_core *core)
{
    for (int seat = 0; seat < core->plan->shape.max_ranks; seat++) {
        if ((eepi_view_is_member(core->plan, seat) || eepi_view_is_member(core->view, seat)) &&
            core->peers[seat].staged_digest != core->plan->digest) {
            return 0;
        }
    }
    return 1;
}

/* Somebody whom the plan lets in has ended: it will never be acknowledged. */
static int plan_is_void(const eepi_core *core)
{
    for (int seat = 0; seat < core->plan->shape.max_ranks; seat++) {
        uint32_t generation = eepi_view_seat_at(core->plan, seat)->generation;
        if (eepi_view_is_member(core->plan, seat) && plan_changes(core, seat) &&
            eepi_core_has_exited(core, seat, generation)) {
            return 1;
        }
    }
    return 0;
}

/* A plan lapsed: a joiner that let it lapse waits a little; nobody else does (L4). */
static void drop_plan(eepi_core *core)
{
    for (int seat = 0; seat < core->plan->shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (plan_changes(core, seat) && peer->staged_digest != core->plan->digest) {
            peer->plan_after_us = core->now_us + RETRY_US; /* it did not acknowledge */
        }
        peer->staged_digest = 0; /* the same plan made again is staged again */
    }
    core->has_plan = 0;
    eepi_core_wake_at(core, core->now_us + RETRY_US);
}

/* A process that lives has taken the seat since the document was made: it is on its way in. */
static int is_coming(const eepi_core *core, const eepi_view *draft, int seat)
{
    const core_peer *peer = &core->peers[seat];

    return !peer->leaving && peer->generation > eepi_view_seat_at(draft, seat)->generation &&
           !eepi_core_has_exited(core, seat, peer->generation);
}

int eepi_core_awaited_joiner(const eepi_core *core)
{
    for (int seat = 0; core->has_view && seat < core->config.shape.max_ranks; seat++) {
        if (!core->peers[seat].ready && is_coming(core, core->view, seat)) {
            return seat;
        }
    }
    return -1;
}

/* Every member that lives wants out and nobody wants in, or one has asked for the end of all. */
int eepi_core_all_leave(const eepi_core *core, const eepi_view *draft)
{
    int stay = 0, wanted = 0;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        const core_peer *peer = &core->peers[seat];
        uint32_t generation = eepi_view_seat_at(draft, seat)->generation;
        int said = eepi_view_has(draft, seat, peer->generation) ? peer->leaving : 0;
        wanted |= said & EEPI_LEAVES_AS_LAST;
        if (eepi_view_is_member(draft, seat) && !eepi_core_has_exited(core, seat, generation)) {
            stay += !said;
        } else {
            stay += is_coming(core, draft, seat);
        }
    }
    return stay == 0 || wanted;
}

/* The last view: it has no members. No view follows it that one of them is in, so rule M8 needs no
 * lease; each stays in quarantine until its end was seen, and only then another instance begins. */
int eepi_core_end_instance(eepi_core *core, eepi_view *draft)
{
    int changes = 0;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        if (!eepi_view_is_member(draft, seat)) {
            continue;
        }
        eepi_view_seat_at(draft, seat)->state = EEP_SEAT_QUARANTINED;
        eepi_core_drop_backups(draft, seat);
        changes++;
    }
    eepi_plan_drop_gone(draft);
    core->examined_layers = 0;
    return changes;
}

/* Who may come or go now, put into the draft, and who is to go later. 0: one was refused. */
static int change_members(eepi_core *core, eepi_view *draft, int *changes_out, int *retirements_out)
{
    int changes = 0, retirements = 0;

    *retirements_out = 0;
    if (eepi_core_all_leave(core, draft)) {
        *changes_out = eepi_core_end_instance(core, draft);
        return 1;
    }
    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        eepi_view_seat *s = eepi_view_seat_at(draft, seat);
        if (eepi_core_may_join(core, draft, seat)) {
            if (!eepi_core_admit(core, draft, seat)) { /* refused, not waited for */
                refuse(core, seat);
                return 0;
            }
            changes++;
        } else if (may_leave(core, draft, seat)) {
            s->state = EEP_SEAT_VACANT;
            eepi_plan_drop_gone(draft);
            eepi_core_drop_backups(draft, seat);
            changes++;
        } else if (s->state == EEP_SEAT_ACTIVE && core->peers[seat].leaving &&
                   core->peers[seat].generation == s->generation) {
            s->state = EEP_SEAT_RETIRING; /* until others hold what only it holds */
            core->examined_layers = 0;
            retirements++;
        }
    }
    *changes_out = changes;
    *retirements_out = retirements;
    return 1;
}

/* The next planned view: what was filled is routed to, members come and go, more is to be filled.
 * Who comes or goes does not wait for fills under way: those are given up. */
static void make_plan(eepi_core *core)
{
    eepi_view *draft = eepi_core_draft(core, EEPI_VIEW_PLANNED);
    int promoted = eepi_core_promote_fills(core, draft);
    int changes = 0, retirements = 0, filling;

    if (!change_members(core, draft, &changes, &retirements)) {
        return;
    }
    filling = eepi_plan_fills(draft, -1, NULL, 0);
    if (filling && !changes && !eepi_core_fills_are_late(core)) {
        return;
    }
    if (filling) {
        changes += eepi_plan_void(draft);
    }
    if (!changes) { /* who came or went may not be the last: what follows from it waits a little */
        changes += eepi_core_plan_round(core, draft);
    }
    if (changes + promoted + retirements == 0) {
        return;
    }
    eepi_view_seal(draft);
    memcpy(core->plan, draft, draft->bytes);
    core->has_plan = 1;
    core->stage_asked = 0;
    core->plan_us = core->now_us;
    eepi_core_act(core, EEPI_ACTION_PLAN)->view = core->plan;
}

/* Everybody's part: put the plan into the idle bank, as soon as that bank is idle. */
static void stage(eepi_core *core)
{
    int in_new = eepi_view_has(core->plan, core->config.seat, core->config.generation);
    int in_old = eepi_view_has(core->view, core->config.seat, core->config.generation);

    if (!core->has_plan || core->stage_asked || (!in_new && !in_old)) {
        return;
    }
    if (in_old && core->installed_epoch != core->view->epoch) {
        return; /* the idle bank still waits for its own flip */
    }
    core->stage_asked = 1;
    if (in_new) {
        eepi_core_act(core, EEPI_ACTION_STAGE)->view = core->plan;
    } else { /* we are the one that leaves */
        core->tried_epoch =
            core->plan->epoch > core->tried_epoch ? core->plan->epoch : core->tried_epoch;
        eepi_core_act(core, EEPI_ACTION_ACK)->ack =
            (eepi_ack){core->config.seat, core->config.generation, EEPI_ACK_STAGED,
                       core->plan->epoch, core->plan->digest};
    }
}

void eepi_core_advance_plan(eepi_core *core)
{
    int planner;

    if (core->status != CORE_SERVING && core->status != CORE_OUTSIDE) {
        return;
    }
    stage(core);
    planner = core->status == CORE_SERVING && eepi_core_order(core) == 0 &&
              core->installed_epoch == core->view->epoch && !core->cas_in_flight;
    if (!planner) {
        return;
    }
    if (!core->has_plan) {
        make_plan(core);
        stage(core);
        eepi_core_wake_at(core, core->now_us + RETRY_US);
        return;
    }
    if (core->plan->proposer != core->config.seat) {
        return;
    }
    if (plan_is_acknowledged(core)) {
        memcpy(core->draft, core->plan, core->plan->bytes);
        eepi_core_commit(core);
        return;
    }
    if (plan_is_void(core) || core->now_us >= core->plan_us + core->config.stage_bound_us) {
        drop_plan(core);
    } else {
        eepi_core_wake_at(core, core->plan_us + core->config.stage_bound_us);
    }
}
