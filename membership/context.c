/* A context: open, join, leave, close, and what can be asked of it. */
#include "membership/context.h"
#include "membership/process.h"
#include "repair/planner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { STORE_BOUND_US = 5000000, STRIKE_WINDOW_STEPS = 1000, STAGE_BOUND_US = 1000000,
       FETCH_BOUND_US = 5000000, FILL_RETRY_US = 1000000, CLOSE_BOUND_US = 200000 };

static int32_t from_environment(const char *name, int32_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? (int32_t)strtol(text, NULL, 10) : otherwise;
}

void eep_config_init(eep_config *config)
{
    *config = (eep_config){
        .struct_bytes = sizeof(*config),
        .rank = from_environment("EEP_RANK", -1),
        .num_ranks = from_environment("EEP_SIZE", 0),
        .store_path = getenv("EEP_STORE"),
        .dtype = EEP_FP32,
        .heartbeat_period_us = 10000,
        .heartbeat_suspect_us = 30000,
        .step_deadline_us = 1000000,
        .warmup_deadline_us = 10000000,
        .expel_floor_us = 1000000,
        .drain_bound_us = 1000000,
        .propose_delay_us = 20000,
        .join_timeout_us = 60000000,
        .kill_fence = 1,
        .bind_threads = 1,
        .log_level = EEP_LOG_WARN,
    };
}

int32_t eep_rank(const eep_context *context)
{
    return context->config.rank;
}

uint32_t eep_generation(const eep_context *context)
{
    return context->generation;
}

/* ------------------------------------------------------------------ opening */

/* The first time that is not possible; NULL: all are. A day is more than any of them needs, and
 * keeps sums and nanoseconds far from overflow. */
static const char *bad_time(const eep_config *c)
{
    const uint64_t day_us = 86400ull * 1000000;
    const struct {
        const char *name;
        uint64_t us, least_us;
    } times[] = {
        {"heartbeat_period_us", c->heartbeat_period_us, 1},
        {"heartbeat_suspect_us", c->heartbeat_suspect_us, 1},
        {"step_deadline_us", c->step_deadline_us, 1},
        {"warmup_deadline_us", c->warmup_deadline_us, 1},
        {"expel_floor_us", c->expel_floor_us, 1},
        {"drain_bound_us", c->drain_bound_us, 1},
        {"propose_delay_us", c->propose_delay_us, 0},
        {"join_timeout_us", c->join_timeout_us, 0},
    };

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        if (times[i].us < times[i].least_us || times[i].us > day_us)
            return times[i].name;
    }
    return NULL;
}

static eep_status take_config(eep_context *context, const eep_config *config)
{
    eep_config *c = &context->config;
    const char *why;

    if (config->struct_bytes != sizeof(*config))
        return eepi_fail(context, EEP_ERR_INVALID,
                         "eep_config has %u bytes, this library's has %zu: see eep_config_init",
                         config->struct_bytes, sizeof(*config));
    *c = *config;
    if (c->max_ranks == 0)
        c->max_ranks = c->num_ranks;
    if (!c->device)
        return eepi_fail(context, EEP_ERR_INVALID, "device is NULL");
    if (!c->store_path || !*c->store_path)
        return eepi_fail(context, EEP_ERR_INVALID, "store_path is not set (EEP_STORE)");
    why = bad_time(c);
    if (why)
        return eepi_fail(context, EEP_ERR_INVALID, "%s is 0 or longer than a day", why);
    if (eepi_shape_make(c, &context->shape, &why) != EEP_OK)
        return eepi_fail(context, EEP_ERR_INVALID, "%s is missing or out of range", why);
    context->view_shape =
        (eepi_view_shape){c->max_ranks, c->num_layers, c->num_experts, c->num_slots};
    if (eepi_view_bytes(&context->view_shape) == 0)
        return eepi_fail(context, EEP_ERR_INVALID, "the shape is out of range");
    return EEP_OK;
}

