/* SPDX-License-Identifier: Apache-2.0 */
/* Body of the kernel that stands in for the host where it cannot write a window: what came over a
 * network is copied there out of pinned memory, and then a word is stored. One block, in a stream
 * that waits for nothing; launched, never captured. */
#ifndef EEPK_PLACE_H
#define EEPK_PLACE_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/kernel_args.h"

/* Of what a peer names as offset and bytes nothing is aligned for certain. A warp. */
EEPK_FN void eepk_place_stretch(const eepk_placing *p, const eepk_stretch *stretch, eep_grid g)
{
    const uint8_t *from = p->bytes + stretch->offset;
    uint8_t *to = p->window + stretch->offset;

    if ((stretch->offset & 15u) == 0) {
        eepk_copy_row(to, from, stretch->bytes, g);
        return;
    }
    for (uint32_t i = g.thread; i < stretch->bytes; i += g.num_threads) {
        to[i] = from[i];
    }
}

/* Rule N4: a word speaks for all rows that were placed before it; its release takes along what
 * earlier launches in the stream, and the warps that have met here, have stored (partner:
 * eepk_seat_look). `done` is stored last. */
EEPK_FN void eepk_place_body(const eepk_place_args *a, eep_grid g)
{
    eepk_placing *p = a->placing;
    const eep_grid warp = eepk_warp_grid(g);

    for (uint32_t i = warp.block; i < p->num; i += warp.num_blocks) {
        eepk_place_stretch(p, &p->stretch[i], warp);
    }
    eepk_block_sync();
    if (g.thread != 0) {
        return;
    }
    if (p->has_word) {
        eepk_store_release((uint64_t *)(p->window + p->word_offset), p->word);
        eepk_doorbell_ring(&((eepk_window_header *)p->window)->doorbell);
    }
    eepk_store_release(&p->done, p->number);
}
#endif
