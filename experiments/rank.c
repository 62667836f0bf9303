#include "experiments/rank.h"

#include "experiments/engine.h"
#include "experiments/fault_node.h"
#include "experiments/joiner_nice.h"
#include "experiments/outbox.h"
#include "experiments/pace.h"
#include "experiments/rank_strikes.h"
#include "experiments/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const uint64_t STEP_BEGIN_US = 50000; /* then the control socket is looked at again */
static const uint64_t IDLE_WAIT_US = 2000;   /* the same while there is no request */
static const uint64_t COUNTERS_PERIOD_NS = 250000000;
static const uint64_t SEAT_RETRY_NS = 10000000; /* while the predecessor's end is observed */
static const uint64_t SEAT_BOUND_NS = 20000000000;
static const uint64_t JOIN_SLICE_US = 100000; /* then the control socket is looked at again */
static const uint64_t JOIN_BOUND_NS = 60000000000;
static const uint64_t OTHERS_BOUND_NS = 2000000000; /* for the others to stop, too */

struct rank {
    rank_config config;
    eep_device *device;
    eep_context *context;
    rank_strikes strikes;
    engine *engine;
    outbox outbox;
    bool stop, draining; /* told so; atomic */
    bool gone;           /* the launcher has hung up; atomic */
    bool drain_asked;    /* libeep was told so */
    bool nice;           /* prepares itself at a lower priority */
    bool dies, stops;    /* told to die at a place, or only to stop there */
    verb_place place;
    fault_node fault_node;
    pace pace;
    uint64_t start_ns, ready_ns, counters_ns, stopped_ns;
    uint64_t captures_at_join;
    int token_capacity;
    wire_step *report; /* with token_capacity tokens behind it */
    uint64_t packet[WIRE_MAX_BYTES / 8];
};

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void complain(const rank *self, const char *what, eep_status status, const char *why)
{
    fprintf(stderr, "rank %d: %s: %s%s%s\n", self->config.seat, what, eep_strerror(status),
            why && *why ? ": " : "", why ? why : "");
}

/* ---------------------------------------------------------------- struck by others */

void rank_kill(rank *self)
{
    rank_strikes_kill(&self->strikes);
}

bool rank_was_killed(const rank *self)
{
    return rank_strikes_killed(&self->strikes);
}

void rank_hold(rank *self, bool holds)
{
    rank_strikes_hold(&self->strikes, holds);
}

static bool is_told_to_stop(const rank *self)
{
    return __atomic_load_n(&self->stop, __ATOMIC_RELAXED);
}

/* There is nobody to serve for. */
static bool is_over(const rank *self)
{
    return __atomic_load_n(&self->gone, __ATOMIC_RELAXED) || rank_was_killed(self);
}

static void stop(rank *self)
{
    __atomic_store_n(&self->stop, true, __ATOMIC_RELAXED);
}

