/* SPDX-License-Identifier: Apache-2.0 */
/* The heartbeat thread: one round per period, the own beat first. */
#include "membership/process/detector.h"

#include "graphs/base/clock.h"
#include "graphs/base/thread.h"
#include "membership/process/process.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* What a look at a member shows. */
typedef enum sign { SIGN_NONE, SIGN_ALIVE, SIGN_SILENT, SIGN_EXIT } sign;
/* What was told of it last. */
typedef enum told { TOLD_NOTHING, TOLD_SILENT, TOLD_EXIT } told;

typedef struct watched {
    const eepk_window_header *header; /* NULL: not watched */
    uint32_t generation;
    int32_t pid;
    uint64_t pid_start;
    uint64_t heard_us; /* when a new beat was last seen, extended by our own gaps */
    uint64_t last_beat;
    told told;
} watched;

struct eepi_detector {
    eepi_detector_config config;
    eepk_window_header *own;
    pthread_t thread;
    pthread_mutex_t lock; /* watched, expel_us, stop */
    pthread_cond_t wake;
    watched *peers;
    uint64_t expel_us;
    bool stop;
};

/* Its silence is over; is that news? */
static sign end_silence(watched *peer, uint64_t now)
{
    const bool was_silent = peer->told == TOLD_SILENT;

    peer->heard_us = now;
    if (was_silent) {
        peer->told = TOLD_NOTHING;
    }
    return was_silent ? SIGN_ALIVE : SIGN_NONE;
}

/* Look at one member. Called with the lock held. */
static sign listen_to(const eepi_detector *d, watched *peer, uint64_t now)
{
    uint64_t beat = __atomic_load_n(&peer->header->heartbeat_ns, __ATOMIC_ACQUIRE);
    uint64_t silent_us;

    if (beat != peer->last_beat) {
        peer->last_beat = beat;
        return end_silence(peer, now);
    }
    silent_us = now - peer->heard_us;
    if (silent_us < d->config.suspect_us || peer->told == TOLD_EXIT) {
        return SIGN_NONE;
    }
    if (eepi_process_look(peer->pid, peer->pid_start) != EEPI_PROCESS_RUNS) {
        peer->told = TOLD_EXIT;
        return SIGN_EXIT;
    }
    if (eepi_is_busy(peer->header, now)) { /* it says so now: silence counts behind that */
        return end_silence(peer, now);
    }
    if (silent_us < d->expel_us || peer->told == TOLD_SILENT) {
        return SIGN_NONE;
    }
    peer->told = TOLD_SILENT;
    return SIGN_SILENT;
}

static void tell(const eepi_detector *d, int32_t seat, uint32_t generation, sign seen)
{
    if (seen == SIGN_ALIVE) {
        d->config.alive(d->config.user, seat, generation);
    } else if (seen != SIGN_NONE) {
        d->config.suspect(d->config.user, seat, generation,
                          seen == SIGN_EXIT ? EEP_FAULT_EXIT : EEP_FAULT_SILENT);
    }
}

static void listen_round(eepi_detector *d, uint64_t now, uint64_t gap_us)
{
    for (int32_t seat = 0; seat < d->config.max_ranks; seat++) {
        watched *peer = &d->peers[seat];
        uint32_t generation;
        sign seen = SIGN_NONE;

        pthread_mutex_lock(&d->lock);
        generation = peer->generation;
        if (peer->header) {
            if (gap_us > 2 * d->config.period_us) { /* rule M6: we were away, not they */
                peer->heard_us += gap_us;
                if (peer->heard_us > now) { /* its watch began within the gap */
                    peer->heard_us = now;
                }
            } else {
                seen = listen_to(d, peer, now);
            }
        }
        pthread_mutex_unlock(&d->lock);
        tell(d, seat, generation, seen);
    }
}

/* Somebody is about to kill this process: there is little time to say why. */
static void hear_warning(eepi_detector *d)
{
    uint64_t warning = __atomic_load_n(&d->own->warning, __ATOMIC_ACQUIRE);

    if (warning == d->own->warning_heard) {
        return;
    }
    if (warning == 0) { /* it was taken back: the next one is heard, be it the same */
        __atomic_store_n(&d->own->warning_heard, 0, __ATOMIC_RELEASE);
        return;
    }
    if (d->config.warned) {
        d->config.warned(d->config.user, warning);
    }
    __atomic_store_n(&d->own->warning_heard, warning, __ATOMIC_RELEASE);
}

static void *run(void *argument)
{
    eepi_detector *d = argument;
    uint64_t last = eepi_now_us();

    if (d->config.started) {
        d->config.started(d->config.user);
    }
    for (;;) {
        struct timespec until;
        uint64_t now = eepi_now_us(), next;
        bool stop;

        __atomic_store_n(&d->own->heartbeat_ns, now * 1000u, __ATOMIC_RELEASE);
        d->own->beats++;
        hear_warning(d);
        listen_round(d, now, now - last);
        last = now;
        next = now + d->config.period_us;
        until = (struct timespec){(time_t)(next / 1000000u), (long)(next % 1000000u) * 1000};
        pthread_mutex_lock(&d->lock);
        if (!d->stop) {
            pthread_cond_timedwait(&d->wake, &d->lock, &until);
        }
        stop = d->stop;
        pthread_mutex_unlock(&d->lock);
        if (stop) {
            return NULL;
        }
    }
}

eep_status eepi_detector_open(const eepi_detector_config *config, eepk_window_header *own,
                              eepi_detector **detector_out)
{
    eepi_detector *d = calloc(1, sizeof *d);
    pthread_condattr_t attributes;

    if (!d) {
        return EEP_ERR_NO_MEMORY;
    }
    d->config = *config;
    d->own = own;
    d->expel_us = UINT64_MAX;
    d->peers = calloc((size_t)config->max_ranks, sizeof *d->peers);
    if (!d->peers) {
        free(d);
        return EEP_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&d->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (eepi_thread_start(&d->thread, "eep-heartbeat", EEPI_STACK_BYTES, run, d) != EEP_OK) {
        pthread_cond_destroy(&d->wake);
        pthread_mutex_destroy(&d->lock);
        free(d->peers);
        free(d);
        return EEP_ERR_SYSTEM;
    }
    *detector_out = d;
    return EEP_OK;
}

void eepi_detector_close(eepi_detector *d)
{
    if (!d) {
        return;
    }
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    pthread_cond_destroy(&d->wake);
    pthread_mutex_destroy(&d->lock);
    free(d->peers);
    free(d);
}

void eepi_detector_watch(eepi_detector *d, int32_t seat, uint32_t generation, int32_t pid,
                         uint64_t pid_start, const eepk_window_header *header)
{
    pthread_mutex_lock(&d->lock);
    if (d->peers[seat].header != header || d->peers[seat].generation != generation) {
        d->peers[seat] =
            (watched){header, generation, pid, pid_start, eepi_now_us(), 0, TOLD_NOTHING};
    }
    pthread_mutex_unlock(&d->lock);
}

void eepi_detector_unwatch(eepi_detector *d, int32_t seat)
{
    pthread_mutex_lock(&d->lock);
    d->peers[seat] = (watched){0};
    pthread_mutex_unlock(&d->lock);
}

void eepi_detector_set_busy(eepi_detector *d, uint64_t until_ns)
{
    __atomic_store_n(&d->own->busy_until_ns, until_ns, __ATOMIC_RELEASE);
}

void eepi_detector_set_expel_us(eepi_detector *d, uint64_t expel_us)
{
    pthread_mutex_lock(&d->lock);
    d->expel_us = expel_us;
    pthread_mutex_unlock(&d->lock);
}
