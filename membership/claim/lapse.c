/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/claim/lapse.h"

#include "graphs/base/clock.h"
#include "membership/claim/claim_ask.h"
#include "membership/claim/lease.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/context/records.h"
#include "membership/process/seat_file.h"
#include "repair/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LOOK_US = 100000,
    GAP_US = 1000000, /* between two looks: nobody knows what happened meanwhile (rule M6) */
    MAX_TRIES = 4,
    MAX_SEATS = EEP_MAX_RANKS
};

/* Whose end nobody has told. */
typedef struct absent {
    eepi_view *view; /* the newest; NULL: there is none that can be read */
    uint64_t view_revision;
    uint32_t member[MAX_SEATS]; /* their generations; 0: nobody is missed */
    bool of_view;               /* some of them */
    uint32_t holder;            /* of this rank's seat, which the view does not know; 0: none */
    uint64_t holder_revision;
    uint32_t ended[MAX_SEATS]; /* the newest end that was told */
    int32_t namesake; /* a seat: its process runs elsewhere under this host's name; or -1 */
    uint32_t namesake_generation;
} absent;

/* ------------------------------------------------------------------ what the store has */

typedef void (*entry_fn)(absent *of, const eep_context *context, const eepi_store_reply *entry);

static eep_status for_each(eep_context *context, const char *prefix, entry_fn entry, absent *of)
{
    eepi_store_reply reply;
    eep_status status = eepi_store_client_wait(
        context->store, eepi_store_list(context->store, prefix), EEPI_STORE_BOUND_US, &reply);

    status = status == EEP_OK ? reply.status : status;
    while (eepi_store_client_next(context->store, &reply) == EEP_OK) {
        if (status == EEP_OK && reply.kind == EEPI_STORE_ENTRY) {
            entry(of, context, &reply);
        }
    }
    return status;
}

static void note_end(absent *of, const eep_context *context, const eepi_store_reply *entry)
{
    _Alignas(8) uint8_t bytes[sizeof(eepi_end)];
    eepi_end end;

    (void)context;
    if (entry->size != sizeof bytes) {
        return;
    }
    memcpy(bytes, entry->value, sizeof bytes);
    if (eepi_end_decode(bytes, sizeof bytes, MAX_SEATS, &end) == EEP_OK &&
        of->ended[end.seat] < end.generation) {
        of->ended[end.seat] = end.generation;
    }
}

/* One that holds its lease: so the instance runs, or the seat is taken. */
static void note_lease(absent *of, const eep_context *context, const eepi_store_reply *entry)
{
    int32_t seat;
    uint32_t generation;

    if (!eepi_lease_of(entry->key, MAX_SEATS, &seat, &generation)) {
        return;
    }
    if (of->member[seat] == generation) {
        of->of_view = false;
    }
    if (seat == context->config.rank && of->holder == generation) {
        of->holder = 0;
    }
}

/* One of this host's name on another machine, or in another namespace: its lease shows that it is
 * there. */
static void note_namesake(absent *of, const eep_context *context, const eepi_store_reply *entry)
{
    eepi_lease_value value;
    int32_t seat;
    uint32_t generation;

    if (entry->size == sizeof value && eepi_lease_of(entry->key, MAX_SEATS, &seat, &generation)) {
        memcpy(&value, entry->value, sizeof value);
        if (value.host == context->process.host && value.home != context->process.home) {
            of->namesake = seat;
            of->namesake_generation = generation;
        }
    }
}

/* N9: ranks of one host see each other's processes, and share memory. Behind a new start of this
 * machine it is its own name: then those leases end by themselves. */
