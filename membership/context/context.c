/* A context: its configuration, opening and closing. */
#include "graphs/device/device_ops.h"
#include "graphs/device/device_share.h"
#include "graphs/base/public_call.h"
#include "graphs/base/thread.h"
#include "membership/context/context.h"
#include "membership/context/wake.h"
#include "membership/process/process.h"
#include "membership/store/store_socket.h"
#include "graphs/base/descriptors.h"
#include "transport/holder/holder.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Of a rank or a number of ranks: the environment's text is no such number. */
#define BAD_IN_ENVIRONMENT INT32_MIN

enum {
    MAX_BLOCKS = 4096,
    STORE_BOUND_US = 5000000,
    STRIKE_WINDOW_STEPS = 1000,
    BACKGROUND_DELAY_US = 500000, /* a joiner that is on its way comes first */
    STAGE_BOUND_US = 1000000,
    CLOSE_BOUND_US = 200000
};

static int32_t from_environment(const char *name, int32_t otherwise)
{
    const char *text = getenv(name);
    char *end;
    long value;

    if (!text || !*text) {
        return otherwise;
    }
    value = strtol(text, &end, 10);
    return *end == '\0' && value >= 0 && value <= EEP_MAX_RANKS ? (int32_t)value
                                                                : BAD_IN_ENVIRONMENT;
}

/* -1: none that is known, which eep_open refuses. */
static eep_bulk bulk_from_environment(void)
{
    static const char *const names[] = {"auto", "shm", "ucx"};
    const char *text = getenv("EEP_BULK");

    for (int bulk = EEP_BULK_AUTO; text && *text && bulk <= EEP_BULK_UCX; bulk++) {
        if (strcmp(text, names[bulk]) == 0) {
            return (eep_bulk)bulk;
        }
    }
    return text && *text ? (eep_bulk)-1 : EEP_BULK_AUTO;
}

static void fill_defaults(eep_config *config)
{
    *config = (eep_config){
        .struct_bytes = sizeof *config,
        .rank = from_environment("EEP_RANK", -1),
        .num_ranks = from_environment("EEP_SIZE", 0),
        .store_path = getenv("EEP_STORE"),
        .dtype = EEP_FP32,
        .log_level = EEP_LOG_WARN,
        .bulk = bulk_from_environment(),
        .bulk_interface = getenv("EEP_BULK_INTERFACE"),
    };
    (void)!eep_config_profile(config, EEP_PROFILE_DEFAULT);
}

void eep_config_init_sized(eep_config *config, size_t struct_bytes)
{
    const uint32_t bytes = (uint32_t)struct_bytes;
    eep_config full;

    if (!config || struct_bytes < sizeof bytes) {
        return;
    }
    fill_defaults(&full);
    if (struct_bytes > sizeof full) { /* a newer caller's: what this version lacks is 0 */
        memset((unsigned char *)config + sizeof full, 0, struct_bytes - sizeof full);
    }
    memcpy(config, &full, struct_bytes < sizeof full ? struct_bytes : sizeof full);
    memcpy(config, &bytes, sizeof bytes);
}

int32_t eep_rank(const eep_context *context)
{
    return context ? context->config.rank : -1;
}

uint32_t eep_generation(const eep_context *context)
{
    return context ? context->generation : 0;
}

/* ------------------------------------------------------------------ opening */

/* A day is more than any of them needs, and keeps sums and nanoseconds far from overflow. */
static eep_status check_times(eep_context *context)
{
    const eep_config *c = &context->config;
    const unsigned long long day_us = 86400ull * 1000000;
    const struct {
        const char *name;
        unsigned long long us, least_us;
    } times[] = {
        {"heartbeat_period_us", c->heartbeat_period_us, 1},
        {"heartbeat_suspect_us", c->heartbeat_suspect_us, 1},
        {"step_deadline_us", c->step_deadline_us, 1},
        {"warmup_deadline_us", c->warmup_deadline_us, 1},
        {"expel_floor_us", c->expel_floor_us, 1},
        {"drain_bound_us", c->drain_bound_us, 1},
        {"propose_delay_us", c->propose_delay_us, 0},
        {"stores_margin_us", c->stores_margin_us, 0},
        {"join_timeout_us", c->join_timeout_us, 0},
    };

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        if (times[i].us < times[i].least_us || times[i].us > day_us) {
            return eepi_fail(context, EEP_ERR_INVALID, "%s is %llu: %llu to %llu are possible",
                             times[i].name, times[i].us, times[i].least_us, day_us);
        }
    }
    return EEP_OK;
}

