/* SPDX-License-Identifier: Apache-2.0 */
/* What this rank says to the store, and the time that its answers allow the core. */
#include "membership/service/store_session.h"

#include "graphs/device/device_ops.h"
#include "membership/claim/lease.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/order/order.h"
#include "membership/context/records.h"
#include "membership/loads/gather.h"
#include "membership/service/store_session_state.h"
#include "membership/step/proxies.h"
#include "membership/weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CLOCK_STRIDE_US = 100000, /* most that the core's time goes on at once */
    PROBE_GRACE_US = 100000,  /* a store that does not answer for so long is away */
};

/* What all ranks watch. Reports and acknowledgements are not among it (rule N22). Records come
 * before the register: who sees all ranks ready has seen a view that they are ready for. */
static const char *const watched[] = {EEPI_KEY_INSTANCE, EEPI_KEY_MEMBER, EEPI_KEY_EXIT,
                                      EEPI_KEY_REFUSED,  EEPI_KEY_LOADS,  EEPI_KEY_ORDER,
                                      EEPI_KEY_WEDGE,    EEPI_KEY_PLAN,   EEPI_KEY_VIEW};

eep_status eepi_store_session_open(eep_context *context)
{
    const size_t seats = (size_t)context->config.max_ranks;

    const eepi_device_facts facts = eepi_device_facts_of(context->config.device);
    const eepi_own_links_config links = {
        eepi_verbs_system(), facts.pci,
        context->config.bulk == EEP_BULK_UCX ? context->config.bulk_interface : NULL};

    context->session = calloc(1, sizeof *context->session + seats * sizeof(eepi_end));
    return context->session ? eepi_own_links_open(&links, &context->session->links)
                            : EEP_ERR_NO_MEMORY;
}

void eepi_store_session_close(eep_context *context)
{
    if (context->session) {
        eepi_own_links_close(context->session->links);
        free(context->session->report);
    }
    free(context->session);
}

eep_status eepi_store_session_start(eep_context *context)
{
    context->session->clock_us = context->session->clock_seen_us = eepi_now_us();
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) {
        if (eepi_store_watch(context->store, watched[i]) == 0) {
            return EEP_ERR_NO_MEMORY;
        }
    }
    eepi_store_read_view(context); /* there may be none */
    return eepi_lease_watch(context);
}

bool eepi_store_answers(const eep_context *context, uint64_t now_us)
{
    const struct eepi_store_session *session = context->session;

    return !session->is_lost && !session->takes_nothing &&
           (session->probe_id == 0 || now_us - session->probe_us < PROBE_GRACE_US);
}

uint64_t eepi_core_now_us(eep_context *context)
{
    struct eepi_store_session *session = context->session;
    uint64_t now = eepi_now_us(), gap = now - session->clock_seen_us;

    session->clock_seen_us = now;
    if (eepi_store_answers(context, now)) {
        session->clock_us += gap < CLOCK_STRIDE_US ? gap : CLOCK_STRIDE_US;
    }
    return session->clock_us;
}

/* A write that was taken is as good as an answer. All survivors of a fault would ask at once
 * otherwise, while the store has their promises to handle. */
void eepi_store_note_heard(eep_context *context)
{
    context->session->heard_us = eepi_now_us();
}

void eepi_store_probe(eep_context *context)
{
    struct eepi_store_session *session = context->session;
    uint64_t now = eepi_now_us();
    char key[EEPI_STORE_KEY_MAX];

    eepi_lease_look(context);
    if ((!eepi_core_is_wedged(context->core) && !session->takes_nothing) ||
        session->probe_id != 0 || now - session->probe_us < EEPI_PROBE_PERIOD_US ||
        now - session->heard_us < EEPI_PROBE_PERIOD_US) {
        return;
    }
    snprintf(key, sizeof key, EEPI_KEY_PROBE "%d", context->config.rank);
    session->probe_id =
        eepi_store_put(context->store, key, &context->generation, sizeof context->generation, 0);
    session->probe_us = now;
}

void eepi_store_note_write(eep_context *context, eep_status status)
{
    struct eepi_store_session *session = context->session;
    const bool refused = session->takes_nothing;

    if (status == EEP_ERR_UNREACHABLE) {
        return; /* all is put again with the next connection */
    }
    session->takes_nothing = status != EEP_OK;
    if (status == EEP_OK) {
        eepi_store_note_heard(context);
    }
    if (refused && status == EEP_OK) {
        eepi_log(context, EEP_LOG_INFO, "the store takes writes again");
        eepi_lease_put(context); /* it may have gone, and been refused, meanwhile (N21) */
        eepi_store_put_record(context);
        eepi_store_republish(context);
    } else if (!refused && status != EEP_OK) {
        eepi_log(context, EEP_LOG_WARN,
                 "the store refuses writes (%s): serving goes on, and no view changes until it "
                 "takes them",
                 eep_strerror(status));
    }
}

