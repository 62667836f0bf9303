/* SPDX-License-Identifier: Apache-2.0 */
/* This rank's FILLING slots: what the executor needs of the context, and what it reports. */
#include "membership/service/filling.h"

#include "membership/context/context.h"
#include "membership/context/event.h"
#include "membership/context/log.h"
#include "membership/context/records.h"
#include "membership/loads/gather.h"
#include "membership/service/peers.h"
#include "membership/service/serve.h"
#include "membership/service/store_session.h"
#include "membership/service/tell.h"
#include "membership/weights/checkpoint_places.h"
#include "membership/weights/weights.h"
#include "repair/planner/planner.h"

#include <string.h>

enum { FETCH_BOUND_US = 5000000, FILL_RETRY_US = 1000000 };

/* Of another document nothing is filled: our slots may be routed to until we switch to it. */
static bool fill_again(eep_context *context, uint64_t digest)
{
    const eepi_view *view = eepi_core_view(context->core);

    if (view->digest == digest) {
        /* first, since the lanes' buffers are used again */
        eepi_bulk_cancel_before(context->bulk, view->epoch + 1);
        eepi_executor_start(context->executor, context->bulk, view, eepi_now_us());
    }
    return true;
}

static void say(void *user, const char *text)
{
    eepi_log(user, EEP_LOG_WARN, "repair: %s", text);
}

/* A file that cannot be read is named; the executor then looks for another source. */
static eep_status read_checkpoint(void *user, int32_t layer, int32_t expert, size_t offset,
                                  void *buffer, size_t bytes)
{
    eep_context *context = user;
    char why[EEPI_TENSOR_WHY_BYTES];
    const uint64_t from_ns = eepi_now_ns();
    eep_status status = eepi_places_read(context, layer, expert, offset, bytes, buffer, why);

    if (status == EEP_OK) {
        eepi_own_links_piece(eepi_store_own_links(context), EEPI_RATE_FILE, bytes,
                             eepi_now_ns() - from_ns);
    } else {
        eepi_log(context, EEP_LOG_WARN, "repair: layer %d expert %d: %s", layer, expert, why);
    }
    return status;
}

static void count_sources(eep_counters *c, const eepi_mix *mix)
{
    const uint64_t *bytes = mix->bytes, *fills = mix->fills;

    c->weights_bytes_own_backup = bytes[EEPI_ORIGIN_OWN_BACKUP];
    c->weights_bytes_own_node = bytes[EEPI_ORIGIN_OWN_BACKUP] + bytes[EEPI_ORIGIN_NODE_BACKUP];
    c->weights_bytes_live_replica = bytes[EEPI_ORIGIN_LIVE_REPLICA];
    c->weights_bytes_other_rank = bytes[EEPI_ORIGIN_LIVE_REPLICA] + bytes[EEPI_ORIGIN_OTHER_BACKUP];
    c->weights_bytes_file = bytes[EEPI_ORIGIN_CHECKPOINT];
    c->fills_own_backup = fills[EEPI_ORIGIN_OWN_BACKUP];
    c->fills_node_backup = fills[EEPI_ORIGIN_NODE_BACKUP];
    c->fills_live_replica = fills[EEPI_ORIGIN_LIVE_REPLICA];
    c->fills_other_backup = fills[EEPI_ORIGIN_OTHER_BACKUP];
    c->fills_file = fills[EEPI_ORIGIN_CHECKPOINT];
    c->fills_kept = mix->fills_kept;
}

/* Rule R2: who has seen its checkpoint file fail says so, since plans go by what is said. */
static void say_bad_file(eep_context *context, const eepi_executor *executor)
{
    if (eepi_executor_file_is_bad(executor) && eepi_places_distrust(context)) {
        eepi_store_put_record(context);
    }
}

/* The FILLING slots of the newest view are filled, or cannot be (an older view's work was
 * cancelled).
 */
static void repaired(void *user, uint64_t digest, eep_status status, uint64_t bytes,
                     const char *why)
{
    eep_context *context = user;
    eepi_input input = {.kind = EEPI_INPUT_FILLED, .digest = digest};
    const bool paused = eepi_core_view(context->core)->phase == EEPI_VIEW_REPAIRING;

    if (status != EEP_OK) {
        eepi_log(context, EEP_LOG_ERROR, "repair failed, trying again: %s", why);
        say_bad_file(context, context->executor);
        eepi_retry_set(&context->retries, EEPI_RETRY_FILL, eepi_now_us() + FILL_RETRY_US, digest,
                       fill_again);
        return;
    }
    if (paused) { /* behind live traffic copies are held back */
        eepi_own_links_fill_ended(eepi_store_own_links(context), bytes, eepi_now_us());
    }
    eepi_tell_copied(context, bytes);
    pthread_mutex_lock(&context->lock);
    *(paused ? &context->observed.counters.weights_bytes_in_pause
             : &context->observed.counters.weights_bytes_background) += bytes;
    count_sources(&context->observed.counters, eepi_executor_mix(context->executor));
    pthread_mutex_unlock(&context->lock);
    eepi_event(context, paused ? EEP_EVENT_REPAIRED : EEP_EVENT_REBALANCED, context->config.rank,
               context->generation, 0, bytes);
    eepi_inbox_post(context->inbox, &input);
}

