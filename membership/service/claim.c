/* Taking a seat: what the store says of the instance, who was here before, and a new generation by
 * compare-and-swap. Calling thread of eep_open and eep_close, before and after the service thread.
 */
#include "membership/context/context.h"
#include "membership/process/process.h"
#include "membership/process/seat_file.h"
#include "repair/planner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STORE_BOUND_US = 5000000, MAX_TRIES = 8 };

static eep_status store_is_silent(eep_context *context, eep_status status)
{
    if (context->store && *eepi_store_client_why(context->store)) {
        return eepi_fail(context, status, "the store at %s takes no connection: %s",
                         context->store_path, eepi_store_client_why(context->store));
    }
    return eepi_fail(context, status, "the store at %s does not answer: %s", context->store_path,
                     eep_strerror(status));
}

/* One request and its answer, at start. The reply's bytes are copied, 8-byte aligned. */
static eep_status ask(eep_context *context, uint64_t id, void **value_out, size_t *size_out,
                      uint64_t *revision_out)
{
    eepi_store_reply reply;
    eep_status status = eepi_store_client_wait(context->store, id, STORE_BOUND_US, &reply);

    *value_out = NULL; /* callers free it whatever comes */
    *size_out = 0;
    if (status != EEP_OK) {
        return status;
    }
    *revision_out = reply.revision;
    *size_out = reply.size;
    if (reply.status == EEP_OK && reply.size > 0) {
        *value_out = malloc(reply.size);
        if (!*value_out) {
            return EEP_ERR_NO_MEMORY;
        }
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

    if (!view) {
        return EEP_ERR_NO_MEMORY;
    }
    for (int seat = 0; seat < c->num_ranks; seat++) {
        *eepi_view_seat_at(view, seat) = (eepi_view_seat){1, EEP_SEAT_ACTIVE, {0}};
    }
    status = eepi_plan_initial(view);
    if (status == EEP_ERR_UNCOVERED) {
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "num_slots: %d ranks of %d slots cannot hold %d experts", c->num_ranks,
                           c->num_slots, c->num_experts);
    }
    for (int layer = 0; layer < c->num_layers && status == EEP_OK; layer++) {
        for (int slot = 0; slot < c->num_slots; slot++) {
            const eepi_view_slot *at = eepi_view_slot_at(view, layer, c->rank, slot);
            context->experts[layer * c->num_slots + slot] =
                at->state == EEPI_SLOT_HOLDS ? at->expert : -1;
        }
        for (int expert = 0; expert < c->num_experts; expert++) {
            if (eepi_plan_backup(view, layer, expert, c->rank)) {
                context->backup_wanted[(size_t)layer * words + (size_t)expert / 64] |=
                    1ull << (expert % 64);
            }
        }
    }
    free(view);
    return status;
}

static eep_status plan_own_seat(eep_context *context, const eepi_view *found)
{
    eepi_plan_table *table = eepi_plan_table_new(&found->shape);

    if (!table) {
        return eepi_fail(context, EEP_ERR_NO_MEMORY, "no memory to plan what to load");
    }
    eepi_plan_seat(found, table, context->config.rank, context->experts);
    eepi_plan_table_free(table);
    return EEP_OK;
}

/* All ranks of an instance have the same shape: that of the first that was opened. */
static void log_advice(const eep_context *context, const eepi_instance *own,
                       const eepi_instance *theirs)
{
    const char *field;

    for (int at = 0; (field = eepi_instance_advises(own, theirs, &at)) != NULL; at++) {
        eepi_log(context, EEP_LOG_WARN,
                 "%s is %llu here and %llu on the rank that opened first: ranks will not judge "
                 "each other alike",
                 field, (unsigned long long)own->advice[at],
                 (unsigned long long)theirs->advice[at]);
    }
}

/* Is a process left that holds a seat? */
static int anybody_holds(const eep_context *context, int32_t num_seats)
{
    for (int32_t seat = 0; seat < num_seats && seat < EEP_MAX_RANKS; seat++) {
        eepi_seat_holder holder;
        if (eepi_seat_look(context->store_path, seat, &holder) != EEP_OK ||
            !eepi_seat_has_ended(context->store_path, seat, context->home, &holder)) {
            return 1;
        }
    }
    return 0;
}

