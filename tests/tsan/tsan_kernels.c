/* SPDX-License-Identifier: Apache-2.0 */
/* The data plane under ThreadSanitizer: a plain program, since it does not run under Criterion.
 * Ranks on streams of their own exchange rows through plain memory; only tags order them, so a
 * payload access that the protocol does not order is reported as a race. Steps are fault-free:
 * after an abort rows may be overwritten under a reader, which the second look at the tags is for.
 * Build with -Wno-tsan: fences are not modelled, the release and acquire of the tags are. */
#include "tests/lib/world/kernel_world.h"

#include "graphs/kernels/compiler_macros.h"

#include <stdio.h>

enum { EPOCHS = 8, STEPS = 25 };

/* STEPS steps of the members with new inputs and experts of different speed. */
static int run_view(kernel_world *w, uint64_t *step, uint64_t *random)
{
    uint64_t end = *step + STEPS;
    int wrong = 0;

    for (; *step < end; ++*step) {
        kernel_world_fill(w, kernel_random(random));
        for (int seat = 0; seat < w->shape.max_ranks; seat++) {
            w->rank[seat].delay_us = (uint32_t)kernel_below(random, 200);
            if (kernel_is_member(w, seat)) {
                kernel_rank_launch(w, seat, *step, kernel_long_ns);
            }
        }
        for (int seat = 0; seat < w->shape.max_ranks; seat++) {
            wrong += kernel_is_member(w, seat) && kernel_rank_end(w, seat)->result != EEPK_STEP_OK;
        }
        for (int seat = 0; seat < w->shape.max_ranks; seat++) {
            wrong += kernel_is_member(w, seat) && kernel_rank_compare(w, seat, false) >= 0;
        }
    }
    return wrong;
}

int main(void)
{
    const moe_shape shape = {4, 3, 6, 3, 3, 16, 8, EEP_BF16, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t random = 20260511, step = 1;
    int wrong = 0;

    for (uint64_t epoch = 1; epoch <= EPOCHS; epoch++) {
        uint64_t members = epoch % 2 ? 0xf : 0xf & ~(1u << kernel_below(&random, 4));
        kernel_world_switch(w, kernel_view(w, epoch, members, 1, kernel_random(&random)));
        wrong += run_view(w, &step, &random);
    }
    kernel_world_close(w);
    if (wrong) {
        fprintf(stderr, "%d wrong or unfinished steps\n", wrong);
    }
    return wrong != 0;
}
