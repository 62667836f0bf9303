/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a seat: the instance in the store, the seat's former holder, and a new generation by
 * compare-and-swap. Calling thread of eep_open. */
#include "membership/service/claim.h"

#include "eep/launch.h"
#include "membership/context/context.h"
#include "membership/context/records.h"
#include "membership/process/seat_file.h"
#include "membership/claim/claim_ask.h"
#include "membership/claim/lapse.h"
#include "membership/claim/lease.h"
#include "membership/service/claim_instance.h"
#include "membership/service/claim_view.h"
#include "membership/weights/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* It may be of an instance that has ended, whose shape was another: then it says nothing. */
static eep_status judge_strange_record(eep_context *context)
{
    eepi_seat_holder holder;

    if (eepi_seat_look(context->store_path, context->config.rank, &holder) == EEP_OK &&
        holder.generation != 0 &&
        eepi_seat_has_ended(context->store_path, context->config.rank, context->process.home,
                            &holder)) {
        return EEP_OK;
    }
    return eepi_fail(context, EEP_ERR_INVALID,
                     "the seat's record is of an instance with another shape");
}

/* The record of the seat's former holder (generation 0: there is none), its host and revision. */
static eep_status read_record(eep_context *context, const char *key, eepi_seat_holder *holder_out,
                              uint64_t *host_out, uint64_t *revision_out)
{
    void *value = NULL;
    size_t size = 0;
    eepi_record record;
    eep_status status =
        eepi_ask_store(context, eepi_store_get(context->store, key), &value, &size, revision_out);

    *holder_out = (eepi_seat_holder){0};
    *host_out = context->process.host;
    if (status != EEP_OK) {
        status = eepi_store_is_silent(context, status);
    } else if (value && eepi_record_decode(value, size, &context->view_shape, &record) != EEP_OK) {
        status = judge_strange_record(context);
    } else if (value) {
        *holder_out = eepi_holder_of(&record);
        *host_out = record.member.host;
    }
    free(value);
    return status;
}

/* Rules N7 and N8. The holder ran on another host, whose seat files are not here. It need not have
 * ended, if the view says that it reaches no member but through gates, or if no view ever had it
 * and its lease has lapsed since that record (N21); else its host tells of its end. */
static eep_status check_moved(eep_context *context, const eepi_view_seat *in_view,
                              const eepi_seat_holder *in_record, uint64_t revision,
                              bool *has_moved_out)
{
    const bool has_lapsed = context->claim.lapsed != 0 &&
                            context->claim.lapsed == in_record->generation &&
                            context->claim.lapsed_revision == revision;
    const bool is_fenced = (in_view->flags & EEPI_SEAT_IS_FENCED) != 0;
    uint32_t ended = 0;
    eep_status status;

    *has_moved_out = has_lapsed;
    context->claim.lapsed = has_lapsed ? in_record->generation : 0;
    if (has_lapsed || in_record->generation == 0 || in_record->home == context->process.home ||
        !eepi_store_keeps(context->store)) {
        return EEP_OK;
    }
    if (is_fenced && in_record->generation == in_view->generation) {
        *has_moved_out = true;
        return EEP_OK;
    }
    status = eepi_ask_end(context, context->config.rank, &ended);
    *has_moved_out = status == EEP_OK && ended >= in_record->generation;
    return status;
}

/* A process that takes a seat tells the end of its former holder. The view may name a process of
 * which neither the seat's file nor a record is left. Then the seat is free only if a rank has seen
 * that process end. */
static eep_status check_end(eep_context *context, const eepi_view_seat *in_view,
                            const eepi_seat_holder *in_record)
{
    eepi_seat_holder in_file;
    uint32_t ended;
    eep_status status = eepi_seat_look(context->store_path, context->config.rank, &in_file);

    if (status != EEP_OK || in_view->generation <= in_file.generation ||
        in_view->generation <= in_record->generation) {
        return EEP_OK; /* take_generation looks at them */
    }
    status = eepi_ask_end(context, context->config.rank, &ended);
    if (status != EEP_OK || ended >= in_view->generation) {
        return status;
    }
    return eepi_fail(context, EEP_ERR_SEAT_TAKEN,
                     "the view names generation %u of this seat, and nothing tells whether that "
                     "process lives, since %s.seat%d is gone: try again once the other ranks have "
                     "seen its end, or, where no process of the instance is left, remove the rest "
                     "with eep-store --forget",
                     in_view->generation, context->store_path, context->config.rank);
}

