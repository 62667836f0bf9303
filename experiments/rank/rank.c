/* SPDX-License-Identifier: Apache-2.0 */
/* A rank serves, step by step, and ends. */
#include "experiments/rank/rank_link.h"
#include "experiments/rank/rank_placement.h"
#include "experiments/rank/rank_start.h"
#include "experiments/base/monotonic.h"
#include "experiments/rank/joiner_nice.h"
#include "graphs/base/say.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const uint64_t STEP_BEGIN_US = 50000; /* then the control socket is looked at again */
static const uint64_t IDLE_WAIT_US = 2000;   /* the same while there is no request */
static const uint64_t COUNTERS_PERIOD_NS = 250000000;
static const uint64_t OTHERS_BOUND_NS = 2000000000; /* for the others to stop, too */

/* ---------------------------------------------------------------- faults */

/* Before each step: the step before may have been aborted before it got to the place. */
static void arm_death(rank *self, bool has_positions)
{
    fault_node_disarm(&self->fault_node);
    if (!self->dies || !has_positions) {
        return;
    }
    eep_status status = fault_node_arm(&self->fault_node, self->place, self->stops);
    if (status != EEP_OK) {
        rank_complain(self, "cannot die as told", status, strerror(errno));
        self->dies = false;
    }
}

/* The others wait for this rank's tags meanwhile, as they would for those of a slow GPU. */
static void pause_for(uint64_t pause_ns)
{
    uint64_t until_ns = now_ns() + pause_ns;
    struct timespec until = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)};
    while (pause_ns > 0 && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* ---------------------------------------------------------------- serving */

static void drop_all(rank *self, bool hands_back)
{
    for (int64_t id = 0; (id = engine_any_request(self->engine)) >= 0;) {
        engine_drop(self->engine, (uint32_t)id);
        if (hands_back) {
            rank_tell_failed(self, WIRE_HANDBACK, (uint32_t)id, EEP_OK);
        }
    }
}

/* Give everything back, then ask libeep to leave (rule M10). */
static eep_status start_drain(rank *self)
{
    drop_all(self, true);
    self->drain_asked = true;
    return eep_drain(self->context);
}

/* The request of the step's bad token, while the batch is as it ran; -1: none is known. */
static int64_t bad_request(const rank *self)
{
    eep_bad_input bad;
    if (eep_bad_input_get(self->context, EEP_SIZED(&bad)) != EEP_OK) {
        return -1;
    }
    return engine_request_at(self->engine, bad.chain, bad.token);
}

/* The input itself is bad, and would be again: the request ends with an error, and the rank goes
 * on. If the batch is bad as a whole, any request of it ends. */
static void fail_one(rank *self, int64_t id, eep_status status)
{
    if (id < 0) {
        id = engine_any_request(self->engine);
    }
    rank_complain(self, "step input refused", status, eep_last_error(self->context));
    if (id >= 0) {
        engine_drop(self->engine, (uint32_t)id);
        rank_tell_failed(self, WIRE_FAILED, (uint32_t)id, status);
    }
}

/* One step, from begin to report. EEP_OK also when it aborted or there was no view to serve under;
 * anything else ends this rank's service. */
static eep_status run_step(rank *self)
{
    eep_step step;
    eep_status status = eep_step_begin(self->context, STEP_BEGIN_US, EEP_SIZED(&step));
    if (status != EEP_OK) {
        /* without cover all wait for a joiner that brings the experts */
        return status == EEP_ERR_TIMEOUT || status == EEP_ERR_UNCOVERED ? EEP_OK : status;
    }
    wire_step *report = self->report;
    *report = (wire_step){.step = step.step, .epoch = step.epoch, .begin_ns = now_ns()};
    report->num_positions = (uint32_t)engine_fill(self->engine);
    arm_death(self, report->num_positions > 0);
    if (rank_signals_wait(&self->signals)) {
        return EEP_OK; /* the next look ends it; the step was begun and never runs */
    }
    char text[SLOWDOWN_TEXT_BYTES];
    uint64_t pause_ns = slowdown_pause_ns(&self->slowdown);
    if (slowdown_tells_limit(&self->slowdown, text, sizeof text)) {
        char line[SLOWDOWN_TEXT_BYTES + 32];
        int bytes = snprintf(line, sizeof line, "rank %d: %s\n", self->config.seat, text);
        eepi_say(STDERR_FILENO, line, (size_t)bytes);
    }
    pause_for(pause_ns);
    status = engine_run(self->engine, &step);
    if (status != EEP_OK) {
        rank_complain(self, "replay", status, engine_error(self->engine));
        return status;
    }
    status = eep_step_end(self->context);
    int64_t bad = status == EEP_ERR_BAD_STEP_INPUT ? bad_request(self) : -1;
    report->end_ns = now_ns();
    report->status = status;
    if (report->num_positions > 0) { /* else the order waits for a step with work */
        self->dies = self->dies && fault_node_is_armed(&self->fault_node);
    }
    if (status == EEP_OK) {
        uint64_t took_ns = report->end_ns - report->begin_ns;
        slowdown_learn(&self->slowdown, took_ns > pause_ns ? took_ns - pause_ns : 0);
        engine_commit(self->engine, report, (wire_token *)(report + 1), self->token_capacity);
    } else {
        engine_rollback(self->engine);
    }
    report->header.kind = WIRE_STEP;
    report->header.bytes = (uint32_t)(sizeof *report + report->num_tokens * sizeof(wire_token));
    rank_tell(self, report, report->header.bytes);
    if (status == EEP_ERR_BAD_STEP_INPUT) {
        fail_one(self, bad, status);
        return EEP_OK;
    }
    return status == EEP_ERR_ABORTED ? EEP_OK : status;
}

/* A rank that is told to stop goes on without work until all have stopped and the launcher hangs
 * up: peers may wait for it in a step that they have begun. */
static void stop_work(rank *self)
{
    wire_header message = {WIRE_STOPPED, sizeof message};
    drop_all(self, false);
    rank_tell_counters(self);
    rank_tell(self, &message, sizeof message);
    self->stopped_ns = now_ns();
}

/* With fixed membership nothing goes on once a member is lost: this rank has promised to begin no
 * step under its view, and waits for its end. */
static bool is_cut_off(const rank *self)
{
    return __atomic_load_n(&self->is_cut_off, __ATOMIC_RELAXED);
}

static void wait_for_launcher(const rank *self)
{
    struct pollfd control = {.fd = self->config.control_fd, .events = POLLIN};
    (void)poll(&control, 1, (int)(STEP_BEGIN_US / 1000));
}

static eep_status serve(rank *self)
{
    eep_status status = EEP_OK;
    while (status == EEP_OK) {
        rank_read_control(self);
        if (rank_signals_wait(&self->signals) || rank_is_over(self) ||
            (self->stopped_ns && now_ns() - self->stopped_ns > OTHERS_BOUND_NS)) {
            return EEP_OK;
        }
        if (rank_is_told_to_stop(self) && !self->stopped_ns) {
            stop_work(self);
        }
        rank_order_placements(self);
        if (is_cut_off(self) && !self->stopped_ns) {
            wait_for_launcher(self);
            continue;
        }
        if (self->draining && !self->drain_asked) {
            status = start_drain(self);
            continue;
        }
        if (self->drain_asked || engine_num_requests(self->engine) > 0) {
            status = run_step(self);
        } else {
            status = eep_step_wait(self->context, IDLE_WAIT_US);
            if (status == EEP_ERR_TIMEOUT) {
                status = EEP_OK;
            } else if (status == EEP_OK) {
                status = run_step(self);
            }
        }
        const bool is_time = now_ns() - self->counters_ns > COUNTERS_PERIOD_NS;
        if (is_time) {
            rank_tell_counters(self);
        }
        if (is_time || self->report->epoch != self->placement_epoch) {
            self->placement_epoch = self->report->epoch;
            rank_tell_placement(self);
        }
    }
    return status;
}

/* ---------------------------------------------------------------- the end */

static int exit_code(const rank *self, eep_status status)
{
    switch (status) {
    case EEP_OK:
    case EEP_ERR_DRAINED:
        return RANK_EXIT_OK;
    case EEP_ERR_EVICTED:
        return RANK_EXIT_EVICTED;
    case EEP_ERR_UNCOVERED:
        rank_complain(self, "service ends", status, eep_last_error(self->context));
        return RANK_EXIT_UNCOVERED;
    default:
        return RANK_EXIT_FAILED;
    }
}

/* The context first: until then its service thread may read weights and backups, and a step that
 * halted in its graph does not end. A graph that does not end keeps what it may still use. */
static void give_back(rank *self)
{
    rank_signals_expose(&self->signals, NULL);
    if (self->context) {
        eep_close(self->context);
    }
    rank_signals_hold(&self->signals, false); /* no rank is held any more, and no halted step */
    if (engine_close(self->engine)) {
        fault_node_close(&self->fault_node);
        eep_device_close(self->device);
    }
    if (!rank_was_killed(self)) {
        send_queue_flush(&self->send_queue);
    }
}

int rank_run(rank *self)
{
    char name[16];
    self->start_ns = now_ns();
    snprintf(name, sizeof name, "eep-rank-%d", self->config.seat);
    prctl(PR_SET_NAME, name);
    self->nice = self->config.joiner && joiner_nice_begin();
    eep_status status = rank_start(self);
    if (status == EEP_OK) {
        status = serve(self);
        if (!self->stopped_ns) { /* else it has told them, and sees others end, which is no fault */
            rank_tell_counters(self);
        }
        if (status != EEP_OK && exit_code(self, status) == RANK_EXIT_FAILED) {
            rank_complain(self, "service ends", status, eep_last_error(self->context));
        }
    }
    int code = exit_code(self, status);
    give_back(self);
    return code;
}

rank *rank_new(const rank_config *config)
{
    rank *self = calloc(1, sizeof *self);
    if (self) {
        self->config = *config;
        rank_signals_init(&self->signals);
        send_queue_init(&self->send_queue, config->control_fd);
        slowdown_init(&self->slowdown, (uint64_t)(config->setup.step_deadline_ms * 1e6));
    }
    return self;
}

void rank_free(rank *self)
{
    send_queue_destroy(&self->send_queue);
    rank_signals_destroy(&self->signals);
    free(self->report);
    free(self);
}
