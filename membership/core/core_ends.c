/* SPDX-License-Identifier: Apache-2.0 */
/* What the core knows of ends (rule P8). A process that ends stops deciding at once. Its kernels
 * may still store where a device outlives the process that launched them. So an end is three facts.
 *
 * `exited` is the first sign: its bell has rung, it has no memory map, or a zombie leader. It is
 * evidence, and the view goes on without the rank. `ended` is the whole end of the process: each of
 * its threads has left the kernel. `stores_ended` is the proof that nothing of it stores any more.
 *
 * Only the third fact frees what the process could store into. On the host the end of a process is
 * that proof: a thread without its memory map stores nothing. On a device it is none, however long
 * ago. A rank whose graph has ended may say it of itself, though its process lives on. What is
 * never proved is replaced (P7). */
#include "membership/core/core_ends.h"

#include "membership/core/core_common.h"
#include "membership/core/core_turn.h"

/* Most ends are seen by all ranks at once. They tell of it in turns, and whoever hears of it before
 * its turn need not (N22). A rank outside the view is in the second turn. The turns begin later,
 * where this end has stopped the members: they agree meanwhile, and only who joins needs the word.
 */
static void tell_later(eepi_core *core, core_peer *peer)
{
    const int order = core->has_view ? eepi_core_order(core) : -1;
    const int turns = (order < 0 ? 1 : order) + (core->status == CORE_WEDGED);

    peer->tell_end_us = core->now_us + (uint64_t)turns * eepi_core_turn_us(core);
}

/* The store keeps one end per seat, the last that was put, and may lose it. A rank that joins later
 * must hear of the newest (M7: a seat is given again only after the end of its process). */
void eepi_core_republish_end(eepi_core *core, int seat)
{
    if (core->peers[seat].ended != 0) {
        tell_later(core, &core->peers[seat]);
    }
}

void eepi_core_tell_ends(eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (peer->tell_end_us == 0) {
            continue;
        }
        if (core->now_us < peer->tell_end_us) {
            eepi_core_wake_at(core, peer->tell_end_us);
        } else if (eepi_core_has_room(core)) {
            peer->tell_end_us = 0;
            eepi_core_act(core, EEPI_ACTION_EXIT)->end =
                (eepi_end){seat, peer->ended, EEPI_END_PROCESS};
        } else {
            eepi_core_wake_at(core, core->now_us); /* the rest in the next round */
        }
    }
}

static void note_exited(core_peer *peer, uint32_t generation)
{
    if (peer->exited < generation) {
        peer->exited = generation;
    }
}

bool eepi_core_note_ended(eepi_core *core, int seat, uint32_t generation)
{
    core_peer *peer = &core->peers[seat];

    note_exited(peer, generation);
    if (generation <= peer->ended) {
        return false;
    }
    peer->ended = generation;
    if (core->config.end_is_proof) {
        peer->stores_ended = generation;
    }
    return true;
}

/* A process speaks for itself: its word proves nothing of older ones. */
static void on_last_word(core_peer *peer, uint32_t generation)
{
    if (generation > peer->last_word) {
        peer->last_word = generation;
    }
    if (generation == peer->stores_ended + 1) {
        peer->stores_ended = generation;
    }
}

void eepi_core_note_leaver(eepi_core *core, int seat, const eepi_view *view)
{
    core_peer *peer = &core->peers[seat];

    if (view->epoch != 0 && peer->flipped_digest == view->digest &&
        !eepi_view_is_member(view, seat) &&
        peer->last_word < eepi_view_seat_at(view, seat)->generation) {
        peer->last_word = eepi_view_seat_at(view, seat)->generation;
    }
}

void eepi_core_on_end(eepi_core *core, const eepi_end *end, int by)
{
    core_peer *peer = &core->peers[end->seat];

    if (eepi_core_note_ended(core, end->seat, end->generation) && by == core->config.seat) {
        tell_later(core, peer);
    }
    if (by == NOBODY && end->generation == peer->ended) {
        peer->tell_end_us = 0; /* the store has it */
    } else if (by == NOBODY && end->generation < peer->ended) {
        eepi_core_republish_end(core, end->seat);
    }
    if (end->kind == EEPI_END_STORES) {
        on_last_word(peer, end->generation);
    }
}

void eepi_core_on_first_sign(eepi_core *core, const eepi_suspect *suspect)
{
    note_exited(&core->peers[suspect->seat], suspect->generation);
}

bool eepi_core_awaits_end(const eepi_core *core, int seat, uint32_t generation)
{
    return eepi_core_has_exited(core, seat, generation) &&
           !eepi_core_process_has_ended(core, seat, generation);
}

