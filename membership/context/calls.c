/* SPDX-License-Identifier: Apache-2.0 */
/* Which thread is in a call of a context; and how eep_close ends the call of another thread. */
#include "graphs/base/public_call.h"
#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "membership/context/log.h"

#include <string.h>
#include <time.h>

enum {
    CALL_BOUND_US = 5000000, /* a call of another thread ends within this time, or is left */
    STEP_BOUND_US = 200000,  /* another thread is between begin and end of a step */
    NAP_NS = 1000000
};

static const char closes[] = "eep_close";

eep_status eepi_check_context(const char *call, const eep_context *context)
{
    eep_status status = eepi_check_given(call, "context", context);

    return status == EEP_OK ? eepi_check_process(call, "context", context->calls.opened_by)
                            : status;
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

eep_status eepi_call_begin(eep_context *context, const char *call)
{
    const char *other = NULL;
    eep_status status = eepi_check_own(call, context);

    if (status != EEP_OK) {
        return status;
    }
    if (!__atomic_compare_exchange_n(&context->calls.call, &other, call, 0, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        return eepi_refuse(EEP_ERR_STATE,
                           "%s while another thread is in %s of this context: a context is used by "
                           "one thread at a time",
                           call, other);
    }
    /* a thread that ends inside would keep the lock, and eep_close would wait for the call */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &context->calls.cancel_state);
    __atomic_store_n(&context->calls.caller, pthread_self(), __ATOMIC_RELAXED);
    return EEP_OK;
}

eep_status eepi_call_end(eep_context *context, eep_status status)
{
    int cancel_state = context->calls.cancel_state;

    if (eepi_call_is_closed(context)) {
        status = eepi_fail_closing(context, context->calls.call);
    }
    __atomic_store_n(&context->calls.call, NULL, __ATOMIC_RELEASE); /* eep_close may free it now */
    pthread_setcancelstate(cancel_state, &cancel_state);
    return status;
}

void eepi_call_waits(eep_context *context, int change)
{
    __atomic_fetch_add(&context->calls.num_waiting, (uint32_t)change, __ATOMIC_SEQ_CST);
}

bool eepi_call_is_closed(const eep_context *context)
{
    return __atomic_load_n(&context->calls.closing, __ATOMIC_ACQUIRE);
}

eep_status eepi_fail_closing(eep_context *context, const char *call)
{
    return eepi_fail(context, EEP_ERR_STATE,
                     "%s: another thread has called eep_close: use this context no more", call);
}

/* Is another thread between begin and end of a step? The step is aborted, and the waiting
 * thread is woken. A thread that was ended may keep the lock for ever, so it is only tried. */
static bool hurry(eep_context *context)
{
    bool is_in_step = false;

    if (pthread_mutex_trylock(&context->lock) == 0) {
        is_in_step = context->stepper.in_step &&
                     !pthread_equal(__atomic_load_n(&context->calls.caller, __ATOMIC_RELAXED),
                                    pthread_self());
        if (context->stepper.in_step) {
            eepi_abort_running(context);
        }
        pthread_mutex_unlock(&context->lock);
    }
    eepi_rank_wake(context);
    return is_in_step;
}

bool eepi_calls_close(eep_context *context)
{
    const struct timespec nap = {0, NAP_NS};
    const uint64_t begun_us = eepi_now_us();

    __atomic_store_n(&context->calls.closing, true, __ATOMIC_RELEASE);
    for (;;) {
        const char *other = NULL;
        uint64_t us = eepi_now_us() - begun_us;

        if ((!hurry(context) || us >= STEP_BOUND_US) &&
            __atomic_load_n(&context->calls.num_waiting, __ATOMIC_SEQ_CST) == 0 &&
            __atomic_compare_exchange_n(&context->calls.call, &other, closes, 0, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            return true;
        }
        if (us >= CALL_BOUND_US || other == closes) {
            eepi_log(context, EEP_LOG_ERROR,
                     "eep_close closes nothing: another thread is in %s yet: call eep_close again "
                     "when that call has ended",
                     other ? other : "a call that waits");
            return false;
        }
        nanosleep(&nap, NULL);
    }
}
