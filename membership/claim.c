/* Taking a seat: what the store says of the instance, who was here before, and a new generation by
 * compare-and-swap. Calling thread of eep_open and eep_close, before and after the service thread.
 */
#include "membership/context.h"
#include "membership/process.h"
#include "repair/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    STORE_BOUND_US = 5000000,
    SETTLE_US = 100000, /* within that, those who live tell an empty store what it forgot */
    SETTLE_ROUNDS = 10  /* for so long, where it seems that none of them lives */
};

/* One request and its answer, at start. The reply's bytes are copied, 8-byte aligned. */
static eep_status ask(eep_context *context, uint64_t id, void **value_out, size_t *size_out,
                      uint64_t *revision_out)
{
    eepi_store_reply reply;
    eep_status status = eepi_store_client_wait(context->store, id, STORE_BOUND_US, &reply);

    *value_out = NULL; /* callers free it whatever comes */
    *size_out = 0;
    if (status != EEP_OK)
        return status;
    *revision_out = reply.revision;
    *size_out = reply.size;
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

/* All ranks of an instance have the same shape: that of the first that was opened. */
static eep_status check_instance(eep_context *context)
{
    eepi_instance own = eepi_instance_of(&context->config);
    const char *field = NULL;
    uint64_t revision;
    int32_t theirs = 0;
    void *value = NULL;
    size_t size = 0;
    eep_status status =
        ask(context, eepi_store_cas(context->store, EEPI_KEY_INSTANCE, 0, &own, sizeof(own)),
            &value, &size, &revision);

    if (status == EEP_ERR_CONFLICT)
        status = ask(context, eepi_store_get(context->store, EEPI_KEY_INSTANCE), &value, &size,
                     &revision);
    if (status != EEP_OK)
        return eepi_fail(context, status, "the store does not answer: %s", eep_strerror(status));
    if (value)
        field = eepi_instance_differs(&own, value, size, &theirs);
    free(value);
    if (field)
        return eepi_fail(context, EEP_ERR_INVALID, "%s differs from the running instance's, %d",
                         field, theirs);
    return EEP_OK;
}

/* What the store says of a process. In this order, so that the larger of two is what counts. */
typedef enum life { LIFE_ENDED, LIFE_UNKNOWN, LIFE_RUNS } life;

/* Does the view's member in that seat run? */
static life member_life(eep_context *context, const eepi_view *view, int seat)
{
    char key[EEPI_STORE_KEY_MAX];
    void *value = NULL;
    size_t size;
    uint64_t revision;
    eepi_record record;
    life found = LIFE_UNKNOWN; /* a record that is missing or strange says nothing of its process */

    if (!eepi_view_is_member(view, seat))
        return LIFE_ENDED;
    snprintf(key, sizeof(key), EEPI_KEY_MEMBER "%d", seat);
    if (ask(context, eepi_store_get(context->store, key), &value, &size, &revision) == EEP_OK &&
        value && eepi_record_decode(value, size, &context->view_shape, &record) == EEP_OK)
        found = record.member.generation <= eepi_view_seat_at(view, seat)->generation &&
                        eepi_process_look(record.pid, record.pid_start) == EEPI_PROCESS_RUNS
                    ? LIFE_RUNS
                    : LIFE_ENDED;
    free(value);
    return found;
}

/* What the store says of a seat that is to be taken. */
typedef struct seat_state {
    int has_view;
    uint32_t last;  /* the newest generation that the view has, or the record */
    uint32_t ended; /* the newest one that somebody has seen end; 0: none is known */
    int is_alone;   /* no other seat is in the view */
    life others;    /* the liveliest of them */
    void *record;   /* NULL: none */
    size_t record_bytes;
    uint64_t revision; /* of the record */
} seat_state;

/* The instance's present view, if there is one: the generation's floor, and what to load. */
static eep_status read_view(eep_context *context, seat_state *state)
{
    const int rank = context->config.rank;
    uint64_t revision;
    const char *why = "";
    void *value = NULL;
    size_t size = 0;
    const eepi_view *found;
    eep_status status =
        ask(context, eepi_store_get(context->store, EEPI_KEY_VIEW), &value, &size, &revision);

    if (status != EEP_OK)
        return eepi_fail(context, status, "the store does not answer: %s", eep_strerror(status));
    state->has_view = value != NULL;
    if (!value)
        return EEP_OK;
    found = value;
    if (eepi_view_check(value, size, &why) != EEP_OK ||
        memcmp(&found->shape, &context->view_shape, sizeof(found->shape)) != 0) {
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "this configuration does not fit the running instance (max_ranks, "
                           "num_layers, num_experts, num_slots) %s",
                           why);
    } else {
        state->last = eepi_view_seat_at(found, rank)->generation;
        state->is_alone = eepi_view_num_active(found) < 2;
        for (int seat = 0; seat < found->shape.max_ranks && state->others != LIFE_RUNS; seat++) {
            life one = seat != rank ? member_life(context, found, seat) : LIFE_ENDED;
            state->others = one > state->others ? one : state->others;
        }
        /* if nobody runs the instance begins again: then what plan_first_view said is loaded */
        if (state->others != LIFE_ENDED || member_life(context, found, rank) != LIFE_ENDED)
            eepi_plan_seat(found, rank, context->experts);
    }
    free(value);
    return status;
}

/* Rule M7: whoever held the seat before must be seen to have ended; that is told to all. */
eep_status eepi_claim_end(eep_context *context, uint32_t generation, uint64_t bound_us)
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

