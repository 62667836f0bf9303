/* SPDX-License-Identifier: Apache-2.0 */
/* The members of a view: what a process must bring to be let in and when it may be, and the view in
 * which all leave. */
#include "membership/core/core_members.h"

#include "membership/core/core_common.h"
#include "membership/core/core_draft.h"
#include "membership/core/core_ends.h"
#include "membership/core/core_rebalance.h"
#include "repair/placement.h"

#include <stdio.h>
#include <string.h>

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

/* The seat whose tensor sizes and order of chains all others of the draft are to have: this rank's,
 * once it is in the draft, else the lowest, so that all who propose a first view refuse the same
 * ranks. -1: the draft has no members. */
static int who_sets_the_terms(const eepi_core *core, const eepi_view *draft)
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

/* A repair copies an expert between any two ranks, so its tensors have the same sizes on all. */
static bool has_their_tensors(eepi_core *core, const eepi_view *draft, int seat)
{
    const int other = who_sets_the_terms(core, draft);
    const uint64_t *here = core->peers[seat].tensor_bytes;
    const uint64_t *there = other < 0 ? here : core->peers[other].tensor_bytes;
    char here_text[72], there_text[72];

    if (memcmp(here, there, sizeof core->peers[seat].tensor_bytes) == 0) {
        return true;
    }
    say_sizes(here, here_text, sizeof here_text);
    say_sizes(there, there_text, sizeof there_text);
    snprintf(
        core->why, sizeof core->why,
        "rank %d has tensors of %s bytes per expert, and rank %d of %s: give all ranks the same",
        seat, here_text, other, there_text);
    return false;
}

/* Rule P5: ranks that mix their chains differently would wait for each other for ever. */
static bool has_their_sequence(eepi_core *core, const eepi_view *draft, int seat)
{
    const int other = who_sets_the_terms(core, draft);
    const uint64_t *here = core->peers[seat].sequence_digest;
    const uint64_t *there = other < 0 ? here : core->peers[other].sequence_digest;
    int shape = 0;

    while (shape < EEP_MAX_SHAPES && here[shape] == there[shape]) {
        shape++;
    }
    if (shape == EEP_MAX_SHAPES) {
        return true;
    }
    snprintf(core->why, sizeof core->why,
             "rank %d puts the sends and receives of its chains in another order than rank %d, in "
             "steps of shape %d (digest %016llx, not %016llx): capture the same step on all ranks",
             seat, other, shape, (unsigned long long)here[shape], (unsigned long long)there[shape]);
    return false;
}

bool eepi_core_fits_others(eepi_core *core, const eepi_view *draft, int seat)
{
    return has_their_tensors(core, draft, seat) && has_their_sequence(core, draft, seat);
}

/* Two replicas of an expert with different checksums are refused (S6: only bytes with the view's
 * checksum are served), and other tensor sizes. */
bool eepi_core_admit(eepi_core *core, eepi_view *draft, int seat)
{
    const eepi_view_shape *shape = &draft->shape;
    core_peer *peer = &core->peers[seat];

    if (!eepi_core_fits_others(core, draft, seat)) {
        return false;
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
                return false;
            }
        }
    }
    for (int layer = 0; layer < shape->num_layers; layer++) {
        for (int slot = 0; slot < shape->num_slots; slot++) {
            size_t i = (size_t)layer * (size_t)shape->num_slots + (size_t)slot;
            if (peer->experts[i] >= 0) {
                *eepi_view_checksum_at(draft, layer, peer->experts[i]) = peer->checksums[i];
            }
        }
    }
    eepi_core_take_seat(draft, seat, peer->generation, peer->host);
    eepi_view_seat_at(draft, seat)->flags = peer->has_checkpoint ? EEPI_SEAT_HAS_CHECKPOINT : 0;
    eepi_plan_apply_seat(draft, seat, peer->experts);
    return true;
}

/* Which of the backups that the process of the seat claims have that view's checksums. */
static void judge_claims(eepi_core *core, const eepi_view *view, int seat)
{
    const eepi_view_shape *shape = &core->config.shape;
    const int words = eepi_view_backup_words(shape);
    core_peer *peer = &core->peers[seat];

    for (int layer = 0; layer < shape->num_layers; layer++) {
        const uint64_t *backup = backup_of(peer, shape, layer);
        const bool counts = eepi_view_claim_counts(view, layer, backup, peer->claims[layer]);
        for (int i = 0; i < words; i++) {
            peer->counted[layer * words + i] = counts ? backup[i] : 0;
        }
    }
    peer->claims_are_judged = true;
}

/* More that can be read may be what was missing. */
void eepi_core_take_claims(eepi_core *core, const eepi_member *member)
{
    core_peer *peer = &core->peers[member->seat];
    const eepi_view_shape *shape = &core->config.shape;
    const size_t bytes = eepi_core_backup_words(shape) * sizeof *peer->backup;
    const size_t claims = (size_t)shape->num_layers * sizeof *peer->claims;

    if (memcmp(peer->backup, member->backup, bytes) != 0) {
        core->uncovered = false;
    }
    memcpy(peer->backup, member->backup, bytes);
    memset(peer->claims, 0, claims);
    if (member->claims) {
        memcpy(peer->claims, member->claims, claims);
    }
    peer->claims_are_judged = false;
    if (core->has_view) {
        judge_claims(core, core->view, member->seat);
    }
}

