/* What the core knows of ends (rule P8). A process that ends stops deciding at once; what its
 * kernels store may come later where a device outlives the process that launched them. So an end
 * has three moments here.
 *
 * `exited` is the first sign: no memory map, or a zombie leader. It is evidence, and the view goes
 * on without the rank. `gone` is the whole end of the process: each of its threads has left the
 * kernel. `stored` means gone and the margin has passed: nothing of it stores any more.
 *
 * Only the last one frees what it could store into. A rank whose graph has ended may say it of
 * itself, though its process lives on. With a margin of 0 the three are one moment.
 *
 * Time is no fence: the margin holds for kernels that end with their process, or soon after. */
#include "membership/core/core_ends.h"

#include "membership/core/core_common.h"

/* The store keeps one end per seat, the one that was said last, and may lose it; a rank that joins
 * later must hear of the newest (M7). */
void eepi_core_tell_gone(eepi_core *core, int seat)
{
    if (core->peers[seat].gone != 0 && eepi_core_has_room(core)) {
        eepi_core_act(core, EEPI_ACTION_EXIT)->end =
            (eepi_end){seat, core->peers[seat].gone, EEPI_END_PROCESS};
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
    while (peer->passing != 0 && now_us >= peer->passing_us + margin_us) {
        peer->stored = peer->passing;
        peer->passing = peer->gone > peer->stored ? peer->gone : 0;
        peer->passing_us = peer->gone_us;
    }
}

/* A rank hears of an end after it came, so its own margin from then on is long enough. */
bool eepi_core_note_gone(eepi_core *core, int seat, uint32_t generation)
{
    core_peer *peer = &core->peers[seat];

    note_exited(peer, generation);
    if (generation <= peer->gone) {
        return 0;
    }
    peer->gone = generation;
    peer->gone_us = core->now_us;
    if (peer->passing == 0) {
        peer->passing = generation;
        peer->passing_us = core->now_us;
    }
    pass(peer, core->now_us, core->config.stores_margin_us);
    return 1;
}

/* A generation speaks for itself: older ones that may still store are not freed by its word. */
static void take_last_word(core_peer *peer, uint32_t generation)
{
    if (peer->stored >= generation || peer->stored + 1 < generation) {
        return;
    }
    peer->stored = generation;
    peer->passing = peer->gone > generation ? peer->gone : 0;
    peer->passing_us = peer->gone_us;
}

void eepi_core_take_end(eepi_core *core, const eepi_end *end, int by)
{
    core_peer *peer = &core->peers[end->seat];

    if (eepi_core_note_gone(core, end->seat, end->generation)) {
        if (by == core->config.seat) { /* else the others hear it from there */
            eepi_core_act(core, EEPI_ACTION_EXIT)->end = *end;
        }
    } else if (by == NOBODY && end->generation < peer->gone) {
        eepi_core_tell_gone(core, end->seat);
    }
    if (end->kind == EEPI_END_STORES) {
        take_last_word(peer, end->generation);
    }
}

void eepi_core_take_exit(eepi_core *core, const eepi_suspect *suspect, int by)
{
    const eepi_end end = {suspect->seat, suspect->generation, EEPI_END_PROCESS};

    note_exited(&core->peers[suspect->seat], suspect->generation);
    if (core->config.stores_margin_us == 0) {
        eepi_core_take_end(core, &end, by);
    }
}

void eepi_core_pass_margins(eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        pass(peer, core->now_us, core->config.stores_margin_us);
        if (peer->passing != 0) {
            eepi_core_wake_at(core, peer->passing_us + core->config.stores_margin_us);
        }
    }
}

int eepi_core_awaits_end(const eepi_core *core, int seat, uint32_t generation)
{
    return eepi_core_has_exited(core, seat, generation) &&
           !eepi_core_is_gone(core, seat, generation);
}
