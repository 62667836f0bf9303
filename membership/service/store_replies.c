/* SPDX-License-Identifier: Apache-2.0 */
/* What comes from the store becomes inputs of the core. */
#include "membership/service/store_replies.h"

#include "membership/claim/lease.h"
#include "membership/context/context.h"
#include "membership/context/event.h"
#include "membership/context/log.h"
#include "membership/context/records.h"
#include "membership/service/feed.h"
#include "membership/service/peers.h"
#include "membership/service/staging.h"
#include "membership/service/store_session.h"
#include "membership/service/store_session_state.h"
#include "membership/service/tell.h"
#include "membership/step/arrivals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A document from the store, aligned and checked; NULL: none of this instance. The caller frees it.
 */
static eepi_view *copy_document(const eep_context *context, const eepi_store_reply *reply,
                                const char **why_out)
{
    eepi_view *copy = reply->size ? malloc(reply->size) : NULL;

    *why_out = "out of memory";
    if (!copy) {
        return NULL;
    }
    memcpy(copy, reply->value, reply->size);
    *why_out = "it has another shape";
    if (eepi_view_check(copy, reply->size, why_out) == EEP_OK &&
        memcmp(&copy->shape, &context->view_shape, sizeof context->view_shape) == 0) {
        return copy;
    }
    free(copy);
    return NULL;
}

static void handle_view(eep_context *context, const eepi_store_reply *reply)
{
    eepi_input input = {.kind = EEPI_INPUT_VIEW, .revision = reply->revision};
    const char *why;
    eepi_view *view;

    if (reply->size == 0) {
        input.kind = EEPI_INPUT_VIEW_MISSING;
        eepi_feed(context, &input);
        return;
    }
    view = copy_document(context, reply, &why);
    input.view = view;
    if (view) {
        eepi_feed(context, &input);
    } else {
        eepi_log(context, EEP_LOG_ERROR, "the register holds no view of this instance: %s", why);
    }
    free(view);
}

static void handle_plan(eep_context *context, const eepi_store_reply *reply)
{
    const char *why;
    eepi_view *plan = copy_document(context, reply, &why);
    eepi_input input = {.kind = EEPI_INPUT_PLAN, .view = plan};

    if (plan) {
        eepi_feed(context, &input);
    }
    free(plan);
}

static bool has_prefix(const char *key, const char *prefix)
{
    return strncmp(key, prefix, strlen(prefix)) == 0;
}

static void handle_small(eep_context *context, const eepi_store_reply *reply)
{
    _Alignas(8) uint8_t bytes[sizeof(eepi_ack) + sizeof(eepi_end)];
    int32_t seats = context->config.max_ranks;
    eepi_input input = {.kind = EEPI_INPUT_ACK};
    eepi_ack ack;

    if (reply->size > sizeof bytes) {
        return;
    }
    memcpy(bytes, reply->value, reply->size);
    if (has_prefix(reply->key, EEPI_KEY_ACK)) {
        if (eepi_ack_decode(bytes, reply->size, seats, &ack) != EEP_OK) {
            return;
        }
        eepi_tell_ack(context, &ack);
        input.ack = &ack;
    } else {
        input.kind = EEPI_INPUT_EXIT;
        if (eepi_end_decode(bytes, reply->size, seats, &input.end) != EEP_OK) {
            return;
        }
        eepi_arrival_end(context, input.end.seat, input.end.generation);
    }
    eepi_feed(context, &input);
}

static void handle_report(eep_context *context, const eepi_store_reply *reply)
{
    eepi_input input = {.kind = EEPI_INPUT_REPORT};
    eepi_report report;
    void *copy = malloc(reply->size ? reply->size : 1);

    if (!copy) {
        return;
    }
    memcpy(copy, reply->value, reply->size);
    input.report = &report;
    if (eepi_report_decode(copy, reply->size, context->config.max_ranks, &report) == EEP_OK) {
        eepi_tell_report(context, &report);
        eepi_feed(context, &input);
    }
    free(copy);
}