/* The process that the record names has the seat, as far as this host's file of the seat and the
 * pid tell. A file that has been removed tells nothing. */
static bool is_held(const eep_context *context, const eepi_seat_holder *in_file,
                    const eepi_seat_holder *in_record, uint64_t host)
{
    if (!eepi_file_speaks_for(context, in_file, in_record, host)) {
        return true;
    }
    return in_file->generation < in_record->generation &&
           !eepi_seat_has_ended(context->store_path, context->config.rank, context->process.home,
                                in_record);
}

/* Tell all of the end of the process before. One that ran elsewhere (`has_moved`) is no business of
 * this host's, which has not seen its end (N8). Where several hosts take seats, the file may name
 * one that no record ever had: another host's process may have that generation by now. */
static eep_status tell_end_before(eep_context *context, const eepi_seat_holder *in_record,
                                  bool has_moved)
{
    const uint32_t recorded = has_moved ? 0 : in_record->generation;
    const eepi_end end = {context->config.rank,
                          eepi_store_keeps(context->store) ? recorded : context->generation - 1,
                          EEPI_END_PROCESS};
    const eep_status status =
        end.generation ? eepi_claim_end(context, &end, EEPI_STORE_BOUND_US) : EEP_OK;

    return status == EEP_OK ? EEP_OK : eepi_store_is_silent(context, status);
}

/* A new generation: above `floor`, that of the view, and above those in the seat's file and record.
 */
static eep_status take_generation(eep_context *context, uint32_t floor,
                                  const eepi_seat_holder *in_record, uint64_t host, bool has_moved)
{
    const char *path = context->store_path;
    const int32_t seat = context->config.rank;
    eepi_seat_holder own = {.pid = (int32_t)getpid(),
                            .pid_start = context->process.start,
                            .home = context->process.home},
                     before;
    eep_status status = eepi_seat_look(path, seat, &before);

    if (floor < in_record->generation) {
        floor = in_record->generation;
    }
    if (status == EEP_OK && in_record->generation && !has_moved &&
        is_held(context, &before, in_record, host)) {
        before = *in_record;
        status = EEP_ERR_SEAT_TAKEN;
    } else if (status == EEP_OK) {
        status = eepi_seat_take(path, seat, floor, &own, &before);
    }
    if (status == EEP_ERR_SEAT_TAKEN) {
        return eepi_fail(
            context, status, "process %d%s holds the seat as generation %u%s", before.pid,
            before.home == context->process.home ? "" : " of another pid or time namespace",
            before.generation,
            before.home == context->process.home || !eepi_store_keeps(context->store)
                ? ""
                : "; if its host is lost, the seat is free once its lease has lapsed");
    }
    if (status != EEP_OK) {
        return eepi_fail(context, status, "%s.seat%d cannot be used: %s", path, seat,
                         eepi_seat_why(errno));
    }
    context->generation = own.generation;
    context->claim.lock_fd = own.lock_fd;
    context->claim.has_seat = true;
    return tell_end_before(context, in_record, has_moved);
}

static eep_status put_record(eep_context *context, const char *key, uint64_t revision)
{
    eepi_record own = {.pid = (int32_t)getpid(),
                       .pid_start = context->process.start,
                       .home = context->process.home};
    size_t bytes, size = 0;
    void *encoded, *value = NULL;
    eep_status status;

    own.member = eepi_weights_member(context, false, 0);
    encoded = eepi_record_encode(&own, &context->view_shape, &bytes);
    if (!encoded) {
        return EEP_ERR_NO_MEMORY;
    }
    status = eepi_ask_store(context, eepi_store_cas(context->store, key, revision, encoded, bytes),
                            &value, &size, &revision);
    free(encoded);
    free(value);
    if (status == EEP_ERR_CONFLICT) {
        return eepi_fail(context, EEP_ERR_SEAT_TAKEN, "another process took the seat just now");
    }
    context->claim.is_recorded = status == EEP_OK;
    context->claim.record_revision = revision;
    return status;
}

/* Ranks reach each other through /proc (windows, pidfds) and compare start times and clocks. So all
 * ranks of an instance live in one pid namespace and one time namespace. A process of another one
 * is refused: what it sees of processes is not true. */
