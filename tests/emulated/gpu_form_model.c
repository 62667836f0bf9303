/* SPDX-License-Identifier: Apache-2.0 */
/* The model's bodies in their GPU form, run by CPU threads: all threads of all blocks at once. */
#include "tests/emulated/gpu_form.h"

#include "experiments/model/model_bodies.h"
#include "tests/emulated/gpu_form_model.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct gpu_block {
    pthread_barrier_t meeting;
    int any;
} gpu_block;

static _Thread_local gpu_block *block_here;

void eepk_block_sync(void)
{
    pthread_barrier_wait(&block_here->meeting);
}

int eepk_block_any(int value)
{
    int any;

    if (value) {
        __atomic_store_n(&block_here->any, 1, __ATOMIC_RELAXED);
    }
    eepk_block_sync();
    any = __atomic_load_n(&block_here->any, __ATOMIC_RELAXED);
    eepk_block_sync();
    __atomic_store_n(&block_here->any, 0, __ATOMIC_RELAXED);
    eepk_block_sync();
    return any;
}

typedef struct gpu_thread {
    pthread_t thread;
    gpu_block *block;
    model_kernel_id id;
    const void *args;
    eep_grid grid;
} gpu_thread;

static void run_body(model_kernel_id id, const void *args, eep_grid grid)
{
    switch (id) {
#define RUN_BODY(name, args_type)                                                                  \
    case MODEL_KERNEL_##name:                                                                      \
        model_##name##_body((const args_type *)args, grid);                                        \
        break;
        MODEL_KERNEL_LIST(RUN_BODY)
#undef RUN_BODY
    default:
        abort();
    }
}

static void *run_thread(void *raw)
{
    const gpu_thread *t = raw;

    block_here = t->block;
    run_body(t->id, t->args, t->grid);
    return NULL;
}

void gpu_form_launch(model_kernel_id id, uint32_t num_blocks, uint32_t num_threads,
                     const void *args)
{
    gpu_thread *threads = calloc((size_t)num_blocks * num_threads, sizeof *threads);
    gpu_block *blocks = calloc(num_blocks, sizeof *blocks);

    if (!threads || !blocks) {
        abort();
    }
    for (uint32_t block = 0; block < num_blocks; block++) {
        pthread_barrier_init(&blocks[block].meeting, NULL, num_threads);
    }
    for (uint32_t i = 0; i < num_blocks * num_threads; i++) {
        uint32_t block = i / num_threads;
        threads[i] = (gpu_thread){.block = &blocks[block],
                                  .id = id,
                                  .args = args,
                                  .grid = {block, num_blocks, i % num_threads, num_threads}};
        if (pthread_create(&threads[i].thread, NULL, run_thread, &threads[i]) != 0) {
            abort();
        }
    }
    for (uint32_t i = 0; i < num_blocks * num_threads; i++) {
        pthread_join(threads[i].thread, NULL);
    }
    for (uint32_t block = 0; block < num_blocks; block++) {
        pthread_barrier_destroy(&blocks[block].meeting);
    }
    free(threads);
    free(blocks);
}
