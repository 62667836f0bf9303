/* SPDX-License-Identifier: Apache-2.0 */
/* Pinned memory of the process. cudaHostAlloc and cudaFreeHost may wait for all that runs on any
 * device, so they are called seldom: an arena is reserved before the first rank waits, and what is
 * given back stays in it.
 *
 *     slab   | used | free        | used |      blocks, in order of their places; neighbours that
 *     slab   | free                      |      are free are one
 *
 * What the blocks are stands beside the slab, not in it: kernels write there. */
#include "graphs/cuda/cuda_backend.h"

#include <stdbool.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RESERVE_VARIABLE "EEP_CUDA_PINNED_MB"
enum { RESERVE_MB = 64, MOST_MB = 1 << 20, SLAB_ALIGNMENT = 2 << 20 };

typedef struct block {
    struct block *next;
    size_t at, bytes;
    int is_used;
} block;

typedef struct slab {
    struct slab *next;
    uint8_t *memory;
    size_t bytes;
    block *first;
} slab;

static pthread_mutex_t growing = PTHREAD_MUTEX_INITIALIZER; /* one makes a slab; before `lock` */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static slab *slabs;

static eep_status read_reserve(int ordinal, size_t *bytes_out)
{
    const char *text = getenv(RESERVE_VARIABLE);
    char *end;
    long mb = text && *text ? strtol(text, &end, 10) : RESERVE_MB;

    if (mb < 0 || mb > MOST_MB || (text && *text && *end != '\0')) {
        return eepi_cuda_fail(EEP_ERR_INVALID, ordinal,
                              "the environment variable " RESERVE_VARIABLE " is \"%.80s\": it must "
                              "be a whole number of megabytes from 0 to %d",
                              text ? text : "", MOST_MB);
    }
    *bytes_out = (size_t)mb << 20;
    return EEP_OK;
}

/* ------------------------------------------------------------------ slabs */

/* All devices of the process reach it at the host's address. */
static eep_status host_alloc(int ordinal, size_t bytes, uint8_t **memory_out)
{
    void *memory = NULL, *seen_by_device = NULL;
    eep_status status = EEPI_CUDA_CHECKED(
        ordinal, cudaHostAlloc(&memory, bytes, cudaHostAllocMapped | cudaHostAllocPortable));

    if (status != EEP_OK) {
        return status;
    }
    status = EEPI_CUDA_CHECKED(ordinal, cudaHostGetDevicePointer(&seen_by_device, memory, 0));
    if (status == EEP_OK && seen_by_device != memory) {
        status =
            eepi_cuda_fail(EEP_ERR_UNSUPPORTED, ordinal, "pinned memory at another address there");
    }
    if (status != EEP_OK) {
        (void)cudaFreeHost(memory);
        return status;
    }
    *memory_out = memory;
    return EEP_OK;
}

/* `growing` is held, `lock` is not: others take and give back meanwhile. */
static eep_status slab_add(int ordinal, size_t bytes)
{
    slab *s = calloc(1, sizeof *s);
    block *b = calloc(1, sizeof *b);
    eep_status status = s && b ? eepi_cuda_use_device(ordinal) : EEP_ERR_NO_MEMORY;

    if (status == EEP_OK) {
        status = host_alloc(ordinal, bytes, &s->memory);
    }
    if (status != EEP_OK) {
        free(s);
        free(b);
        return status;
    }
    eepi_cuda_note_late();
    s->bytes = b->bytes = bytes;
    s->first = b;
    pthread_mutex_lock(&lock);
    s->next = slabs;
    slabs = s;
    pthread_mutex_unlock(&lock);
    return EEP_OK;
}

static size_t slab_round(size_t bytes)
{
    return (bytes + SLAB_ALIGNMENT - 1) / SLAB_ALIGNMENT * SLAB_ALIGNMENT;
}

/* A slab of the usual size, or what the request needs. */
static eep_status grow(int ordinal, size_t bytes)
{
    size_t usual, needed = slab_round(bytes);
    eep_status status;

    if (needed < bytes) {
        return EEP_ERR_NO_MEMORY;
    }
    if (read_reserve(ordinal, &usual) != EEP_OK) { /* the program changed it since the open */
        usual = (size_t)RESERVE_MB << 20;
    }
    status = slab_add(ordinal, usual > needed ? usual : needed);
    return status == EEP_ERR_NO_MEMORY && usual > needed ? slab_add(ordinal, needed) : status;
}

