/* SPDX-License-Identifier: Apache-2.0 */
/* The view that a process finds when it opens, and the one that it would begin with. */
#include "membership/service/claim_view.h"

#include "membership/context/context.h"
#include "membership/context/records.h"
#include "membership/loads/gather.h"
#include "membership/order/order.h"
#include "membership/process/process.h"
#include "membership/claim/claim_ask.h"
#include "membership/service/claim_instance.h"
#include "membership/weights/weights.h"
#include "membership/view/view_order.h"
#include "repair/backup_plan.h"
#include "repair/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TRIES = 8 };

eep_status eepi_plan_first_view(eep_context *context, const eepi_order *order)
{
    const eep_config *c = &context->config;
    eepi_view *view = eepi_view_new(&context->view_shape);
    eep_status status;

    if (!view) {
        return EEP_ERR_NO_MEMORY;
    }
    for (int seat = 0; seat < c->num_ranks; seat++) {
        *eepi_view_seat_at(view, seat) =
            (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
    }
    eepi_view_take_order(view, order);
    status = eepi_plan_initial(view);
    if (status == EEP_ERR_UNCOVERED && order) {
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "what is given leaves no slot of ranks 0 to %d for some expert",
                           c->num_ranks - 1);
    } else if (status == EEP_ERR_UNCOVERED) {
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "num_slots: %d ranks of %d slots cannot hold %d experts", c->num_ranks,
                           c->num_slots, c->num_experts);
    }
    for (int layer = 0; layer < c->num_layers && status == EEP_OK; layer++) {
        for (int slot = 0; slot < c->num_slots; slot++) {
            const eepi_view_slot *at = eepi_view_slot_at(view, layer, c->rank, slot);
            eepi_weights_experts(context)[layer * c->num_slots + slot] =
                at->state == EEPI_SLOT_HOLDS ? at->expert : -1;
        }
    }
    if (status == EEP_OK) { /* where no slot is: an order changes that */
        status = eepi_plan_backups(view, c->backup_copies, c->rank, eepi_weights_wanted(context));
    }
    free(view);
    return status;
}

/* The process that had the seat last, as the seat's file tells. false: nobody had it. */
static bool look_at_seat(const eep_context *context, int seat, eepi_seat_holder *holder_out)
{
    return eepi_seat_look(context->store_path, seat, holder_out) == EEP_OK &&
           holder_out->generation != 0;
}

static bool is_same(const eepi_seat_holder *a, const eepi_seat_holder *b)
{
    return a->generation == b->generation && a->home == b->home && a->pid_start == b->pid_start;
}

bool eepi_file_speaks_for(const eep_context *context, const eepi_seat_holder *in_file,
                          const eepi_seat_holder *in_record, uint64_t host)
{
    return !eepi_store_keeps(context->store) || host == context->process.host ||
           in_record->home == context->process.home || is_same(in_file, in_record);
}

/* The process that the seat's record names; generation 0: none that can be read. */
static eep_status holder_in_record(eep_context *context, int seat, eepi_seat_holder *holder_out,
                                   uint64_t *host_out)
{
    char key[EEPI_STORE_KEY_MAX];
    void *value = NULL;
    size_t size;
    uint64_t revision;
    eepi_record record;
    eep_status status;

    *holder_out = (eepi_seat_holder){0};
    snprintf(key, sizeof key, EEPI_KEY_MEMBER "%d", seat);
    status = eepi_ask_store(context, eepi_store_get(context->store, key), &value, &size, &revision);
    if (status == EEP_OK && value &&
        eepi_record_decode(value, size, &context->view_shape, &record) == EEP_OK) {
        *holder_out = eepi_holder_of(&record);
        *host_out = record.member.host;
    }
    free(value);
    return status;
}

/* This host's file speaks for the process that the view names in that seat. */
static bool file_is_of_view(eep_context *context, const eepi_view *view, int seat,
                            const eepi_seat_holder *in_file)
{
    const eepi_view_seat *s = eepi_view_seat_at(view, seat);
    eepi_seat_holder in_record;
    uint64_t host;

    if (!eepi_store_keeps(context->store) || s->host == context->process.host) {
        return true;
    }
    return in_file->generation >= s->generation &&
           holder_in_record(context, seat, &in_record, &host) == EEP_OK &&
           is_same(in_file, &in_record);
}

static bool holder_has_ended(const eep_context *context, int seat, const eepi_seat_holder *holder)
{
    return eepi_seat_has_ended(context->store_path, seat, context->process.home, holder);
}

/* The member of the view in that seat has ended: that process, or a later one that could only take
 * the seat because of its end (M7). The seat's file tells, or, of another host, who saw the end. */
