/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the log, to the caller's function or to standard error. */
#include "membership/context/log.h"

#include "graphs/base/say.h"
#include "graphs/base/thread.h"
#include "membership/context/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_BYTES = 900,
    MAX_CALLBACKS = 2 /* nested: a line about what a callback did, and no more */
};

size_t eepi_say_rank(const eep_context *context, char *text, size_t bytes)
{
    const int32_t rank = context->config.rank;
    int used = rank < 0 ? snprintf(text, bytes, "a rank without a seat")
                        : snprintf(text, bytes, "rank %d", rank);

    if (context->generation != 0) {
        used +=
            snprintf(text + used, bytes - (size_t)used, " (generation %u)", context->generation);
    }
    return (size_t)used;
}

void eepi_log(const eep_context *context, eep_log_level level, const char *format, ...)
{
    static const char *const names[] = {"", "error", "warning", "info", "debug"};
    char line[LINE_BYTES] = "eep: ";
    va_list arguments;
    size_t used = 5;

    if (level > context->config.log_level) {
        return;
    }
    used += eepi_say_rank(context, line + used, sizeof line - used);
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
    if (eepi_callback_begin() <= MAX_CALLBACKS) {
        context->config.log(context->config.user, level, line);
    }
    eepi_callback_end();
}