/* A device's own clock may go in large steps; what is near one step is no deadline. */
static uint64_t least_deadline_us(const eep_device *device)
{
    uint64_t step_ns = eepi_device_facts_of(device).clock_step_ns;

    return step_ns == 0 ? 1 : step_ns * 10 > 1000000 ? step_ns / 100 : 1000;
}

static eep_status check_store_path(eep_context *context, const char *path)
{
    const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

    if (!path || !*path) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "store_path is not set: give it, or set the environment variable "
                         "EEP_STORE before eep_config_init");
    }
    if (strlen(path) > most) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "store_path has %zu bytes, and the path of a socket at most %zu: use a "
                         "shorter one, or a symbolic link to its directory (%.80s...)",
                         strlen(path), most, path);
    }
    return EEP_OK;
}

/* A variable that eep_config_init could not read, if its field was not set since. */
static eep_status check_environment(eep_context *context, eep_config *c)
{
    const char *name = c->rank == BAD_IN_ENVIRONMENT        ? "EEP_RANK"
                       : c->num_ranks == BAD_IN_ENVIRONMENT ? "EEP_SIZE"
                                                            : NULL;
    const char *value = name ? getenv(name) : NULL;

    if (!name) {
        return EEP_OK;
    }
    c->rank = -1; /* the text begins with it */
    return eepi_fail(context, EEP_ERR_INVALID,
                     "the environment variable %s is \"%.80s\": it must be a whole number from 0 "
                     "to %d",
                     name, value ? value : "", EEP_MAX_RANKS);
}

static eep_status take_config(eep_context *context, const eep_config *config)
{
    eep_config *c = &context->config;
    uint64_t least_us;
    const char *why;
    eep_status status;

    fill_defaults(c);
    status = eepi_struct_take("eep_open", "eep_config", c, sizeof *c, EEPI_LEAST_BYTES(eep_config),
                              config);
    if (status != EEP_OK) {
        c->device = NULL; /* eep_close looks at it */
        return eepi_fail(context, status, "%s", eep_error_text());
    }
    if (c->max_ranks == 0) {
        c->max_ranks = c->num_ranks;
    }
    if (!c->device) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "device is NULL: open one with eep_device_open, and set it");
    }
    status = eepi_check_device("eep_open", c->device);
    if (status != EEP_OK) {
        c->device = NULL; /* another process's */
        return eepi_fail(context, status, "%s", eep_error_text());
    }
    status = check_store_path(context, c->store_path);
    if (status == EEP_OK) {
        status = check_environment(context, c);
    }
    if (status == EEP_OK) {
        status = check_times(context);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (c->num_blocks < 0 || c->num_blocks > MAX_BLOCKS) {
        return eepi_fail(context, EEP_ERR_INVALID, "num_blocks is %d: 0 to %d are possible",
                         c->num_blocks, MAX_BLOCKS);
    }
    least_us = least_deadline_us(c->device);
    if (c->step_deadline_us < least_us || c->warmup_deadline_us < least_us) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "step_deadline_us is %llu and warmup_deadline_us %llu: at least %llu are "
                         "needed on this device, whose clock is coarse",
                         (unsigned long long)c->step_deadline_us,
                         (unsigned long long)c->warmup_deadline_us, (unsigned long long)least_us);
    }
    if ((int)c->bulk < EEP_BULK_AUTO || (int)c->bulk > EEP_BULK_UCX) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "bulk is %d: EEP_BULK_AUTO to EEP_BULK_UCX (0 to %d) are possible; "
                         "EEP_BULK in the environment may be auto, shm or ucx",
                         (int)c->bulk, EEP_BULK_UCX);
    }
    if (c->num_ranks == 0) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "num_ranks is 0: set it, or the environment variable EEP_SIZE before "
                         "eep_config_init");
    }
    if (eepi_shape_make(c, &context->shape, &why) != EEP_OK) {
        return eepi_fail(context, EEP_ERR_INVALID, "%s", why);
    }
    context->view_shape =
        (eepi_view_shape){c->max_ranks, c->num_layers, c->num_experts, c->num_slots};
    if (eepi_view_bytes(&context->view_shape) == 0) {
        return eepi_fail(context, EEP_ERR_INVALID, "the shape is out of range");
    }
    return EEP_OK;
}

static void fetched(void *user, uint64_t transfer, eep_status status)
{
    eep_context *context = user;
    eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);

    if (executor) {
        eepi_executor_fetched(executor, context->bulk, transfer, status);
    }
}