/* One request and its answer, at start. The reply's bytes are copied, 8-byte aligned. */
static eep_status ask(eep_context *context, uint64_t id, void **value_out, size_t *size_out,
                      uint64_t *revision_out)
{
    eepi_store_reply reply;
    eep_status status = eepi_store_client_wait(context->store, id, STORE_BOUND_US, &reply);

    if (status != EEP_OK)
        return status;
    *revision_out = reply.revision;
    *size_out = reply.size;
    *value_out = NULL;
    if (reply.status == EEP_OK && reply.size > 0) {
        *value_out = malloc(reply.size);
        if (!*value_out)
            return EEP_ERR_NO_MEMORY;
        memcpy(*value_out, reply.value, reply.size);
    }
    return reply.status == EEP_ERR_NOT_FOUND ? EEP_OK : reply.status;
}

/* What the first view looks like follows from the configuration alone: what to load if this is it,
 * and which backups to keep in any case. */
static eep_status plan_first_view(eep_context *context)
{
    const eep_config *c = &context->config;
    eepi_view *view = eepi_view_new(&context->view_shape);
    size_t words = ((size_t)c->num_experts + 63) / 64;
    eep_status status;

    if (!view)
        return EEP_ERR_NO_MEMORY;
    for (int seat = 0; seat < c->num_ranks; seat++)
        *eepi_view_seat_at(view, seat) = (eepi_view_seat){1, EEP_SEAT_ACTIVE, {0}};
    status = eepi_plan_initial(view);
    if (status == EEP_ERR_UNCOVERED)
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "num_slots: %d ranks of %d slots cannot hold %d experts", c->num_ranks,
                           c->num_slots, c->num_experts);
    for (int layer = 0; layer < c->num_layers && status == EEP_OK; layer++) {
        for (int slot = 0; slot < c->num_slots; slot++) {
            const eepi_view_slot *at = eepi_view_slot_at(view, layer, c->rank, slot);
            context->experts[layer * c->num_slots + slot] =
                at->state == EEPI_SLOT_HOLDS ? at->expert : -1;
        }
        for (int expert = 0; expert < c->num_experts; expert++) {
            if (eepi_plan_backup(view, layer, expert, c->rank))
                context->backup_wanted[(size_t)layer * words + (size_t)expert / 64] |=
                    1ull << (expert % 64);
        }
    }
    free(view);
    return status;
}

/* The instance's present view, if there is one: the generation's floor, and what to load. */
static eep_status read_view(eep_context *context, uint32_t *generation_out)
{
    uint64_t revision;
    const char *why = "";
    void *value = NULL;
    size_t size = 0;
    const eepi_view *found;
    eep_status status =
        ask(context, eepi_store_get(context->store, EEPI_KEY_VIEW), &value, &size, &revision);

    if (status != EEP_OK)
        return eepi_fail(context, status, "the store does not answer: %s", eep_strerror(status));
    if (!value)
        return EEP_OK;
    found = value;
    if (eepi_view_check(value, size, &why) != EEP_OK ||
        memcmp(&found->shape, &context->view_shape, sizeof(found->shape)) != 0) {
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "this configuration does not fit the running instance (max_ranks, "
                           "num_layers, num_experts, num_slots) %s", why);
    } else {
        *generation_out = eepi_view_seat_at(found, context->config.rank)->generation;
        eepi_plan_seat(found, context->config.rank, context->experts);
    }
    free(value);
    return status;
}

/* Rule M7: whoever held the seat before must be seen to have ended; that is told to all. */
static eep_status put_exit(eep_context *context, uint32_t generation, uint64_t bound_us)
{
    eepi_suspect gone = {context->config.rank, generation, EEP_FAULT_EXIT};
    char key[EEPI_STORE_KEY_MAX];
    eepi_store_reply reply;
    eep_status status;

    snprintf(key, sizeof(key), EEPI_KEY_EXIT "%d", context->config.rank);
    status = eepi_store_client_wait(context->store,
                                    eepi_store_put(context->store, key, &gone, sizeof(gone), 0),
                                    bound_us, &reply);
    return status == EEP_OK ? reply.status : status;
}

