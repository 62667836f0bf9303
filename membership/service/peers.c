/* SPDX-License-Identifier: Apache-2.0 */
/* The peers of a rank: their records, processes and windows. Service thread. */
#include "membership/service/peers.h"

#include "graphs/base/descriptors.h"
#include "graphs/device/device_share.h"
#include "membership/collective/collective.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/context/records.h"
#include "membership/process/process.h"
#include "membership/service/peer.h"
#include "membership/service/store_session.h"
#include "membership/step/arrivals.h"
#include "membership/step/proxies.h"
#include "membership/step/step.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

eep_status eepi_peers_open(eep_context *context)
{
    const size_t seats = (size_t)context->config.max_ranks;

    context->peers = calloc(seats, sizeof *context->peers);
    for (size_t seat = 0; context->peers && seat < seats; seat++) {
        context->peers[seat].pidfd = -1;
    }
    return context->peers ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_peers_close(eep_context *context)
{
    for (int seat = 0; context->peers && seat < context->config.max_ranks; seat++) {
        eepi_peer *peer = &context->peers[seat];
        if (peer->pidfd >= 0) {
            close(peer->pidfd);
        }
        eepi_window_close(peer->window);
        eepi_window_close(peer->retired_window);
        free(peer->record_bytes);
    }
    free(context->peers);
}

const eepi_record *eepi_peer_record(const eep_context *context, int seat)
{
    const eepi_peer *peer = &context->peers[seat];

    return peer->record_bytes ? &peer->record : NULL;
}

size_t eepi_peer_copier(void *context, int32_t seat, const void **address_out)
{
    const eepi_record *record = eepi_peer_record(context, seat);

    if (!record) {
        return 0;
    }
    *address_out = record->bulk_address;
    return record->bulk_address_bytes;
}

bool eepi_peer_is_heard(const eep_context *context, int seat, uint32_t generation)
{
    const eepi_peer *peer = &context->peers[seat];

    return peer->is_heard && peer->record.member.generation >= generation;
}

void eepi_peers_forget_heard(eep_context *context)
{
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        context->peers[seat].is_heard = false;
    }
}

eepk_window_header *eepi_peer_header(const eep_context *context, int seat, uint32_t generation)
{
    const eepi_peer *peer = &context->peers[seat];

    return peer->window && peer->window_generation == generation ? eepi_window_header(peer->window)
                                                                 : NULL;
}

/* ------------------------------------------------------------------ processes */

int eepi_peers_watched(const eep_context *context, struct pollfd *fds_out, int *seats_out)
{
    int n = 0;

    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        if (context->peers[seat].pidfd >= 0) {
            fds_out[n] = (struct pollfd){.fd = context->peers[seat].pidfd, .events = POLLIN};
            seats_out[n++] = seat;
        }
    }
    return n;
}

bool eepi_peer_exited(eep_context *context, int seat, int pidfd, uint32_t *generation_out)
{
    eepi_peer *peer = &context->peers[seat];

    if (peer->pidfd != pidfd) {
        return false;
    }
    close(peer->pidfd);
    peer->pidfd = -1;
    *generation_out = peer->pidfd_generation;
    return true;
}

/* What one look at a process says of its end; a tick: nothing. */
static eepi_input end_of(const eepi_record *record, eepi_process_state state)
{
    static const eepi_input_kind kinds[] = {[EEPI_PROCESS_RUNS] = EEPI_INPUT_TICK,
                                            [EEPI_PROCESS_ENDING] = EEPI_INPUT_MEMORY_GONE,
                                            [EEPI_PROCESS_GONE] = EEPI_INPUT_ENDED};

    return (eepi_input){
        .kind = kinds[state],
        .suspect = {record->member.seat, record->member.generation, EEP_FAULT_EXIT}};
}

bool eepi_peer_look_for_end(const eep_context *context, int seat, eepi_input *end_out)
{
    const eepi_peer *peer = &context->peers[seat];
    const eepi_record *record = &peer->record;

    if (!peer->record_bytes ||
        !eepi_core_awaits_end(context->core, seat, record->member.generation)) {
        return false;
    }
    *end_out = end_of(record, eepi_process_look(record->pid, record->pid_start));
    return true;
}

bool eepi_peer_is_remote(const eep_context *context, int seat, uint32_t generation)
{
    const eepi_peer *peer = &context->peers[seat];

    return peer->record_bytes && peer->record.member.generation == generation &&
           peer->record.member.host != context->process.host;
}