static bool member_has_ended(eep_context *context, const eepi_view *view, int seat)
{
    const eepi_view_seat *member = eepi_view_seat_at(view, seat);
    eepi_seat_holder holder;
    uint32_t told;

    if (member->host != context->process.host && eepi_ask_end(context, seat, &told) == EEP_OK &&
        told >= member->generation) {
        return true;
    }
    return look_at_seat(context, seat, &holder) && file_is_of_view(context, view, seat, &holder) &&
           (holder.generation > member->generation || holder_has_ended(context, seat, &holder));
}

/* What this rank is to load. Members that have ended hold nothing, though the view names them:
 * where nobody could serve since their end, no view follows that leaves them out. Each process that
 * opens then brings what its seat had, so that all together cover all experts. What room it has
 * left is for those whose seats nobody takes: one that opens again tries the next ones. Among
 * experts that need a replica alike, the hottest come first, by what the planner told last. */
static eep_status plan_own_seat(eep_context *context, const eepi_view *found)
{
    const int own = context->config.rank;
    const uint32_t in_view = eepi_view_seat_at(found, own)->generation;
    eepi_seat_holder last;
    eepi_plan_table *table = eepi_plan_table_new(&found->shape);
    eepi_view *left = eepi_view_copy(found);
    uint32_t turn = 0; /* one more for each process that had this seat since the view */

    if (look_at_seat(context, own, &last) && last.generation > in_view) {
        turn = (last.generation - in_view) % EEP_MAX_RANKS;
    }
    if (!table || !left) {
        eepi_plan_table_free(table);
        free(left);
        return eepi_fail(context, EEP_ERR_NO_MEMORY, "no memory to plan what to load");
    }
    for (int seat = 0; seat < found->shape.max_ranks; seat++) {
        if (eepi_view_is_member(found, seat) &&
            (seat == own || member_has_ended(context, found, seat))) {
            eepi_view_seat_at(left, seat)->state = EEP_SEAT_QUARANTINED;
        }
        turn += seat < own && !eepi_view_is_member(left, seat);
    }
    void *told = NULL;
    size_t size = 0;
    uint64_t revision;
    const eep_status status = eepi_ask_store(
        context, eepi_store_get(context->store, EEPI_KEY_LOADS), &told, &size, &revision);
    if (status == EEP_OK) { /* without loads, or with those of another shape: experts alike */
        eepi_plan_seat(left, table, eepi_gather_read(&context->config, told, size), own, (int)turn,
                       eepi_weights_experts(context));
    }
    free(told);
    eepi_plan_table_free(table);
    free(left);
    return status;
}

eepi_seat_holder eepi_holder_of(const eepi_record *record)
{
    return (eepi_seat_holder){.generation = record->member.generation,
                              .pid = record->pid,
                              .pid_start = record->pid_start,
                              .home = record->home};
}

/* Does the view's member in that seat run? */
static bool member_runs(eep_context *context, const eepi_view *view, int seat)
{
    eepi_seat_holder in_record, in_file;
    uint64_t host;

    if (!eepi_view_is_member(view, seat)) {
        return false;
    }
    if (holder_in_record(context, seat, &in_record, &host) != EEP_OK || in_record.generation == 0) {
        return true; /* a record that is missing or strange says nothing of its process */
    }
    if (in_record.generation > eepi_view_seat_at(view, seat)->generation) {
        return false;
    }
    if (in_record.home == context->process.home) {
        return eepi_process_look(in_record.pid, in_record.pid_start) == EEPI_PROCESS_RUNS;
    }
    return !look_at_seat(context, seat, &in_file) ||
           !eepi_file_speaks_for(context, &in_file, &in_record, host) ||
           !holder_has_ended(context, seat, &in_record);
}

/* Tell all of the members that have ended. The ranks that saw their end, or the store, may have
 * ended as well; the seat's file still knows. Its own process may be one that no record ever named:
 * where several hosts take seats, another host's process may have that generation by now. */
static eep_status tell_ends(eep_context *context, const eepi_view *view)
{
    eep_status status = EEP_OK;

    for (int seat = 0; seat < view->shape.max_ranks && status == EEP_OK; seat++) {
        eepi_seat_holder holder;
        if ((eepi_view_is_member(view, seat) ||
             eepi_view_seat_at(view, seat)->state == EEP_SEAT_QUARANTINED) &&
            look_at_seat(context, seat, &holder) && file_is_of_view(context, view, seat, &holder) &&
            holder_has_ended(context, seat, &holder)) {
            const uint32_t in_view = eepi_view_seat_at(view, seat)->generation;
            const bool is_newer = eepi_store_keeps(context->store) && holder.generation > in_view;
            const eepi_end end = {seat, is_newer ? in_view : holder.generation, EEPI_END_PROCESS};
            status = eepi_claim_end(context, &end, EEPI_STORE_BOUND_US);
        }
    }
    return status;
}

