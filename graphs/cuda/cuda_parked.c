/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, events and graphs that a rank of this process has closed. Destroying one may wait for
 * the whole device, and so for ranks that wait in kernels on it. While any rank waits, it is parked
 * instead: used again where that is possible, and destroyed when no rank waits any more
 * (cuda_quiet.c). One count of waiting ranks for all devices: a call that waits for one device may
 * hold what launches on another need. */
#include "graphs/cuda/cuda_backend.h"

#include <stdbool.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct parked {
    struct parked *next;
    cuda_parked_kind kind;
    int ordinal;
    void *object;
} parked;

/* Held where calls that were put off are made, and for each change of the number of waiters: none
 * begins to wait meanwhile. Before `lock`, which is never held in a call that waits. */
static pthread_mutex_t quiet = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static parked *all;
static uint32_t num_waiters;
static uint64_t num_late;

/* ------------------------------------------------------------------ ranks that wait */

uint32_t eepi_cuda_num_waiters(void)
{
    return __atomic_load_n(&num_waiters, __ATOMIC_ACQUIRE);
}

void eepi_cuda_quiet_enter(void)
{
    pthread_mutex_lock(&quiet);
}

void eepi_cuda_quiet_leave(void)
{
    pthread_mutex_unlock(&quiet);
}

void eepi_cuda_count_waiters(uint32_t num)
{
    __atomic_store_n(&num_waiters, num, __ATOMIC_RELEASE);
}

void eepi_cuda_note_late(void)
{
    if (eepi_cuda_num_waiters() > 1) {
        __atomic_fetch_add(&num_late, 1, __ATOMIC_RELAXED);
    }
}

uint64_t eepi_cuda_late_calls(const void *device)
{
    (void)device;
    return __atomic_load_n(&num_late, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------ what is parked */

static void destroy(cuda_parked_kind kind, int ordinal, void *object)
{
    if (eepi_cuda_use_device(ordinal) != EEP_OK) {
        return;
    }
    switch (kind) {
    case CUDA_PARKED_STEP_STREAM:
    case CUDA_PARKED_AUXILIARY_STREAM: /* with work in it the runtime frees it behind that */
        (void)EEPI_CUDA_CHECKED(ordinal, cudaStreamDestroy(object));
        break;
    case CUDA_PARKED_EVENT:
        (void)EEPI_CUDA_CHECKED(ordinal, cudaEventDestroy(object));
        break;
    case CUDA_PARKED_GRAPH:
        (void)EEPI_CUDA_CHECKED(ordinal, cudaGraphExecDestroy(object));
        break;
    }
}

/* 0: somebody waits. */
static bool destroy_if_quiet(cuda_parked_kind kind, int ordinal, void *object)
{
    int is_quiet;

    if (eepi_cuda_num_waiters() > 0) {
        return false;
    }
    pthread_mutex_lock(&quiet);
    is_quiet = eepi_cuda_num_waiters() == 0;
    if (is_quiet) {
        destroy(kind, ordinal, object);
    }
    pthread_mutex_unlock(&quiet);
    return is_quiet;
}

static bool is_idle(cuda_parked_kind kind, void *object)
{
    switch (kind) {
    case CUDA_PARKED_STEP_STREAM:
    case CUDA_PARKED_AUXILIARY_STREAM:
        return cudaStreamQuery(object) == cudaSuccess;
    case CUDA_PARKED_EVENT:
        return cudaEventQuery(object) == cudaSuccess;
    case CUDA_PARKED_GRAPH:
        break; /* of one capture: of no use to another */
    }
    return false;
}

void eepi_cuda_park(cuda_parked_kind kind, int ordinal, void *object)
{
    parked *p;

    if (destroy_if_quiet(kind, ordinal, object)) {
        return;
    }
    p = malloc(sizeof *p);
    if (!p) { /* nothing is left but to wait */
        destroy(kind, ordinal, object);
        return;
    }
    *p = (parked){.kind = kind, .ordinal = ordinal, .object = object};
    pthread_mutex_lock(&lock);
    p->next = all;
    all = p;
    pthread_mutex_unlock(&lock);
}

void *eepi_cuda_unpark(cuda_parked_kind kind, int ordinal)
{
    void *object = NULL;

    pthread_mutex_lock(&lock);
    for (parked **at = &all; *at && !object; at = &(*at)->next) {
        parked *p = *at;

        if (p->kind != kind || p->ordinal != ordinal || !is_idle(kind, p->object)) {
            continue;
        }
        object = p->object;
        *at = p->next;
        free(p);
        break;
    }
    pthread_mutex_unlock(&lock);
    return object;
}

void eepi_cuda_destroy_parked(void)
{
    parked *list;

    pthread_mutex_lock(&lock);
    list = all;
    all = NULL;
    pthread_mutex_unlock(&lock);
    while (list) {
        parked *next = list->next;

        destroy(list->kind, list->ordinal, list->object);
        free(list);
        list = next;
    }
}
