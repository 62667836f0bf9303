/* SPDX-License-Identifier: Apache-2.0 */
/* The heartbeat thread: one round per period, the own beat first. */
#include "membership/process/detector.h"

#include "graphs/base/clock.h"
#include "graphs/base/thread.h"
#include "membership/process/bell.h"
#include "membership/process/host_watch.h"
#include "membership/process/process.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* What a look at a member shows. */
typedef enum sign { SIGN_NONE, SIGN_ALIVE, SIGN_SILENT, SIGN_RANG, SIGN_EXIT, SIGN_CLOSED } sign;
/* What was told of it last. */
typedef enum told { TOLD_NOTHING, TOLD_SILENT, TOLD_RANG, TOLD_EXIT } told;

typedef struct watched {
    const eepk_window_header *header; /* NULL: not watched */
    uint32_t generation;
    int32_t pid;
    uint64_t pid_start;
    uint64_t heard_us; /* when a new beat was last seen, extended by our own gaps */
    uint64_t last_beat;
    told told;
    bool rang;              /* so the bell thread said */
    uint64_t look_us;       /* rang or silent: the next look at its process; 0: now */
    uint64_t look_after_us; /* from that look to the one behind it; 0: not known yet */
} watched;

struct eepi_detector {
    eepi_detector_config config;
    eepk_window_header *own;
    pthread_t thread;
    pthread_mutex_t lock; /* peers, expel_us, stop, rang */
    pthread_cond_t wake;
    watched *peers;
    uint64_t expel_us;
    bool stop;
    bool rang;         /* a bell has, and the heartbeat thread is to look at once */
    uint64_t look_us;  /* some process has begun to end: the next look at it; UINT64_MAX: none */
    uint64_t round_us; /* the next look at all members */
    int32_t num_watched;
    eepi_bell *bell;
    eepi_host_watch *hosts; /* of ranks elsewhere; under the lock */
    eepi_pulse *pulse;      /* under the lock */
};

/* The first look at a process that ends, with few members, and the longest time to the next. */
enum { FIRST_LOOK_US = 1000, FEW_MEMBERS = 8, LONGEST_LOOK_US = 32000 };
enum { AGENT_SILENCE_US = 100000, HOST_SILENCE_US = 200000 };

/* Its silence is over; is that news? */
static sign end_silence(watched *peer, uint64_t now)
{
    const bool was_silent = peer->told == TOLD_SILENT;

    peer->heard_us = now;
    peer->look_us = peer->look_after_us = 0;
    if (was_silent) {
        peer->told = TOLD_NOTHING;
    }
    return was_silent ? SIGN_ALIVE : SIGN_NONE;
}

static void look_by(eepi_detector *d, uint64_t at_us)
{
    d->look_us = at_us < d->look_us ? at_us : d->look_us;
}

/* It has begun to end. Its process is looked at until its memory is gone: not at once, for a look
 * into /proc holds the memory, and whoever lets go last has to tear it down. All survivors look, in
 * the time in which they agree, and the dying process needs the processor as well. So the first
 * look comes the later, the more members there are, and each one twice as late as the one before.
 */
static void await_end(eepi_detector *d, watched *peer, uint64_t now)
{
    const uint64_t groups = (uint64_t)(d->num_watched + FEW_MEMBERS - 1) / FEW_MEMBERS;

    peer->told = TOLD_RANG;
    peer->look_after_us = FIRST_LOOK_US * (groups > 1 ? groups * groups : 1);
    if (peer->look_after_us > LONGEST_LOOK_US) {
        peer->look_after_us = LONGEST_LOOK_US;
    }
    peer->look_us = now + peer->look_after_us;
    look_by(d, peer->look_us);
}

static void look_later(watched *peer, uint64_t now)
{
    peer->look_us = now + peer->look_after_us;
    peer->look_after_us =
        peer->look_after_us < LONGEST_LOOK_US / 2 ? 2 * peer->look_after_us : LONGEST_LOOK_US;
}

/* Has a silent process ended? On a machine without a free processor many members are silent at
 * once, and each of them looks at all the others. So looks at one process come less and less often.
 */
static bool is_found_ended(const eepi_detector *d, watched *peer, uint64_t now)
{
    if (now < peer->look_us) {
        return false;
    }
    if (eepi_process_look(peer->pid, peer->pid_start) != EEPI_PROCESS_RUNS) {
        return true;
    }
    if (peer->look_after_us == 0) {
        peer->look_after_us = d->config.period_us;
    }
    look_later(peer, now);
    return false;
}