/* ------------------------------------------------------------------ the register */

void eepi_store_read_view(eep_context *context)
{
    __atomic_fetch_add(&context->session->num_reads, 1, __ATOMIC_RELAXED);
    context->session->read_id = eepi_store_get(context->store, EEPI_KEY_VIEW);
}

void eepi_store_swap_view(eep_context *context, const eepi_view *view, uint64_t revision)
{
    struct eepi_store_session *session = context->session;

    session->cas_epoch = view->epoch;
    session->cas_phase = view->phase;
    session->cas_id = eepi_store_cas(context->store, EEPI_KEY_VIEW, revision, view, view->bytes);
}

bool eepi_store_is_swapping(const eep_context *context)
{
    return context->session->cas_id != 0;
}

/* ------------------------------------------------------------------ this rank's own keys */

void eepi_store_note_ready(eep_context *context)
{
    context->session->is_ready = true;
}

void eepi_store_note_leaving(eep_context *context, int leaving)
{
    context->session->leaving |= leaving;
}

eepi_own_links *eepi_store_own_links(const eep_context *context)
{
    return context->session->links;
}

eepi_member eepi_store_own_member(const eep_context *context)
{
    const struct eepi_store_session *session = context->session;
    eepi_member own = eepi_weights_member(context, session->is_ready, session->leaving);

    own.rates = eepi_own_links_rates(session->links);
    own.order_number = context->observed.ordered->first_number;
    own.order_digest = context->observed.ordered->first_digest;
    return own;
}

bool eepi_store_may_put(const eep_context *context)
{
    return !context->session->is_lost && !context->session->must_republish;
}

/* Where processes of several hosts may take the seat, an older record never lies over a newer one:
 * the next process would take a generation again (M7). */
static void write_record(eep_context *context, const void *bytes, size_t size)
{
    char key[EEPI_STORE_KEY_MAX];

    snprintf(key, sizeof key, EEPI_KEY_MEMBER "%d", context->config.rank);
    if (eepi_store_keeps(context->store)) {
        context->session->record_id =
            eepi_store_cas(context->store, key, context->claim.record_revision, bytes, size);
    } else {
        (void)eepi_store_put(context->store, key, bytes, size, 0);
    }
}

void eepi_store_put_record(eep_context *context)
{
    eepi_record record = {
        .member = eepi_store_own_member(context),
        .pid = (int32_t)getpid(),
        .pid_start = context->process.start,
        .home = context->process.home,
    };
    size_t address_bytes = 0, bytes;
    void *encoded;

    if (!eepi_store_may_put(context) || context->claim.is_replaced) {
        return; /* it is said behind the register, in the order of the next connection (M4) */
    }
    context->session->record_waits = context->session->record_id != 0;
    if (context->session->record_waits) {
        return;
    }
    eepi_bulk_address(context->bulk, &record.bulk_address, &address_bytes);
    record.bulk_address_bytes = (uint32_t)address_bytes;
    eepi_window_describe(context->window, &record.window);
    record.lane = eepi_proxies_address(context);
    encoded = eepi_record_encode(&record, &context->view_shape, &bytes);
    if (!encoded) {
        return;
    }
    write_record(context, encoded, bytes);
    free(encoded);
}

static void put_seat(eep_context *context, const char *prefix, int32_t seat, const void *bytes,
                     size_t size)
{
    char key[EEPI_STORE_KEY_MAX];

    snprintf(key, sizeof key, "%s%d", prefix, seat);
    (void)eepi_store_put(context->store, key, bytes, size, 0);
}

/* N20: a process that was stopped in the middle of a put may go on behind its successor's. */
static void write_report(eep_context *context)
{
    struct eepi_store_session *session = context->session;
    char key[EEPI_STORE_KEY_MAX];

    snprintf(key, sizeof key, EEPI_KEY_REPORT "%d/%u", context->config.rank, context->generation);
    session->report_id =
        eepi_store_put(context->store, key, session->report, session->report_bytes, 0);
}

/* A key per kind: a watch that begins anew gets only the newest value of each key. And one of this
 * generation alone (N20). */
static void write_ack(eep_context *context, const eepi_ack *ack)
{
    char key[EEPI_STORE_KEY_MAX];

    snprintf(key, sizeof key, EEPI_KEY_ACK "%d/%u/%d", ack->seat, ack->generation, ack->kind);
    (void)eepi_store_put(context->store, key, ack, sizeof *ack, 0);
}

/* ------------------------------------------------------------------ whose turn it is (N22) */

