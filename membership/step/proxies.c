/* SPDX-License-Identifier: Apache-2.0 */
/* The own window's gate, begin words, and who is PROXY. */
#include "membership/step/proxies.h"

#include "graphs/device/device_share.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/step/step.h"
#include "transport/proxy/bounce.h"
#include "transport/proxy/ring_lane.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GATE_BOUND_US = 1000000,
    DEVICE_GATE_BOUND_US = 5000000, /* who is inside waits for the device, which others use, too */
};

typedef struct begun { /* the newest that a peer's host has told */
    uint64_t epoch, step, completed;
    uint32_t generation;
    uint32_t shape; /* of that step */
} begun;

struct eepi_proxies {
    eepi_placer *placer;
    eepi_bounce *bounce; /* NULL: the host writes the window itself */
    eepi_network *network;
    uint64_t completed;           /* the last step that ended well here; rank thread */
    uint64_t own_epoch, own_step; /* of the newest own step; atomic, for whoever wakes */
    uint64_t met_epoch;           /* the newest that was told; service thread */
    uint32_t *queue;              /* [max_ranks] of the live view; EEPI_NO_QUEUE: LOCAL */
    uint8_t **ring;               /* [num_queues] */
    pthread_mutex_t begun_lock;   /* taken last */
    /* { under begun_lock; `generation` is written by the rank thread alone */
    uint32_t *generation; /* [max_ranks] of the live view's members; 0: none */
    bool is_news;
    begun begun[]; /* [max_ranks] */
    /* } */
};

static struct eepi_proxies *proxies_of(const eep_context *context)
{
    return context->steps ? context->steps->proxies : NULL;
}

/* ------------------------------------------------------------------ what peers tell */

static bool is_after(uint64_t epoch, uint64_t step, uint64_t than_epoch, uint64_t than_step)
{
    return epoch > than_epoch || (epoch == than_epoch && step > than_step);
}

/* Inside the gate, on a thread of the network. Most words are of the step that this rank runs
 * already, and wake nobody. */
static void hear_begin(void *listener, const eepk_put *put)
{
    eep_context *context = listener;
    struct eepi_proxies *proxies = proxies_of(context);
    begun *has = &proxies->begun[put->source];
    bool is_news = false;

    pthread_mutex_lock(&proxies->begun_lock);
    if (put->source_generation > has->generation ||
        (put->source_generation == has->generation &&
         is_after(put->epoch, put->step, has->epoch, has->step))) {
        *has = (begun){put->epoch, put->step, put->completed, put->source_generation, put->shape};
        is_news =
            is_after(put->epoch, put->step, __atomic_load_n(&proxies->own_epoch, __ATOMIC_ACQUIRE),
                     __atomic_load_n(&proxies->own_step, __ATOMIC_ACQUIRE));
        proxies->is_news |= is_news;
    }
    pthread_mutex_unlock(&proxies->begun_lock);
    if (is_news) {
        eepi_service_wake(context);
    }
}

uint64_t eepi_proxies_note_begun(eep_context *context)
{
    struct eepi_proxies *proxies = proxies_of(context);
    eepi_stepper *stepper = &context->stepper;
    bool is_ahead = false;
    uint64_t newest = 0;

    if (!proxies) {
        return 0;
    }
    pthread_mutex_lock(&proxies->begun_lock);
    for (uint32_t seat = 0; seat < context->shape.max_ranks; seat++) {
        const begun *b = &proxies->begun[seat];
        if (b->generation == 0 || b->generation != proxies->generation[seat]) {
            continue; /* no member that this rank steps with */
        }
        is_ahead |= eepi_stepper_hear_begin(stepper, b->epoch, b->step, b->completed);
        eepi_stepper_hear_shape(stepper, b->step, b->shape);
        if (b->epoch == stepper->live.epoch && b->step > stepper->step && b->step > newest) {
            newest = b->step;
        }
    }
    pthread_mutex_unlock(&proxies->begun_lock);
    if (is_ahead) {
        eepi_abort_running(context);
    }
    return newest;
}

bool eepi_proxies_hear(eep_context *context)
{
    struct eepi_proxies *proxies = proxies_of(context);
    uint64_t newest;
    bool is_news;

    if (!proxies) {
        return false;
    }
    pthread_mutex_lock(&proxies->begun_lock);
    is_news = proxies->is_news;
    proxies->is_news = false;
    pthread_mutex_unlock(&proxies->begun_lock);
    if (is_news) {
        pthread_mutex_lock(&context->lock);
        (void)eepi_proxies_note_begun(context);
        pthread_mutex_unlock(&context->lock);
        eepi_rank_wake(context);
    }
    newest = eepi_window_gate_newest_epoch(eepi_placer_gate(proxies->placer));
    if (newest <= __atomic_load_n(&context->known_epoch, __ATOMIC_ACQUIRE) ||
        newest <= proxies->met_epoch) {
        return false;
    }
    proxies->met_epoch = newest;
    return true;
}