static eep_status check_name(eep_context *context, absent *of)
{
    const struct timespec pause = {.tv_nsec = LOOK_US * 1000};
    const uint64_t until_us = eepi_now_us() + eepi_lease_lapse_us();
    bool is_said = false;

    for (;;) {
        of->namesake = -1;
        const eep_status status = for_each(context, EEPI_KEY_LEASE, note_namesake, of);
        if (status != EEP_OK || of->namesake < 0) {
            return status == EEP_OK ? EEP_OK : eepi_store_is_silent(context, status);
        }
        if (eepi_now_us() >= until_us) {
            break;
        }
        if (!is_said) {
            is_said = true;
            eepi_log(context, EEP_LOG_INFO,
                     "rank %d (generation %u) has a lease under this host's name from another "
                     "machine or namespace, or from before a new start: it is waited for",
                     of->namesake, of->namesake_generation);
        }
        nanosleep(&pause, NULL);
    }
    return eepi_fail(context, EEP_ERR_UNSUPPORTED,
                     "rank %d (generation %u) runs on another machine, or in another pid or time "
                     "namespace, under this host's name: give each an EEP_HOST_ID of its own, or "
                     "none",
                     of->namesake, of->namesake_generation);
}

/* ------------------------------------------------------------------ who is missed */

/* The end of that process is known, or this host's own files show that it lives. Those that show
 * its end are told of. */
static eep_status is_settled(eep_context *context, absent *of, int seat, bool *settled_out)
{
    const eepi_view_seat *s = eepi_view_seat_at(of->view, seat);
    eepi_seat_holder holder;
    eep_status status = EEP_OK;

    *settled_out = of->ended[seat] >= s->generation;
    if (*settled_out || s->host != context->process.host ||
        eepi_seat_look(context->store_path, seat, &holder) != EEP_OK ||
        holder.generation < s->generation) {
        return EEP_OK;
    }
    *settled_out = true;
    if (holder.generation > s->generation) { /* its successor needed its end (M7) */
        holder.generation = s->generation;
    } else if (!eepi_seat_has_ended(context->store_path, seat, context->process.home, &holder)) {
        return EEP_OK;
    }
    status = eepi_claim_end(context, &(eepi_end){seat, holder.generation, EEPI_END_PROCESS},
                            EEPI_STORE_BOUND_US);
    of->ended[seat] = status == EEP_OK ? holder.generation : of->ended[seat];
    return status;
}

static bool is_of_view(const eepi_view *view, int seat)
{
    return eepi_view_is_member(view, seat) ||
           eepi_view_seat_at(view, seat)->state == EEP_SEAT_QUARANTINED;
}

static eep_status miss_members(eep_context *context, absent *of)
{
    bool any_lives = false;

    for (int seat = 0; of->view && seat < of->view->shape.max_ranks; seat++) {
        const uint32_t generation = eepi_view_seat_at(of->view, seat)->generation;
        bool is_known;
        eep_status status;
        if (!is_of_view(of->view, seat)) {
            continue;
        }
        status = is_settled(context, of, seat, &is_known);
        if (status != EEP_OK) {
            return status;
        }
        any_lives |= is_known && of->ended[seat] < generation;
        of->member[seat] = is_known ? 0 : generation;
        of->of_view |= !is_known;
    }
    of->of_view &= !any_lives;
    return EEP_OK;
}

/* The record of this rank's seat names a process of another host, which the view does not know. */
static eep_status miss_holder(eep_context *context, absent *of)
{
    const int rank = context->config.rank;
    const uint32_t in_view = of->view && rank < of->view->shape.max_ranks
                                 ? eepi_view_seat_at(of->view, rank)->generation
                                 : 0;
    char key[EEPI_STORE_KEY_MAX];
    eepi_record record;
    void *value;
    size_t size;
    eep_status status;

    snprintf(key, sizeof key, EEPI_KEY_MEMBER "%d", rank);
    status = eepi_ask_store(context, eepi_store_get(context->store, key), &value, &size,
                            &of->holder_revision);
    if (value && eepi_record_decode(value, size, &context->view_shape, &record) == EEP_OK &&
        record.member.generation > in_view && record.member.generation > of->ended[rank] &&
        record.member.host != context->process.host) {
        of->holder = record.member.generation;
    }
    free(value);
    return status;
}