/* Did that generation close its context in a process that lives on? */
static int has_closed(eep_context *context, uint32_t generation)
{
    char key[EEPI_STORE_KEY_MAX];
    eepi_suspect gone;
    uint64_t revision;
    void *value = NULL;
    size_t size = 0;
    int closed;

    snprintf(key, sizeof(key), EEPI_KEY_EXIT "%d", context->config.rank);
    if (ask(context, eepi_store_get(context->store, key), &value, &size, &revision) != EEP_OK)
        return 0;
    closed = value &&
             eepi_exit_decode(value, size, context->config.max_ranks, &gone) == EEP_OK &&
             gone.seat == context->config.rank && gone.generation == generation;
    free(value);
    return closed;
}

static eep_status check_predecessor(eep_context *context, const eepi_record *record)
{
    uint32_t generation = record->member.generation;

    if (eepi_process_look(record->pid, record->pid_start) == EEPI_PROCESS_ENDED)
        return put_exit(context, generation, STORE_BOUND_US);
    if (has_closed(context, generation))
        return EEP_OK;
    return eepi_fail(context, EEP_ERR_SEAT_TAKEN, "process %d holds the seat as generation %u",
                     record->pid, generation);
}

/* Take the seat: a new generation by compare-and-swap on its member record. */
static eep_status claim_seat(eep_context *context)
{
    char key[EEPI_STORE_KEY_MAX];
    uint32_t last = 0;
    uint64_t revision;
    eepi_record record, own = {0};
    void *value = NULL;
    size_t size = 0, bytes;
    eep_status status = plan_first_view(context);
    void *encoded;

    if (status == EEP_OK)
        status = read_view(context, &last);
    if (status != EEP_OK)
        return status;
    snprintf(key, sizeof(key), EEPI_KEY_MEMBER "%d", context->config.rank);
    status = ask(context, eepi_store_get(context->store, key), &value, &size, &revision);
    if (status != EEP_OK)
        return eepi_fail(context, status, "the store does not answer: %s", eep_strerror(status));
    if (value) {
        status = eepi_record_decode(value, size, &context->view_shape, &record);
        if (status != EEP_OK)
            status = eepi_fail(context, EEP_ERR_INVALID,
                               "the seat's record is of an instance with another shape");
        else
            status = check_predecessor(context, &record);
        if (status == EEP_OK && record.member.generation > last)
            last = record.member.generation;
        free(value);
        if (status != EEP_OK)
            return status;
    }
    context->generation = last + 1;
    own.member = (eepi_member){context->config.rank, context->generation, 0, 0,
                               context->experts,     context->checksums,  context->backup_bits};
    own.pid = (int32_t)getpid();
    own.pid_start = context->pid_start;
    encoded = eepi_record_encode(&own, &context->view_shape, &bytes);
    if (!encoded)
        return EEP_ERR_NO_MEMORY;
    status = ask(context, eepi_store_cas(context->store, key, revision, encoded, bytes), &value,
                 &size, &revision);
    free(encoded);
    free(value);
    if (status == EEP_ERR_CONFLICT)
        return eepi_fail(context, EEP_ERR_SEAT_TAKEN, "another process took the seat just now");
    context->claimed = status == EEP_OK;
    return status;
}

static int serve_blob(void *user, const eepi_blob *blob, eepi_bulk_part *parts_out)
{
    eep_context *context = user;
    const eep_tensor *tensors;

    if (blob->layer < 0 || blob->layer >= context->config.num_layers || blob->expert < 0 ||
        blob->expert >= context->config.num_experts)
        return 0;
    tensors = eepi_weights_backup(context, blob->layer, blob->expert);
    for (int i = 0; tensors && i < context->num_tensors; i++)
        parts_out[i] = (eepi_bulk_part){tensors[i].data, tensors[i].bytes};
    return tensors ? context->num_tensors : 0;
}

static void fetched(void *user, uint64_t transfer, eep_status status)
{
    eep_context *context = user;

    if (context->executor)
        eepi_executor_fetched(context->executor, context->bulk, transfer, status);
}