/* ------------------------------------------------------------------ life */

eep_status eepi_proxies_plan(eep_context *context)
{
    char why[EEPI_ERROR_BYTES / 2] = "";
    const bool spans_hosts = strstr(context->config.store_path, "://") != NULL;
    eep_status status;

    status = eepi_network_plan(spans_hosts, &context->shape, why, sizeof why);
    return status == EEP_OK ? EEP_OK : eepi_fail(context, status, "%s", why);
}

static void post(eep_context *context, const eepi_sign *sign)
{
    eepi_evidence_post(context->evidence, sign);
    eepi_service_wake(context);
}

static void on_lost(void *user, uint32_t seat, uint32_t generation, int kind)
{
    post(user, &(eepi_sign){EEPI_INPUT_EVIDENCE, {(int32_t)seat, generation, kind}});
}

static void on_alive(void *user, uint32_t seat, uint32_t generation)
{
    post(user, &(eepi_sign){EEPI_INPUT_ALIVE, {(int32_t)seat, generation, 0}});
}

/* Messages of the data plane are beats, too (rule N11), and those of a seat's former process are
 * not its own. Peers know of this rank once its heart beats. */
static void on_heard(void *user, uint32_t seat, uint32_t generation)
{
    eepi_detector *detector = __atomic_load_n(&((eep_context *)user)->detector, __ATOMIC_ACQUIRE);
    const struct eepi_proxies *proxies = proxies_of(user);

    if (detector && __atomic_load_n(&proxies->generation[seat], __ATOMIC_RELAXED) == generation) {
        eepi_detector_hear(detector, (int32_t)seat);
    }
}

static void on_note(void *user, const char *text)
{
    eepi_log(user, EEP_LOG_INFO, "%s", text);
}

static eep_status open_network(eep_context *context, struct eepi_proxies *proxies, char *why,
                               size_t why_bytes)
{
    const eepk_shape *s = &context->shape;
    const eepi_network_config config = {.shape = s,
                                        .generation = context->generation,
                                        .instance = context->claim.instance,
                                        .placer = proxies->placer,
                                        .ring = proxies->ring,
                                        .kernels_ring =
                                            !eepi_device_is_cuda(context->config.device),
                                        .silent_us = context->config.expel_floor_us,
                                        .listener = {on_lost, on_alive, on_heard, on_note, context},
                                        .talk = context->calls.talk};

    for (uint32_t queue = 0; queue < s->num_queues; queue++) {
        proxies->ring[queue] = eepi_tables_ring(context->tables, queue);
    }
    return eepi_network_open(&config, why, why_bytes, &proxies->network);
}

/* Until the first flip nothing is placed. */
static void place_at(struct eepi_proxies *proxies, void *memory)
{
    eepi_placer_set_user(proxies->placer, proxies->bounce ? (void *)proxies->bounce : memory);
    if (proxies->bounce) {
        eepi_bounce_set_window(proxies->bounce, memory);
    }
}

static eep_status open_bounce(eep_context *context, struct eepi_proxies *proxies, char *why,
                              size_t why_bytes)
{
    eep_device *device = context->config.device;
    const eep_status status =
        eepi_bounce_open(device, context->shape.window_bytes, &proxies->bounce);
    const char *failure = eepi_device_failure(device);

    if (status == EEP_ERR_UNSUPPORTED) {
        const eepi_device_facts facts = eepi_device_facts_of(device);
        snprintf(why, why_bytes,
                 "a rank with a network needs three of the device's %u queues (%s), and the ranks "
                 "of this process have all",
                 facts.num_queues, facts.queues_variable ? facts.queues_variable : "no limit");
    } else if (status != EEP_OK) {
        snprintf(why, why_bytes, "%s", failure[0] ? failure : eep_strerror(status));
    }
    return status;
}

