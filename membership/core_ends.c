/* What the core knows of ends (rule P8). A process that ends stops deciding at once; what its
 * kernels store may come later where a device outlives the process that launched them. So an end
 * has three moments here:
 *
 *     exited      the first sign: no memory map, a zombie leader. Evidence; the view goes on
 * without it gone        the whole end of the process: every thread of it has left the kernel
 *     stored      gone, and the margin has passed: nothing of it stores any more
 *
 * Only the last one frees what it could store into; a rank whose graph has ended may say it of
 * itself, though its process lives on. With a margin of 0 the three are one moment.
 * Time is no fence: the margin holds for kernels that end with their process, or soon after. */
#include "membership/core_state.h"

int eepi_core_has_exited(const eepi_core *core, int seat, uint32_t generation)
{
    return generation != 0 && generation <= core->peers[seat].exited;
}

int eepi_core_stores_have_ended(const eepi_core *core, int seat, uint32_t generation)
{
    return generation != 0 && generation <= core->peers[seat].stored;
}

/* The store keeps one end per seat, the one that was said last, and may lose it; a rank that joins
 * later must hear of the newest (M7). */
void eepi_core_tell_gone(eepi_core *core, int seat)
{
    if (core->peers[seat].gone != 0 && eepi_core_has_room(core))
        eepi_core_act(core, EEPI_ACTION_EXIT)->end =
            (eepi_end){seat, core->peers[seat].gone, EEPI_END_PROCESS};
}

static void note_exited(core_peer *peer, uint32_t generation)
{
    if (peer->exited < generation)
        peer->exited = generation;
}

/* A rank hears of an end after it came, so its own margin from then on is long enough. A newer end
 * while an older one's margin runs lets that one begin again, which is later than needed. */
int eepi_core_note_gone(eepi_core *core, int seat, uint32_t generation)
{
    core_peer *peer = &core->peers[seat];

    note_exited(peer, generation);
    if (generation <= peer->gone)
        return 0;
    peer->gone = generation;
    peer->gone_us = core->now_us;
    if (core->config.stores_margin_us == 0)
        peer->stored = generation;
    return 1;
}

void eepi_core_take_end(eepi_core *core, const eepi_end *end, int by)
{
    core_peer *peer = &core->peers[end->seat];

    if (eepi_core_note_gone(core, end->seat, end->generation)) {
        if (by == core->config.seat) /* else the others hear it from there */
            eepi_core_act(core, EEPI_ACTION_EXIT)->end = *end;
    } else if (by == NOBODY && end->generation < peer->gone) {
        eepi_core_tell_gone(core, end->seat);
    }
    if (end->kind == EEPI_END_STORES && peer->stored < end->generation)
        peer->stored = end->generation;
}

void eepi_core_take_exit(eepi_core *core, const eepi_suspect *suspect, int by)
{
    note_exited(&core->peers[suspect->seat], suspect->generation);
    if (core->config.stores_margin_us == 0)
        eepi_core_take_end(core, &(eepi_end){suspect->seat, suspect->generation, EEPI_END_PROCESS},
                           by);
}

void eepi_core_pass_margins(eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        uint64_t over_us = peer->gone_us + core->config.stores_margin_us;
        if (peer->stored == peer->gone)
            continue;
        if (core->now_us >= over_us)
            peer->stored = peer->gone;
        else
            eepi_core_wake_at(core, over_us);
    }
}