static void tell_evidence(void *user, const eepi_suspect *suspect)
{
    eep_context *context = user;

    pthread_mutex_lock(&context->lock);
    if (context->mailbox.num_evidence < EEPI_MAILBOX_EVIDENCE)
        context->mailbox.evidence[context->mailbox.num_evidence++] = *suspect;
    pthread_mutex_unlock(&context->lock);
    eepi_service_wake(context);
}

static void bind_heartbeat(void *user)
{
    eep_context *context = user;

    if (context->topology)
        (void)!eepi_topology_bind(context->topology, EEPI_THREAD_HEARTBEAT, context->config.rank,
                                  context->config.num_ranks);
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
                             .strike_window_steps = STRIKE_WINDOW_STEPS,
                             .kill_fence = c->kill_fence,
                             .shape = context->view_shape};
    eepi_detector_config detector = {.period_us = c->heartbeat_period_us,
                                     .suspect_us = c->heartbeat_suspect_us,
                                     .max_ranks = c->max_ranks,
                                     .tell = tell_evidence,
                                     .started = bind_heartbeat,
                                     .user = context};
    eep_status status = eepi_core_open(&core, &context->core);

    if (status == EEP_OK)
        status = eepi_detector_open(&detector, eepi_window_address(context->window),
                                    &context->detector);
    if (status == EEP_OK)
        eepi_detector_set_expel_us(context->detector, c->expel_floor_us);
    return status;
}

/* Everything that needs no generation. */
static eep_status open_memory(eep_context *context)
{
    size_t seats = (size_t)context->config.max_ranks;
    eep_status status = eepi_weights_open(context);

    context->peers = calloc(seats, sizeof(*context->peers));
    context->seats = calloc(seats, sizeof(*context->seats));
    context->slot_begin =
        calloc((size_t)context->config.num_layers, sizeof(*context->slot_begin));
    context->step_histogram = calloc(64, sizeof(*context->step_histogram));
    for (size_t seat = 0; context->peers && seat < seats; seat++)
        context->peers[seat].pidfd = -1;
    if (!context->peers || !context->seats || !context->slot_begin || !context->step_histogram)
        return EEP_ERR_NO_MEMORY;
    if (context->config.bind_threads && eepi_topology_open(&context->topology) != EEP_OK)
        context->topology = NULL;
    return status;
}

static eep_status open_all(eep_context *context)
{
    char why[EEPI_ERROR_BYTES / 2] = "";
    eep_status status = open_memory(context);

    if (status != EEP_OK)
        return eepi_fail(context, status, "no memory for the context");
    status = eepi_store_client_open(context->config.store_path, STORE_BOUND_US, &context->store);
    if (status != EEP_OK)
        return eepi_fail(context, status, "no store answers at %s", context->config.store_path);
    status = claim_seat(context);
    if (status != EEP_OK)
        return status;
    status = eepi_window_create((uint32_t)context->config.rank, context->generation,
                                context->shape.window_bytes, &context->window);
    if (status != EEP_OK)
        return eepi_fail(context, status, "no window of %llu bytes: %s",
                         (unsigned long long)context->shape.window_bytes, eep_strerror(status));
    status = eepi_tables_open(context->config.device, &context->shape,
                              eepi_window_address(context->window), &context->tables);
    if (status != EEP_OK)
        return eepi_fail(context, status, "no device memory for the tables");
    status = eepi_bulk_open(serve_blob, fetched, context, why, sizeof(why), &context->bulk);
    if (status != EEP_OK)
        return eepi_fail(context, status, "UCX: %s", why);
    status = open_core(context);
    if (status == EEP_OK)
        status = eepi_service_start(context);
    if (status != EEP_OK)
        return eepi_fail(context, status, "the service threads could not be started");
    return EEP_OK;
}