static void handle_order(eep_context *context, const eepi_store_reply *reply)
{
    eepi_input input = {.kind = EEPI_INPUT_ORDER};
    eepi_order order;
    void *copy = malloc(reply->size);

    if (!copy) {
        return;
    }
    memcpy(copy, reply->value, reply->size);
    input.order = &order;
    if (eepi_order_decode(copy, reply->size, &context->view_shape, &order) == EEP_OK) {
        eepi_feed(context, &input);
    }
    free(copy);
}

static void handle_refusal(eep_context *context, const eepi_store_reply *reply)
{
    _Alignas(8) uint8_t bytes[sizeof(eepi_refusal)];
    eepi_refusal refusal;

    if (reply->size > sizeof bytes) {
        return;
    }
    memcpy(bytes, reply->value, reply->size);
    if (eepi_refusal_decode(bytes, reply->size, context->config.max_ranks, &refusal) != EEP_OK) {
        return;
    }
    eepi_arrival_refused(context, &refusal);
    eepi_look_at_arrivals(context); /* now: its end may come with the next reply */
    if (refusal.seat == context->config.rank && refusal.generation == context->generation) {
        eepi_end_service(context, EEP_ERR_CHECKSUM, refusal.why);
    }
}

/* Rule N21. No view had this rank, its lease lapsed, and a process of another host took its seat.
 */
static void end_replaced_claim(eep_context *context, uint32_t by)
{
    char why[EEPI_ERROR_BYTES / 2];

    snprintf(why, sizeof why,
             "another process took this seat as generation %u: the lease of this one had lapsed "
             "before a view had it",
             by);
    context->claim.has_lease = false;
    context->claim.is_replaced = true;
    eepi_end_service(context, EEP_ERR_EVICTED, why);
}

static void handle_record(eep_context *context, const eepi_store_reply *reply)
{
    const eepi_member *member = eepi_peer_handle_record(context, reply->value, reply->size);
    const eepi_input input = {.kind = EEPI_INPUT_MEMBER, .member = member};

    if (member && member->seat == context->config.rank &&
        member->generation > context->generation) {
        if (!context->claim.is_replaced) {
            end_replaced_claim(context, member->generation);
        }
    } else if (member) {
        eepi_staging_hurry(context);
        eepi_feed(context, &input);
    }
}

/* Revision 0: the store has none. One that cannot be read tells nothing, and is to be replaced: an
 * instance of another shape, which has ended, may have left it. */
static void handle_wedge(eep_context *context, const eepi_store_reply *reply)
{
    _Alignas(8) uint8_t bytes[sizeof(eepi_wedge)];
    eepi_input input = {.kind = EEPI_INPUT_WEDGE};

    if (reply->size > 0 && reply->size <= sizeof bytes) {
        memcpy(bytes, reply->value, reply->size);
        if (eepi_wedge_decode(bytes, reply->size, context->config.max_ranks, &input.wedge) ==
            EEP_OK) {
            eepi_tell_wedge(context, &input.wedge);
            eepi_feed(context, &input);
        }
    }
    eepi_store_note_wedge(context, &input.wedge, reply->revision);
}

/* What this rank listens to has all been told. */
static void feed_listens(eep_context *context)
{
    const eepi_input input = {.kind = EEPI_INPUT_LISTENS};

    eepi_feed(context, &input);
}

static bool has_no_view(const eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);

    return !view || eepi_view_num_active(view) == 0;
}

/* This rank is in no view, so its seat is free. */
static void end_replaced(eep_context *context, const char *difference)
{
    char why[EEPI_ERROR_BYTES / 2];

    snprintf(why, sizeof why,
             "an instance with another configuration has taken this store before this rank was in "
             "a view: %s",
             difference);
    eepi_claim_give_back(context); /* before it is told: whoever knows that it is over may claim */
    eepi_end_service(context, EEP_ERR_EVICTED, why);
}

/* The numbers of another instance have come, while no view of ours exists. That instance looked for
 * holders of seats before this rank took its seat, and began. */