static eep_status look(eep_context *context, absent *of)
{
    const char *why;
    void *value = NULL;
    size_t size = 0;
    eep_status status;

    free(of->view);
    memset(of, 0, sizeof *of);
    status = for_each(context, EEPI_KEY_EXIT, note_end, of);
    if (status == EEP_OK) {
        status = eepi_ask_store(context, eepi_store_get(context->store, EEPI_KEY_VIEW), &value,
                                &size, &of->view_revision);
    }
    if (value && eepi_view_check(value, size, &why) == EEP_OK) {
        of->view = value;
    } else {
        free(value);
    }
    if (status == EEP_OK) {
        status = miss_members(context, of);
    }
    return status == EEP_OK ? miss_holder(context, of) : status;
}

/* ------------------------------------------------------------------ waiting */

static bool any_is_missed(const absent *of)
{
    return of->of_view || of->holder != 0;
}

/* Ends that were told meanwhile leave nothing to wait for. */
static void forget_ended(const eep_context *context, absent *of)
{
    bool any = false;

    for (int seat = 0; seat < MAX_SEATS; seat++) {
        if (of->ended[seat] >= of->member[seat]) {
            of->member[seat] = 0;
        }
        any |= of->member[seat] != 0;
    }
    of->of_view &= any;
    if (of->ended[context->config.rank] >= of->holder) {
        of->holder = 0;
    }
}

static void say_wait(const eep_context *context, const absent *of)
{
    int seat = 0;

    while (of->of_view && of->member[seat] == 0) {
        seat++;
    }
    eepi_log(context, EEP_LOG_INFO,
             of->of_view ? "nobody has told the end of rank %d (generation %u), and no rank of the "
                           "instance holds a lease: it begins again in %llu ms unless one of them "
                           "comes back"
                         : "the process of another host that took the seat of rank %d (generation "
                           "%u) holds no lease: the seat is free in %llu ms unless it comes back",
             of->of_view ? seat : context->config.rank, of->of_view ? of->member[seat] : of->holder,
             (unsigned long long)(eepi_lease_lapse_us() / 1000));
}

/* Rule N14: a store that only reads is an outage. Nobody's lease can come back there. */
static eep_status try_write(eep_context *context)
{
    const uint32_t nobody = 0;
    char key[EEPI_STORE_KEY_MAX];
    eepi_store_reply reply;
    eep_status status;

    snprintf(key, sizeof key, EEPI_KEY_PROBE "%d", context->config.rank);
    status = eepi_store_client_wait(context->store,
                                    eepi_store_put(context->store, key, &nobody, sizeof nobody, 0),
                                    EEPI_STORE_BOUND_US, &reply);
    return status == EEP_OK ? reply.status : status;
}

/* What those who hold leases have not been able to do, nobody may take from them. */
static eep_status ask(eep_context *context, absent *of)
{
    eep_status status = for_each(context, EEPI_KEY_LEASE, note_lease, of);

    if (status == EEP_OK) {
        status = for_each(context, EEPI_KEY_EXIT, note_end, of);
    }
    return status == EEP_OK && any_is_missed(of) ? try_write(context) : status;
}

/* Until what is missed has lapsed, or nothing is missed. Only time in which the store answers and
 * takes writes counts: behind an outage all have to come back first. */
