/* Texts: last error, log lines, events, time. */
#include "graphs/base/public_call.h"
#include "graphs/base/thread.h"
#include "membership/context/context.h"
#include "graphs/base/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_CALLBACKS = 2 }; /* nested: a line about what a callback did, and no more */

const char *eep_fault_kind_name(eep_fault_kind kind)
{
    static const char *const names[] = {"exit",   "reset",    "device",
                                        "silent", "deadline", "left out"};

    return kind >= EEP_FAULT_EXIT && kind <= EEP_FAULT_LEFT_OUT ? names[kind] : "unknown";
}

const char *eep_bad_kind_name(eep_bad_kind kind)
{
    static const char *const names[] = {"num_tokens", "out of range", "named twice",
                                        "without a replica"};

    return kind >= EEP_BAD_NUM_TOKENS && kind <= EEP_BAD_EXPERT_UNCOVERED ? names[kind] : "unknown";
}

/* Of which rank a text is; its generation is known once it has taken its seat. */
static size_t say_rank(const eep_context *context, char *text, size_t bytes)
{
    int used = snprintf(text, bytes, "rank %d", context->config.rank);

    if (context->generation != 0) {
        used +=
            snprintf(text + used, bytes - (size_t)used, " (generation %u)", context->generation);
    }
    return (size_t)used;
}

eep_status eepi_fail(eep_context *context, eep_status status, const char *format, ...)
{
    va_list arguments;
    uint64_t epoch = context->stepper.live.epoch;
    size_t used = say_rank(context, context->error, sizeof context->error);

    if (epoch == 0) { /* it serves none; others may, or it has served one before */
        epoch = __atomic_load_n(&context->known_epoch, __ATOMIC_ACQUIRE);
    }
    if (epoch != 0) {
        used += (size_t)snprintf(context->error + used, sizeof context->error - used,
                                 ", epoch %llu", (unsigned long long)epoch);
    }
    used += (size_t)snprintf(context->error + used, sizeof context->error - used, ": ");
    va_start(arguments, format);
    vsnprintf(context->error + used, sizeof context->error - used, format, arguments);
    va_end(arguments);
    return eepi_refuse(status, "%s", context->error);
}

const char *eep_last_error(const eep_context *context)
{
    return context ? context->error : eep_error_text();
}

eep_status eepi_check_context(const char *call, const eep_context *context)
{
    eep_status status = eepi_check_given(call, "context", context);

    return status == EEP_OK ? eepi_check_process(call, "context", context->opened_by) : status;
}

eep_status eepi_check_own(const char *call, eep_context *context)
{
    eep_status status = eepi_check_context(call, context);

    /* the last error is the rank thread's, and this may be another one */
    if (status == EEP_OK && eepi_check_may_wait(call) != EEP_OK) {
        return EEP_ERR_STATE;
    }
    if (status == EEP_OK || !context) {
        return status;
    }
    return eepi_fail(context, status, "%s", eep_error_text());
}

eep_status eepi_check_argument(eep_context *context, const char *call, const char *name,
                               const void *argument)
{
    return argument ? EEP_OK : eepi_fail(context, EEP_ERR_INVALID, "%s: %s is NULL", call, name);
}

void eepi_log(const eep_context *context, eep_log_level level, const char *format, ...)
{
    static const char *const names[] = {"", "error", "warning", "info", "debug"};
    char line[EEPI_LINE_BYTES] = "eep: ";
    va_list arguments;
    size_t used = 5;

    if (level > context->config.log_level) {
        return;
    }
    used += say_rank(context, line + used, sizeof line - used);
    used += (size_t)snprintf(line + used, sizeof line - used, ": %s: ", names[level]);
    va_start(arguments, format);
    vsnprintf(line + used, sizeof line - used, format, arguments);
    va_end(arguments);
    if (!context->config.log) {
        used = strlen(line);
        line[used] = '\n'; /* in place of the NUL: all in one write */
        eepi_say(STDERR_FILENO, line, used + 1);
        return;
    }
    if (eepi_callback_begin() <= MOST_CALLBACKS) {
        context->config.log(context->config.user, level, line);
    }
    eepi_callback_end();
}

void eepi_event(const eep_context *context, eep_event_kind kind, int32_t seat, uint32_t generation,
                uint64_t epoch, uint64_t value)
{
    eep_event_info record = {sizeof record, kind, seat, generation, epoch, value, eepi_now_ns()};

    if (!context->config.event) {
        return;
    }
    if (epoch == 0) { /* of no view in particular */
        record.epoch = __atomic_load_n(&context->known_epoch, __ATOMIC_ACQUIRE);
    }
    (void)!eepi_callback_begin();
    context->config.event(context->config.user, &record);
    eepi_callback_end();
}
