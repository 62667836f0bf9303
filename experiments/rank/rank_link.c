/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank and its launcher tell each other, and what follows at once. */
#include "experiments/rank/rank_link.h"

#include "experiments/base/monotonic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void rank_complain(const rank *self, const char *what, eep_status status, const char *why)
{
    fprintf(stderr, "rank %d: %s: %s%s%s\n", self->config.seat, what, eep_strerror(status),
            why && *why ? ": " : "", why ? why : "");
}

/* ---------------------------------------------------------------- told to end */

void rank_kill(rank *self)
{
    rank_signals_kill(&self->signals);
}

bool rank_was_killed(const rank *self)
{
    return rank_signals_killed(&self->signals);
}

void rank_hold(rank *self, bool holds)
{
    rank_signals_hold(&self->signals, holds);
}

bool rank_is_told_to_stop(const rank *self)
{
    return __atomic_load_n(&self->stop, __ATOMIC_RELAXED);
}

bool rank_is_over(const rank *self)
{
    return __atomic_load_n(&self->hung_up, __ATOMIC_RELAXED) || rank_was_killed(self);
}

static void stop(rank *self)
{
    __atomic_store_n(&self->stop, true, __ATOMIC_RELAXED);
}

static void hang_up(rank *self)
{
    stop(self);
    __atomic_store_n(&self->hung_up, true, __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------- to the launcher */

void rank_tell(rank *self, const void *message, size_t bytes)
{
    if (rank_was_killed(self)) {
        return; /* the dead say nothing */
    }
    /* Without a launcher there is nobody to serve for. */
    if (send_queue_send(&self->send_queue, message, bytes) != EEP_OK) {
        hang_up(self);
    }
}

/* How uneven the loads are that this rank's kernels have counted. */
static void read_loads(rank *self, wire_counters *message)
{
    const size_t layers = (size_t)self->config.setup.num_layers;
    const size_t experts = (size_t)self->config.setup.num_experts;
    uint64_t *loads = calloc(layers * experts, sizeof *loads);
    if (loads && eep_loads_get(self->context, loads) == EEP_OK) {
        for (size_t layer = 0; layer < layers; layer++) {
            uint64_t sum = 0, most = 0;
            for (size_t i = layer * experts; i < (layer + 1) * experts; i++) {
                sum += loads[i];
                most = loads[i] > most ? loads[i] : most;
            }
            double ratio = sum ? (double)most * (double)experts / (double)sum : 0;
            message->hottest = ratio > message->hottest ? ratio : message->hottest;
            message->routed += sum;
        }
    }
    free(loads);
}

void rank_tell_counters(rank *self)
{
    eep_snapshot snapshot;
    eep_counters counters;
    if (eep_snapshot_get(self->context, EEP_SIZED(&snapshot), EEP_SIZED(&counters), NULL) !=
        EEP_OK) {
        return;
    }
    uint64_t captures = eep_device_captures(self->device) - self->captures_at_join;
    if (captures > counters.captures_after_join) {
        counters.captures_after_join = captures; /* of any thread */
    }
    wire_counters message = {{WIRE_COUNTERS, sizeof message}, snapshot.epoch, counters, 0, 0.0};
    read_loads(self, &message);
    rank_tell(self, &message, sizeof message);
    self->counters_ns = now_ns();
}

void rank_tell_failed(rank *self, wire_kind kind, uint32_t request, eep_status status)
{
    wire_failed message = {{kind, sizeof message}, request, status};
    rank_tell(self, &message, sizeof message);
}

/* ---------------------------------------------------------------- from the launcher */

static void on_die(rank *self, const wire_die *die)
{
    if (die->place == NUM_PLACES && self->stops) { /* continued before it had stopped */
        self->dies = false;
        fault_node_disarm(&self->fault_node);
        return;
    }
    if (die->place >= NUM_PLACES) {
        fprintf(stderr, "rank %d: cannot die at place %u: there is no such place\n",
                self->config.seat, die->place);
        return;
    }
    self->place = (verb_place)die->place;
    self->dies = true;
    self->stops = die->stops != 0;
}

bool rank_on_halt(void *user, bool stops)
{
    rank *self = user;
    wire_header message = {WIRE_FROZEN, sizeof message};
    if (!stops) {
        rank_kill(self);
        return false;
    }
    rank_hold(self, true);
    rank_tell(self, &message, sizeof message);
    return !rank_signals_wait(&self->signals);
}

static void on_assign(rank *self, const wire_assign *assign, size_t bytes)
{
    if (bytes < sizeof *assign || (bytes - sizeof *assign) / 4 < assign->num_emitted) {
        return;
    }
    eep_status status = self->draining
                            ? EEP_ERR_NO_MEMORY
                            : engine_admit(self->engine, assign, (const uint32_t *)(assign + 1));
    if (status == EEP_ERR_NO_MEMORY) {
        rank_tell_failed(self, WIRE_HANDBACK, assign->request, EEP_OK);
    } else if (status != EEP_OK) {
        rank_complain(self, "request refused", status, engine_error(self->engine));
        rank_tell_failed(self, WIRE_FAILED, assign->request, status);
    }
}

/* It is ordered behind the step: rank_order_placements. */
static void on_place(rank *self, const wire_place *place)
{
    if (self->num_ordered == RANK_MAX_ORDERED) {
        rank_complain(self, "placement", EEP_ERR_INVALID, "more than 8 wait to be ordered");
        return;
    }
    memcpy(self->ordered[self->num_ordered++], place->file, WIRE_FILE_BYTES);
}

void rank_read_control(rank *self)
{
    send_queue_flush(&self->send_queue);
    for (;;) {
        ssize_t bytes =
            recv(self->config.control_fd, self->packet, sizeof self->packet, MSG_DONTWAIT);
        if (bytes < 0 && errno == EINTR) {
            continue;
        }
        if (bytes < 0 && errno == EAGAIN) {
            return;
        }
        if (bytes < (ssize_t)sizeof(wire_header)) {
            hang_up(self);
            return;
        }
        const wire_header *header = (const wire_header *)self->packet;
        if (header->kind == WIRE_ASSIGN) {
            on_assign(self, (const wire_assign *)self->packet, (size_t)bytes);
        } else if (header->kind == WIRE_STOP) {
            stop(self);
        } else if (header->kind == WIRE_DRAIN) {
            self->draining = true;
        } else if (header->kind == WIRE_SLOW && (size_t)bytes >= sizeof(wire_slow)) {
            slowdown_set(&self->slowdown, ((const wire_slow *)header)->factor);
        } else if (header->kind == WIRE_PLACE && (size_t)bytes >= sizeof(wire_place)) {
            on_place(self, (const wire_place *)header);
        } else if (header->kind == WIRE_DIE && (size_t)bytes >= sizeof(wire_die)) {
            on_die(self, (const wire_die *)header);
        }
    }
}