/* Records may have come before the view; and one that begins an instance may have other checksums
 * than the view before. */
void eepi_core_judge_all_claims(eepi_core *core, const eepi_view *view)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const core_peer *peer = &core->peers[seat];
        if (peer->generation != 0 &&
            (!peer->claims_are_judged || view->cause == EEPI_VIEW_INITIAL)) {
            judge_claims(core, view, seat);
        }
    }
}

static bool stays(const eepi_core *core, const eepi_view *draft, int seat)
{
    return !eepi_view_is_member(core->view, seat) ||
           eepi_view_has(draft, seat, eepi_view_seat_at(core->view, seat)->generation);
}

/* Rule N24. What is in shared memory outlives who put it there, but a claim stands as long as a
 * member on the node says that it can read it. A draft that begins an instance has no members in
 * common with the view before, whose checksums may be others. */
void eepi_core_count_backups(eepi_core *core, eepi_view *draft)
{
    const eepi_view_shape *shape = &draft->shape;
    const int words = eepi_view_backup_words(shape);

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        if (!stays(core, draft, seat)) {
            eepi_view_clear_backups(draft, seat);
        }
    }
    for (int seat = 0; seat < shape->max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (!eepi_view_has(draft, seat, peer->generation)) {
            continue;
        }
        if (!peer->claims_are_judged || draft->cause == EEPI_VIEW_INITIAL) {
            judge_claims(core, draft, seat);
        }
        for (int layer = 0; layer < shape->num_layers; layer++) {
            eepi_view_add_backups(draft, seat, layer, peer->counted + layer * words);
        }
    }
}

void eepi_core_refuse(eepi_core *core, int seat)
{
    eepi_action *action = eepi_core_act(core, EEPI_ACTION_REFUSED);

    action->why = core->why;
    action->suspect.seat = seat;
    action->suspect.generation = core->peers[seat].generation;
    core->peers[seat].ready = 0;
}

/* Those that had the seat before have ended (M7), also those that only a forgotten view had let in;
 * and what they may still store goes where the draft's steps do not look (P7, P8). */
bool eepi_core_may_join(const eepi_core *core, const eepi_view *draft, int first)
{
    for (int seat = first; seat < first + eepi_core_group_seats(core); seat++) {
        if (eepi_core_is_blocked(draft, seat)) {
            return false;
        }
    }
    return eepi_core_wants_in(core, draft, first);
}

/* Nothing of the process that had the seat before stands in the way: it has ended (M7), it reaches
 * members through their gates alone (N7), or it was never in a view and its lease has lapsed (N21).
 */
static bool is_free_for(const eepi_core *core, const eepi_view_seat *s, int seat)
{
    const core_peer *peer = &core->peers[seat];
    const uint32_t before = peer->generation - 1;

    return before == 0 || eepi_core_process_has_ended(core, seat, before) ||
           (s->flags & EEPI_SEAT_IS_FENCED && s->generation == before) ||
           (peer->follows_lapse && s->generation < before);
}

static bool one_wants_in(const eepi_core *core, const eepi_view *draft, int seat)
{
    const core_peer *peer = &core->peers[seat];
    const eepi_view_seat *s = eepi_view_seat_at(draft, seat);

    return peer->ready && !peer->leaving && !eepi_view_is_member(draft, seat) &&
           peer->generation > s->generation && is_free_for(core, s, seat) &&
           !eepi_core_has_exited(core, seat, peer->generation) &&
           core->now_us >= peer->plan_after_us;
}

bool eepi_core_wants_in(const eepi_core *core, const eepi_view *draft, int first)
{
    for (int seat = first; seat < first + eepi_core_group_seats(core); seat++) {
        if (!one_wants_in(core, draft, seat)) {
            return false;
        }
    }
    return true;
}

/* A process that lives has taken the seat since the document was made, and does not ask to leave.
 */
static bool is_coming(const eepi_core *core, const eepi_view *draft, int seat)
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
bool eepi_core_all_leave(const eepi_core *core, const eepi_view *draft)
{
    bool any_stays = false, wanted = false;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        uint32_t generation = eepi_view_seat_at(draft, seat)->generation;
        uint8_t asked = eepi_core_group_leaves(core, draft, seat);
        wanted |= (asked & EEPI_LEAVES_AS_LAST) != 0;
        if (eepi_view_is_member(draft, seat) && !eepi_core_has_exited(core, seat, generation)) {
            any_stays |= !asked;
        } else {
            any_stays |= is_coming(core, draft, seat);
        }
    }
    return !any_stays || wanted;
}

/* The last view has no members. No view follows that has one of them, so rule M8 needs no lease.
 * Each stays in quarantine until its end was seen, and only then another instance begins. */
int eepi_core_end_instance(eepi_core *core, eepi_view *draft)
{
    int changes = 0;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        if (!eepi_view_is_member(draft, seat)) {
            continue;
        }
        eepi_view_seat_at(draft, seat)->state = EEP_SEAT_QUARANTINED;
        eepi_core_let_go(core, draft, seat);
        eepi_core_drop_checkpoint(draft, seat);
        changes++;
    }
    eepi_plan_empty_nonmembers(draft);
    eepi_view_drop_gone_backups(draft);
    eepi_core_examine_layers(core);
    return changes;
}
