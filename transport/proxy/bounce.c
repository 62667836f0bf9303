/* SPDX-License-Identifier: Apache-2.0 */
/* One batch at a time: the lock is held until the kernel is done. The threads that place are few,
 * and each would wait for its own batch anyway. */
#include "transport/proxy/bounce.h"

#include "graphs/base/clock.h"
#include "graphs/device/device_ops.h"
#include "graphs/kernels/kernels.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of one launch. Whoever moves the gate waits for a second more (rule N1). */
enum { BOUND_US = 4000000 };

struct eepi_bounce {
    eep_device *device;
    eep_stream *stream;
    bool has_queue;
    uint8_t *bytes;        /* pinned: a window's */
    eepk_placing *placing; /* pinned */
    void *window;          /* atomic: words are stored while it changes */
    bool has_failed;       /* atomic */
    char why[200];         /* written once, before that */
    pthread_mutex_t lock;
    eepi_bounce_cost cost; /* under the lock */
};

/* ------------------------------------------------------------------ life */

static eep_status open_parts(eepi_bounce *bounce, uint64_t window_bytes)
{
    eep_status status = eepi_device_take_stream(bounce->device);

    if (status != EEP_OK) {
        return status;
    }
    bounce->has_queue = true;
    status = eep_stream_open(bounce->device, &bounce->stream);
    if (status == EEP_OK) {
        status = eep_device_alloc(bounce->device, EEP_MEMORY_PINNED, window_bytes,
                                  (void **)&bounce->bytes);
    }
    if (status == EEP_OK) {
        status = eep_device_alloc(bounce->device, EEP_MEMORY_PINNED, sizeof *bounce->placing,
                                  (void **)&bounce->placing);
    }
    return status;
}

eep_status eepi_bounce_open(eep_device *device, uint64_t window_bytes, eepi_bounce **bounce_out)
{
    eepi_bounce *bounce = calloc(1, sizeof *bounce);
    eep_status status;

    if (!bounce) {
        return EEP_ERR_NO_MEMORY;
    }
    bounce->device = device;
    pthread_mutex_init(&bounce->lock, NULL);
    status = open_parts(bounce, window_bytes);
    if (status != EEP_OK) {
        eepi_bounce_close(bounce);
        return status;
    }
    *bounce_out = bounce;
    return EEP_OK;
}

/* A kernel that never ended may still read the pinned memory, which stays then. */
void eepi_bounce_close(eepi_bounce *bounce)
{
    if (!bounce) {
        return;
    }
    if (bounce->stream) {
        eep_stream_close(bounce->stream);
    }
    if (!bounce->has_failed && bounce->bytes) {
        eep_device_free(bounce->device, EEP_MEMORY_PINNED, bounce->bytes);
    }
    if (!bounce->has_failed && bounce->placing) {
        eep_device_free(bounce->device, EEP_MEMORY_PINNED, bounce->placing);
    }
    if (bounce->has_queue) {
        eepi_device_release_stream(bounce->device);
    }
    pthread_mutex_destroy(&bounce->lock);
    free(bounce);
}

void eepi_bounce_set_window(eepi_bounce *bounce, void *window)
{
    __atomic_store_n(&bounce->window, window, __ATOMIC_RELEASE);
}

eepi_bounce_cost eepi_bounce_cost_of(const eepi_bounce *bounce)
{
    return bounce->cost;
}

const char *eepi_bounce_failure(const eepi_bounce *bounce)
{
    return __atomic_load_n(&bounce->has_failed, __ATOMIC_ACQUIRE) ? bounce->why : NULL;
}

/* ------------------------------------------------------------------ placing */

/* The lock is held. */
static bool fail(eepi_bounce *bounce, eep_status status)
{
    const char *why = eepi_device_failure(bounce->device);

    snprintf(bounce->why, sizeof bounce->why, "rows of the network could not be placed: %s",
             why[0] ? why : eep_strerror(status));
    __atomic_store_n(&bounce->has_failed, true, __ATOMIC_RELEASE);
    return false;
}

static void count(eepi_bounce *bounce, uint64_t begin_us)
{
    const uint64_t us = eepi_now_us() - begin_us;
    eepi_bounce_cost *cost = &bounce->cost;

    cost->launches++;
    cost->stretches += bounce->placing->num;
    cost->total_us += us;
    cost->longest_us = us > cost->longest_us ? us : cost->longest_us;
}

static eep_status run_kernel(eepi_bounce *bounce)
{
    eepk_placing *p = bounce->placing;
    const eepk_place_args args = {p};
    eep_status status;

    p->number++;
    p->bytes = bounce->bytes;
    p->window = __atomic_load_n(&bounce->window, __ATOMIC_ACQUIRE);
    status = eep_launch(bounce->stream, eepi_device_kernel(bounce->device, EEPI_KERNEL_place), 1,
                        EEPI_PLACE_THREADS, &args, sizeof args);
    /* partner: the kernel's last store. The stream is empty then, so the kernel has ended */
    if (status == EEP_OK) {
        status = eepi_stream_await_word(bounce->stream, &p->done, p->number, BOUND_US);
    }
    if (status == EEP_OK && __atomic_load_n(&p->done, __ATOMIC_ACQUIRE) != p->number) {
        status = EEP_ERR_DEVICE;
    }
    return status;
}

/* What `placing` says, until it is done. The lock is held, and nobody has failed. Whoever moves the
 * gate places as well, on the engine's thread. */
static bool place(eepi_bounce *bounce)
{
    const uint64_t begin_us = eepi_now_us();
    int before;
    eep_status status = eepi_device_thread_begin(bounce->device, &before);

    if (status == EEP_OK) {
        status = run_kernel(bounce);
        eepi_device_thread_end(bounce->device, before);
    }
    count(bounce, begin_us);
    return status == EEP_OK || fail(bounce, status);
}

static void bounce_rows(void *user, uint64_t offset, const void *bytes, uint32_t num_bytes)
{
    memcpy(((eepi_bounce *)user)->bytes + offset, bytes, num_bytes);
}

static void *bounce_where(void *user, uint64_t offset)
{
    return ((eepi_bounce *)user)->bytes + offset;
}

static bool bounce_settle(void *user, const eepk_put *const *put, uint32_t num)
{
    eepi_bounce *bounce = user;
    bool is_seen = false;

    assert(num <= EEPK_PLACE_AT_ONCE);
    pthread_mutex_lock(&bounce->lock);
    if (!bounce->has_failed) {
        eepk_placing *p = bounce->placing;
        for (uint32_t i = 0; i < num; i++) {
            p->stretch[i] = (eepk_stretch){put[i]->offset, put[i]->bytes, 0};
        }
        p->num = num;
        p->has_word = 0;
        is_seen = place(bounce);
    }
    pthread_mutex_unlock(&bounce->lock);
    return is_seen;
}

static void bounce_word(void *user, uint64_t offset, uint64_t value)
{
    eepi_bounce *bounce = user;

    pthread_mutex_lock(&bounce->lock);
    if (!bounce->has_failed) {
        eepk_placing *p = bounce->placing;
        p->num = 0;
        p->has_word = 1;
        p->word_offset = offset;
        p->word = value;
        (void)place(bounce);
    }
    pthread_mutex_unlock(&bounce->lock);
}

const eepi_placer_ops eepi_placer_bounce_ops = {bounce_rows, bounce_word,  NULL,
                                                NULL,        bounce_where, bounce_settle};