void eepi_peers_watch_remote(eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);

    for (int seat = 0; view && seat < context->config.max_ranks; seat++) {
        const eepi_view_seat *of = eepi_view_seat_at(view, seat);
        const uint32_t generation = of->generation;
        /* the end of one that is out is awaited: by its seat (M7), and by its killer (N13) */
        if ((eepi_view_is_member(view, seat) ||
             eepi_view_may_live_outside(view, seat, generation)) &&
            eepi_peer_is_remote(context, seat, generation)) {
            eepi_detector_watch_remote(context->detector, seat, generation, of->host);
        }
    }
}

static void post_end(eep_context *context, const eepi_record *record, eepi_process_state state)
{
    const eepi_input end = end_of(record, state);

    if (end.kind != EEPI_INPUT_TICK) {
        eepi_inbox_post(context->inbox, &end);
    }
}

static void watch_process(eep_context *context, eepi_peer *peer)
{
    const eepi_record *record = &peer->record;
    eepi_process_state state;
    char why[160];
    int error;

    if (peer->pidfd_generation == record->member.generation) {
        return;
    }
    if (peer->pidfd >= 0) {
        close(peer->pidfd);
    }
    peer->pidfd_generation = record->member.generation;
    peer->pidfd = -1;
    if (record->pid == 0 || record->pid == getpid()) {
        return; /* of another home; ranks as threads: their end is not a process's end */
    }
    peer->pidfd = eepi_process_watch(record->pid, record->pid_start);
    error = errno;
    state = eepi_process_look(record->pid, record->pid_start);
    post_end(context, record, state);
    if (peer->pidfd < 0 && state == EEPI_PROCESS_RUNS) {
        eepi_log(context, EEP_LOG_WARN,
                 "cannot watch process %d of rank %d (generation %u): %s: its end shows only after "
                 "its heart has "
                 "stopped",
                 record->pid, record->member.seat, record->member.generation,
                 eepi_descriptors_error(error, why, sizeof why));
    }
}

/* A newer process took the seat, so its predecessor has ended, perhaps before its descriptor became
 * readable. The end is posted while the predecessor can still be named, and its bulk address is
 * forgotten. */
static void forget_predecessor(eep_context *context, eepi_peer *peer)
{
    const eepi_record *old = &peer->record;

    if (old->bulk_address_bytes > 0) {
        eepi_bulk_forget(context->bulk, old->bulk_address, old->bulk_address_bytes);
    }
    if (peer->pidfd >= 0) {
        post_end(context, old, eepi_process_look(old->pid, old->pid_start));
    }
}

const eepi_member *eepi_peer_handle_record(eep_context *context, const void *bytes, size_t size)
{
    eepi_record record;
    eepi_peer *peer;
    void *copy;

    copy = malloc(size ? size : 1);
    if (!copy) {
        return NULL;
    }
    memcpy(copy, bytes, size);
    if (eepi_record_decode(copy, size, &context->view_shape, &record) != EEP_OK) {
        char why[EEPI_ERROR_BYTES / 2];
        eepi_record_say_refused(copy, size, why, sizeof why);
        eepi_log(context, EEP_LOG_WARN, "%s", why);
        free(copy);
        return NULL;
    }
    if (record.home != context->process.home || record.member.host != context->process.host) {
        record.pid = 0; /* that number is somebody else here, or nobody: no evidence (M5, N9) */
    }
    peer = &context->peers[record.member.seat];
    if (peer->record_bytes && record.member.generation < peer->record.member.generation) {
        if (record.member.seat == context->config.rank) { /* a predecessor's last word, come late */
            eepi_store_put_record(context);
        }
        free(copy);
        return NULL;
    }
    if (peer->record_bytes && record.member.generation > peer->record.member.generation &&
        record.member.seat != context->config.rank) {
        forget_predecessor(context, peer);
    }
    free(peer->record_bytes);
    peer->record_bytes = copy;
    peer->record = record;
    peer->is_heard = true;
    eepi_arrival_note(context, &record.member);
    if (record.member.seat != context->config.rank) {
        watch_process(context, peer);
    }
    return &peer->record.member;
}

/* Mapping device memory may make the device wait, and with it a step: say for how long. */
static void say_cost(const eep_context *context, int seat, uint32_t generation)
{
    eepi_share_cost cost = eepi_share_cost_of(context->config.device);

    eepi_log(context, EEP_LOG_INFO,
             "mapped the window of rank %d (generation %u); %llu calls that map or unmap device "
             "memory took "
             "%llu us so far, the longest %llu us",
             seat, generation, (unsigned long long)cost.calls, (unsigned long long)cost.total_us,
             (unsigned long long)cost.longest_us);
}