static eep_status check_home(eep_context *context)
{
    for (int32_t seat = 0; seat < context->config.max_ranks; seat++) {
        eepi_seat_holder holder;
        if (eepi_seat_look(context->store_path, seat, &holder) != EEP_OK || holder.pid == 0 ||
            holder.home == context->process.home ||
            eepi_seat_has_ended(context->store_path, seat, context->process.home, &holder)) {
            continue;
        }
        return eepi_fail(context, EEP_ERR_UNSUPPORTED,
                         "rank %d (generation %u) lives in another pid namespace or time namespace "
                         "(container) than this process: ranks of an instance watch each other and "
                         "open each other's windows through /proc, so all of them belong into one",
                         seat, holder.generation);
    }
    return EEP_OK;
}

/* Inside the gate of all seats. */
static eep_status claim_inside(eep_context *context)
{
    char key[EEPI_STORE_KEY_MAX];
    eepi_view_seat in_view = {0};
    eepi_instance instance;
    eepi_seat_holder in_record;
    uint64_t host = 0, revision = 0;
    bool has_moved = false;
    eep_status status = check_home(context);

    snprintf(key, sizeof key, EEPI_KEY_MEMBER "%d", context->config.rank);
    if (status == EEP_OK) {
        status = eepi_check_instance(context, &instance);
    }
    if (status == EEP_OK) {
        context->claim.instance = instance.identity;
        status = eepi_claim_view(context, &instance, &in_view);
    }
    if (status == EEP_OK) {
        status = read_record(context, key, &in_record, &host, &revision);
    }
    if (status == EEP_OK) {
        status = check_end(context, &in_view, &in_record);
    }
    if (status == EEP_OK) {
        status = check_moved(context, &in_view, &in_record, revision, &has_moved);
    }
    if (status == EEP_OK) {
        status = take_generation(context, in_view.generation, &in_record, host, has_moved);
    }
    if (status == EEP_OK) {
        status = eepi_lease_take(context);
    }
    if (status == EEP_OK) {
        status = put_record(context, key, revision);
    }
    if (status ==
        EEP_OK) { /* an instance that began meanwhile has not seen that this seat is held */
        status = eepi_check_numbers(context);
    }
    if (status == EEP_OK) {
        status = check_home(context);
    }
    return status;
}

/* Take the seat: on this machine by its file, for all by compare-and-swap on its member record.
 * Nobody clears the store meanwhile (eep_store_forget): what was found in it stays true. */
static eep_status claim_this(eep_context *context)
{
    int gate = -1;
    eep_status status = eepi_plan_first_view(context, NULL);

    if (status != EEP_OK) {
        return status;
    }
    status = eepi_lapse_await(context);
    if (status != EEP_OK) {
        return status;
    }
    status = eepi_seats_enter(context->store_path, false, &gate);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "%s.seats cannot be locked: %s", context->store_path,
                         errno == EBUSY ? "another process has been clearing the store for 6 s"
                                        : strerror(errno));
    }
    status = claim_inside(context);
    eepi_seats_leave(gate);
    return status;
}

/* Is the seat worth a try, by what this host's files say? `of_this_host`: of seats whose last
 * process was here and has ended, else of all others. */
static bool may_be_free(const eep_context *context, int32_t seat, bool of_this_host)
{
    eepi_seat_holder holder;
    bool was_here, has_ended;

    if (eepi_seat_look(context->store_path, seat, &holder) != EEP_OK) {
        return !of_this_host; /* claim_this says what is wrong with the file */
    }
    was_here = holder.generation != 0;
    has_ended =
        was_here && eepi_seat_has_ended(context->store_path, seat, context->process.home, &holder);
    return of_this_host ? has_ended : !was_here;
}

/* The first seat that is free. Several processes may look at once: whoever comes second to a seat
 * goes on to the next one. */
static eep_status claim_any(eep_context *context)
{
    for (int of_this_host = 1; of_this_host >= 0; of_this_host--) {
        for (int32_t seat = 0; seat < context->config.max_ranks; seat++) {
            eep_status status;

            if (!may_be_free(context, seat, of_this_host)) {
                continue;
            }
            context->config.rank = seat;
            context->shape.self = (uint32_t)seat;
            status = claim_this(context);
            if (status != EEP_ERR_SEAT_TAKEN) {
                return status;
            }
            eepi_lease_drop(context);
            eepi_claim_give_back(context);
            context->generation = 0;
        }
    }
    context->config.rank = -1;
    return eepi_fail(context, EEP_ERR_SEAT_TAKEN,
                     "each of the %d seats has a process that has not wholly ended: try again "
                     "while such an end may take, then look at them with eep_watch_next",
                     context->config.max_ranks);
}

eep_status eepi_claim_seat(eep_context *context)
{
    return context->claim.takes_any ? claim_any(context) : claim_this(context);
}
