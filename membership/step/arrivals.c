/* SPDX-License-Identifier: Apache-2.0 */
/* Processes on their way into the view: what eep_join waits for, in words if it waits in vain.
 * The service thread notes, any thread reads, both under the context's lock. */
#include "membership/step/arrivals.h"

#include "membership/context/context.h"
#include "membership/context/records.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is known of a seat's process before it is in a view. */
typedef struct arrival {
    uint32_t generation;           /* 0: nobody has opened it, or that process has ended */
    bool ready;                    /* it has asked to be let in */
    uint32_t refused;              /* generation that was told that its weights differ; */
    char why[EEPI_CORE_WHY_BYTES]; /* and how */
} arrival;

/* Under the context's lock. */
struct eepi_arrivals {
    char waits_for[EEPI_CORE_WHY_BYTES]; /* why it is not let in by those who serve */
    int begin_waits_for; /* 1 + the seat whose process keeps an instance from beginning; 0: none */
    bool closed_by_weights; /* fails closed since a first rank has other weights */
    arrival seats[];        /* [max_ranks] */
};

eep_status eepi_arrivals_open(eep_context *context)
{
    context->arrivals =
        calloc(1, sizeof *context->arrivals + (size_t)context->config.max_ranks * sizeof(arrival));
    return context->arrivals ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_arrivals_close(eep_context *context)
{
    free(context->arrivals);
}

void eepi_arrival_note(eep_context *context, const eepi_member *member)
{
    arrival *a = &context->arrivals->seats[member->seat];

    pthread_mutex_lock(&context->lock);
    if (member->generation >= a->generation) {
        a->generation = member->generation;
        a->ready = member->ready;
    }
    pthread_mutex_unlock(&context->lock);
}

void eepi_arrival_end(eep_context *context, int seat, uint32_t generation)
{
    arrival *a = &context->arrivals->seats[seat];

    pthread_mutex_lock(&context->lock);
    if (a->generation <= generation) {
        a->generation = 0;
    }
    pthread_mutex_unlock(&context->lock);
}

void eepi_arrival_refused(eep_context *context, const eepi_refusal *refusal)
{
    arrival *a = &context->arrivals->seats[refusal->seat];

    pthread_mutex_lock(&context->lock);
    a->refused = refusal->generation;
    snprintf(a->why, sizeof a->why, "%s", refusal->why);
    pthread_mutex_unlock(&context->lock);
}

static bool is_refused(const arrival *a)
{
    return a->refused != 0 && a->refused == a->generation;
}

/* For eep_join, whose thread does not look into the core. */
void eepi_arrivals_note_wait(eep_context *context)
{
    char text[EEPI_CORE_WHY_BYTES];

    eepi_core_say_wait(context->core, text, sizeof text);
    pthread_mutex_lock(&context->lock);
    snprintf(context->arrivals->waits_for, sizeof context->arrivals->waits_for, "%s", text);
    pthread_mutex_unlock(&context->lock);
}

void eepi_arrivals_look(eep_context *context)
{
    char why[EEPI_CORE_WHY_BYTES] = "";
    bool is_new;

    pthread_mutex_lock(&context->lock);
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        if (seat != context->config.rank && is_refused(&context->arrivals->seats[seat])) {
            snprintf(why, sizeof why, "%s", context->arrivals->seats[seat].why);
        }
    }
    is_new = why[0] && !context->outcome.uncovered;
    if (!why[0] &&
        context->arrivals
            ->closed_by_weights) { /* that process has left: another one may take its place */
        context->arrivals->closed_by_weights = false;
        context->outcome.uncovered = false;
    }
    pthread_mutex_unlock(&context->lock);
    if (is_new) {
        context->arrivals->closed_by_weights = true;
        eepi_fail_closed(context, why);
    }
}

__attribute__((format(printf, 3, 4))) static void add(char *text, size_t bytes, const char *format,
                                                      ...)
{
    size_t used = strlen(text);
    va_list arguments;

    va_start(arguments, format);
    if (used < bytes) {
        vsnprintf(text + used, bytes - used, format, arguments);
    }
    va_end(arguments);
}

/* Append the seats of the first ranks for which `applies` is true, as "SEPARATOR3, 5". Our own seat
 * is left out. Returns how many there are; with none, nothing is appended. */
static int list(const eep_context *context, char *text, size_t bytes, const char *separator,
                bool (*applies)(const arrival *a))
{
    int num = 0;

    for (int seat = 0; seat < context->config.num_ranks; seat++) {
        if (seat != context->config.rank && applies(&context->arrivals->seats[seat])) {
            add(text, bytes, "%s%d", num++ ? ", " : separator, seat);
        }
    }
    return num;
}

static bool has_not_opened(const arrival *a)
{
    return a->generation == 0;
}

static bool has_not_asked(const arrival *a)
{
    return a->generation != 0 && !a->ready && !is_refused(a);
}

void eepi_arrivals_say(const eep_context *context, char *text, size_t bytes)
{
    text[0] = '\0';
    if (context->observed.seats_epoch != 0 || context->arrivals->waits_for[0]) {
        add(text, bytes, "an instance is there (epoch %llu) and has not let this rank in yet%s%s",
            (unsigned long long)__atomic_load_n(&context->known_epoch, __ATOMIC_ACQUIRE),
            context->arrivals->waits_for[0] ? ": " : "", context->arrivals->waits_for);
        return;
    }
    if (list(context, text, bytes, "ranks that have not opened: ", has_not_opened)) {
        add(text, bytes, "; ");
    }
    if (list(context, text, bytes,
             "ranks that have opened and not called eep_join: ", has_not_asked)) {
        add(text, bytes, "; ");
    }
    for (int seat = 0; seat < context->config.num_ranks; seat++) {
        if (is_refused(&context->arrivals->seats[seat])) {
            add(text, bytes, "%s; ", context->arrivals->seats[seat].why);
        }
    }
    if (context->arrivals->begin_waits_for != 0) {
        add(text, bytes, "the process that holds seat %d has not reached the store; ",
            context->arrivals->begin_waits_for - 1);
    }
    if (text[0] == '\0') {
        add(text, bytes,
            "all %d ranks have asked to join, and no view was committed: is the store "
            "there?; ",
            context->config.num_ranks);
    }
    text[strlen(text) < 2 ? 0 : strlen(text) - 2] = '\0';
}

bool eepi_arrival_awaited(eep_context *context, int seat)
{
    int before;

    pthread_mutex_lock(&context->lock); /* eep_join says whom it waits for */
    before = context->arrivals->begin_waits_for;
    context->arrivals->begin_waits_for = seat < 0 ? 0 : seat + 1;
    pthread_mutex_unlock(&context->lock);
    return before != seat + 1;
}

uint32_t eepi_arrival_generation(const eep_context *context, int seat)
{
    return context->arrivals->seats[seat].generation;
}
