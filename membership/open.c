/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a context. */
#include "eep/launch.h"
#include "graphs/base/descriptors.h"
#include "graphs/base/public_call.h"
#include "graphs/base/thread.h"
#include "graphs/device/device_ops.h"
#include "graphs/device/device_share.h"
#include "membership/agent/rank_agent.h"
#include "membership/collective/collective.h"
#include "membership/context/config.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/control/accusations.h"
#include "membership/loads/gather.h"
#include "membership/loads/loads.h"
#include "membership/order/order.h"
#include "membership/process/host.h"
#include "membership/process/process.h"
#include "membership/service/claim.h"
#include "membership/service/fence.h"
#include "membership/service/filling.h"
#include "membership/service/peers.h"
#include "membership/service/serve.h"
#include "membership/service/service.h"
#include "membership/service/staging.h"
#include "membership/service/store_session.h"
#include "membership/service/tell.h"
#include "membership/step/arrivals.h"
#include "membership/step/capture.h"
#include "membership/step/proxies.h"
#include "membership/step/running_graph.h"
#include "membership/step/step.h"
#include "membership/step/step_trace.h"
#include "membership/step/step_watch.h"
#include "membership/weights/weights.h"
#include "membership/store/store_socket.h"
#include "transport/holder/holder.h"
#include "transport/proxy/network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STORE_BOUND_US = 5000000,
    MISSED_WINDOW_STEPS = 1000,
    BACKGROUND_DELAY_US = 500000, /* a joiner that is on its way comes first */
    STAGE_BOUND_US = 1000000,
    CLOSE_BOUND_US = 200000
};

static void post_sign(eep_context *context, const eepi_sign *sign)
{
    eepi_evidence_post(context->evidence, sign);
    eepi_service_wake(context);
}

static void post_suspect(void *user, int32_t seat, uint32_t generation, eep_fault_kind kind)
{
    post_sign(user, &(eepi_sign){EEPI_INPUT_EVIDENCE, {seat, generation, kind}});
}

static void post_alive(void *user, int32_t seat, uint32_t generation)
{
    post_sign(user, &(eepi_sign){EEPI_INPUT_ALIVE, {seat, generation, 0}});
}

static void post_memory_gone(void *user, int32_t seat, uint32_t generation)
{
    post_sign(user, &(eepi_sign){EEPI_INPUT_MEMORY_GONE, {seat, generation, EEP_FAULT_EXIT}});
}

static void post_closed(void *user, int32_t seat, uint32_t generation)
{
    post_sign(user, &(eepi_sign){EEPI_INPUT_EXIT, {seat, generation, EEP_FAULT_EXIT}});
}

static void post_gone(void *user, int32_t seat, uint32_t generation)
{
    post_sign(user, &(eepi_sign){EEPI_INPUT_ENDED, {seat, generation, EEP_FAULT_EXIT}});
}

static void bind_heartbeat(void *user)
{
    eep_context *context = user;

    if (context->topology) {
        (void)!eepi_topology_bind(context->topology, EEPI_THREAD_HEARTBEAT, context->config.rank,
                                  context->config.num_ranks);
    }
}

/* In the victim's own log, which else shows nothing but its end. */
static void say_warning(void *user, uint64_t warning)
{
    static const char *const hints[] = {
        [EEP_FAULT_SILENT] = "it was silent for expel_floor_us",
        [EEP_FAULT_DEADLINE] = "steps waited for it past step_deadline_us, twice",
        [EEP_FAULT_RESET] = "an engine reports that its endpoint was reset",
        [EEP_FAULT_DEVICE] = "an engine reports an error of its device",
        [EEP_FAULT_LEFT_OUT] = "it did not stop stepping within drain_bound_us of a fault",
        [EEP_FAULT_BAD_ANSWER] = "an engine reports wrong answers of it",
        [EEP_FAULT_EXPELLED] = "an engine or an operator asked for that (eep_expel)",
        [EEP_FAULT_GROUP] = "another rank of its group is expelled (seats_per_group)"};
    const eep_context *context = user;
    int32_t kind = eepi_warning_kind(warning);
    const char *hint = kind >= 0 && kind < EEPI_NUM_FAULT_KINDS ? hints[kind] : NULL;

    eepi_log(context, EEP_LOG_WARN,
             "rank %d is about to expel this rank, and to kill its process where it can: %s; "
             "eep_busy announces a pause, docs/DEFAULTS.md has the limits",
             eepi_warning_by(warning), hint ? hint : "it is taken for dead");
}