static int is_empty(const eepi_view *view)
{
    return eepi_view_num_active(view) == 0;
}

static eep_status begins_just_now(eep_context *context)
{
    return eepi_fail(context, EEP_ERR_INVALID, "another instance begins just now: try again");
}

/* The instance that was here has another configuration: if it has ended, ours takes its place. The
 * numbers decide which one does where several come at once; the view follows (take_over_view). */
static eep_status replace_instance(eep_context *context, const eepi_instance *own,
                                   const char *difference, int32_t num_seats, uint64_t revision)
{
    uint64_t view_revision = 0;
    const char *why = "";
    void *value = NULL;
    size_t size = 0;
    int has_ended;
    eep_status status;

    if (anybody_holds(context, num_seats)) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s, which runs: give all ranks the same configuration, or another store",
                         difference);
    }
    status =
        ask(context, eepi_store_get(context->store, EEPI_KEY_VIEW), &value, &size, &view_revision);
    has_ended = value && eepi_view_check(value, size, &why) == EEP_OK && is_empty(value);
    free(value);
    value = NULL;
    if (status == EEP_OK && !has_ended) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s that used this store: none of its processes is left, and it has not "
                         "ended in order (eep_instance_end); eep_store_forget, or eep-store "
                         "--forget, removes what it left",
                         difference);
    }
    if (status == EEP_OK) {
        status = ask(context,
                     eepi_store_cas(context->store, EEPI_KEY_INSTANCE, revision, own, sizeof *own),
                     &value, &size, &revision);
    }
    free(value);
    if (status == EEP_ERR_CONFLICT) {
        return begins_just_now(context);
    }
    context->instance = *own;
    return status == EEP_OK ? EEP_OK : store_is_silent(context, status);
}

static eep_status check_instance(eep_context *context)
{
    eepi_instance own = eepi_instance_of(&context->config);
    char difference[EEPI_INSTANCE_TEXT_BYTES];
    bool differs;
    uint64_t revision;
    int32_t num_seats = 0;
    void *value = NULL;
    size_t size = 0;
    eep_status status =
        ask(context, eepi_store_cas(context->store, EEPI_KEY_INSTANCE, 0, &own, sizeof own), &value,
            &size, &revision);

    if (status == EEP_ERR_CONFLICT) {
        status = ask(context, eepi_store_get(context->store, EEPI_KEY_INSTANCE), &value, &size,
                     &revision);
    }
    if (status != EEP_OK) {
        return store_is_silent(context, status);
    }
    differs = value && eepi_instance_differs(&own, value, size, difference);
    if (value && !differs && size == sizeof own) {
        memcpy(&context->instance, value, size);
        log_advice(context, &own, &context->instance);
    } else {
        context->instance = own;
    }
    if (value && size >= sizeof(int32_t)) {
        memcpy(&num_seats, value, sizeof num_seats); /* max_ranks */
    }
    free(value);
    return differs ? replace_instance(context, &own, difference, num_seats, revision) : EEP_OK;
}

static eepi_seat_holder holder_of(const eepi_record *record)
{
    return (eepi_seat_holder){.generation = record->member.generation,
                              .pid = record->pid,
                              .pid_start = record->pid_start,
                              .home = record->home};
}

/* Does the view's member in that seat run? */
static int member_runs(eep_context *context, const eepi_view *view, int seat)
{
    char key[EEPI_STORE_KEY_MAX];
    void *value = NULL;
    size_t size;
    uint64_t revision;
    eepi_record record;
    eep_status status;
    eepi_seat_holder holder;
    int runs;

    if (!eepi_view_is_member(view, seat)) {
        return 0;
    }
    snprintf(key, sizeof key, EEPI_KEY_MEMBER "%d", seat);
    status = ask(context, eepi_store_get(context->store, key), &value, &size, &revision);
    /* a record that is missing or strange says nothing of its process */
    runs = status != EEP_OK || !value ||
           eepi_record_decode(value, size, &context->view_shape, &record) != EEP_OK;
    if (!runs && record.member.generation <= eepi_view_seat_at(view, seat)->generation) {
        holder = holder_of(&record);
        runs = record.home == context->home
                   ? eepi_process_look(record.pid, record.pid_start) == EEPI_PROCESS_RUNS
                   : !eepi_seat_has_ended(context->store_path, seat, context->home, &holder);
    }
    free(value);
    return runs;
}

