/* SPDX-License-Identifier: Apache-2.0 */
/* The product's kernel bodies, compiled once more with points at which the process can stop: before
 * a row is copied, and at every fence and block boundary. So what a rank stores late lands in the
 * windows of a past that its peers have left. */
#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/kernels.h"
#include "tests/sim/sim.h"

#include <xxhash.h>

static inline void point_and_copy(void *to, const void *from, uint32_t bytes)
{
    sim_point();
    if (to) {
        memcpy(to, from, bytes);
    }
}

/* What was put so far may leave. */
static inline void look_and_point(void)
{
    sim_network_look(sim_self());
    sim_point();
}

#define eepk_copies_add(copies, to, from, bytes, g)                                                \
    ((void)(copies), (void)(g), point_and_copy(to, from, bytes))
#define eepk_fence_system() look_and_point()
#define eepk_fence_reads()  sim_point()
#define eepk_block_sync()   sim_point()

#include "graphs/kernels/combine.h"
#include "graphs/kernels/dispatch.h"
#include "graphs/kernels/place.h"
#include "graphs/kernels/step_nodes.h"

/* Rule M2: what was promised holds for the graph, too. */
static void check_promise(const eepk_world *world)
{
    const sim_process *p = sim_self();
    const eepk_latch *latch = &world->control->latch;

    SIM_MUST(p->promised == 0 || latch->epoch > p->promised || latch->aborted, "M2",
             "%d.%u runs a node of epoch %llu after its promise for %llu", p->seat, p->generation,
             (unsigned long long)latch->epoch, (unsigned long long)p->promised);
}

/* S11: all nodes of a replay read one version of the tables, to the byte. */
static void note_tables(const eepk_world *world)
{
    sim_self()->tables_hash =
        XXH64(world->bank[world->control->latch.bank], world->shape.bank_bytes, 0);
}

static void check_tables(const eepk_world *world)
{
    const sim_process *p = sim_self();
    const eepk_latch *latch = &world->control->latch;

    SIM_MUST(latch->aborted ||
                 XXH64(world->bank[latch->bank], world->shape.bank_bytes, 0) == p->tables_hash,
             "S11", "%d.%u: the tables change under step %llu of epoch %llu", p->seat,
             p->generation, (unsigned long long)latch->step, (unsigned long long)latch->epoch);
}

/* Kernels of a process that has ended store for ever into all that they have addresses for,
 * whatever comes: into its part, and the rows that several write, of each window in its bank. They
 * begin once a view is without it; before, they are a rank's as any other's. */
static void store_for_ever(const eepk_world *world)
{
    const sim_process *p = sim_self();
    const eepk_shape *s = &world->shape;

    while (!p->alive && p->stores_until_us == SIM_NEVER) {
        sim_sleep(2000 + sim_random(20000));
        for (uint32_t seat = 0; seat < s->max_ranks && p->expelled_epoch; seat++) {
            uint8_t *window =
                (uint8_t *)(uintptr_t)eepk_peers(s, world->bank[world->control->latch.bank])[seat]
                    .address;
            const uint32_t chain = (uint32_t)sim_random(s->num_chains),
                           token = (uint32_t)sim_random(s->num_max_tokens);
            if (!window || seat == s->self) {
                continue;
            }
            memset(eepk_combine_row(s, window, chain, token, 0), 0x55, s->top_k * s->row_bytes);
            memset(eepk_dispatch_row(s, window, chain, s->self, token), 0x55,
                   s->dispatch_row_bytes);
            eepk_store_release(
                eepk_phase_tag(s, window, 1 + (uint32_t)sim_random(2), chain, s->self),
                eepk_tag(p->epoch, p->step, 0, EEPK_PHASE_DISPATCH));
            sim->late_rows++;
        }
    }
}

#define SIM_KERNEL(name, args_type)                                                                \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        const args_type *typed = (const args_type *)args;                                          \
        const int is_step = EEPI_KERNEL_##name > EEPI_KERNEL_finish;                               \
        sim_point();                                                                               \
        sim->late_nodes += (uint64_t)!sim_self()->alive;                                           \
        if (is_step)                                                                               \
            check_promise(typed->world);                                                           \
        eepk_##name##_body(typed, grid);                                                           \
        sim_network_look(sim_self());                                                              \
        if (is_step)                                                                               \
            store_for_ever(typed->world);                                                          \
        if (EEPI_KERNEL_##name == EEPI_KERNEL_latch)                                               \
            note_tables(typed->world);                                                             \
        if (EEPI_KERNEL_##name == EEPI_KERNEL_finish)                                              \
            check_tables(typed->world);                                                            \
    }
EEPK_WORLD_KERNEL_LIST(SIM_KERNEL)
#undef SIM_KERNEL

/* The simulator's windows are the host's: nobody launches it. */
static void place_host(const void *args, eep_grid grid)
{
    eepk_place_body((const eepk_place_args *)args, grid);
}

const eep_kernel eepi_host_kernels[EEPI_NUM_KERNELS] = {
#define SIM_KERNEL_ENTRY(name, args) EEP_KERNEL(#name, name##_host, NULL, NULL, 0),
    EEPK_KERNEL_LIST(SIM_KERNEL_ENTRY)
#undef SIM_KERNEL_ENTRY
};
