/* Who is on its way into the view: what eep_join waits for, said in words when it waits in vain.
 * The service thread notes, any thread reads, both under the context's lock. */
#include "membership/context/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void eepi_arrival_note(eep_context *context, const eepi_member *member)
{
    eepi_arrival *a = &context->arrivals[member->seat];

    pthread_mutex_lock(&context->lock);
    if (member->generation >= a->generation) {
        a->generation = member->generation;
        a->ready = member->ready;
    }
    pthread_mutex_unlock(&context->lock);
}

void eepi_arrival_end(eep_context *context, int seat, uint32_t generation)
{
    eepi_arrival *a = &context->arrivals[seat];

    pthread_mutex_lock(&context->lock);
    if (a->generation <= generation) {
        a->generation = 0;
    }
    pthread_mutex_unlock(&context->lock);
}

void eepi_arrival_refused(eep_context *context, const eepi_refusal *refusal)
{
    eepi_arrival *a = &context->arrivals[refusal->seat];

    pthread_mutex_lock(&context->lock);
    a->refused = refusal->generation;
    snprintf(a->why, sizeof a->why, "%s", refusal->why);
    pthread_mutex_unlock(&context->lock);
}

static int is_refused(const eepi_arrival *a)
{
    return a->refused != 0 && a->refused == a->generation;
}

/* For eep_join, whose thread does not look into the core. */
static void note_wait(eep_context *context)
{
    char text[EEPI_CORE_WHY_BYTES];

    if (!context->ready_told || context->told.had_view) {
        return;
    }
    eepi_core_say_wait(context->core, text, sizeof text);
    pthread_mutex_lock(&context->lock);
    snprintf(context->waits_for, sizeof context->waits_for, "%s", text);
    pthread_mutex_unlock(&context->lock);
}

void eepi_arrivals_look(eep_context *context)
{
    char why[EEPI_CORE_WHY_BYTES] = "";
    int is_new;

    note_wait(context);
    if (eepi_core_view(context->core) || context->read_id != 0) {
        return;
    }
    pthread_mutex_lock(&context->lock);
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        if (seat != context->config.rank && is_refused(&context->arrivals[seat])) {
            snprintf(why, sizeof why, "%s", context->arrivals[seat].why);
        }
    }
    is_new = why[0] && !context->outcome.uncovered;
    if (!why[0] && context->closed_by_weights) { /* it has gone: others may come in its place */
        context->closed_by_weights = 0;
        context->outcome.uncovered = false;
    }
    pthread_mutex_unlock(&context->lock);
    if (is_new) {
        context->closed_by_weights = 1;
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

/* Appends `separator` and the seats of those first ranks, ours left out, for which `applies` is
 * true: "SEPARATOR3, 5". Nothing if there are none. Returns how many there are. */
static int list(const eep_context *context, char *text, size_t bytes, const char *separator,
                int (*applies)(const eepi_arrival *a))
{
    int num = 0;

    for (int seat = 0; seat < context->config.num_ranks; seat++) {
        if (seat != context->config.rank && applies(&context->arrivals[seat])) {
            add(text, bytes, "%s%d", num++ ? ", " : separator, seat);
        }
    }
    return num;
}

static int has_not_opened(const eepi_arrival *a)
{
    return a->generation == 0;
}

static int has_not_asked(const eepi_arrival *a)
{
    return a->generation != 0 && !a->ready && !is_refused(a);
}

void eepi_arrivals_say(const eep_context *context, char *text, size_t bytes)
{
    text[0] = '\0';
    if (context->seats_epoch != 0 || context->waits_for[0]) {
        add(text, bytes, "an instance is there (epoch %llu) and has not let this rank in yet%s%s",
            (unsigned long long)__atomic_load_n(&context->known_epoch, __ATOMIC_ACQUIRE),
            context->waits_for[0] ? ": " : "", context->waits_for);
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
        if (is_refused(&context->arrivals[seat])) {
            add(text, bytes, "%s; ", context->arrivals[seat].why);
        }
    }
    if (context->begin_waits_for != 0) {
        add(text, bytes, "the process that holds seat %d has not reached the store; ",
            context->begin_waits_for - 1);
    }
    if (text[0] == '\0') {
        add(text, bytes,
            "all %d ranks have asked to join, and no view was committed: is the store "
            "there?; ",
            context->config.num_ranks);
    }
    text[strlen(text) < 2 ? 0 : strlen(text) - 2] = '\0';
}