static eep_status open_core(eep_context *context)
{
    const eep_config *c = &context->config;
    eepi_core_config core = {.seat = c->rank,
                             .generation = context->generation,
                             .num_ranks = c->num_ranks,
                             .propose_delay_us = c->propose_delay_us,
                             .drain_bound_us = c->drain_bound_us,
                             .stage_bound_us = STAGE_BOUND_US,
                             .missed_window_steps = MISSED_WINDOW_STEPS,
                             /* rule P8: a thread without its memory map stores nothing */
                             .end_is_proof = !eepi_device_outlives_process(c->device),
                             .background_delay_us = BACKGROUND_DELAY_US,
                             .background = c->background_bytes_per_s > 0,
                             .kill_fence = c->kill_fence,
                             .host = context->process.host,
                             .beats_are_told = eepi_network_tells_beats(),
                             .store_keeps = eepi_store_keeps(context->store),
                             .shape = context->view_shape};
    eepi_detector_config detector = {.period_us = c->heartbeat_period_us,
                                     .suspect_us = c->heartbeat_suspect_us,
                                     .host_silence_us = eepi_config_host_silence_us(),
                                     .agent_silence_us = eepi_config_agent_silence_us(),
                                     .seat = c->rank,
                                     .max_ranks = c->max_ranks,
                                     .suspect = post_suspect,
                                     .ended = post_memory_gone,
                                     .gone = post_gone,
                                     .closed = post_closed,
                                     .alive = post_alive,
                                     .warned = say_warning,
                                     .started = bind_heartbeat,
                                     .user = context};
    const eepi_stepper_config steps = {c->step_deadline_us, c->warmup_deadline_us,
                                       c->expel_floor_us};
    eep_status status = eepi_core_open(&core, &context->core);

    if (status == EEP_OK) {
        status =
            eepi_detector_open(&detector, eepi_window_header(context->window), &context->detector);
    }
    if (status == EEP_OK) {
        eepi_detector_set_expel_us(context->detector, c->expel_floor_us);
        status = eepi_rank_agent_open(context);
    }
    eepi_stepper_init(&context->stepper, &steps);
    return status;
}

/* Everything that needs no generation. The first part that fails ends it: each part's close takes
 * NULL, so that eep_close closes what there is. */
static eep_status open_memory(eep_context *context)
{
    eep_status (*const parts[])(eep_context *) = {
        eepi_weights_open,       eepi_peers_open,       eepi_arrivals_open, eepi_steps_open,
        eepi_capture_open,       eepi_fence_open,       eepi_told_open,     eepi_serving_new,
        eepi_store_session_open, eepi_staging_open,     eepi_loads_open,    eepi_gather_open,
        eepi_ordered_open,       eepi_collectives_open, eepi_words_open,
    };
    eep_status status = EEP_OK;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && status == EEP_OK; i++) {
        status = parts[i](context);
    }
    if (status == EEP_OK) {
        status = eepi_proxies_plan(context);
    }
    context->observed.seats =
        calloc((size_t)context->config.max_ranks, sizeof *context->observed.seats);
    context->inbox = eepi_inbox_open(context->config.max_ranks);
    context->evidence = eepi_evidence_open();
    if (!context->observed.seats || !context->inbox || !context->evidence) {
        return EEP_ERR_NO_MEMORY;
    }
    if (context->config.bind_threads && eepi_topology_open(&context->topology) != EEP_OK) {
        context->topology = NULL;
    }
    return status;
}

static const char *no_room(const eep_device *device, char *text, size_t bytes)
{
    eepi_device_facts facts = eepi_device_facts_of(device);

    snprintf(
        text, bytes,
        "this device has room for %u ranks of this process, fewer with a network, and they are "
        "here: each needs two of its %u queues (%s), with a network three, and those that wait "
        "take at most a quarter of its %u multiprocessors",
        eepi_device_most_waiters(device), facts.num_queues,
        facts.queues_variable ? facts.queues_variable : "no limit", facts.num_multiprocessors);
    return text;
}

static void note_bulk(void *user, const char *text)
{
    eepi_log(user, EEP_LOG_WARN, "bulk copies: %s", text);
}