static eep_status await(eep_context *context, absent *of)
{
    const struct timespec pause = {.tv_nsec = LOOK_US * 1000};
    uint64_t since_us = eepi_now_us(), looked_us = since_us;
    bool is_said = false;

    for (;;) {
        const eep_status status = ask(context, of);
        const uint64_t now_us = eepi_now_us();
        if (status != EEP_OK && now_us - looked_us > EEPI_STORE_BOUND_US) {
            return status == EEP_ERR_NO_MEMORY
                       ? eepi_fail(context, status,
                                   "the store at %s takes no writes: nobody can tell whether the "
                                   "ranks of its instance live",
                                   context->store_path)
                       : status;
        }
        if (status != EEP_OK || now_us - looked_us > GAP_US) {
            since_us = now_us;
        }
        looked_us = status == EEP_OK ? now_us : looked_us;
        forget_ended(context, of);
        if (!any_is_missed(of) ||
            (status == EEP_OK && now_us - since_us >= eepi_lease_lapse_us())) {
            return EEP_OK;
        }
        if (!is_said) {
            is_said = true;
            say_wait(context, of);
        }
        nanosleep(&pause, NULL);
    }
}

/* ------------------------------------------------------------------ what follows */

/* The view in which nobody is left. Whoever of its members lives yet reaches nobody that comes: its
 * windows are those of this view, and theirs are new. */
static eepi_view *without_members(const eep_context *context, const eepi_view *found)
{
    eepi_view *end = eepi_view_copy(found);

    if (!end) {
        return NULL;
    }
    end->epoch++;
    end->base_digest = found->digest;
    end->phase = EEPI_VIEW_SERVING;
    end->cause = EEPI_VIEW_PLANNED;
    end->proposer = context->config.rank;
    for (int seat = 0; seat < end->shape.max_ranks; seat++) {
        eepi_view_seat *s = eepi_view_seat_at(end, seat);
        if (s->generation != 0) {
            s->state = EEP_SEAT_VACANT;
            s->flags = EEPI_SEAT_IS_FENCED;
            s->reach = s->former = 0;
        }
    }
    eepi_plan_empty_nonmembers(end);
    eepi_view_drop_gone_backups(end);
    eepi_view_seal(end);
    return end;
}

/* CONFLICT: the register has changed meanwhile. */
static eep_status end_instance(eep_context *context, const absent *of)
{
    eepi_view *end = without_members(context, of->view);
    void *answer = NULL;
    size_t size;
    uint64_t revision;
    eep_status status;

    if (!end) {
        return EEP_ERR_NO_MEMORY;
    }
    status = eepi_ask_store(
        context, eepi_store_cas(context->store, EEPI_KEY_VIEW, of->view_revision, end, end->bytes),
        &answer, &size, &revision);
    if (status == EEP_OK) {
        eepi_log(context, EEP_LOG_WARN,
                 "the leases of the ranks of epoch %llu have lapsed: that instance is over, and "
                 "another one may begin on top of it",
                 (unsigned long long)of->view->epoch);
    }
    free(answer);
    free(end);
    return status;
}

static eep_status settle(eep_context *context, absent *of)
{
    eep_status status = EEP_ERR_CONFLICT;

    for (int i = 0; i < MAX_TRIES && status == EEP_ERR_CONFLICT; i++) {
        status = look(context, of);
        if (status != EEP_OK || !any_is_missed(of)) {
            return status;
        }
        status = await(context, of);
        if (status != EEP_OK) {
            return status;
        }
        context->claim.lapsed = of->holder;
        context->claim.lapsed_revision = of->holder_revision;
        if (of->of_view) {
            status = end_instance(context, of);
        }
    }
    return status == EEP_ERR_CONFLICT ? EEP_OK : status; /* somebody else decides */
}

eep_status eepi_lapse_await(eep_context *context)
{
    absent *of;
    eep_status status;

    if (!eepi_store_keeps(context->store)) {
        return EEP_OK;
    }
    of = calloc(1, sizeof *of);
    if (!of) {
        return EEP_ERR_NO_MEMORY;
    }
    status = check_name(context, of);
    if (status != EEP_OK) {
        free(of);
        return status;
    }
    status = settle(context, of);
    free(of->view);
    free(of);
    return status == EEP_OK || status == EEP_ERR_NO_MEMORY ? status
                                                           : eepi_store_is_silent(context, status);
}
