/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/world/kernel_pair.h"

#include "graphs/kernels/compiler_macros.h"

#include <stdlib.h>

uint64_t kernel_pair_seed(void)
{
    const char *text = getenv("EEP_TEST_SEED");

    return text ? strtoull(text, NULL, 0) : 20260511;
}

const moe_shape kernel_pair_shape = {3, 2, 4, 3, 2, 6, 4, EEP_FP32, EEP_FP32, 0};

kernel_world *kernel_pair_open(void)
{
    kernel_world *w = kernel_world_open(&kernel_pair_shape, 2);

    kernel_world_switch(w, kernel_view(w, KERNEL_PAIR_EPOCH, 3, 1, kernel_pair_seed()));
    for (int seat = 0; seat < 2; seat++) {
        uint64_t random = kernel_pair_seed() + (uint64_t)seat;
        do {
            kernel_rank_fill(w, seat, 4, kernel_random(&random));
        } while (w->rank[seat].num_tokens != 4);
    }
    return w;
}

uint64_t *kernel_pair_tag(kernel_world *w, uint32_t phase)
{
    return eepk_phase_tag(&w->layout, w->rank[0].window, phase, 0, 1);
}

void kernel_pair_publish(kernel_world *w, uint64_t epoch, uint64_t step, uint32_t layer,
                         uint32_t phase)
{
    eepk_store_release(kernel_pair_tag(w, phase), eepk_tag(epoch, step, layer, phase));
}

void kernel_pair_peer_sends(kernel_world *w, uint64_t step, uint32_t layer)
{
    kernel_rank_prepare(w, 1, step, 0);
    kernel_rank_run(w, 1, EEPI_KERNEL_latch, 0);
    kernel_rank_run_to(w, 1, EEPI_KERNEL_dispatch_send, layer);
}

eepk_latch *kernel_pair_latch(kernel_world *w)
{
    return &w->rank[0].world->control->latch;
}

void kernel_pair_begin(kernel_world *w, uint64_t step, uint64_t wait_ns)
{
    kernel_rank_prepare(w, 0, step, wait_ns);
    kernel_rank_run(w, 0, EEPI_KERNEL_latch, 0);
}