/* Tell all whom of the view's members nobody will be found to have seen end, if all who saw it, or
 * the store, are gone as well: their seat's file knows. */
static eep_status tell_ends(eep_context *context, const eepi_view *view)
{
    eep_status status = EEP_OK;

    for (int seat = 0; seat < view->shape.max_ranks && status == EEP_OK; seat++) {
        eepi_seat_holder holder;
        if ((eepi_view_is_member(view, seat) ||
             eepi_view_seat_at(view, seat)->state == EEP_SEAT_QUARANTINED) &&
            eepi_seat_look(context->store_path, seat, &holder) == EEP_OK && holder.generation &&
            eepi_seat_has_ended(context->store_path, seat, context->home, &holder)) {
            const eepi_end end = {seat, holder.generation, EEPI_END_PROCESS};
            status = eepi_claim_end(context, &end, STORE_BOUND_US);
        }
    }
    return status;
}

static int has_own_shape(const eep_context *context, const eepi_view *view)
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
    own->combine_copy = old->combine_copy;
    for (int seat = 0; seat < old->shape.max_ranks && seat < own->shape.max_ranks; seat++) {
        eepi_view_seat_at(own, seat)->generation = eepi_view_seat_at(old, seat)->generation;
    }
    eepi_view_seal(own);
    return own;
}

/* Are the numbers in the store still ours? */
static eep_status check_numbers(eep_context *context)
{
    eepi_instance own = eepi_instance_of(&context->config);
    char difference[EEPI_INSTANCE_TEXT_BYTES];
    uint64_t revision;
    void *value = NULL;
    size_t size = 0;
    eep_status status =
        ask(context, eepi_store_get(context->store, EEPI_KEY_INSTANCE), &value, &size, &revision);

    if (status != EEP_OK) {
        status = store_is_silent(context, status);
    } else if (value && eepi_instance_differs(&own, value, size, difference)) {
        status = begins_just_now(context);
    }
    free(value);
    return status;
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
    status = ask(context, eepi_store_cas(context->store, EEPI_KEY_VIEW, revision, own, own->bytes),
                 &answer, &size, &revision);
    free(answer);
    free(own);
    return status == EEP_OK || status == EEP_ERR_CONFLICT ? status
                                                          : store_is_silent(context, status);
}

/* The register's view. One of an ended instance with another shape is replaced first, by whoever of
 * ours comes to it. The numbers are looked at between reading and writing: so an instance that took
 * the place of ours meanwhile writes last. */
static eep_status take_over_view(eep_context *context, void **value_out, size_t *size_out)
{
    for (int tries = 0; tries < MAX_TRIES; tries++) {
        uint64_t revision = 0;
        const char *why = "";
        eep_status status = ask(context, eepi_store_get(context->store, EEPI_KEY_VIEW), value_out,
                                size_out, &revision);

        if (status != EEP_OK) {
            return store_is_silent(context, status);
        }
        if (!*value_out || eepi_view_check(*value_out, *size_out, &why) != EEP_OK ||
            has_own_shape(context, *value_out) || !is_empty(*value_out)) {
            return EEP_OK;
        }
        status = check_numbers(context);
        if (status == EEP_OK) {
            status = put_in_own_shape(context, *value_out, revision);
        }
        free(*value_out);
        *value_out = NULL;
        if (status != EEP_OK && status != EEP_ERR_CONFLICT) {
            return status;
        }
    }
    return begins_just_now(context);
}

/* The instance's present view, if there is one: who has this seat in it, and what to load. */
static eep_status read_view(eep_context *context, eepi_view_seat *seat_out)
{
    const char *why = "";
    void *value = NULL;
    size_t size = 0;
    const eepi_view *found;
    eep_status status = take_over_view(context, &value, &size);

    if (status != EEP_OK) {
        return status;
    }
    if (!value && context->instance.num_ranks != context->config.num_ranks) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "num_ranks is %d here and %d on the rank that opened first: all ranks of "
                         "a first view must agree on it",
                         context->config.num_ranks, context->instance.num_ranks);
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
        int runs = 0;
        *seat_out = *eepi_view_seat_at(found, context->config.rank);
        for (int seat = 0; seat < found->shape.max_ranks && !runs; seat++) {
            runs = member_runs(context, found, seat);
        }
        /* if nobody runs the instance begins again: then what plan_first_view said is loaded */
        if (runs) {
            status = plan_own_seat(context, found);
        }
        if (status == EEP_OK) {
            status = tell_ends(context, found);
        }
        if (status != EEP_OK) {
            status = store_is_silent(context, status);
        }
    }
    free(value);
    return status;
}