eep_status eepi_filling_open(eep_context *context)
{
    eepi_executor_config config = {
        .device = context->config.device,
        .seat = context->config.rank,
        .num_tensors = eepi_weights_num_tensors(context),
        .num_layers = context->config.num_layers,
        .num_slots = context->config.num_slots,
        .background_bytes_per_s = context->config.background_bytes_per_s,
        .background_latency_percent = context->config.background_latency_percent,
        .fetch_timeout_us = FETCH_BOUND_US,
        .segments_per_source = eepi_bulk_facts_of(context->bulk).fetches_per_peer,
        .slot = eepi_weights_slot,
        .backup = eepi_weights_backup,
        .owns_backup = eepi_weights_owns_backup,
        .address = eepi_peer_copier,
        .checkpoint = eepi_places_known(context) ? read_checkpoint : NULL,
        .note = say,
        .done = repaired,
        .user = context};
    eepi_executor *executor;
    eep_status status;

    memcpy(config.tensor_bytes, eepi_weights_tensor_bytes(context), sizeof config.tensor_bytes);
    if (config.background_bytes_per_s == 0) {
        config.background_bytes_per_s = 1; /* never used: no view asks for it */
    }
    status = eepi_serving_open(context);
    if (status == EEP_OK) {
        status = eepi_executor_open(&config, &executor);
    }
    if (status != EEP_OK) {
        return eepi_fail(context, status, "eep_join: no memory or thread for repairs: %s",
                         eep_strerror(status));
    }
    __atomic_store_n(&context->executor, executor, __ATOMIC_RELEASE);
    return EEP_OK;
}

void eepi_fill_start(eep_context *context, const eepi_view *view)
{
    eepi_retry_drop(&context->retries, EEPI_RETRY_FILL);
    if (view->phase == EEPI_VIEW_REPAIRING) {
        eepi_event(context, EEP_EVENT_REPAIRING, -1, 0, view->epoch,
                   (uint64_t)eepi_plan_fills(view, -1, NULL, 0));
    } else {
        eepi_event(context, EEP_EVENT_REBALANCING, context->config.rank, context->generation,
                   view->epoch, (uint64_t)eepi_plan_fills(view, context->config.rank, NULL, 0));
    }
    eepi_own_links_fill_began(eepi_store_own_links(context), eepi_now_us());
    eepi_executor_start(context->executor, context->bulk, view, eepi_now_us());
}

/* Rule R1: a void plan cancels its transfers before a slot is given another expert. The executor
 * comes first: what is cancelled is not to be fetched from another source. */
void eepi_fill_cancel(eep_context *context, uint64_t epoch)
{
    eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);

    eepi_retry_drop(&context->retries, EEPI_RETRY_FILL);
    if (executor) { /* NULL before eep_join, which makes it */
        eepi_executor_cancel(executor);
    }
    eepi_bulk_cancel_before(context->bulk, epoch);
}

void eepi_fill_landed(void *user, uint64_t transfer, uint64_t offset, const void *data,
                      uint64_t bytes)
{
    const eep_context *context = user;
    eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);

    if (executor) {
        eepi_executor_landed(executor, transfer, offset, data, bytes);
    }
}

void eepi_fill_fetched(void *user, uint64_t transfer, eep_status status)
{
    eep_context *context = user;
    eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);

    if (!eepi_gather_fetched(context, transfer, status) && executor) {
        eepi_executor_fetched(executor, context->bulk, transfer, status);
    }
}

void eepi_fill_steps(eep_context *context, const eepi_step_mail *mail)
{
    eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);
    const uint32_t num = mail->num_steps;

    for (uint32_t i = num > EEPI_STEP_TIMES ? num - EEPI_STEP_TIMES : 0; executor && i < num; i++) {
        eepi_executor_step(executor, mail->step_us[i % EEPI_STEP_TIMES], eepi_now_us());
    }
}

/* After the promise of rule M2 nothing is placed, but what a REPAIRING view asks for. */
static bool may_place(const eep_context *context, const eepi_executor *executor)
{
    return !eepi_core_is_wedged(context->core) || !eepi_executor_is_behind_traffic(executor);
}

void eepi_fill_go_on(eep_context *context)
{
    eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);

    if (executor && !eepi_executor_is_filling(executor)) {
        say_bad_file(context, executor); /* behind the acknowledgement: the plan is not void then */
    }
    if (executor && may_place(context, executor)) {
        eepi_executor_tick(executor, context->bulk, eepi_now_us());
    }
}

uint64_t eepi_fill_wake_us(const eep_context *context)
{
    const eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);

    return executor && may_place(context, executor) ? eepi_executor_wake_us(executor) : UINT64_MAX;
}