static void hang_up(rank *self)
{
    stop(self);
    __atomic_store_n(&self->gone, true, __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------- to the launcher */

static void tell(rank *self, const void *message, size_t bytes)
{
    if (rank_was_killed(self)) {
        return; /* the dead say nothing */
    }
    /* Without a launcher there is nobody to serve for. */
    if (outbox_send(&self->outbox, message, bytes) != EEP_OK) {
        hang_up(self);
    }
}

/* From any of the context's threads. Others go in any order once all are told to stop. */
static void on_log(void *user, eep_log_level level, const char *line)
{
    const rank *self = user;
    (void)level;
    if (!is_told_to_stop(self)) {
        fprintf(stderr, "%s\n", line);
    }
}

/* From any of the context's threads. */
static void on_event(void *user, const eep_event_info *record)
{
    rank *self = user;
    wire_event message = {{WIRE_EVENT, sizeof message}, *record};
    if (record->kind == EEP_EVENT_READY) {
        __atomic_store_n(&self->ready_ns, record->time_ns, __ATOMIC_RELAXED);
        if (self->nice) {
            joiner_nice_end(self->config.seat);
        }
    }
    tell(self, &message, sizeof message);
}

static void tell_counters(rank *self)
{
    eep_snapshot snapshot;
    eep_counters counters;
    if (eep_snapshot_get(self->context, EEP_SIZED(&snapshot), EEP_SIZED(&counters), NULL) !=
        EEP_OK) {
        return;
    }
    uint64_t captures = eep_device_captures(self->device) - self->captures_at_join;
    if (captures > counters.captures_after_join) {
        counters.captures_after_join = captures; /* by whom does not matter */
    }
    wire_counters message = {{WIRE_COUNTERS, sizeof message}, snapshot.epoch, counters};
    tell(self, &message, sizeof message);
    self->counters_ns = now_ns();
}

static void tell_failed(rank *self, wire_kind kind, uint32_t request, eep_status status)
{
    wire_failed message = {{kind, sizeof message}, request, status};
    tell(self, &message, sizeof message);
}

/* ---------------------------------------------------------------- faults that we are told to have
 */

static void take_death(rank *self, const wire_die *die)
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

/* One of several ranks in a process has halted inside a step; its thread waits for that step. */
static bool on_halt(void *user, bool stops)
{
    rank *self = user;
    wire_header message = {WIRE_FROZEN, sizeof message};
    if (!stops) {
        rank_kill(self);
        return false;
    }
    rank_hold(self, true);
    tell(self, &message, sizeof message);
    return !rank_strikes_wait(&self->strikes);
}

/* Before a step; one that had positions may have been aborted before it got to the place. */
static void arm_death(rank *self, bool has_positions)
{
    fault_node_disarm(&self->fault_node);
    if (!self->dies || !has_positions) {
        return;
    }
    eep_status status = fault_node_arm(&self->fault_node, self->place, self->stops);
    if (status != EEP_OK) {
        complain(self, "cannot die as told", status, strerror(errno));
        self->dies = false;
    }
}

/* The others wait for our tags meanwhile, as they would for those of a slow GPU. */
static void wait_like_a_slow_rank(uint64_t pause_ns)
{
    uint64_t until_ns = now_ns() + pause_ns;
    struct timespec until = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)};
    while (pause_ns > 0 && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* ---------------------------------------------------------------- from the launcher */

static void take_request(rank *self, const wire_assign *assign, size_t bytes)
{
    if (bytes < sizeof *assign || (bytes - sizeof *assign) / 4 < assign->num_emitted) {
        return;
    }
    eep_status status = self->draining
                            ? EEP_ERR_NO_MEMORY
                            : engine_admit(self->engine, assign, (const uint32_t *)(assign + 1));
    if (status == EEP_ERR_NO_MEMORY) {
        tell_failed(self, WIRE_HANDBACK, assign->request, EEP_OK);
    } else if (status != EEP_OK) {
        complain(self, "request refused", status, engine_error(self->engine));
        tell_failed(self, WIRE_FAILED, assign->request, status);
    }
}

static void read_control(rank *self)
{
    outbox_flush(&self->outbox);
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
            take_request(self, (const wire_assign *)self->packet, (size_t)bytes);
        } else if (header->kind == WIRE_STOP) {
            stop(self);
        } else if (header->kind == WIRE_DRAIN) {
            self->draining = true;
        } else if (header->kind == WIRE_SLOW && (size_t)bytes >= sizeof(wire_slow)) {
            pace_set(&self->pace, ((const wire_slow *)header)->factor);
        } else if (header->kind == WIRE_DIE && (size_t)bytes >= sizeof(wire_die)) {
            take_death(self, (const wire_die *)header);
        }
    }
}

/* ---------------------------------------------------------------- serving */