static bool has_own_shape(const eep_context *context, const eepi_view *view)
{
    return memcmp(&view->shape, &context->view_shape, sizeof view->shape) == 0;
}

/* The document of an instance that has ended, in our shape, and without what it held: epochs, steps
 * and generations go on. NULL: no memory. */
static eepi_view *in_own_shape(const eep_context *context, const eepi_view *old)
{
    eepi_view *own = eepi_view_new(&context->view_shape);

    if (!own) {
        return NULL;
    }
    own->epoch = old->epoch + 1;
    own->base_digest = old->digest;
    own->first_step = old->first_step;
    own->cause = EEPI_VIEW_PLANNED;
    own->colour = old->colour;
    memcpy(own->serial, old->serial, sizeof own->serial);
    for (int seat = 0; seat < old->shape.max_ranks && seat < own->shape.max_ranks; seat++) {
        eepi_view_seat_at(own, seat)->generation = eepi_view_seat_at(old, seat)->generation;
    }
    eepi_view_seal(own);
    return own;
}

/* CONFLICT: another one did the same. */
static eep_status put_in_own_shape(eep_context *context, const eepi_view *old, uint64_t revision)
{
    eepi_view *own = in_own_shape(context, old);
    void *answer = NULL;
    size_t size = 0;
    eep_status status;

    if (!own) {
        return eepi_fail(context, EEP_ERR_NO_MEMORY, "no memory for a view");
    }
    status = eepi_ask_store(
        context, eepi_store_cas(context->store, EEPI_KEY_VIEW, revision, own, own->bytes), &answer,
        &size, &revision);
    free(answer);
    free(own);
    return status == EEP_OK || status == EEP_ERR_CONFLICT ? status
                                                          : eepi_store_is_silent(context, status);
}

/* The register's view. A view of an ended instance with another shape is replaced first, by the
 * first of our ranks that reads it. The numbers are read again between reading and writing: so an
 * instance that took the place of ours meanwhile writes last. */
static eep_status take_over_view(eep_context *context, void **value_out, size_t *size_out)
{
    for (int tries = 0; tries < MAX_TRIES; tries++) {
        uint64_t revision = 0;
        const char *why = "";
        eep_status status = eepi_ask_store(context, eepi_store_get(context->store, EEPI_KEY_VIEW),
                                           value_out, size_out, &revision);

        if (status != EEP_OK) {
            return eepi_store_is_silent(context, status);
        }
        if (!*value_out || eepi_view_check(*value_out, *size_out, &why) != EEP_OK ||
            has_own_shape(context, *value_out) || eepi_view_num_active(*value_out) != 0) {
            return EEP_OK;
        }
        status = eepi_check_numbers(context);
        if (status == EEP_OK) {
            status = put_in_own_shape(context, *value_out, revision);
        }
        free(*value_out);
        *value_out = NULL;
        if (status != EEP_OK && status != EEP_ERR_CONFLICT) {
            return status;
        }
    }
    return eepi_begins_just_now(context);
}

eep_status eepi_claim_view(eep_context *context, const eepi_instance *instance,
                           eepi_view_seat *seat_out)
{
    const char *why = "";
    void *value = NULL;
    size_t size = 0;
    const eepi_view *found;
    eep_status status = take_over_view(context, &value, &size);

    for (int colour = 0; colour < EEPK_COLOURS; colour++) {
        context->claim.serial[colour] = 1; /* as a first view has it */
    }
    if (status != EEP_OK) {
        return status;
    }
    if (!value && instance->num_ranks != context->config.num_ranks) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "num_ranks is %d here and %d on the rank that opened first: all ranks of "
                         "a first view must agree on it",
                         context->config.num_ranks, instance->num_ranks);
    }
    if (!value) {
        return EEP_OK;
    }
    found = value;
    if (eepi_view_check(value, size, &why) != EEP_OK || !has_own_shape(context, found)) {
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "this configuration does not fit the running instance (max_ranks, "
                           "num_layers, num_experts, num_slots) %s",
                           why);
    } else {
        bool runs = false;
        memcpy(context->claim.serial, found->serial, sizeof context->claim.serial);
        *seat_out = *eepi_view_seat_at(found, context->config.rank);
        if (eepi_view_num_active(found) != 0) { /* else what begins now may have other weights */
            eepi_weights_know(context, found);
        }
        for (int seat = 0; seat < found->shape.max_ranks && !runs; seat++) {
            runs = member_runs(context, found, seat);
        }
        /* if nobody runs the instance begins again: then what eepi_plan_first_view said is loaded
         */
        if (runs) {
            context->observed.ordered->begins = false;
            status = plan_own_seat(context, found);
        }
        if (status == EEP_OK) {
            status = tell_ends(context, found);
        }
        if (status != EEP_OK) {
            status = eepi_store_is_silent(context, status);
        }
    }
    free(value);
    return status;
}
