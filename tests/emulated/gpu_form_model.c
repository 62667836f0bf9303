/* SPDX-License-Identifier: Apache-2.0 */
/* The model's bodies in their GPU form, run by CPU threads: all threads of all blocks at once. */
#include "tests/emulated/gpu_form.h"

#include "experiments/model/model_bodies.h"
#include "tests/emulated/gpu_form_model.h"

#include <pthread.h>
#include <stdlib.h>

static _Thread_local pthread_barrier_t *meeting; /* of the thread's block */

void eepk_block_sync(void)
{
    pthread_barrier_wait(meeting);
}

typedef struct gpu_thread {
    pthread_t thread;
    pthread_barrier_t *meeting;
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

    meeting = t->meeting;
    run_body(t->id, t->args, t->grid);
    return NULL;
}

void gpu_form_launch(model_kernel_id id, uint32_t num_blocks, uint32_t num_threads,
                     const void *args)
{
    gpu_thread *threads = calloc((size_t)num_blocks * num_threads, sizeof *threads);
    pthread_barrier_t *meetings = calloc(num_blocks, sizeof *meetings);

    if (!threads || !meetings) {
        abort();
    }
    for (uint32_t block = 0; block < num_blocks; block++) {
        pthread_barrier_init(&meetings[block], NULL, num_threads);
    }
    for (uint32_t i = 0; i < num_blocks * num_threads; i++) {
        uint32_t block = i / num_threads;
        threads[i] = (gpu_thread){.meeting = &meetings[block],
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
        pthread_barrier_destroy(&meetings[block]);
    }
    free(threads);
    free(meetings);
}