static eep_status open_placer(eep_context *context, struct eepi_proxies *proxies, char *why,
                              size_t why_bytes)
{
    eepi_placer_ops ops = eepi_placer_host_ops;
    eep_status status = EEP_OK;

    if (eepi_device_is_discrete(context->config.device)) {
        ops = eepi_placer_bounce_ops;
        status = open_bounce(context, proxies, why, why_bytes);
    }
    if (status != EEP_OK) {
        return status;
    }
    ops.begin = hear_begin;
    ops.listener = context;
    proxies->placer = eepi_placer_open(&context->shape, context->generation, &ops, NULL);
    if (!proxies->placer) {
        return EEP_ERR_NO_MEMORY;
    }
    place_at(proxies, eepi_window_memory(context->window, 0, context->claim.serial[0]));
    return EEP_OK;
}

eep_status eepi_proxies_open(eep_context *context, char *why, size_t why_bytes)
{
    const eepk_shape *s = &context->shape;
    struct eepi_proxies *proxies;
    eep_status status;

    if (s->num_queues == 0) {
        return EEP_OK;
    }
    proxies = calloc(1, sizeof *proxies + s->max_ranks * sizeof(begun));
    context->steps->proxies = proxies;
    if (!proxies) {
        return EEP_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&proxies->begun_lock, NULL);
    proxies->generation = calloc(s->max_ranks, sizeof *proxies->generation);
    proxies->queue = calloc(s->max_ranks, sizeof *proxies->queue);
    proxies->ring = calloc(s->num_queues, sizeof *proxies->ring);
    if (!proxies->generation || !proxies->queue || !proxies->ring) {
        return EEP_ERR_NO_MEMORY;
    }
    status = open_placer(context, proxies, why, why_bytes);
    return status == EEP_OK ? open_network(context, proxies, why, why_bytes) : status;
}

static void say_cost(eep_context *context, const eepi_bounce *bounce)
{
    const eepi_bounce_cost cost = eepi_bounce_cost_of(bounce);

    eepi_log(context, EEP_LOG_INFO,
             "%llu stretches that came over the network were placed in the device's memory by %llu "
             "launches, tags among them, which took %llu us, the longest %llu us",
             (unsigned long long)cost.stretches, (unsigned long long)cost.launches,
             (unsigned long long)cost.total_us, (unsigned long long)cost.longest_us);
}

void eepi_proxies_close(eep_context *context)
{
    struct eepi_proxies *proxies = proxies_of(context);

    if (!proxies) {
        return;
    }
    if (proxies->network) {
        eepi_network_close(proxies->network);
    }
    eepi_placer_close(proxies->placer);
    if (proxies->bounce) {
        say_cost(context, proxies->bounce);
    }
    eepi_bounce_close(proxies->bounce);
    free(proxies->ring);
    free(proxies->queue);
    free(proxies->generation);
    pthread_mutex_destroy(&proxies->begun_lock);
    free(proxies);
    context->steps->proxies = NULL;
}

eepi_lane_address eepi_proxies_address(const eep_context *context)
{
    const struct eepi_proxies *proxies = proxies_of(context);

    return proxies ? eepi_network_address(proxies->network) : (eepi_lane_address){0};
}

bool eepi_proxies_reach(const eep_context *context, uint32_t seat, uint32_t generation,
                        const eepi_lane_address *address, bool is_near, eepk_peer *peer_out)
{
    const struct eepi_proxies *proxies = proxies_of(context);
    const uint32_t queue =
        proxies ? eepi_network_reach(proxies->network, seat, generation, address, is_near)
                : EEPI_NO_QUEUE;

    if (queue == EEPI_NO_QUEUE) {
        return false;
    }
    *peer_out = (eepk_peer){.kind = EEPK_PEER_PROXY, .queue = queue};
    return true;
}

void eepi_proxies_speak(const eep_context *context, uint32_t seat, uint32_t generation)
{
    const struct eepi_proxies *proxies = proxies_of(context);

    if (proxies && proxies->network) {
        eepi_network_speak(proxies->network, seat, generation);
    }
}

bool eepi_proxies_blocked(eep_context *context, uint64_t for_us, uint64_t *seats)
{
    struct eepi_proxies *proxies = proxies_of(context);
    bool any = false;

    memset(seats, 0, EEPK_SEAT_WORDS * sizeof *seats);
    if (!proxies) {
        return false;
    }
    pthread_mutex_lock(&proxies->begun_lock);
    for (uint32_t seat = 0; seat < context->shape.max_ranks; seat++) {
        if (proxies->generation[seat] != 0 && proxies->queue[seat] != EEPI_NO_QUEUE &&
            eepi_network_blocked_us(proxies->network, proxies->queue[seat]) >= for_us) {
            seats[seat / 64] |= 1ull << (seat % 64);
            any = true;
        }
    }
    pthread_mutex_unlock(&proxies->begun_lock);
    return any;
}

