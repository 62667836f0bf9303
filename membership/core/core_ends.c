/* SPDX-License-Identifier: Apache-2.0 */
/* What the core knows of ends (rule P8). A process that ends stops deciding at once. Its kernels
 * may still store where a device outlives the process that launched them. So an end has three
 * moments.
 *
 * `exited` is the first sign: its bell has rung, it has no memory map, or a zombie leader. It is
 * evidence, and the view goes on without the rank. `ended` is the whole end of the process: each of
 * its threads has left the kernel. `stores_ended` comes when the margin behind the whole end has
 * passed.
 *
 * Only the third moment frees what the process could store into. A rank whose graph has ended may
 * say it of itself, though its process lives on. With a margin of 0 a process without memory stores
 * nothing, which then counts as its whole end.
 *
 * Time is no fence: the margin holds for kernels that end with their process, or soon after. */
#include "membership/core/core_ends.h"

#include "membership/core/core_common.h"
#include "membership/core/core_turn.h"

/* Most ends are seen by all ranks at once. They tell of it in turns, and whoever hears of it before
 * its turn need not (N22). A rank outside the view is in the second turn. */
static void tell_later(eepi_core *core, core_peer *peer)
{
    const int order = core->has_view ? eepi_core_order(core) : -1;

    peer->tell_end_us = core->now_us + (uint64_t)(order < 0 ? 1 : order) * eepi_core_turn_us(core);
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

/* Two margins run at once: the oldest one's, so that it passes however often newer processes end in
 * the seat, and the newest one's, for all that came in between. */
static void pass(core_peer *peer, uint64_t now_us, uint64_t margin_us)
{
    while (peer->margin_of != 0 && now_us >= peer->margin_from_us + margin_us) {
        peer->stores_ended = peer->margin_of;
        peer->margin_of = peer->ended > peer->stores_ended ? peer->ended : 0;
        peer->margin_from_us = peer->ended_us;
    }
}

/* A rank hears of an end after it came, so its own margin from then on is long enough. */
bool eepi_core_note_ended(eepi_core *core, int seat, uint32_t generation)
{
    core_peer *peer = &core->peers[seat];

    note_exited(peer, generation);
    if (generation <= peer->ended) {
        return false;
    }
    peer->ended = generation;
    peer->ended_us = core->now_us;
    if (peer->margin_of == 0) {
        peer->margin_of = generation;
        peer->margin_from_us = core->now_us;
    }
    pass(peer, core->now_us, core->config.stores_margin_us);
    return true;
}

/* A process speaks for itself: its word frees nothing of older ones that may still store. */
static void on_last_word(core_peer *peer, uint32_t generation)
{
    if (peer->stores_ended >= generation || peer->stores_ended + 1 < generation) {
        return;
    }
    peer->stores_ended = generation;
    peer->margin_of = peer->ended > generation ? peer->ended : 0;
    peer->margin_from_us = peer->ended_us;
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

void eepi_core_pass_margins(eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        pass(peer, core->now_us, core->config.stores_margin_us);
        if (peer->margin_of != 0) {
            eepi_core_wake_at(core, peer->margin_from_us + core->config.stores_margin_us);
        }
    }
}

bool eepi_core_awaits_end(const eepi_core *core, int seat, uint32_t generation)
{
    return eepi_core_has_exited(core, seat, generation) &&
           !eepi_core_process_has_ended(core, seat, generation);
}
