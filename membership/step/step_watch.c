/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that waits for the doorbell of the own window while the rank runs no step. An engine
 * that steps without pause does not notice it: the thread looks every few milliseconds then, and
 * no step signals it or finds one more waiter at the doorbell. */
#include "membership/step/step_watch.h"

#include "eep/control.h"
#include "graphs/base/public_call.h"
#include "graphs/base/thread.h"
#include "membership/context/context.h"
#include "membership/step/proxies.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    STEPPING_NAP_US = 2000, /* a rank that has stepped in the last such time is not idle */
    IDLE_NAP_US = 50000 /* what is told without a ring, as a view to switch to, is seen by then */
};

/* What was told of: none of it is told twice. */
typedef struct told {
    uint64_t pending, flip_due, announced, live, peer_step;
} told;

struct eepi_step_watch {
    pthread_t thread;
    bool stop; /* under the context's lock */
    told last;
    uint64_t last_step, quiet_since_us; /* the rank's own */
};

eepk_window_header *eepi_own_window(const eep_context *context)
{
    const eepi_live *live = &context->stepper.live;
    void *memory = eepi_window_memory(context->window, live->colour, live->serial);

    return memory && !eepi_window_is_discrete(context->window)
               ? memory
               : eepi_window_header(context->window);
}

uint64_t eepi_peer_step(eep_context *context)
{
    const uint64_t begun = eepi_proxies_note_begun(context);
    const uint64_t stored = eepi_stepper_peer_step(&context->stepper, &context->shape,
                                                   (uint8_t *)eepi_own_window(context));

    return begun > stored ? begun : stored;
}

/* A step would be of use, for another reason than the last one. With the lock. */
static bool is_wanted_anew(eep_context *context, struct eepi_step_watch *watch)
{
    const eepi_stepper *steps = &context->stepper;
    const uint64_t peer_step = eepi_peer_step(context);
    const told now = {steps->pending.epoch, steps->flip_due, steps->announced.epoch,
                      steps->live.epoch, peer_step};
    const bool is_new = memcmp(&now, &watch->last, sizeof now) != 0;

    if (!is_new ||
        (now.pending == 0 && now.flip_due == 0 && !eepi_stepper_wants(steps, peer_step))) {
        return false;
    }
    watch->last = now;
    return true;
}

/* With the lock. */
static bool is_stepping(const eep_context *context, struct eepi_step_watch *watch)
{
    const uint64_t now_us = eepi_now_us();

    if (context->stepper.in_step || context->stepper.step != watch->last_step) {
        watch->last_step = context->stepper.step;
        watch->quiet_since_us = now_us;
    }
    return context->stepper.in_step || now_us - watch->quiet_since_us < STEPPING_NAP_US;
}

static void nap(uint64_t us)
{
    const struct timespec pause = {0, (long)us * 1000};

    nanosleep(&pause, NULL);
}

/* With the lock, which is released meanwhile. The window may be another one by then, and this one
 * be gone: its count of waiters is then left as it is, which costs a system call per ring. */
static void wait_for_ring(eep_context *context, eepk_window_header *header, uint32_t seen)
{
    const struct timespec longest = {0, IDLE_NAP_US * 1000L};
    const eepi_live live = context->stepper.live;

    __atomic_fetch_add(&header->waiters, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&context->lock);
    syscall(SYS_futex, &header->doorbell, FUTEX_WAIT, seen, &longest, NULL, 0);
    pthread_mutex_lock(&context->lock);
    if (context->stepper.live.colour == live.colour &&
        context->stepper.live.serial == live.serial && eepi_own_window(context) == header) {
        __atomic_fetch_sub(&header->waiters, 1, __ATOMIC_SEQ_CST);
    }
}

static void *run(void *user)
{
    eep_context *context = user;
    struct eepi_step_watch *watch = context->observed.step_watch;

    pthread_mutex_lock(&context->lock);
    while (!watch->stop) {
        eepk_window_header *header = eepi_own_window(context);
        const uint32_t seen = eepk_doorbell_read(&header->doorbell);
        if (is_stepping(context, watch)) {
            pthread_mutex_unlock(&context->lock);
            nap(STEPPING_NAP_US);
            pthread_mutex_lock(&context->lock);
            continue;
        }
        if (is_wanted_anew(context, watch)) {
            eepi_ready(context, EEP_READY_STEP);
        }
        wait_for_ring(context, header, seen);
    }
    pthread_mutex_unlock(&context->lock);
    return NULL;
}

/* With the lock. */
static eep_status start(eep_context *context)
{
    struct eepi_step_watch *watch = calloc(1, sizeof *watch);
    eep_status status;

    if (!watch) {
        return eepi_refuse(EEP_ERR_NO_MEMORY, "eep_event_fd: out of memory");
    }
    context->observed.step_watch = watch;
    status = eepi_thread_start(&watch->thread, "eep-ready", EEPI_STACK_BYTES, run, context);
    if (status != EEP_OK) {
        char why[EEPI_THREAD_ERROR_BYTES];
        (void)!eepi_refuse(status, "eep_event_fd: %s", eepi_thread_error(errno, why, sizeof why));
        context->observed.step_watch = NULL;
        free(watch);
    }
    return status;
}

int eepi_step_watch_start(eep_context *context)
{
    int fd;

    pthread_mutex_lock(&context->lock);
    fd = eepi_ready_open(context);
    if (fd < 0) {
        (void)!eepi_refuse(EEP_ERR_SYSTEM, "eep_event_fd: eventfd: %s", strerror(errno));
    } else if (!context->observed.step_watch && start(context) != EEP_OK) {
        fd = -1;
    }
    pthread_mutex_unlock(&context->lock);
    return fd;
}

void eepi_step_watch_stop(eep_context *context)
{
    struct eepi_step_watch *watch = context->observed.step_watch;

    if (!watch) {
        return;
    }
    pthread_mutex_lock(&context->lock);
    watch->stop = true;
    pthread_mutex_unlock(&context->lock);
    pthread_join(watch->thread, NULL);
    free(watch);
    context->observed.step_watch = NULL;
}