/* ------------------------------------------------------------------ colours (rule P7) */

enum {
    RENEW_AFTER_US = 100000, /* on the host a process that was killed is gone by then */
    RENEW_PAUSE_US = 1000000,
    RENEW_MOST_PAUSE_US = 30000000,
};

void eepi_core_free_seat(const eepi_core *core, eepi_view *draft, int seat)
{
    eepi_view_seat *s = eepi_view_seat_at(draft, seat);

    if (eepi_core_stores_have_ended(core, seat, s->generation - 1)) {
        s->former = 0;
    }
    if (eepi_core_stores_no_more(core, seat, s->generation)) {
        s->reach = 0;
    }
    if (s->state == EEP_SEAT_QUARANTINED && s->reach == 0 &&
        eepi_core_process_has_ended(core, seat, s->generation)) {
        s->state = EEP_SEAT_VACANT;
    }
}

static bool has_member(const eepi_view *view, uint64_t host)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (eepi_view_is_member(view, seat) && eepi_view_seat_at(view, seat)->host == host) {
            return true;
        }
    }
    return false;
}

/* What older generations of the seat may store is not known to be on that host. */
void eepi_core_free_behind_gates(eepi_view *draft)
{
    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        eepi_view_seat *s = eepi_view_seat_at(draft, seat);
        if (s->generation == 0 || eepi_view_is_member(draft, seat) ||
            (s->state == EEP_SEAT_VACANT && s->reach == 0) || eepi_view_num_active(draft) == 0 ||
            has_member(draft, s->host)) {
            continue;
        }
        s->reach = 0;
        s->state = EEP_SEAT_VACANT;
        s->flags |= EEPI_SEAT_IS_FENCED;
    }
}

void eepi_core_let_go(const eepi_core *core, eepi_view *draft, int seat)
{
    eepi_view_seat_at(draft, seat)->reach = (uint8_t)(core->view->colour + 1);
    eepi_core_free_seat(core, draft, seat);
}

void eepi_core_take_seat(eepi_view *draft, int seat, uint32_t generation, uint64_t host)
{
    eepi_view_seat *s = eepi_view_seat_at(draft, seat);

    if (s->reach != 0) {
        s->former |= (uint8_t)(1u << (s->reach - 1));
    }
    s->reach = 0;
    s->generation = generation;
    s->host = host;
    s->state = EEP_SEAT_ACTIVE;
}

/* The colour of the next fault view. */
static int idle_colour(const eepi_view *view)
{
    return (view->colour + 1) % EEPK_COLOURS;
}

void eepi_core_take_colour(const eepi_core *core, eepi_view *draft)
{
    const int colour = idle_colour(core->view);

    if (eepi_view_is_tainted(draft, colour)) {
        eepi_view_renew_colour(draft, colour);
    }
    draft->colour = (uint8_t)colour;
}

bool eepi_core_is_blocked(const eepi_view *view, int seat)
{
    const eepi_view_seat *s = eepi_view_seat_at(view, seat);

    return s->reach == view->colour + 1 || s->former >> view->colour & 1u;
}

int eepi_core_renew_colour(eepi_core *core, eepi_view *draft)
{
    const int colour = idle_colour(draft);
    uint64_t due_us;

    if (!eepi_view_is_tainted(draft, colour)) {
        core->tainted_us = core->renew_after_us = core->renew_pause_us = 0;
        return 0;
    }
    if (core->tainted_us == 0) {
        core->tainted_us = core->now_us;
    }
    due_us = core->tainted_us + RENEW_AFTER_US;
    due_us = due_us > core->renew_after_us ? due_us : core->renew_after_us;
    if (core->now_us < due_us) {
        eepi_core_wake_at(core, due_us);
        return 0;
    }
    eepi_view_renew_colour(draft, colour);
    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        eepi_core_free_seat(core, draft, seat);
    }
    return 1;
}

void eepi_core_note_renewal_lapsed(eepi_core *core)
{
    if (core->plan->serial[idle_colour(core->view)] ==
        core->view->serial[idle_colour(core->view)]) {
        return;
    }
    core->renew_pause_us = core->renew_pause_us ? 2 * core->renew_pause_us : RENEW_PAUSE_US;
    if (core->renew_pause_us > RENEW_MOST_PAUSE_US) {
        core->renew_pause_us = RENEW_MOST_PAUSE_US;
    }
    core->renew_after_us = core->now_us + core->renew_pause_us;
}