/* The newest generation of our seat that somebody has seen end, or that closed its context in a
 * process that lives on. All older ones have ended, too. */
static uint32_t last_ended(eep_context *context)
{
    char key[EEPI_STORE_KEY_MAX];
    eepi_suspect gone;
    uint64_t revision;
    uint32_t generation = 0;
    void *value = NULL;
    size_t size = 0;

    snprintf(key, sizeof(key), EEPI_KEY_EXIT "%d", context->config.rank);
    if (ask(context, eepi_store_get(context->store, key), &value, &size, &revision) == EEP_OK &&
        value && eepi_exit_decode(value, size, context->config.max_ranks, &gone) == EEP_OK &&
        gone.seat == context->config.rank)
        generation = gone.generation;
    free(value);
    return generation;
}

static eep_status read_seat(eep_context *context, const char *key, seat_state *state)
{
    eep_status status;

    free(state->record);
    *state = (seat_state){0};
    status = read_view(context, state);
    if (status != EEP_OK)
        return status;
    status = ask(context, eepi_store_get(context->store, key), &state->record, &state->record_bytes,
                 &state->revision);
    if (status != EEP_OK)
        return eepi_fail(context, status, "the store does not answer: %s", eep_strerror(status));
    state->ended = last_ended(context);
    return EEP_OK;
}

/* The view has the seat, nobody saw its process end, and its record is lost: it may live. */
static int is_in_doubt(const seat_state *state)
{
    return !state->record && state->last > state->ended &&
           (state->is_alone || state->others != LIFE_ENDED);
}

/* A store that does not know the seat may be new, or may have lost its memory just now: then a
 * generation could be given twice, so those who live are let speak first. If none of the view's
 * members does, though there was time for many reconnects, none is left, and the instance may begin
 * again. */
static eep_status read_settled_seat(eep_context *context, const char *key, seat_state *state)
{
    const struct timespec settle = {0, SETTLE_US * 1000L};
    eep_status status = read_seat(context, key, state);

    if (status == EEP_OK && !state->record && (!state->has_view || state->last > 0)) {
        nanosleep(&settle, NULL);
        status = read_seat(context, key, state);
    }
    for (int i = 1; status == EEP_OK && is_in_doubt(state) && state->others == LIFE_UNKNOWN; i++) {
        if (i == SETTLE_ROUNDS) {
            state->others = LIFE_ENDED;
            return EEP_OK;
        }
        nanosleep(&settle, NULL);
        status = read_seat(context, key, state);
    }
    if (status == EEP_OK && is_in_doubt(state))
        return eepi_fail(context, EEP_ERR_SEAT_TAKEN,
                         "the view has generation %u of the seat, and nobody saw it end: try again",
                         state->last);
    return status;
}

/* Whoever has a record in the seat must have ended. */
static eep_status check_predecessor(eep_context *context, seat_state *state)
{
    eepi_record record;
    uint32_t generation;

    if (!state->record)
        return EEP_OK;
    if (eepi_record_decode(state->record, state->record_bytes, &context->view_shape, &record) !=
        EEP_OK)
        return eepi_fail(context, EEP_ERR_INVALID,
                         "the seat's record is of an instance with another shape");
    generation = record.member.generation;
    if (generation > state->last)
        state->last = generation;
    if (eepi_process_look(record.pid, record.pid_start) == EEPI_PROCESS_ENDED)
        return eepi_claim_end(context, generation, STORE_BOUND_US);
    if (state->ended >= generation)
        return EEP_OK;
    return eepi_fail(context, EEP_ERR_SEAT_TAKEN, "process %d holds the seat as generation %u",
                     record.pid, generation);
}

/* Our record, in a new generation, if the seat is still as we have read it. */
static eep_status put_record(eep_context *context, const char *key, uint64_t revision)
{
    eepi_record own = {.pid = (int32_t)getpid(), .pid_start = context->pid_start};
    size_t bytes, size = 0;
    void *encoded, *value = NULL;
    eep_status status;

    own.member = (eepi_member){context->config.rank, context->generation, 0, 0, context->experts,
                               context->checksums,   context->backup_bits};
    encoded = eepi_record_encode(&own, &context->view_shape, &bytes);
    if (!encoded)
        return EEP_ERR_NO_MEMORY;
    status = ask(context, eepi_store_cas(context->store, key, revision, encoded, bytes), &value,
                 &size, &revision);
    free(encoded);
    free(value);
    if (status == EEP_ERR_CONFLICT)
        return eepi_fail(context, EEP_ERR_SEAT_TAKEN, "another process took the seat just now");
    return status;
}

/* Take the seat: a new generation by compare-and-swap on its member record. */
eep_status eepi_claim_seat(eep_context *context)
{
    char key[EEPI_STORE_KEY_MAX];
    seat_state state = {0};
    eep_status status = plan_first_view(context);

    if (status == EEP_OK)
        status = check_instance(context);
    snprintf(key, sizeof(key), EEPI_KEY_MEMBER "%d", context->config.rank);
    if (status == EEP_OK)
        status = read_settled_seat(context, key, &state);
    if (status == EEP_OK)
        status = check_predecessor(context, &state);
    free(state.record);
    if (status != EEP_OK)
        return status;
    context->generation = (state.last > state.ended ? state.last : state.ended) + 1;
    status = put_record(context, key, state.revision);
    context->claimed = status == EEP_OK;
    return status;
}
