/* SPDX-License-Identifier: Apache-2.0 */
/* A rank from its start until it is in the view. */
#include "experiments/rank/rank_start.h"

#include "experiments/base/monotonic.h"
#include "experiments/rank/joiner_nice.h"
#include "experiments/rank/rank_link.h"
#include "experiments/rank/rank_placement.h"
#include "graphs/base/say.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_BYTES = 1024 };

static const uint64_t SEAT_RETRY_NS = 10000000; /* while the predecessor's end is observed */
static const uint64_t SEAT_BOUND_NS = 20000000000;
static const uint64_t JOIN_SLICE_US = 100000; /* then the control socket is looked at again */
static const uint64_t JOIN_BOUND_NS = 60000000000;

/* ---------------------------------------------------------------- what the context says */

/* Any of the context's threads, none of which may wait for the reader of this output. Once all are
 * told to stop, they end in any order, and what they say of each other means nothing. */
static void on_log(void *user, eep_log_level level, const char *line)
{
    const rank *self = user;
    (void)level;
    if (!rank_is_told_to_stop(self)) {
        char text[LOG_LINE_BYTES];
        int bytes = snprintf(text, sizeof text, "%s\n", line);
        eepi_say(STDERR_FILENO, text,
                 (size_t)(bytes < LOG_LINE_BYTES ? bytes : LOG_LINE_BYTES - 1));
    }
}

/* From any of the context's threads. */
static void on_event(void *user, const eep_event_info *record)
{
    rank *self = user;
    wire_event message = {.header = {WIRE_EVENT, sizeof message}, .record = *record};
    eep_snapshot snapshot;
    const bool brings_weights = record->kind == EEP_EVENT_REPAIRED ||
                                record->kind == EEP_EVENT_REBALANCED ||
                                record->kind == EEP_EVENT_INSTALLED;
    if (brings_weights && eep_snapshot_get(self->context, EEP_SIZED(&snapshot),
                                           EEP_SIZED(&message.counters), NULL) != EEP_OK) {
        message.counters.struct_bytes = 0;
    }
    if (record->kind == EEP_EVENT_READY) {
        __atomic_store_n(&self->ready_ns, record->time_ns, __ATOMIC_RELAXED);
        if (self->nice) {
            joiner_nice_end(self->config.seat);
        }
    }
    if (record->kind == EEP_EVENT_WEDGED && self->config.setup.fixed_membership) {
        __atomic_store_n(&self->is_cut_off, true, __ATOMIC_RELAXED);
    }
    rank_tell(self, &message, sizeof message);
}

/* ---------------------------------------------------------------- opening */

static eep_status open_context(rank *self)
{
    char error[256] = "";
    eep_config config;
    eep_config_init(&config);
    rank_setup_fill_context(&self->config.setup, &config);
    config.rank = self->config.seat;
    config.store_path = self->config.store_path;
    config.join_timeout_us = JOIN_SLICE_US;
    config.device = self->device;
    config.event = on_event;
    config.log = on_log;
    config.user = self;
    uint64_t bound_ns = now_ns() + SEAT_BOUND_NS;
    eep_status status = eep_open(&config, error, sizeof error, &self->context);
    while (status == EEP_ERR_SEAT_TAKEN && now_ns() < bound_ns && !rank_was_killed(self)) {
        struct timespec pause = {0, (long)SEAT_RETRY_NS};
        nanosleep(&pause, NULL);
        status = eep_open(&config, error, sizeof error, &self->context);
    }
    if (status != EEP_OK) {
        rank_complain(self, "open", status, error);
        return status;
    }
    rank_signals_expose(&self->signals, self->context);
    return EEP_OK;
}