static void handle_instance(eep_context *context, const eepi_store_reply *reply)
{
    const eepi_instance own = eepi_instance_of(&context->config);
    char difference[EEPI_INSTANCE_TEXT_BYTES];

    if (!has_no_view(context)) {
        return; /* its members put their own numbers back */
    }
    if (eepi_instance_differs(&own, reply->value, reply->size, difference)) {
        end_replaced(context, difference);
    }
}

/* A key's present value, from the watch. */
static void handle_entry(eep_context *context, const eepi_store_reply *reply)
{
    if (strcmp(reply->key, EEPI_KEY_VIEW) == 0) {
        handle_view(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_LEASE)) {
        eepi_lease_hear(context, reply);
    } else if (reply->size == 0) {
        return;
    } else if (strcmp(reply->key, EEPI_KEY_INSTANCE) == 0) {
        handle_instance(context, reply);
    } else if (strcmp(reply->key, EEPI_KEY_PLAN) == 0) {
        handle_plan(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_MEMBER)) {
        handle_record(context, reply);
    } else if (strcmp(reply->key, EEPI_KEY_WEDGE) == 0) {
        handle_wedge(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_REPORT)) {
        handle_report(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_REFUSED)) {
        handle_refusal(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_ORDER)) {
        handle_order(context, reply);
    } else if (has_prefix(reply->key, EEPI_KEY_ACK) || has_prefix(reply->key, EEPI_KEY_EXIT)) {
        handle_small(context, reply);
    }
}

/* The store may have lost its memory with its process. The register is read first: where it is
 * empty or old, the core writes our document back. Our record and the rest follow behind it, in the
 * order of the same connection. So no reader of the store sees all ranks ready without a view, and
 * forms a second first view (S2). */
static void resync(eep_context *context)
{
    if (context->session->is_lost) {
        eepi_log(context, EEP_LOG_INFO, "the store is back");
        eepi_event(context, EEP_EVENT_STORE_BACK, -1, 0, 0, 0);
    }
    context->session->is_lost = false;
    context->session->must_republish = true;
    eepi_store_read_view(context);
    eepi_lease_put(context);
    if (eepi_store_is_listening(context)) {
        feed_listens(context);
    }
}

/* To be called once the register has our document or a newer one. Earlier, others might take our
 * records for those of a rank that knows no newer document than theirs. */
static void say_behind_register(eep_context *context)
{
    eepi_instance own = eepi_instance_of(&context->config);

    if (!context->session->must_republish || context->session->cas_id != 0) {
        return;
    }
    own.identity = context->claim.instance;
    context->session->must_republish = false;
    if (has_no_view(
            context)) { /* the first one wins; two that put theirs back would both give up */
        (void)eepi_store_cas(context->store, EEPI_KEY_INSTANCE, 0, &own, sizeof own);
    } else if (!eepi_store_keeps(context->store)) {
        (void)eepi_store_put(context->store, EEPI_KEY_INSTANCE, &own, sizeof own, 0);
    }
    eepi_store_put_record(context);
    eepi_store_republish(context);
}

static void handle_cas(eep_context *context, const eepi_store_reply *reply)
{
    eepi_input input = {.kind = EEPI_INPUT_CAS_DONE, .revision = reply->revision};

    context->session->cas_id = 0;
    if (reply->status == EEP_OK || reply->status == EEP_ERR_CONFLICT) {
        eepi_tell_proposed(context, reply->status == EEP_OK, context->session->cas_epoch,
                           context->session->cas_phase);
    }
    if (reply->status == EEP_ERR_CONFLICT) {
        handle_view(context, reply);
        say_behind_register(context);
        return;
    }
    if (reply->status == EEP_OK) {
        input.won = 1;
    } else {
        input.kind = EEPI_INPUT_CAS_UNKNOWN;
    }
    if (input.won && !context->session->must_republish) {
        eepi_store_republish(
            context); /* about the document that is in now, if we said anything before */
    }
    if (input.won) {
        eepi_event(context, EEP_EVENT_PROPOSED, -1, 0, context->session->cas_epoch,
                   context->session->cas_phase);
    }
    eepi_feed(context, &input);
    if (input.won) {
        say_behind_register(context);
    }
}