static void tell_evidence(void *user, const eepi_suspect *suspect)
{
    eep_context *context = user;

    pthread_mutex_lock(&context->evidence.lock);
    if (context->evidence.num < EEPI_MAILBOX_EVIDENCE) {
        context->evidence.suspects[context->evidence.num++] = *suspect;
    }
    pthread_mutex_unlock(&context->evidence.lock);
    eepi_service_wake(context);
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
        [EEP_FAULT_LEFT_OUT] = "it did not stop stepping within drain_bound_us of a fault"};
    const eep_context *context = user;
    int32_t kind = eepi_warning_kind(warning);
    const char *hint = kind >= 0 && kind <= EEP_FAULT_LEFT_OUT ? hints[kind] : NULL;

    eepi_log(context, EEP_LOG_WARN,
             "rank %d is about to expel this rank, and to kill its process where it can: %s; "
             "eep_busy announces a pause, docs/DEFAULTS.md has the limits",
             eepi_warning_by(warning), hint ? hint : "it is taken for dead");
}

/* Rule P8. On the host a process's memory ends before its threads could store into it again. */
static uint64_t stores_margin_us(const eep_config *c)
{
    if (c->stores_margin_us != 0 || !eepi_device_is_discrete(c->device)) {
        return c->stores_margin_us;
    }
    return EEPI_STORES_MARGIN_US;
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
                             .missed_window_steps = STRIKE_WINDOW_STEPS,
                             .stores_margin_us = stores_margin_us(c),
                             .background_delay_us = BACKGROUND_DELAY_US,
                             .background = c->background_bytes_per_s > 0,
                             .kill_fence = c->kill_fence,
                             .shape = context->view_shape};
    eepi_detector_config detector = {.period_us = c->heartbeat_period_us,
                                     .suspect_us = c->heartbeat_suspect_us,
                                     .max_ranks = c->max_ranks,
                                     .tell = tell_evidence,
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
    }
    eepi_stepper_init(&context->stepper, &steps);
    context->sequence.num_layers = c->num_layers;
    return status;
}

/* Everything that needs no generation. */
static eep_status open_memory(eep_context *context)
{
    size_t seats = (size_t)context->config.max_ranks;
    eep_status status = eepi_weights_open(context);

    context->peers = calloc(seats, sizeof *context->peers);
    context->seats = calloc(seats, sizeof *context->seats);
    context->arrivals = calloc(seats, sizeof *context->arrivals);
    context->peer_headers = calloc(seats, sizeof *context->peer_headers);
    context->slot_begin = calloc((size_t)context->config.num_layers, sizeof *context->slot_begin);
    for (size_t seat = 0; context->peers && seat < seats; seat++) {
        context->peers[seat].pidfd = -1;
    }
    context->owner = eepi_owner_open();
    context->inbox = eepi_inbox_open(context->config.max_ranks);
    if (!context->peers || !context->seats || !context->arrivals || !context->peer_headers ||
        !context->slot_begin || !context->owner || !context->inbox) {
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

    snprintf(text, bytes,
             "this device has room for %u ranks of this process, and they are here: each needs two "
             "of its %u queues (%s), and those that wait take at most a quarter of its %u "
             "multiprocessors",
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
                             .seat = context->config.rank,
                             .generation = context->generation,
                             .serve = eepi_serve,
                             .served = eepi_served,
                             .done = fetched,
                             .note = note_bulk,
                             .user = context};

    eepi_holder_path(context->store_path, holder_path);
    return eepi_bulk_open(&bulk, why, why_bytes, &context->bulk);
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

static eep_status open_all(eep_context *context)
{
    char why[EEPI_ERROR_BYTES / 2] = "";
    eepi_window_spec spec;
    sigset_t signals; /* threads that other libraries start take none */
    eep_status status = open_memory(context);

    if (status != EEP_OK) {
        return eepi_fail(context, status, "no memory for the context");
    }
    status = eepi_device_take_waiter(context->config.device);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "%s", no_room(context->config.device, why, sizeof why));
    }
    context->is_waiter = 1;
    context->late_calls_at_open = eepi_device_late_calls(context->config.device);
    status = eepi_store_client_open(context->config.store_path, STORE_BOUND_US, &context->store);
    if (status != EEP_OK) {
        return eepi_fail(
            context, status, "no store answers at %s: %s", context->config.store_path,
            eepi_store_socket_why(context->config.store_path, status, why, sizeof why));
    }
    eepi_store_socket_resolve(context->config.store_path, context->store_path);
    context->config.store_path = context->store_path; /* the caller's is not ours to keep */
    status = eepi_claim_seat(context);
    if (status != EEP_OK) {
        return status;
    }
    spec =
        eepi_window_spec_of(&context->shape, (uint32_t)context->config.rank, context->generation);
    status = eepi_window_create(context->config.device, &spec, why, sizeof why, &context->window);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "no window of %llu bytes: %s",
                         (unsigned long long)context->shape.window_bytes, why);
    }
    status = eepi_tables_open(context->config.device, &context->shape,
                              eepi_window_device_address(context->window), &context->tables);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "no device memory for the tables, or no stream: %s",
                         why_of(context, status, why, sizeof why));
    }
    eepi_signals_block(&signals);
    status = open_bulk(context, why, sizeof why);
    eepi_signals_restore(&signals);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "bulk copies: %s", why);
    }
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

