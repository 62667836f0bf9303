#include "graphs/base/clock.h"
#include "membership/process/detector.h"
#include "graphs/base/thread.h"

#include "membership/process/process.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

typedef struct watched {
    const eepk_window_header *header; /* NULL: not watched */
    uint32_t generation;
    int32_t pid;
    uint64_t pid_start;
    uint64_t heard_us; /* when a new beat was last seen, extended by our own gaps */
    uint64_t last_beat;
    int told; /* 0 nothing, 1 silence, 2 exit */
} watched;

struct eepi_detector {
    eepi_detector_config config;
    eepk_window_header *own;
    pthread_t thread;
    pthread_mutex_t lock; /* watched, expel_us, stop */
    pthread_cond_t wake;
    watched *peers;
    uint64_t expel_us;
    int stop;
};

/* Look at one member; 1 if there is something to tell. Called with the lock held. */
static int listen_to(eepi_detector *d, int32_t seat, uint64_t now, eepi_suspect *suspect_out)
{
    watched *peer = &d->peers[seat];
    uint64_t beat = __atomic_load_n(&peer->header->heartbeat_ns, __ATOMIC_ACQUIRE);
    uint64_t silent_us;

    *suspect_out = (eepi_suspect){seat, peer->generation, -1};
    if (beat != peer->last_beat) {
        int was_silent = peer->told == 1;
        peer->last_beat = beat;
        peer->heard_us = now;
        if (was_silent) {
            peer->told = 0;
        }
        return was_silent;
    }
    silent_us = now - peer->heard_us;
    if (silent_us < d->config.suspect_us || peer->told == 2) {
        return 0;
    }
    if (eepi_process_look(peer->pid, peer->pid_start) != EEPI_PROCESS_RUNS) {
        peer->told = 2;
        suspect_out->kind = EEP_FAULT_EXIT;
        return 1;
    }
    if (eepi_is_busy(peer->header, now)) { /* it says so now: silence counts behind that */
        int was_silent = peer->told == 1;
        peer->heard_us = now;
        if (was_silent) {
            peer->told = 0;
        }
        return was_silent;
    }
    if (silent_us < d->expel_us || peer->told == 1) {
        return 0;
    }
    peer->told = 1;
    suspect_out->kind = EEP_FAULT_SILENT;
    return 1;
}

static void listen_round(eepi_detector *d, uint64_t now, uint64_t gap_us)
{
    for (int32_t seat = 0; seat < d->config.max_ranks; seat++) {
        eepi_suspect suspect;
        int tell = 0;

        pthread_mutex_lock(&d->lock);
        if (d->peers[seat].header) {
            if (gap_us > 2 * d->config.period_us) { /* rule M6: we were away, not they */
                d->peers[seat].heard_us += gap_us;
                if (d->peers[seat].heard_us > now) { /* its watch began within the gap */
                    d->peers[seat].heard_us = now;
                }
            } else {
                tell = listen_to(d, seat, now, &suspect);
            }
        }
        pthread_mutex_unlock(&d->lock);
        if (tell) {
            d->config.tell(d->config.user, &suspect);
        }
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
        int stop;

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
    d->stop = 1;
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
        d->peers[seat] = (watched){header, generation, pid, pid_start, eepi_now_us(), 0, 0};
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