static eep_status open_bulk(eep_context *context, char *why, size_t why_bytes)
{
    char holder_path[EEPI_HOLDER_PATH_BYTES];
    eepi_bulk_config bulk = {.carrier = context->config.bulk,
                             .holder_path = holder_path,
                             .interface = context->config.bulk_interface,
                             .asks_for_cuda = eepi_device_is_cuda(context->config.device),
                             .seat = context->config.rank,
                             .generation = context->generation,
                             .serve = eepi_serve,
                             .served = eepi_served,
                             .land = eepi_fill_landed,
                             .done = eepi_fill_fetched,
                             .note = note_bulk,
                             .user = context};

    eepi_holder_path(context->store_path, holder_path);
    return eepi_bulk_open(&bulk, why, why_bytes, &context->bulk);
}

/* What carries rows to PROXY peers, and weights. */
static eep_status open_carriers(eep_context *context, char *why, size_t why_bytes)
{
    char of_part[EEPI_ERROR_BYTES / 4] = "";
    sigset_t signals; /* threads that other libraries start take none */
    eep_status status;

    eepi_signals_block(&signals);
    status = eepi_proxies_open(context, of_part, sizeof of_part);
    if (status != EEP_OK) {
        snprintf(why, why_bytes, "the network for rows: %s",
                 of_part[0] ? of_part : eep_strerror(status));
    } else {
        status = open_bulk(context, of_part, sizeof of_part);
        snprintf(why, why_bytes, "bulk copies: %s", of_part);
    }
    eepi_signals_restore(&signals);
    return status;
}

/* Why a part with device memory or threads was not opened, right after that. */
static const char *why_of(const eep_context *context, eep_status status, char *text, size_t bytes)
{
    int error = errno;
    const char *device = eepi_device_failure(context->config.device);

    if (device[0]) {
        return device;
    }
    return status == EEP_ERR_SYSTEM ? eepi_thread_error(error, text, bytes) : eep_strerror(status);
}

static eep_status start_threads(eep_context *context)
{
    char why[EEPI_ERROR_BYTES / 2];
    eep_status status;

    eepi_step_trace_open(context);
    status = open_core(context);
    if (status == EEP_OK) {
        status = eepi_service_start(context);
    }
    if (status != EEP_OK) {
        return eepi_fail(context, status, "the service threads could not be started: %s",
                         why_of(context, status, why, sizeof why));
    }
    return EEP_OK;
}

/* Connect, and keep a path of its own. */
static eep_status connect_store(eep_context *context)
{
    char why[EEPI_ERROR_BYTES / 2] = "";
    eep_status status =
        eepi_store_client_open(context->config.store_path, STORE_BOUND_US, &context->store);
    if (status != EEP_OK) {
        return eepi_fail(
            context, status, "no store answers at %s: %s", context->config.store_path,
            eepi_store_socket_why(context->config.store_path, status, why, sizeof why));
    }
    status =
        eepi_store_local_path(context->config.store_path, context->store_path, why, sizeof why);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "store_path %s: %s", context->config.store_path, why);
    }
    context->config.store_path = context->store_path; /* the caller's is not ours to keep */
    return EEP_OK;
}

/* The own window, and the memory of collectives that its header names. */
static eep_status open_window(eep_context *context)
{
    const eepi_window_spec spec =
        eepi_window_spec_of(&context->shape, (uint32_t)context->config.rank, context->generation);
    char why[EEPI_ERROR_BYTES / 2] = "";
    eep_status status = eepi_window_create(context->config.device, &spec, context->claim.serial,
                                           why, sizeof why, &context->window);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "no window of %d times %llu bytes: %s", EEPK_COLOURS,
                         (unsigned long long)context->shape.window_bytes, why);
    }
    context->wake.doorbell = &eepi_window_header(context->window)->doorbell;
    status = eepi_collectives_make(context, why, sizeof why,
                                   &eepi_window_header(context->window)->collective_fd);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "no memory for collectives: %s", why);
    }
    return EEP_OK;
}

static eep_status open_all(eep_context *context)
{
    char why[EEPI_ERROR_BYTES / 2] = "";
    eep_status status = open_memory(context);

    if (status != EEP_OK) {
        return context->last_error[0] ? status
                                      : eepi_fail(context, status, "no memory for the context");
    }
    status = eepi_device_take_waiter(context->config.device);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "%s", no_room(context->config.device, why, sizeof why));
    }
    context->calls.is_waiter = true;
    context->observed.late_calls_at_open = eepi_device_late_calls(context->config.device);
    status = connect_store(context);
    if (status == EEP_OK) {
        status = eepi_claim_seat(context);
    }
    if (status == EEP_OK) {
        status = open_window(context);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = eepi_tables_open(context->config.device, &context->shape,
                              eepi_window_memory(context->window, 0, context->claim.serial[0]),
                              &context->tables);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "no device memory for the tables, or no stream: %s",
                         why_of(context, status, why, sizeof why));
    }
    status = open_carriers(context, why, sizeof why);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "%s", why);
    }
    status = eepi_weights_meet_node(context);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "backups: %s", why_of(context, status, why, sizeof why));
    }
    return start_threads(context);
}