/* The rank thread tells the host side of the newest window, under the lock (tell_begin). */
static void take_window(eep_context *context, int seat, eepi_window *window)
{
    eepi_peer *peer = &context->peers[seat];

    /* the predecessor's mapping outlives the bank that may still name it by one change */
    eepi_window_close(peer->retired_window);
    peer->retired_window = peer->window;
    peer->window = window;
    if (!eepi_window_is_discrete(window)) {
        return;
    }
    eepi_steps_tell_at(context, seat, eepi_window_header(window));
}

/* Map what the view's members store into in that window: of each colour, so that a fault view
 * finds the next one there. Memory that is not live yet may have to be made first. */
static eep_status reach_memories(eep_context *context, const eepi_view *view, int seat)
{
    eepi_peer *peer = &context->peers[seat];
    char why[EEPI_ERROR_BYTES / 2];
    uint64_t calls = eepi_share_cost_of(context->config.device).calls;

    if (!peer->record_bytes || peer->record.member.generation != peer->window_generation) {
        return eepi_window_has_all(peer->window, view->serial) ? EEP_OK : EEP_ERR_NOT_FOUND;
    }
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        eep_status status = eepi_window_reach(peer->window, &peer->record.window, colour,
                                              view->serial[colour], why, sizeof why);
        if (status != EEP_OK) {
            eepi_log(context, status == EEP_ERR_SYSTEM ? EEP_LOG_ERROR : EEP_LOG_INFO,
                     "cannot map memory of the window of rank %d (generation %u) yet: %s: %s", seat,
                     peer->window_generation, eep_strerror(status), why);
            return status;
        }
    }
    if (eepi_window_is_discrete(peer->window) &&
        eepi_share_cost_of(context->config.device).calls != calls) {
        say_cost(context, seat, peer->window_generation);
    }
    return EEP_OK;
}

static eep_status map_peer(eep_context *context, int seat, uint32_t generation)
{
    eepi_window_spec spec = eepi_window_spec_of(&context->shape, (uint32_t)seat, generation);
    eepi_peer *peer = &context->peers[seat];
    char why[EEPI_ERROR_BYTES / 2] = "its record is not known yet";
    eepi_window *window = NULL;
    eep_status status = EEP_ERR_NOT_FOUND;

    if (peer->window && peer->window_generation == generation) {
        return EEP_OK;
    }
    if (peer->record_bytes && peer->record.member.generation == generation) {
        status = eepi_window_map(context->config.device, &peer->record.window, &spec, why,
                                 sizeof why, &window);
    }
    if (status == EEP_OK) {
        status = eepi_collectives_map(context, seat, generation, peer->record.pid,
                                      eepi_window_header(window)->collective_fd, why, sizeof why);
    }
    if (status != EEP_OK) {
        eepi_window_close(window);
        /* of this process, such as its limit of descriptors: somebody must do something */
        eepi_log(context, status == EEP_ERR_SYSTEM ? EEP_LOG_ERROR : EEP_LOG_WARN,
                 "cannot map the window of rank %d (generation %u): %s: %s", seat, generation,
                 eep_strerror(status), why);
        return status;
    }
    take_window(context, seat, window);
    peer->window_generation = generation;
    peer->window_pid = peer->record.pid;
    peer->window_pid_start = peer->record.pid_start;
    return EEP_OK;
}

static bool is_far(const eepi_peer *peer, uint32_t generation)
{
    return peer->record_bytes && peer->record.member.generation == generation &&
           peer->record.pid == 0;
}

/* Rows would go to whoever listens there on this host, mostly nobody: the peer then seems reset. A
 * peer of the same home has the same loopback interface: one machine plays their hosts. */
static void warn_of_loopback(const eep_context *context, int seat, uint32_t generation,
                             const eepi_lane_address *address)
{
    char text[EEPI_LANE_TEXT_BYTES];

    if (context->peers[seat].record.home == context->process.home) {
        return;
    }

    for (int i = 0; i < address->num_paths; i++) {
        if (!eepi_lane_path_is_loopback(&address->path[i])) {
            return;
        }
    }
    if (address->num_paths > 0) {
        eepi_log(context, EEP_LOG_WARN,
                 "rank %d (generation %u) lives on another host, and wants its rows at %s, a "
                 "loopback address, which no other host reaches: set EEP_NETWORK_INTERFACE there "
                 "(docs/NETWORK.md)",
                 seat, generation, eepi_lane_path_text(&address->path[0], text));
    }
}