static void drop_all(rank *self, bool hands_back)
{
    for (int64_t id = 0; (id = engine_any_request(self->engine)) >= 0;) {
        engine_drop(self->engine, (uint32_t)id);
        if (hands_back) {
            tell_failed(self, WIRE_HANDBACK, (uint32_t)id, EEP_OK);
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
    return engine_request_at(self->engine, bad.token);
}

/* The input itself is bad and would be again: end that request with an error and go on. Of a batch
 * that is bad as a whole any request is ended. */
static void fail_one(rank *self, int64_t id, eep_status status)
{
    if (id < 0) {
        id = engine_any_request(self->engine);
    }
    complain(self, "step input refused", status, eep_last_error(self->context));
    if (id >= 0) {
        engine_drop(self->engine, (uint32_t)id);
        tell_failed(self, WIRE_FAILED, (uint32_t)id, status);
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
    if (rank_strikes_wait(&self->strikes)) {
        return EEP_OK; /* the next look ends it; the step was begun and never runs */
    }
    char text[PACE_TEXT_BYTES];
    uint64_t pause_ns = pace_pause_ns(&self->pace);
    if (pace_tells_limit(&self->pace, text, sizeof text)) {
        fprintf(stderr, "rank %d: %s\n", self->config.seat, text);
    }
    wait_like_a_slow_rank(pause_ns);
    status = engine_run(self->engine, &step);
    if (status != EEP_OK) {
        complain(self, "replay", status, engine_error(self->engine));
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
        pace_learn(&self->pace, took_ns > pause_ns ? took_ns - pause_ns : 0);
        engine_commit(self->engine, report, (wire_token *)(report + 1), self->token_capacity);
    } else {
        engine_rollback(self->engine);
    }
    report->header.kind = WIRE_STEP;
    report->header.bytes = (uint32_t)(sizeof *report + report->num_tokens * sizeof(wire_token));
    tell(self, report, report->header.bytes);
    if (status == EEP_ERR_BAD_STEP_INPUT) {
        fail_one(self, bad, status);
        return EEP_OK;
    }
    return status == EEP_ERR_ABORTED ? EEP_OK : status;
}

/* Told to stop: it goes on as a rank without work, for peers may wait for it in a step that they
 * have begun, until all have stopped and the launcher hangs up. */
static void stop_work(rank *self)
{
    wire_header message = {WIRE_STOPPED, sizeof message};
    drop_all(self, false);
    tell_counters(self);
    tell(self, &message, sizeof message);
    self->stopped_ns = now_ns();
}

static eep_status serve(rank *self)
{
    eep_status status = EEP_OK;
    while (status == EEP_OK) {
        read_control(self);
        if (rank_strikes_wait(&self->strikes) || is_over(self) ||
            (self->stopped_ns && now_ns() - self->stopped_ns > OTHERS_BOUND_NS)) {
            return EEP_OK;
        }
        if (is_told_to_stop(self) && !self->stopped_ns) {
            stop_work(self);
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
        if (now_ns() - self->counters_ns > COUNTERS_PERIOD_NS) {
            tell_counters(self);
        }
    }
    return status;
}

/* ---------------------------------------------------------------- start and end */

static eep_status open_context(rank *self)
{
    char error[256] = "";
    eep_config config;
    eep_config_init(&config);
    options_fill_context(&self->config.options, &config);
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
        complain(self, "open", status, error);
        return status;
    }
    rank_strikes_expose(&self->strikes, self->context);
    return EEP_OK;
}

static eep_status open_engine(rank *self)
{
    engine_config config;
    options_fill_engine(&self->config.options, &config);
    /* One seeded rank of the first view is the one that --corrupt breaks. */
    if (eep_rank(self->context) !=
            (int32_t)(self->config.options.seed % self->config.options.num_ranks) ||
        eep_generation(self->context) != 1) {
        config.corrupt = ENGINE_CORRUPT_NONE;
    }
    self->token_capacity = config.num_max_tokens_per_rank;
    self->report =
        calloc(1, sizeof *self->report + (size_t)self->token_capacity * sizeof(wire_token));
    if (!self->report) {
        complain(self, "open", EEP_ERR_NO_MEMORY, NULL);
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status =
        fault_node_init(&self->fault_node, self->context, self->device, config.num_layers,
                        self->config.is_thread ? on_halt : NULL, self);
    if (status != EEP_OK) {
        complain(self, "open", status, eep_device_error_text());
        return status;
    }
    status = engine_open(&config, self->context, self->device, &self->engine);
    if (status != EEP_OK) {
        complain(self, "engine", status, engine_error(self->engine));
    }
    return status;
}

/* In slices, so that a launcher that gives up is heard. */
static eep_status wait_to_join(rank *self)
{
    uint64_t bound_ns = now_ns() + JOIN_BOUND_NS;
    eep_status status = eep_join(self->context);
    while (status == EEP_ERR_TIMEOUT && now_ns() < bound_ns) {
        read_control(self);
        if (is_over(self) || is_told_to_stop(self)) {
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
    if (status == EEP_ERR_TIMEOUT && (is_over(self) || is_told_to_stop(self))) {
        return EEP_OK;
    }
    if (status == EEP_OK) {
        status = eep_snapshot_get(self->context, &snapshot, NULL, NULL);
    }
    if (status == EEP_ERR_TIMEOUT) {
        complain(self, "join", status, "not let in within 60 s");
        return status;
    }
    if (status != EEP_OK) {
        complain(self, "join", status, eep_last_error(self->context));
        return status;
    }
    self->captures_at_join = eep_device_captures(self->device);
    uint64_t ready_ns = __atomic_load_n(&self->ready_ns, __ATOMIC_RELAXED);
    wire_joined joined = {.header = {WIRE_JOINED, sizeof joined},
                          .epoch = snapshot.epoch,
                          .time_ns = now_ns(),
                          .prepare_ns = (ready_ns ? ready_ns : now_ns()) - self->start_ns,
                          .captures = self->captures_at_join};
    tell(self, &joined, sizeof joined);
    return EEP_OK;
}

/* Memory that only makes the process larger, and its end take longer; false: there is none. */
static bool take_ballast(const rank *self)
{
    size_t bytes = (size_t)self->config.options.ballast_mb << 20;
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
    int count = eep_device_count(self->config.options.device);
    return count > 0 ? self->config.seat % count : 0;
}

static eep_status start(rank *self)
{
    if (!take_ballast(self)) {
        complain(self, "--ballast-mb", EEP_ERR_NO_MEMORY, NULL);
        return EEP_ERR_NO_MEMORY;
    }
    eep_status status =
        eep_device_open(self->config.options.device, own_ordinal(self), &self->device);
    if (status != EEP_OK) {
        complain(self, "device", status, eep_device_error_text());
        return status;
    }
    status = open_context(self);
    if (status != EEP_OK) {
        return status;
    }
    wire_hello hello = {{WIRE_HELLO, sizeof hello},
                        eep_rank(self->context),
                        eep_generation(self->context),
                        now_ns()};
    tell(self, &hello, sizeof hello);
    status = open_engine(self);
    return status == EEP_OK ? join(self) : status;
}

static int exit_code(const rank *self, eep_status status)
{
    switch (status) {
    case EEP_OK:
    case EEP_ERR_DRAINED:
        return RANK_EXIT_OK;
    case EEP_ERR_EVICTED:
        return RANK_EXIT_EVICTED;
    case EEP_ERR_UNCOVERED:
        complain(self, "service ends", status, eep_last_error(self->context));
        return RANK_EXIT_UNCOVERED;
    default:
        return RANK_EXIT_FAILED;
    }
}

/* The context first: until then its service thread may read weights and backups, and a step that
 * halted in its graph does not end. A graph that does not end keeps what it may still use. */
static void give_back(rank *self)
{
    rank_strikes_expose(&self->strikes, NULL);
    if (self->context) {
        eep_close(self->context);
    }
    rank_strikes_hold(&self->strikes, false); /* nobody is held any more, a halted step neither */
    if (engine_close(self->engine)) {
        fault_node_close(&self->fault_node);
        eep_device_close(self->device);
    }
    if (!rank_was_killed(self)) {
        outbox_flush(&self->outbox);
    }
}

int rank_run(rank *self)
{
    char name[16];
    self->start_ns = now_ns();
    snprintf(name, sizeof name, "eep-rank-%d", self->config.seat);
    prctl(PR_SET_NAME, name);
    self->nice = self->config.joiner && joiner_nice_begin();
    eep_status status = start(self);
    if (status == EEP_OK) {
        status = serve(self);
        tell_counters(self);
        if (status != EEP_OK && exit_code(self, status) == RANK_EXIT_FAILED) {
            complain(self, "service ends", status, eep_last_error(self->context));
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
        rank_strikes_init(&self->strikes);
        outbox_init(&self->outbox, config->control_fd);
        pace_init(&self->pace, (uint64_t)(config->options.step_deadline_ms * 1e6));
    }
    return self;
}

void rank_free(rank *self)
{
    outbox_destroy(&self->outbox);
    rank_strikes_destroy(&self->strikes);
    free(self->report);
    free(self);
}