/* The descriptors that an open rank still needs: one per process that it watches, and those of a
 * mapping or a look into /proc. A rank that could not watch its peers is refused. */
enum { TRANSIENT_DESCRIPTORS = 4, OWN_DESCRIPTORS = 20 };

static eep_status check_descriptors(eep_context *context)
{
    uint64_t present = (uint64_t)context->config.num_ranks - 1 + TRANSIENT_DESCRIPTORS;
    uint64_t all = (uint64_t)context->config.max_ranks - 1 + TRANSIENT_DESCRIPTORS;
    char why[EEPI_ERROR_BYTES / 2];

    if (eepi_descriptors_lack(present, "watching the other ranks", why, sizeof why)) {
        return eepi_fail(context, EEP_ERR_SYSTEM, "%s", why);
    }
    if (eepi_descriptors_lack(all, "watching max_ranks seats", why, sizeof why)) {
        eepi_log(context, EEP_LOG_WARN, "%s", why);
    }
    return EEP_OK;
}

/* Some libraries do not say that descriptors ran out. A failure with next to none left is put down
 * to that. The cause comes first in the text, since a caller's buffer may cut the rest. */
static eep_status explain_failure(eep_context *context, eep_status status)
{
    char why[EEPI_ERROR_BYTES / 2], told[EEPI_ERROR_BYTES / 2] = "";
    const char *text = strstr(context->last_error, ": ");

    if ((status != EEP_ERR_SYSTEM && status != EEP_ERR_UNSUPPORTED &&
         status != EEP_ERR_UNREACHABLE) ||
        strstr(context->last_error, "RLIMIT_NOFILE") ||
        !eepi_descriptors_lack(OWN_DESCRIPTORS, "a rank", why, sizeof why)) {
        return status;
    }
    snprintf(told, sizeof told, "%s", text ? text + 2 : eep_strerror(status));
    return eepi_fail(context, EEP_ERR_SYSTEM, "%s; for want of them: %s", why, told);
}

/* Memory that a graph may still use is lost rather than freed. */
static void say_left(const eep_context *context, eepi_left left)
{
    if (left != EEPI_LEFT_NOTHING) {
        eepi_log(context, EEP_LOG_WARN,
                 "eep_close: the graph of step %llu %s: the memory of this rank is kept%s",
                 (unsigned long long)context->stepper.step,
                 left == EEPI_LEFT_ALL ? "has begun and not ended"
                                       : "may begin yet in a stream that libeep does not see",
                 left == EEPI_LEFT_ALL ? ", and its seat until the process ends" : "");
    }
}

static void close_context(eep_context *context)
{
    const eepi_left left = eepi_running_graph_left(context, CLOSE_BOUND_US);

    say_left(context, left);
    eepi_thread_serves(0);
    eepi_step_trace_close(context);
    eepi_step_watch_stop(context);
    eepi_service_stop(context);
    eepi_trace_close(context->observed.trace);
    context->observed.trace = NULL;
    if (left !=
        EEPI_LEFT_ALL) { /* it stores nothing any more (rule M7), though its process lives */
        eepi_claim_release(context, CLOSE_BOUND_US);
    }
    eepi_proxies_close(context); /* its threads tell the detector what they hear */
    /* behind its last word, which says more; the store may be away */
    eepi_detector_close(context->detector, left != EEPI_LEFT_ALL);
    eepi_rank_agent_close(context, left != EEPI_LEFT_ALL);
    if (context->bulk && context->executor) {
        eepi_executor_cancel(context->executor);
    }
    eepi_bulk_close(context->bulk);
    eepi_executor_close(context->executor);
    eepi_weights_leave_node(context);
    eepi_serving_close(context);
    eepi_gather_close(context);
    eepi_core_close(context->core);
    eepi_inbox_close(context->inbox);
    if (left == EEPI_LEFT_NOTHING) {
        eepi_peers_close(context);
        eepi_tables_close(context->tables);
        eepi_window_close(context->window);
        if (context->config.device) {
            eepi_weights_close(context);
        }
    }
    if (context->calls.is_waiter && left != EEPI_LEFT_ALL) {
        eepi_device_release_waiter(context->config.device);
    }
    eepi_store_client_close(context->store);
    eepi_topology_close(context->topology);
    eepi_staging_close(context);
    eepi_store_session_close(context);
    eepi_told_close(context);
    eepi_fence_close(context);
    eepi_arrivals_close(context);
    eepi_steps_close(context);
    eepi_loads_close(context);
    eepi_ordered_close(context);
    eepi_collectives_close(context);
    eepi_words_close(context);
    eepi_capture_close(context);
    eepi_evidence_close(context->evidence);
    free(context->observed.seats);
    if (context->config.device && left == EEPI_LEFT_NOTHING) {
        eepi_device_drop(context->config.device);
    }
    eepi_wake_close(&context->wake);
    pthread_mutex_destroy(&context->lock);
    free(context);
}