static bool has_slabs(void)
{
    int yes;

    pthread_mutex_lock(&lock);
    yes = slabs != NULL;
    pthread_mutex_unlock(&lock);
    return yes;
}

/* Without memory for it the first request says so. */
eep_status eepi_cuda_pinned_reserve(int ordinal)
{
    size_t bytes;
    eep_status status = read_reserve(ordinal, &bytes);

    if (status != EEP_OK) {
        return status;
    }
    bytes = slab_round(bytes);
    pthread_mutex_lock(&growing);
    if (bytes > 0 && !has_slabs()) {
        status = slab_add(ordinal, bytes);
    }
    pthread_mutex_unlock(&growing);
    return status == EEP_ERR_NO_MEMORY ? EEP_OK : status;
}

/* ------------------------------------------------------------------ blocks */

/* The smallest one that is large enough; the lock is held. */
static block *best_block(size_t bytes, slab **slab_out)
{
    block *best = NULL;

    for (slab *s = slabs; s; s = s->next) {
        for (block *b = s->first; b; b = b->next) {
            if (b->is_used || b->bytes < bytes || (best && best->bytes <= b->bytes)) {
                continue;
            }
            best = b;
            *slab_out = s;
        }
    }
    return best;
}

/* NULL: no block is large enough, or there is no memory for its rest's own block. */
static void *take(size_t bytes)
{
    block *rest = calloc(1, sizeof *rest), *b;
    void *memory = NULL;
    slab *s = NULL;

    if (!rest) {
        return NULL;
    }
    pthread_mutex_lock(&lock);
    b = best_block(bytes, &s);
    if (b) {
        memory = s->memory + b->at;
        b->is_used = 1;
        if (b->bytes > bytes) {
            *rest = (block){b->next, b->at + bytes, b->bytes - bytes, 0};
            b->next = rest;
            b->bytes = bytes;
            rest = NULL;
        }
    }
    pthread_mutex_unlock(&lock);
    free(rest);
    return memory;
}

eep_status eepi_cuda_pinned_alloc(int ordinal, size_t bytes, void **memory_out)
{
    void *memory = take(bytes);
    eep_status status = EEP_OK;

    if (!memory) {
        pthread_mutex_lock(&growing);
        memory = take(bytes); /* another one may have made room */
        if (!memory) {
            status = grow(ordinal, bytes);
        }
        if (!memory && status == EEP_OK) {
            memory = take(bytes);
        }
        pthread_mutex_unlock(&growing);
    }
    if (!memory) {
        return status != EEP_OK ? status
                                : eepi_cuda_fail(EEP_ERR_NO_MEMORY, ordinal,
                                                 "no %zu bytes of pinned memory", bytes);
    }
    memset(memory, 0, bytes);
    *memory_out = memory;
    return EEP_OK;
}

static void join_next(block *b)
{
    block *next = b->next;

    if (!next || b->is_used || next->is_used) {
        return;
    }
    b->bytes += next->bytes;
    b->next = next->next;
    free(next);
}

static void give_back(slab *s, size_t at)
{
    block *before = NULL, *b = s->first;

    while (b && b->at != at) {
        before = b;
        b = b->next;
    }
    if (!b) {
        return;
    }
    b->is_used = 0;
    join_next(b);
    if (before) {
        join_next(before);
    }
}

void eepi_cuda_pinned_free(void *memory)
{
    const uint8_t *at = memory;

    pthread_mutex_lock(&lock);
    for (slab *s = slabs; s; s = s->next) {
        if (at >= s->memory && at < s->memory + s->bytes) {
            give_back(s, (size_t)(at - s->memory));
        }
    }
    pthread_mutex_unlock(&lock);
}

void eepi_cuda_pinned_trim(void)
{
    slab *unused = NULL;

    pthread_mutex_lock(&lock);
    for (slab **at = &slabs; *at;) {
        slab *s = *at;

        if (s->first->is_used || s->first->next) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        s->next = unused;
        unused = s;
    }
    pthread_mutex_unlock(&lock);
    while (unused) {
        slab *next = unused->next;

        (void)EEPI_CUDA_CHECKED(0, cudaFreeHost(unused->memory));
        free(unused->first);
        free(unused);
        unused = next;
    }
}
