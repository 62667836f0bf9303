/* SPDX-License-Identifier: Apache-2.0 */
/* The last error of a context. */
#include "membership/context/last_error.h"

#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/context/log.h"

#include <stdarg.h>
#include <stdio.h>

eep_status eepi_fail(eep_context *context, eep_status status, const char *format, ...)
{
    va_list arguments;
    uint64_t epoch = context->stepper.live.epoch;
    size_t used = eepi_say_rank(context, context->last_error, sizeof context->last_error);

    if (epoch == 0) { /* it serves none; others may, or it has served one before */
        epoch = __atomic_load_n(&context->known_epoch, __ATOMIC_ACQUIRE);
    }
    if (epoch != 0) {
        used += (size_t)snprintf(context->last_error + used, sizeof context->last_error - used,
                                 ", epoch %llu", (unsigned long long)epoch);
    }
    used += (size_t)snprintf(context->last_error + used, sizeof context->last_error - used, ": ");
    va_start(arguments, format);
    vsnprintf(context->last_error + used, sizeof context->last_error - used, format, arguments);
    va_end(arguments);
    return eepi_refuse(status, "%s", context->last_error);
}

const char *eep_last_error(const eep_context *context)
{
    return context ? context->last_error : eep_error_text();
}