static eep_status open_engine(rank *self)
{
    engine_config config;
    rank_setup_fill_engine(&self->config.setup, &config);
    /* One seeded rank of the first view is the one that --corrupt breaks. */
    if (eep_rank(self->context) !=
            (int32_t)(self->config.setup.seed % self->config.setup.num_ranks) ||
        eep_generation(self->context) != 1) {
        config.corrupt = ENGINE_CORRUPT_NONE;
    }
    self->token_capacity = config.num_max_tokens_per_rank;
    self->report =
        calloc(1, sizeof *self->report + (size_t)self->token_capacity * sizeof(wire_token));
    if (!self->report) {
        rank_complain(self, "open", EEP_ERR_NO_MEMORY, NULL);
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status =
        fault_node_init(&self->fault_node, self->context, self->device, config.num_layers,
                        self->config.is_thread ? rank_on_halt : NULL, self);
    if (status != EEP_OK) {
        rank_complain(self, "open", status, eep_device_error_text());
        return status;
    }
    status = engine_open(&config, self->context, self->device, &self->engine);
    if (status != EEP_OK) {
        rank_complain(self, "engine", status, engine_error(self->engine));
    }
    return status;
}

/* In slices, so that a launcher that gives up is heard. */
static eep_status wait_to_join(rank *self)
{
    uint64_t bound_ns = now_ns() + JOIN_BOUND_NS;
    eep_status status = eep_join(self->context);
    while (status == EEP_ERR_TIMEOUT && now_ns() < bound_ns) {
        rank_read_control(self);
        if (rank_is_over(self) || rank_is_told_to_stop(self)) {
            break;
        }
        status = eep_join(self->context);
    }
    return status;
}

static eep_status join(rank *self)
{
    eep_snapshot snapshot = {.struct_bytes = sizeof snapshot};
    eep_status status = wait_to_join(self);
    if (status == EEP_ERR_TIMEOUT && (rank_is_over(self) || rank_is_told_to_stop(self))) {
        return EEP_OK;
    }
    if (status == EEP_OK) {
        status = eep_snapshot_get(self->context, &snapshot, NULL, NULL);
    }
    if (status == EEP_ERR_TIMEOUT) {
        rank_complain(self, "join", status, "not let in within 60 s");
        return status;
    }
    if (status != EEP_OK) {
        rank_complain(self, "join", status, eep_last_error(self->context));
        return status;
    }
    self->captures_at_join = eep_device_captures(self->device);
    uint64_t ready_ns = __atomic_load_n(&self->ready_ns, __ATOMIC_RELAXED);
    wire_joined joined = {.header = {WIRE_JOINED, sizeof joined},
                          .epoch = snapshot.epoch,
                          .time_ns = now_ns(),
                          .prepare_ns = (ready_ns ? ready_ns : now_ns()) - self->start_ns,
                          .captures = self->captures_at_join};
    rank_tell(self, &joined, sizeof joined);
    return EEP_OK;
}

/* Memory that only makes the process larger, and its end take longer; false: there is none. */
static bool take_ballast(const rank *self)
{
    size_t bytes = (size_t)self->config.setup.ballast_mb << 20;
    if (bytes == 0) {
        return true;
    }
    char *ballast = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t at = 0; ballast != MAP_FAILED && at < bytes; at += 4096) {
        ballast[at] = 1; /* kept until the process ends */
    }
    return ballast != MAP_FAILED;
}

/* Ranks take the devices of this machine in turn. */
static int own_ordinal(const rank *self)
{
    int count = eep_device_count(self->config.setup.device);
    return count > 0 ? self->config.seat % count : 0;
}

eep_status rank_start(rank *self)
{
    if (!take_ballast(self)) {
        rank_complain(self, "--ballast-mb", EEP_ERR_NO_MEMORY, NULL);
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status =
        eep_device_open(self->config.setup.device, own_ordinal(self), &self->device);
    if (status != EEP_OK) {
        rank_complain(self, "device", status, eep_device_error_text());
        return status;
    }
    status = open_context(self);
    if (status != EEP_OK) {
        return status;
    }
    self->startup = (wire_startup){.header = {WIRE_STARTUP, sizeof self->startup},
                                   .main_ns = self->start_ns,
                                   .open_ns = now_ns()};
    wire_hello hello = {{WIRE_HELLO, sizeof hello},
                        eep_rank(self->context),
                        eep_generation(self->context),
                        now_ns()};
    rank_tell(self, &hello, sizeof hello);
    status = rank_order_first(self);
    if (status == EEP_OK) {
        status = open_engine(self);
    }
    if (status != EEP_OK) {
        return status;
    }
    self->startup.loaded_ns = engine_loaded_ns(self->engine);
    self->startup.captured_ns = now_ns();
    rank_tell(self, &self->startup, sizeof self->startup);
    return join(self);
}