/* ------------------------------------------------------------------ the gate */

static eep_status move(eep_context *context, uint64_t epoch, uint64_t step, bool lets_in)
{
    struct eepi_proxies *proxies = proxies_of(context);
    const eepi_gate_stand to = {epoch, step, lets_in, context->generation, proxies->generation};
    const eep_status status = eepi_placer_move(
        proxies->placer, &to, proxies->bounce ? DEVICE_GATE_BOUND_US : GATE_BOUND_US);

    return proxies->bounce && eepi_bounce_failure(proxies->bounce) ? EEP_ERR_DEVICE : status;
}

/* Rule N1: whoever stays inside the gate may write at any time. A rank that places nothing any more
 * would miss its peers' rows and suspect them. */
static void end_for_gate(eep_context *context)
{
    const struct eepi_proxies *proxies = proxies_of(context);
    const char *failure = proxies->bounce ? eepi_bounce_failure(proxies->bounce) : NULL;

    eepi_end_service(context, EEP_ERR_DEVICE,
                     failure ? failure
                             : "a thread of the network does not end its write into this rank's "
                               "window");
}

/* The image that was staged is of the view that goes live, and stays until this flip has ended
 * (rule T2). */
eep_status eepi_proxies_flip(eep_context *context)
{
    const eepk_shape *s = &context->shape;
    const uint8_t *image = eepi_tables_staged_image(context->tables);
    const eepk_bank_header *header = (const eepk_bank_header *)image;
    const uint32_t *generation = (const uint32_t *)(image + s->bank_off_generation);
    struct eepi_proxies *proxies = proxies_of(context);
    void *memory;

    if (!proxies) {
        return EEP_OK;
    }
    pthread_mutex_lock(&proxies->begun_lock);
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        const eepk_peer *peer = eepk_peers(s, image) + seat;
        const bool is_member = header->active[seat / 64] >> (seat % 64) & 1u;
        __atomic_store_n(&proxies->generation[seat], is_member ? generation[seat] : 0,
                         __ATOMIC_RELAXED);
        proxies->queue[seat] = peer->kind == EEPK_PEER_PROXY ? peer->queue : EEPI_NO_QUEUE;
    }
    pthread_mutex_unlock(&proxies->begun_lock);
    memory = (void *)(uintptr_t)eepk_peers(s, image)[s->self].address;
    place_at(proxies, memory);
    eepi_network_keep(proxies->network, proxies->generation);
    if (move(context, header->epoch, 0, false) != EEP_OK) {
        end_for_gate(context);
        return EEP_ERR_DEVICE;
    }
    return EEP_OK;
}

static void tell_begin(const eep_context *context, const eepk_launch *launch)
{
    struct eepi_proxies *proxies = proxies_of(context);

    __atomic_store_n(&proxies->own_epoch, launch->epoch, __ATOMIC_RELEASE);
    __atomic_store_n(&proxies->own_step, launch->step, __ATOMIC_RELEASE);
    for (uint32_t seat = 0; seat < context->shape.max_ranks; seat++) {
        if (proxies->queue[seat] != EEPI_NO_QUEUE) {
            eepi_ring_put_begin(proxies->ring[proxies->queue[seat]], launch->epoch, launch->step,
                                (uint32_t)launch->shape, proxies->completed, context->generation,
                                proxies->generation[seat]);
        }
    }
    eepi_network_kick(proxies->network);
}

eep_status eepi_proxies_begin(eep_context *context, const eepk_launch *launch)
{
    if (!proxies_of(context)) {
        return EEP_OK;
    }
    tell_begin(context, launch);
    if (move(context, launch->epoch, launch->step, true) == EEP_OK) {
        return EEP_OK;
    }
    end_for_gate(context);
    pthread_mutex_lock(&context->lock);
    (void)eepi_stepper_end(&context->stepper, NULL, eepi_now_us());
    pthread_mutex_unlock(&context->lock);
    return eepi_fail(context, context->outcome.ended, "%s", context->outcome.why);
}

void eepi_proxies_end(eep_context *context)
{
    const eepk_status *status = eepi_tables_status(context->tables);
    struct eepi_proxies *proxies = proxies_of(context);

    if (!proxies) {
        return;
    }
    if (eepk_load_acquire(&status->done_step) == proxies->own_step &&
        status->result == EEPK_STEP_OK) {
        proxies->completed = proxies->own_step;
    }
    if (move(context, proxies->own_epoch, proxies->own_step, false) != EEP_OK) {
        end_for_gate(context);
    }
}