/* It may be of an instance that has ended, whose shape was another: then it says nothing. */
static eep_status judge_strange_record(eep_context *context)
{
    eepi_seat_holder holder;

    if (eepi_seat_look(context->store_path, context->config.rank, &holder) == EEP_OK &&
        holder.generation != 0 &&
        eepi_seat_has_ended(context->store_path, context->config.rank, context->home, &holder)) {
        return EEP_OK;
    }
    return eepi_fail(context, EEP_ERR_INVALID,
                     "the seat's record is of an instance with another shape");
}

/* The record of whoever had the seat before (generation 0: there is none), and its revision. */
static eep_status read_record(eep_context *context, const char *key, eepi_seat_holder *holder_out,
                              uint64_t *revision_out)
{
    void *value = NULL;
    size_t size = 0;
    eepi_record record;
    eep_status status =
        ask(context, eepi_store_get(context->store, key), &value, &size, revision_out);

    *holder_out = (eepi_seat_holder){0};
    if (status != EEP_OK) {
        status = store_is_silent(context, status);
    } else if (value && eepi_record_decode(value, size, &context->view_shape, &record) != EEP_OK) {
        status = judge_strange_record(context);
    } else if (value) {
        *holder_out = holder_of(&record);
    }
    free(value);
    return status;
}

/* Who takes a seat tells the end of whoever had it. The view may name a process of which neither
 * the seat's file nor a record is left: then only an end that somebody saw frees the seat. */
static eep_status check_end(eep_context *context, const eepi_view_seat *in_view,
                            const eepi_seat_holder *in_record)
{
    _Alignas(8) uint8_t bytes[sizeof(eepi_end)] = {0};
    char key[EEPI_STORE_KEY_MAX];
    eepi_seat_holder in_file;
    eepi_end end = {0};
    uint64_t revision;
    void *value = NULL;
    size_t size = 0;
    eep_status status = eepi_seat_look(context->store_path, context->config.rank, &in_file);

    if (status != EEP_OK || in_view->generation <= in_file.generation ||
        in_view->generation <= in_record->generation) {
        return EEP_OK; /* take_generation looks at them */
    }
    snprintf(key, sizeof key, EEPI_KEY_EXIT "%d", context->config.rank);
    status = ask(context, eepi_store_get(context->store, key), &value, &size, &revision);
    if (value && size == sizeof bytes) {
        memcpy(bytes, value, size);
    }
    free(value);
    if (status != EEP_OK) {
        return store_is_silent(context, status);
    }
    if (size == sizeof bytes &&
        eepi_end_decode(bytes, size, context->config.max_ranks, &end) == EEP_OK &&
        end.generation >= in_view->generation) {
        return EEP_OK;
    }
    return eepi_fail(context, EEP_ERR_SEAT_TAKEN,
                     "the view names generation %u of this seat, and nothing tells whether that "
                     "process lives, since %s.seat%d is gone: try again once the other ranks have "
                     "seen its end, or, where no process of the instance is left, remove the rest "
                     "with eep-store --forget",
                     in_view->generation, context->store_path, context->config.rank);
}

/* A new generation, above `floor`, of the view, and all that the seat's file and its record know
 * of; the end of whoever had the seat is told to all first. */