/* A process of another host, or of another namespace: its window is no memory of this host's. */
static eep_status reach_far(eep_context *context, int seat, uint32_t generation,
                            eepk_peer *peer_out)
{
    const eepi_lane_address *address = &context->peers[seat].record.lane;

    if (address->kind == EEPI_LANE_NONE) { /* its next record may */
        eepi_log(context, EEP_LOG_WARN,
                 "cannot reach rank %d (generation %u) yet: its process lives on another host, and "
                 "it has named no network for rows: EEP_NETWORK=tcp on all ranks gives it one",
                 seat, generation);
        return EEP_ERR_NOT_FOUND;
    }
    warn_of_loopback(context, seat, generation, address);
    if (eepi_proxies_reach(context, (uint32_t)seat, generation, address, false, peer_out)) {
        return eepi_collectives_reach(context, seat, generation);
    }
    eepi_log(context, EEP_LOG_ERROR,
             "cannot reach rank %d (generation %u): its process lives on another host, or in "
             "another pid or time namespace, and this rank has no network for rows, or one of "
             "another kind: set the same EEP_NETWORK, and EEP_NETWORK_INTERFACE, on all ranks "
             "(docs/NETWORK.md), or run all of them on one host and in one namespace of each kind",
             seat, generation);
    return EEP_ERR_UNSUPPORTED;
}

static eepk_peer local_peer(const eepi_window *window, const eepi_view *view)
{
    void *memory = eepi_window_memory(window, view->colour, view->serial[view->colour]);

    return (eepk_peer){.kind = EEPK_PEER_LOCAL, .address = (uint64_t)(uintptr_t)memory};
}

eep_status eepi_peers_map(eep_context *context, const eepi_view *view, eepk_peer *peers_out)
{
    const eepi_view *committed = eepi_core_view(context->core);

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const uint32_t generation = eepi_view_seat_at(view, seat)->generation;
        eepi_peer *peer = &context->peers[seat];
        eep_status status;
        peers_out[seat] = (eepk_peer){.kind = EEPK_PEER_NONE};
        if (!eepi_view_is_member(view, seat)) {
            /* a rank that leaves by a plan that is only staged is still needed */
            if (!committed || !eepi_view_is_member(committed, seat)) {
                eepi_detector_unwatch(context->detector, seat);
            }
            continue;
        }
        if (seat == context->config.rank) {
            peers_out[seat] = local_peer(context->window, view);
            continue;
        }
        if (is_far(peer, generation)) {
            status = reach_far(context, seat, generation, &peers_out[seat]);
            if (status != EEP_OK) {
                return status;
            }
            continue;
        }
        status = map_peer(context, seat, generation);
        if (status == EEP_OK && !eepi_proxies_reach(context, (uint32_t)seat, generation,
                                                    &peer->record.lane, true, &peers_out[seat])) {
            status = reach_memories(context, view, seat);
            peers_out[seat] = local_peer(peer->window, view);
        }
        if (status != EEP_OK) {
            return status;
        }
        /* no change for one that is watched already */
        eepi_detector_watch(context->detector, seat, peer->window_generation, peer->window_pid,
                            peer->window_pid_start, eepi_window_header(peer->window));
    }
    return EEP_OK;
}

/* The memory that this rank's own steps may still use. */
static void live_memory(eep_context *context, uint32_t but_out[EEPK_COLOURS])
{
    pthread_mutex_lock(&context->lock);
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        but_out[colour] = context->stepper.live.colour == colour ? context->stepper.live.serial : 0;
    }
    pthread_mutex_unlock(&context->lock);
}

eep_status eepi_peers_renew(eep_context *context, const eepi_view *view)
{
    char why[EEPI_ERROR_BYTES / 2];
    bool is_new = false;

    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        const uint32_t serial = view->serial[colour];
        eep_status status;
        if (eepi_window_memory(context->window, colour, serial)) {
            continue;
        }
        /* without the lock: it takes as long as all its pages, and steps go on meanwhile */
        status = eepi_window_renew(context->window, colour, serial, why, sizeof why);
        if (status != EEP_OK) {
            eepi_log(context, EEP_LOG_WARN, "no memory %u for the windows of colour %u: %s: %s",
                     serial, colour, eep_strerror(status), why);
            return status;
        }
        is_new = true;
    }
    if (is_new) { /* peers map it by this rank's record */
        eepi_store_put_record(context);
    }
    return EEP_OK;
}

void eepi_peers_drop(eep_context *context, const eepi_view *view)
{
    uint32_t but[EEPK_COLOURS];

    live_memory(context, but);
    for (uint32_t colour = 0; colour < EEPK_COLOURS; colour++) {
        for (int seat = 0; seat < view->shape.max_ranks; seat++) {
            if (context->peers[seat].window) {
                eepi_window_drop(context->peers[seat].window, colour, view->serial[colour],
                                 but[colour]);
            }
        }
        eepi_window_drop(context->window, colour, view->serial[colour], but[colour]);
    }
}