void eep_close(eep_context *context)
{
    if (!context || eepi_check_context("eep_close", context) != EEP_OK) {
        return;
    }
    if (eepi_check_may_wait("eep_close") != EEP_OK) {
        eepi_log(context, EEP_LOG_ERROR, "eep_close does nothing here: %s", eep_error_text());
        return;
    }
    if (eepi_collectives_interrupt(context) && eepi_calls_close(context)) {
        close_context(context);
    }
}

/* Which variables said what this rank is, unless the caller has said so. */
static void log_launch(const eep_context *context)
{
    const int32_t rank = context->claim.takes_any ? EEP_RANK_ANY : context->config.rank;
    eep_launch_info launch;

    if (context->config.log_level < EEP_LOG_INFO || eep_launch_read(EEP_SIZED(&launch)) != EEP_OK ||
        launch.rank != rank) {
        return;
    }
    eepi_log(context, EEP_LOG_INFO, "launched with %s", launch.source);
}

eep_status eep_open(const eep_config *config, char *error_out, size_t error_bytes,
                    eep_context **context_out)
{
    eep_context *context = calloc(1, sizeof *context);
    eep_status status;

    if (!config || !context_out) {
        free(context);
        status =
            eepi_refuse(EEP_ERR_INVALID, "eep_open: %s is NULL", config ? "context_out" : "config");
        if (error_out && error_bytes > 0) {
            snprintf(error_out, error_bytes, "%s", eep_error_text());
        }
        return status;
    }
    if (!context) {
        if (error_out && error_bytes > 0) {
            snprintf(error_out, error_bytes, "%s", eep_strerror(EEP_ERR_NO_MEMORY));
        }
        return EEP_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&context->lock, NULL);
    eepi_wake_open(&context->wake);
    eepi_thread_serves(0); /* a thread may have left a context to another thread's eep_close */
    context->calls.opened_by = (int32_t)getpid();
    context->process.start = eepi_process_start((int32_t)getpid());
    status = eepi_config_take(context, config);
    if (status == EEP_OK) {
        eepi_device_hold(context->config.device);
    } else {
        context->config.device = NULL; /* it is not held */
    }
    context->process.home = eepi_process_home();
    context->process.host = eepi_host_id();
    if (status == EEP_OK &&
        (context->process.start == 0 || context->process.home == 0 || context->process.host == 0)) {
        status = eepi_fail(context, EEP_ERR_SYSTEM,
                           "/proc cannot be read or shows another pid namespace than this "
                           "process's, and peers watch it: mount it anew (unshare --mount-proc)");
    }
    if (status == EEP_OK && context->wake.service_fd < 0) {
        status = eepi_fail(context, EEP_ERR_SYSTEM, "eventfd: %s", strerror(errno));
    }
    if (status == EEP_OK) {
        status = open_all(context);
    }
    if (status == EEP_OK) {
        status = check_descriptors(context);
    }
    if (status != EEP_OK) {
        status = explain_failure(context, status);
        if (error_out && error_bytes > 0) {
            snprintf(error_out, error_bytes, "%s",
                     context->last_error[0] ? context->last_error : eep_strerror(status));
        }
        close_context(context);
        return status;
    }
    log_launch(context);
    context->observed.counters.window_bytes = EEPK_COLOURS * context->shape.window_bytes;
    *context_out = context;
    return EEP_OK;
}