/* What a rank that has opened opens yet: a descriptor per other process that it watches, and those
 * of a mapping or a look into /proc. A rank that could not watch its peers is refused. */
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

/* Some libraries below do not say that descriptors ran out. Whatever failed with next to none left
 * failed for that, which comes first: a caller's buffer may cut what follows. */
static eep_status explain_failure(eep_context *context, eep_status status)
{
    char why[EEPI_ERROR_BYTES / 2], told[EEPI_ERROR_BYTES / 2] = "";
    const char *text = strstr(context->error, ": ");

    if ((status != EEP_ERR_SYSTEM && status != EEP_ERR_UNSUPPORTED &&
         status != EEP_ERR_UNREACHABLE) ||
        strstr(context->error, "RLIMIT_NOFILE") ||
        !eepi_descriptors_lack(OWN_DESCRIPTORS, "a rank", why, sizeof why)) {
        return status;
    }
    snprintf(told, sizeof told, "%s", text ? text + 2 : eep_strerror(status));
    return eepi_fail(context, EEP_ERR_SYSTEM, "%s; for want of them: %s", why, told);
}

/* What a graph uses is better lost than gone under it. */
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
    const eepi_left left = eepi_elsewhere_left(context, CLOSE_BOUND_US);

    say_left(context, left);
    eepi_thread_serves(0);
    eepi_service_stop(context);
    eepi_detector_close(context->detector);
    if (left !=
        EEPI_LEFT_ALL) { /* it stores nothing any more (rule M7), though its process lives */
        eepi_claim_release(context, CLOSE_BOUND_US);
    }
    if (context->bulk && context->executor) {
        eepi_executor_cancel(context->executor);
    }
    eepi_bulk_close(context->bulk);
    eepi_executor_close(context->executor);
    eepi_serving_close(context);
    eepi_core_close(context->core);
    free(context->held_plan);
    eepi_inbox_close(context->inbox);
    if (left == EEPI_LEFT_NOTHING) {
        eepi_peers_close(context);
        eepi_tables_close(context->tables);
        eepi_window_close(context->window);
        if (context->config.device) {
            eepi_weights_close(context);
        }
    }
    if (context->is_waiter && left != EEPI_LEFT_ALL) {
        eepi_device_release_waiter(context->config.device);
    }
    eepi_store_client_close(context->store);
    eepi_topology_close(context->topology);
    free(context->poll_fds);
    free(context->poll_seats);
    free(context->said_report);
    free(context->seats);
    free(context->arrivals);
    free(context->peer_headers);
    free(context->slot_begin);
    (void)!eepi_set_stream(context, "eep_close", NULL);
    eepi_owner_drop(context->owner);
    if (context->holds_device && left == EEPI_LEFT_NOTHING) {
        eepi_device_drop(context->config.device);
    }
    if (context->wake_fd >= 0) {
        close(context->wake_fd);
    }
    pthread_cond_destroy(&context->changed);
    pthread_mutex_destroy(&context->lock);
    pthread_mutex_destroy(&context->evidence.lock);
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
    if (eepi_calls_close(context)) {
        close_context(context);
    }
}

eep_status eep_open(const eep_config *config, char *error_out, size_t error_bytes,
                    eep_context **context_out)
{
    eep_context *context = calloc(1, sizeof *context);
    pthread_condattr_t attributes;
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
    pthread_mutex_init(&context->evidence.lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&context->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    eepi_thread_serves(0); /* a thread may have left a context to another thread's eep_close */
    context->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    context->opened_by = (int32_t)getpid();
    context->pid_start = eepi_process_start((int32_t)getpid());
    status = take_config(context, config);
    if (status == EEP_OK) {
        eepi_device_hold(context->config.device);
        context->holds_device = 1;
    }
    context->home = eepi_process_home();
    if (status == EEP_OK && (context->pid_start == 0 || context->home == 0)) {
        status = eepi_fail(context, EEP_ERR_SYSTEM,
                           "/proc cannot be read or shows another pid namespace than this "
                           "process's, and peers watch it: mount it anew (unshare --mount-proc)");
    }
    if (status == EEP_OK && context->wake_fd < 0) {
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
                     context->error[0] ? context->error : eep_strerror(status));
        }
        close_context(context);
        return status;
    }
    context->counters.window_bytes = context->shape.window_bytes;
    *context_out = context;
    return EEP_OK;
}