/* A member whose bell has rung. */
static sign look_at_dying(eepi_detector *d, watched *peer, uint64_t now)
{
    if (peer->told == TOLD_EXIT) {
        return SIGN_NONE;
    }
    if (eepi_bell_says(peer->header) == EEPI_BELL_CLOSED) {
        peer->told = TOLD_EXIT;
        return SIGN_CLOSED;
    }
    if (peer->told != TOLD_RANG) {
        await_end(d, peer, now);
        return SIGN_RANG;
    }
    if (now >= peer->look_us) {
        if (eepi_process_look(peer->pid, peer->pid_start) != EEPI_PROCESS_RUNS) {
            peer->told = TOLD_EXIT;
            return SIGN_EXIT;
        }
        look_later(peer, now);
    }
    look_by(d, peer->look_us);
    return SIGN_NONE;
}

/* Look at one member. Called with the lock held. */
static sign listen_to(eepi_detector *d, watched *peer, uint64_t now)
{
    uint64_t beat = __atomic_load_n(&peer->header->heartbeat_ns, __ATOMIC_ACQUIRE);
    uint64_t silent_us;

    if (eepi_bell_says(peer->header) != EEPI_BELL_HANGS) {
        return look_at_dying(d, peer, now);
    }
    if (beat != peer->last_beat) {
        peer->last_beat = beat;
        return end_silence(peer, now);
    }
    silent_us = now - peer->heard_us;
    if (silent_us < d->config.suspect_us || peer->told == TOLD_EXIT) {
        return SIGN_NONE;
    }
    if (is_found_ended(d, peer, now)) {
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
    switch (seen) {
    case SIGN_NONE:
        return;
    case SIGN_ALIVE:
        d->config.alive(d->config.user, seat, generation);
        return;
    case SIGN_SILENT:
        d->config.suspect(d->config.user, seat, generation, EEP_FAULT_SILENT);
        return;
    case SIGN_RANG:
        d->config.suspect(d->config.user, seat, generation, EEP_FAULT_EXIT);
        return;
    case SIGN_EXIT:
        d->config.ended(d->config.user, seat, generation);
        return;
    case SIGN_CLOSED:
        d->config.closed(d->config.user, seat, generation);
        return;
    }
}

/* Look at all members, or, between two such rounds, at those alone whose bell has rung. */
static void listen_round(eepi_detector *d, uint64_t now, uint64_t gap_us, bool is_whole)
{
    pthread_mutex_lock(&d->lock);
    for (int32_t seat = 0; seat < d->config.max_ranks; seat++) {
        watched *peer = &d->peers[seat];
        const uint32_t generation = peer->generation;
        sign seen = SIGN_NONE;

        if (peer->header && (is_whole || peer->rang || peer->told == TOLD_RANG)) {
            if (gap_us > 2 * d->config.period_us) { /* rule M6: we were away, not they */
                peer->heard_us += gap_us;
                if (peer->heard_us > now) { /* its watch began within the gap */
                    peer->heard_us = now;
                }
            } else {
                seen = listen_to(d, peer, now);
            }
        }
        if (seen != SIGN_NONE) {
            pthread_mutex_unlock(&d->lock);
            tell(d, seat, generation, seen);
            pthread_mutex_lock(&d->lock);
        }
    }
    pthread_mutex_unlock(&d->lock);
}

static void tell_of_host(const eepi_detector *d, int32_t seat, uint32_t generation,
                         eepi_host_sign seen)
{
    switch (seen) {
    case EEPI_HOST_SIGN_NONE:
        return;
    case EEPI_HOST_SIGN_ALIVE:
        d->config.alive(d->config.user, seat, generation);
        return;
    case EEPI_HOST_SIGN_SILENT:
        d->config.suspect(d->config.user, seat, generation, EEP_FAULT_SILENT);
        return;
    case EEPI_HOST_SIGN_CLOSED:
        d->config.closed(d->config.user, seat, generation);
        return;
    case EEPI_HOST_SIGN_ENDED:
        d->config.suspect(d->config.user, seat, generation, EEP_FAULT_EXIT);
        if (d->config.gone) {
            d->config.gone(d->config.user, seat, generation);
        }
        return;
    }
}

/* Ranks of other hosts, by what the boards say. */
static void listen_to_hosts(eepi_detector *d, uint64_t now)
{
    bool any;

    pthread_mutex_lock(&d->lock);
    any = eepi_host_watch_num(d->hosts) > 0;
    if (any) {
        eepi_host_watch_look(d->hosts, now);
    }
    pthread_mutex_unlock(&d->lock);
    for (int32_t seat = 0; any && seat < d->config.max_ranks; seat++) {
        uint32_t generation = 0;
        pthread_mutex_lock(&d->lock);
        const eepi_host_sign seen = eepi_host_watch_sign(d->hosts, seat, d->expel_us, &generation);
        pthread_mutex_unlock(&d->lock);
        tell_of_host(d, seat, generation, seen);
    }
}

static void beat(eepi_detector *d, uint64_t now)
{
    __atomic_store_n(&d->own->heartbeat_ns, now * 1000u, __ATOMIC_RELEASE);
    d->own->beats++;
    pthread_mutex_lock(&d->lock);
    if (d->pulse) {
        __atomic_store_n(&d->pulse->busy_until_ns,
                         __atomic_load_n(&d->own->busy_until_ns, __ATOMIC_ACQUIRE),
                         __ATOMIC_RELEASE);
        __atomic_store_n(&d->pulse->beats, d->pulse->beats + 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&d->lock);
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

static void begin_round(eepi_detector *d, uint64_t now, bool is_whole)
{
    pthread_mutex_lock(&d->lock);
    d->look_us = UINT64_MAX;
    if (is_whole) {
        d->round_us = now + d->config.period_us;
    }
    pthread_mutex_unlock(&d->lock);
}

/* Until the next round, a bell, or a look that is due. True: the thread is to end. */
static bool wait_for_round(eepi_detector *d)
{
    bool stop;

    pthread_mutex_lock(&d->lock);
    if (!d->stop && !d->rang) {
        const uint64_t next = d->look_us < d->round_us ? d->look_us : d->round_us;
        const struct timespec until = {(time_t)(next / 1000000u), (long)(next % 1000000u) * 1000};
        pthread_cond_timedwait(&d->wake, &d->lock, &until);
    }
    stop = d->stop;
    d->rang = false;
    pthread_mutex_unlock(&d->lock);
    return stop;
}

static void *run(void *argument)
{
    eepi_detector *d = argument;
    uint64_t last = eepi_now_us();

    if (d->config.started) {
        d->config.started(d->config.user);
    }
    d->round_us = last;
    for (;;) {
        uint64_t now = eepi_now_us();
        const bool is_whole = now >= d->round_us;
        bool stop;

        beat(d, now);
        hear_warning(d);
        begin_round(d, now, is_whole);
        listen_round(d, now, is_whole ? now - last : 0, is_whole);
        if (is_whole) {
            listen_to_hosts(d, now);
        }
        last = is_whole ? now : last;
        stop = wait_for_round(d);
        if (stop) {
            return NULL;
        }
    }
}

/* The bell thread's word: the others hear of it now. The end of the process is looked for later. */
static void hear_bell(void *user, int32_t seat, uint32_t generation, eepi_bell_word said)
{
    eepi_detector *d = user;
    watched *peer = &d->peers[seat];
    const bool ends = said == EEPI_BELL_ENDS;

    if (ends) {
        d->config.suspect(d->config.user, seat, generation, EEP_FAULT_EXIT);
    }
    pthread_mutex_lock(&d->lock);
    if (peer->header && peer->generation == generation) {
        peer->rang = true;
        if (ends && peer->told != TOLD_RANG && peer->told != TOLD_EXIT) {
            await_end(d, peer, eepi_now_us());
        }
        d->rang = !ends || peer->look_us < d->round_us;
        if (d->rang) {
            pthread_cond_signal(&d->wake);
        }
    }
    pthread_mutex_unlock(&d->lock);
}

static void free_detector(eepi_detector *d)
{
    eepi_bell_close(d->bell, false);
    eepi_host_watch_close(d->hosts);
    pthread_cond_destroy(&d->wake);
    pthread_mutex_destroy(&d->lock);
    free(d->peers);
    free(d);
}

eep_status eepi_detector_open(const eepi_detector_config *config, eepk_window_header *own,
                              eepi_detector **detector_out)
{
    eepi_detector *d = calloc(1, sizeof *d);
    const eepi_bell_config bell = {
        .seat = config->seat, .max_ranks = config->max_ranks, .rang = hear_bell, .user = d};
    const eepi_host_watch_config hosts = {
        .max_ranks = config->max_ranks,
        .period_us = config->period_us,
        .agent_silence_us = config->agent_silence_us ? config->agent_silence_us : AGENT_SILENCE_US,
        .host_silence_us = config->host_silence_us ? config->host_silence_us : HOST_SILENCE_US};
    pthread_condattr_t attributes;
    eep_status status;

    if (!d) {
        return EEP_ERR_NO_MEMORY;
    }
    d->config = *config;
    d->own = own;
    d->expel_us = UINT64_MAX;
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&d->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    d->peers = calloc((size_t)config->max_ranks, sizeof *d->peers);
    d->hosts = eepi_host_watch_open(&hosts);
    status = d->peers && d->hosts ? eepi_bell_open(&bell, own, &d->bell) : EEP_ERR_NO_MEMORY;
    if (status == EEP_OK) {
        status = eepi_thread_start(&d->thread, "eep-heartbeat", EEPI_STACK_BYTES, run, d);
    }
    if (status != EEP_OK) {
        free_detector(d);
        return status == EEP_ERR_NO_MEMORY ? status : EEP_ERR_SYSTEM;
    }
    *detector_out = d;
    return EEP_OK;
}

void eepi_detector_close(eepi_detector *d, bool rings)
{
    if (!d) {
        return;
    }
    eepi_bell_close(d->bell, rings);
    d->bell = NULL;
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    free_detector(d);
}

void eepi_detector_watch(eepi_detector *d, int32_t seat, uint32_t generation, int32_t pid,
                         uint64_t pid_start, const eepk_window_header *header)
{
    pthread_mutex_lock(&d->lock);
    if (d->peers[seat].header != header || d->peers[seat].generation != generation) {
        d->num_watched += d->peers[seat].header == NULL;
        eepi_host_watch_forget(d->hosts, seat);
        d->peers[seat] = (watched){header, generation,   pid,   pid_start, eepi_now_us(),
                                   0,      TOLD_NOTHING, false, 0,         0};
    }
    pthread_mutex_unlock(&d->lock);
    eepi_bell_watch(d->bell, seat, generation, header);
}

void eepi_detector_unwatch(eepi_detector *d, int32_t seat)
{
    pthread_mutex_lock(&d->lock);
    d->num_watched -= d->peers[seat].header != NULL;
    d->peers[seat] = (watched){0};
    eepi_host_watch_forget(d->hosts, seat);
    pthread_mutex_unlock(&d->lock);
    eepi_bell_unwatch(d->bell, seat);
}

void eepi_detector_watch_remote(eepi_detector *d, int32_t seat, uint32_t generation, uint64_t host)
{
    bool was_here;

    pthread_mutex_lock(&d->lock);
    was_here = d->peers[seat].header != NULL; /* its predecessor was a process of this host */
    d->num_watched -= was_here;
    d->peers[seat] = (watched){0};
    eepi_host_watch_seat(d->hosts, seat, generation, host, eepi_now_us());
    pthread_mutex_unlock(&d->lock);
    if (was_here) {
        eepi_bell_unwatch(d->bell, seat);
    }
}

void eepi_detector_set_boards(eepi_detector *d, const eepi_board *agents, const eepi_board *own)
{
    pthread_mutex_lock(&d->lock);
    eepi_host_watch_set_boards(d->hosts, agents, own);
    pthread_mutex_unlock(&d->lock);
}

void eepi_detector_set_pulse(eepi_detector *d, eepi_pulse *pulse)
{
    pthread_mutex_lock(&d->lock);
    d->pulse = pulse;
    pthread_mutex_unlock(&d->lock);
}

void eepi_detector_hear(eepi_detector *d, int32_t seat)
{
    eepi_host_watch_hear(d->hosts, seat);
}

bool eepi_detector_is_alone(eepi_detector *d)
{
    bool is_alone;

    pthread_mutex_lock(&d->lock);
    is_alone = eepi_host_watch_num(d->hosts) > 0 && eepi_host_watch_is_alone(d->hosts);
    pthread_mutex_unlock(&d->lock);
    return is_alone;
}

uint64_t eepi_detector_remote_busy_until_us(eepi_detector *d, int32_t seat, uint32_t generation)
{
    uint64_t until_us;

    pthread_mutex_lock(&d->lock);
    until_us = eepi_host_watch_busy_until(d->hosts, seat, generation);
    pthread_mutex_unlock(&d->lock);
    return until_us;
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

bool eepi_detector_any_ends(eepi_detector *d)
{
    bool any = false;

    pthread_mutex_lock(&d->lock);
    for (int32_t seat = 0; seat < d->config.max_ranks && !any; seat++) {
        any = d->peers[seat].header && eepi_bell_says(d->peers[seat].header) == EEPI_BELL_ENDS;
    }
    pthread_mutex_unlock(&d->lock);
    return any;
}