static eep_status take_generation(eep_context *context, uint32_t floor,
                                  const eepi_seat_holder *in_record)
{
    const char *path = context->store_path;
    const int32_t seat = context->config.rank;
    eepi_seat_holder own = {.pid = (int32_t)getpid(),
                            .pid_start = context->pid_start,
                            .home = context->home},
                     before;
    eep_status status = eepi_seat_look(path, seat, &before);

    if (floor < in_record->generation) {
        floor = in_record->generation;
    }
    if (status == EEP_OK && before.generation < in_record->generation &&
        !eepi_seat_has_ended(path, seat, context->home,
                             in_record)) { /* somebody has removed the file */
        before = *in_record;
        status = EEP_ERR_SEAT_TAKEN;
    } else if (status == EEP_OK) {
        status = eepi_seat_take(path, seat, floor, &own, &before);
    }
    if (status == EEP_ERR_SEAT_TAKEN) {
        return eepi_fail(context, status, "process %d%s holds the seat as generation %u",
                         before.pid,
                         before.home == context->home ? "" : " of another pid or time namespace",
                         before.generation);
    }
    if (status != EEP_OK) {
        return eepi_fail(context, status, "%s.seat%d cannot be used: %s", path, seat,
                         eepi_seat_why(errno));
    }
    context->generation = own.generation;
    context->seat_lock_fd = own.lock_fd;
    context->has_seat = 1;
    if (own.generation > 1) {
        const eepi_end end = {seat, own.generation - 1, EEPI_END_PROCESS};
        status = eepi_claim_end(context, &end, STORE_BOUND_US);
    }
    return status == EEP_OK ? EEP_OK : store_is_silent(context, status);
}

static eep_status put_record(eep_context *context, const char *key, uint64_t revision)
{
    eepi_record own = {
        .pid = (int32_t)getpid(), .pid_start = context->pid_start, .home = context->home};
    size_t bytes, size = 0;
    void *encoded, *value = NULL;
    eep_status status;

    own.member = (eepi_member){context->config.rank, context->generation, 0, 0, context->experts,
                               context->checksums,   context->backup_bits};
    encoded = eepi_record_encode(&own, &context->view_shape, &bytes);
    if (!encoded) {
        return EEP_ERR_NO_MEMORY;
    }
    status = ask(context, eepi_store_cas(context->store, key, revision, encoded, bytes), &value,
                 &size, &revision);
    free(encoded);
    free(value);
    if (status == EEP_ERR_CONFLICT) {
        return eepi_fail(context, EEP_ERR_SEAT_TAKEN, "another process took the seat just now");
    }
    context->claimed = status == EEP_OK;
    return status;
}

/* Ranks reach each other through /proc (windows, pidfds) and compare start times and clocks, so all
 * of an instance live in one pid namespace and one time namespace. Who comes from others must not
 * begin: nothing that it sees of processes is true. */
static eep_status check_home(eep_context *context)
{
    for (int32_t seat = 0; seat < context->config.max_ranks; seat++) {
        eepi_seat_holder holder;
        if (eepi_seat_look(context->store_path, seat, &holder) != EEP_OK || holder.pid == 0 ||
            holder.home == context->home ||
            eepi_seat_has_ended(context->store_path, seat, context->home, &holder)) {
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
    eepi_seat_holder in_record;
    uint64_t revision = 0;
    eep_status status = check_home(context);

    snprintf(key, sizeof key, EEPI_KEY_MEMBER "%d", context->config.rank);
    if (status == EEP_OK) {
        status = check_instance(context);
    }
    if (status == EEP_OK) {
        status = read_view(context, &in_view);
    }
    if (status == EEP_OK) {
        status = read_record(context, key, &in_record, &revision);
    }
    if (status == EEP_OK) {
        status = check_end(context, &in_view, &in_record);
    }
    if (status == EEP_OK) {
        status = take_generation(context, in_view.generation, &in_record);
    }
    if (status == EEP_OK) {
        status = put_record(context, key, revision);
    }
    if (status == EEP_OK) { /* whoever began meanwhile has not seen that this seat is held */
        status = check_numbers(context);
    }
    if (status == EEP_OK) {
        status = check_home(context);
    }
    return status;
}

/* Take the seat: on this machine by its file, for all by compare-and-swap on its member record.
 * Nobody clears the store meanwhile (eep_store_forget): what was found in it stays true. */
eep_status eepi_claim_seat(eep_context *context)
{
    int gate = -1;
    eep_status status = plan_first_view(context);

    if (status != EEP_OK) {
        return status;
    }
    status = eepi_seats_enter(context->store_path, 0, &gate);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "%s.seats cannot be locked: %s", context->store_path,
                         errno == EBUSY ? "another process has been clearing the store for 6 s"
                                        : strerror(errno));
    }
    status = claim_inside(context);
    eepi_seats_leave(gate);
    return status;
}