eep_status eep_open(const eep_config *config, char *error_out, size_t error_bytes,
                    eep_context **context_out)
{
    eep_context *context = calloc(1, sizeof(*context));
    pthread_condattr_t attributes;
    eep_status status;

    if (!context)
        return EEP_ERR_NO_MEMORY;
    pthread_mutex_init(&context->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&context->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    context->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    context->pid_start = eepi_process_start((int32_t)getpid());
    status = take_config(context, config);
    if (status == EEP_OK && context->pid_start == 0)
        status = eepi_fail(context, EEP_ERR_SYSTEM, "/proc cannot be read: peers watch it");
    if (status == EEP_OK && context->wake_fd < 0)
        status = eepi_fail(context, EEP_ERR_SYSTEM, "eventfd: %s", strerror(errno));
    if (status == EEP_OK)
        status = open_all(context);
    if (status != EEP_OK) {
        if (error_out && error_bytes > 0)
            snprintf(error_out, error_bytes, "%s",
                     context->error[0] ? context->error : eep_strerror(status));
        eep_close(context);
        return status;
    }
    context->counters.window_bytes = context->shape.window_bytes;
    *context_out = context;
    return EEP_OK;
}

/* After a step that did not end: 1 if its graph still runs. */
static int graph_runs(eep_context *context)
{
    if (!context->in_step)
        return 0;
    __atomic_store_n(eepi_tables_abort_step(context->tables), UINT64_MAX, __ATOMIC_RELEASE);
    return eep_stream_synchronize(context->stream, CLOSE_BOUND_US) == EEP_ERR_TIMEOUT;
}

void eep_close(eep_context *context)
{
    int runs;

    if (!context)
        return;
    runs = graph_runs(context);
    eepi_service_stop(context);
    eepi_detector_close(context->detector);
    if (context->bulk && context->executor)
        eepi_executor_cancel(context->executor);
    eepi_bulk_close(context->bulk);
    eepi_executor_close(context->executor);
    eepi_core_close(context->core);
    free(context->held_plan);
    if (!runs) { /* what a graph uses is better lost than gone under it */
        eepi_peers_close(context);
        eepi_tables_close(context->tables);
        eepi_window_close(context->window);
        if (context->config.device)
            eepi_weights_close(context);
        /* it stores nothing any more (rule M7), though its process may live on */
        if (context->claimed)
            (void)!put_exit(context, context->generation, CLOSE_BOUND_US);
    }
    eepi_store_client_close(context->store);
    eepi_topology_close(context->topology);
    free(context->poll_fds);
    free(context->poll_seats);
    free(context->said_report);
    free(context->seats);
    free(context->slot_begin);
    free(context->step_histogram);
    if (context->wake_fd >= 0)
        close(context->wake_fd);
    pthread_cond_destroy(&context->changed);
    pthread_mutex_destroy(&context->lock);
    free(context);
}

/* ------------------------------------------------------------------ joining and leaving */

static size_t bulk_address_of(void *user, int32_t seat, const void **address_out)
{
    eep_context *context = user;
    const eepi_peer *peer = &context->peers[seat];

    if (!peer->record_bytes)
        return 0;
    *address_out = peer->record.bulk_address;
    return peer->record.bulk_address_bytes;
}

static void repaired(void *user, uint64_t digest, eep_status status, uint64_t bytes,
                     const char *why)
{
    eep_context *context = user;
    eepi_input input = {.kind = EEPI_INPUT_FILLED, .digest = digest};

    if (status != EEP_OK) {
        eepi_log(context, EEP_LOG_ERROR, "repair failed, trying again: %s", why);
        context->fill_again_us = eepi_now_us() + FILL_RETRY_US;
        return;
    }
    pthread_mutex_lock(&context->lock);
    context->counters.weights_bytes_in_pause += bytes;
    pthread_mutex_unlock(&context->lock);
    eepi_event(context, EEP_EVENT_REPAIRED, context->config.rank, context->generation, 0, bytes);
    eepi_give(context, &input);
}

static eep_status open_executor(eep_context *context)
{
    eepi_executor_config config = {.device = context->config.device,
                                   .seat = context->config.rank,
                                   .num_tensors = context->num_tensors,
                                   .fetch_timeout_us = FETCH_BOUND_US,
                                   .slot = eepi_weights_slot,
                                   .backup = eepi_weights_backup,
                                   .address = bulk_address_of,
                                   .done = repaired,
                                   .user = context};
    eepi_executor *executor;
    eep_status status;

    memcpy(config.tensor_bytes, context->tensor_bytes, sizeof(config.tensor_bytes));
    status = eepi_executor_open(&config, &executor);
    if (status != EEP_OK)
        return eepi_fail(context, status, "no memory for repairs");
    __atomic_store_n(&context->executor, executor, __ATOMIC_RELEASE);
    return EEP_OK;
}

eep_status eep_join(eep_context *context)
{
    eep_status status;
    struct timespec until;
    uint64_t at_us = eepi_now_us() + context->config.join_timeout_us;
    int late = 0;

    if (context->joined_once)
        return eepi_fail(context, EEP_ERR_STATE, "this context has joined already");
    if (!context->stream)
        return eepi_fail(context, EEP_ERR_STATE, "no graph was captured: eep_step_latch");
    status = eepi_weights_seal(context);
    if (status == EEP_OK)
        status = open_executor(context);
    if (status != EEP_OK)
        return status;
    until = (struct timespec){(time_t)(at_us / 1000000u), (long)(at_us % 1000000u) * 1000};
    pthread_mutex_lock(&context->lock);
    context->joined_once = 1;
    context->captures_at_join = (int64_t)eep_device_captures(context->config.device);
    context->mailbox.ready = 1;
    eepi_service_wake(context);
    while (context->pending.epoch == 0 && context->live.epoch == 0 && context->ended == EEP_OK &&
           !context->uncovered && !late)
        late = pthread_cond_timedwait(&context->changed, &context->lock, &until) == ETIMEDOUT;
    if (context->ended != EEP_OK)
        status = eepi_fail(context, context->ended, "%s", context->why_ended);
    else if (context->uncovered)
        status = eepi_fail(context, EEP_ERR_UNCOVERED, "%s", context->why_ended);
    else if (context->pending.epoch == 0 && context->live.epoch == 0)
        status = eepi_fail(context, EEP_ERR_TIMEOUT, "not let in within %llu ms",
                           (unsigned long long)(context->config.join_timeout_us / 1000u));
    pthread_mutex_unlock(&context->lock);
    return status;
}

eep_status eep_drain(eep_context *context)
{
    if (!context->joined_once)
        return eepi_fail(context, EEP_ERR_STATE, "eep_drain before eep_join");
    pthread_mutex_lock(&context->lock);
    context->mailbox.leave = 1;
    pthread_mutex_unlock(&context->lock);
    eepi_service_wake(context);
    return EEP_OK;
}

/* ------------------------------------------------------------------ observation */

eep_status eep_snapshot_get(eep_context *context, eep_snapshot *snapshot_out, eep_seat *seats_out)
{
    uint64_t captures = eep_device_captures(context->config.device);

    pthread_mutex_lock(&context->lock);
    *snapshot_out = (eep_snapshot){.epoch = context->seats_epoch,
                                   .max_ranks = context->config.max_ranks,
                                   .counters = context->counters};
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        eep_seat_state state = context->seats[seat].state;
        snapshot_out->num_active += state == EEP_SEAT_ACTIVE || state == EEP_SEAT_RETIRING;
        if (seats_out)
            seats_out[seat] = context->seats[seat];
    }
    if (context->joined_once)
        snapshot_out->counters.captures_after_join = captures - (uint64_t)context->captures_at_join;
    pthread_mutex_unlock(&context->lock);
    return EEP_OK;
}

eep_status eep_fault_next(eep_context *context, eep_fault *fault_out)
{
    eep_status status = EEP_ERR_NOT_FOUND;

    pthread_mutex_lock(&context->lock);
    if (context->num_faults > 0) {
        *fault_out = context->faults[0];
        context->num_faults--;
        memmove(context->faults, context->faults + 1,
                (size_t)context->num_faults * sizeof(context->faults[0]));
        status = EEP_OK;
    }
    pthread_mutex_unlock(&context->lock);
    return status;
}