void eepi_store_listen(eep_context *context, bool listens)
{
    struct eepi_store_session *session = context->session;

    if (listens && session->listen_id != 0) { /* N13: those that it watches already, once more */
        session->listen_id = eepi_store_list(context->store, EEPI_KEY_REPORT);
    } else if (listens) {
        (void)eepi_store_watch(context->store, EEPI_KEY_REPORT);
        session->listen_id = eepi_store_watch(context->store, EEPI_KEY_ACK);
    } else {
        (void)eepi_store_unwatch(context->store, EEPI_KEY_REPORT);
        (void)eepi_store_unwatch(context->store, EEPI_KEY_ACK);
        session->listen_id = 0;
    }
}

bool eepi_store_has_listed(const eep_context *context, uint64_t reply_id)
{
    return reply_id != 0 && reply_id == context->session->listen_id;
}

bool eepi_store_is_listening(const eep_context *context)
{
    return context->session->listen_id != 0;
}

/* A word of an older epoch, or of a process that this rank's core does not count, is replaced. */
static void put_wedge(eep_context *context)
{
    struct eepi_store_session *session = context->session;

    if (eepi_store_may_put(context)) {
        (void)eepi_store_cas(context->store, EEPI_KEY_WEDGE, session->wedge_revision,
                             &session->told_wedge, sizeof session->told_wedge);
    }
}

void eepi_store_tell_wedge(eep_context *context, const eepi_wedge *wedge)
{
    context->session->told_wedge = *wedge;
    put_wedge(context);
}

void eepi_store_note_wedge(eep_context *context, const eepi_wedge *wedge, uint64_t revision)
{
    struct eepi_store_session *session = context->session;
    const eepi_view *view = eepi_core_view(context->core);

    session->wedge = *wedge;
    session->wedge_revision = revision;
    if (view && session->told_wedge.epoch == view->epoch && wedge->epoch < view->epoch) {
        put_wedge(context);
    }
}

void eepi_store_put_ack(eep_context *context, const eepi_ack *ack)
{
    write_ack(context, ack);
    context->session->acks[ack->kind] = *ack;
}

void eepi_store_put_end(eep_context *context, const eepi_end *end)
{
    put_seat(context, EEPI_KEY_EXIT, end->seat, end, sizeof *end);
    context->session->ends[end->seat] = *end;
}

void eepi_store_put_refusal(eep_context *context, const eepi_refusal *refusal)
{
    put_seat(context, EEPI_KEY_REFUSED, refusal->seat, refusal, sizeof *refusal);
}

void eepi_store_put_loads(eep_context *context, const uint32_t *loads)
{
    size_t bytes;
    const void *said = eepi_gather_say(context, loads, &bytes);

    (void)eepi_store_put(context->store, EEPI_KEY_LOADS, said, bytes, 0);
}

void eepi_store_put_own_end(eep_context *context)
{
    const eepi_end own = {context->config.rank, context->generation, EEPI_END_STORES};
    bool stores_no_more;

    pthread_mutex_lock(&context->lock);
    stores_no_more =
        (context->outcome.ended == EEP_ERR_EVICTED || context->outcome.ended == EEP_ERR_DRAINED) &&
        !context->stepper.in_step;
    pthread_mutex_unlock(&context->lock);
    if (stores_no_more && context->session->ends[own.seat].generation != own.generation) {
        eepi_store_put_end(context, &own);
    }
}

bool eepi_store_put_report(eep_context *context, const eepi_report *report)
{
    struct eepi_store_session *session = context->session;
    size_t bytes;
    void *encoded = eepi_report_encode(report, &bytes);

    if (!encoded) {
        return false;
    }
    free(session->report);
    session->report = encoded;
    session->report_bytes = bytes;
    session->report_epoch = report->epoch;
    write_report(context);
    return true;
}

void eepi_store_republish(eep_context *context)
{
    const struct eepi_store_session *session = context->session;
    const eepi_view *view = eepi_core_view(context->core);

    if (!view) {
        return;
    }
    /* a report that never arrived would cost this rank its place in the next view */
    if (session->report && session->report_epoch == view->epoch) {
        write_report(context);
    }
    if (session->told_wedge.epoch == view->epoch && session->wedge.epoch < view->epoch) {
        put_wedge(context);
    }
    /* STAGED is not republished: a plan that is not acknowledged is made again */
    for (int kind = EEPI_ACK_FILLED; kind <= EEPI_ACK_FLIPPED; kind++) {
        if (session->acks[kind].digest == view->digest) {
            write_ack(context, &session->acks[kind]);
        }
    }
    eepi_ordered_put(context, view, true);
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_end said = session->ends[seat];
        if (said.generation != 0) {
            eepi_store_put_end(context, &said);
        }
    }
}