static void handle_read(eep_context *context, const eepi_store_reply *reply)
{
    context->session->read_id = 0;
    if (reply->status != EEP_OK && reply->status != EEP_ERR_NOT_FOUND) {
        return; /* the connection broke again: the next one reads again */
    }
    handle_view(context, reply);
    say_behind_register(context);
}

/* UNREACHABLE: the watches stand again once the connection does. */
static void handle_listed(eep_context *context, const eepi_store_reply *reply)
{
    if (reply->status == EEP_OK) {
        feed_listens(context);
    }
}

/* Rule N14: from now on the others can read it. */
static void handle_reported(eep_context *context, const eepi_store_reply *reply)
{
    const eepi_input input = {.kind = EEPI_INPUT_REPORTED, .step = context->session->report_epoch};

    context->session->report_id = 0;
    eepi_store_note_write(context, reply->status);
    if (reply->status == EEP_OK) {
        eepi_feed(context, &input);
    }
}

/* CONFLICT: what lies there was put by another process, which has the seat now, or by this one,
 * over a connection that broke before the answer. */
static void handle_own_record(eep_context *context, const eepi_store_reply *reply)
{
    struct eepi_store_session *session = context->session;
    const bool is_other = reply->status == EEP_ERR_CONFLICT;

    session->record_id = 0;
    if (reply->status == EEP_OK || is_other) {
        context->claim.record_revision = reply->revision;
    } else if (reply->status == EEP_ERR_NO_MEMORY) {
        eepi_store_note_write(context, reply->status);
    }
    if (is_other && reply->size > 0) {
        handle_record(context, reply);
    }
    if (is_other || session->record_waits) {
        eepi_store_put_record(context);
    }
}

/* Another rank's word was there before ours. Our own comes by the watch, too. */
static void handle_told_wedge(eep_context *context, const eepi_store_reply *reply)
{
    if (reply->status == EEP_ERR_CONFLICT) {
        handle_wedge(context, reply);
    }
}

void eepi_store_reply_handle(eep_context *context, const eepi_store_reply *reply)
{
    const eepi_input lost = {.kind = EEPI_INPUT_STORE_LOST};

    switch (reply->kind) {
    case EEPI_STORE_ENTRY:
    case EEPI_STORE_CHANGED:
        handle_entry(context, reply);
        break;
    case EEPI_STORE_REPLY:
        if (reply->id == context->session->probe_id) {
            context->session->probe_id = 0;
            eepi_store_note_write(context, reply->status);
        } else if (reply->id == context->session->report_id) {
            handle_reported(context, reply);
        } else if (reply->id == context->session->cas_id) {
            handle_cas(context, reply);
        } else if (reply->id == context->session->record_id) {
            handle_own_record(context, reply);
        } else if (reply->id == context->session->read_id) {
            handle_read(context, reply);
        } else if (eepi_store_has_listed(context, reply->id)) {
            handle_listed(context, reply);
        } else if (reply->status == EEP_ERR_NO_MEMORY) { /* of any other write */
            eepi_store_note_write(context, reply->status);
        } else if (strcmp(reply->key, EEPI_KEY_WEDGE) == 0) {
            handle_told_wedge(context, reply);
        }
        break;
    case EEPI_STORE_DISCONNECTED:
        context->session->wedge = (eepi_wedge){0};
        context->session->wedge_revision = 0;
        if (!context->session->is_lost) {
            eepi_log(context, EEP_LOG_INFO,
                     "the store does not answer: serving goes on, and no view changes until it is "
                     "back");
            eepi_event(context, EEP_EVENT_STORE_LOST, -1, 0, 0, 0);
        }
        context->session->is_lost = true;
        eepi_peers_forget_heard(context);
        eepi_feed(context, &lost);
        break;
    case EEPI_STORE_RECONNECTED:
        resync(context);
        break;
    }
}

void eepi_look_at_arrivals(eep_context *context)
{
    if (context->session->is_ready && !eepi_told_had_view(context)) {
        eepi_arrivals_note_wait(context);
    }
    if (!eepi_core_view(context->core) && context->session->read_id == 0) {
        eepi_arrivals_look(context);
    }
}
