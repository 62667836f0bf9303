/* Which thread is in a call of a context; and how eep_close ends the call of another thread. */
#include "graphs/device/device_ops.h"
#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/context/wake.h"

#include <string.h>
#include <time.h>

enum {
    CALL_BOUND_US = 5000000, /* a call of another thread ends within this time, or is left */
    STEP_BOUND_US = 200000,  /* another thread is between begin and end of a step */
    NAP_NS = 1000000
};

static const char closes[] = "eep_close";

eep_status eepi_call_begin(eep_context *context, const char *call)
{
    const char *other = NULL;
    eep_status status = eepi_check_own(call, context);

    if (status != EEP_OK) {
        return status;
    }
    if (!__atomic_compare_exchange_n(&context->call, &other, call, 0, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        return eepi_refuse(EEP_ERR_STATE,
                           "%s while another thread is in %s of this context: a context is used by "
                           "one thread at a time",
                           call, other);
    }
    /* a thread that ends inside would keep the lock, and eep_close would wait for the call */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &context->cancel_state);
    __atomic_store_n(&context->caller, pthread_self(), __ATOMIC_RELAXED);
    return EEP_OK;
}

eep_status eepi_call_end(eep_context *context, eep_status status)
{
    int cancel_state = context->cancel_state;

    if (eepi_call_is_closed(context)) {
        status = eepi_fail_closing(context, context->call);
    }
    __atomic_store_n(&context->call, NULL, __ATOMIC_RELEASE); /* eep_close may free it now */
    pthread_setcancelstate(cancel_state, &cancel_state);
    return status;
}

int eepi_call_is_closed(const eep_context *context)
{
    return __atomic_load_n(&context->closing, __ATOMIC_ACQUIRE);
}

eep_status eepi_fail_closing(eep_context *context, const char *call)
{
    return eepi_fail(context, EEP_ERR_STATE,
                     "%s: another thread has called eep_close: use this context no more", call);
}

/* Is another thread between begin and end of a step? The step is aborted, and whoever waits is
 * woken. A thread that was ended may keep the lock for ever, so it is only tried. */
static int hurry(eep_context *context)
{
    int is_in_step = 0;

    if (pthread_mutex_trylock(&context->lock) == 0) {
        is_in_step =
            context->stepper.in_step &&
            !pthread_equal(__atomic_load_n(&context->caller, __ATOMIC_RELAXED), pthread_self());
        if (context->stepper.in_step) {
            eepi_abort_running(context);
        }
        pthread_mutex_unlock(&context->lock);
    }
    eepi_rank_wake(context);
    return is_in_step;
}

int eepi_calls_close(eep_context *context)
{
    const struct timespec nap = {0, NAP_NS};
    const uint64_t begun_us = eepi_now_us();

    __atomic_store_n(&context->closing, 1, __ATOMIC_RELEASE);
    for (;;) {
        const char *other = NULL;
        uint64_t us = eepi_now_us() - begun_us;

        if ((!hurry(context) || us >= STEP_BOUND_US) &&
            __atomic_compare_exchange_n(&context->call, &other, closes, 0, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            return 1;
        }
        if (us >= CALL_BOUND_US || other == closes) {
            eepi_log(context, EEP_LOG_ERROR,
                     "eep_close closes nothing: another thread is in %s yet: call eep_close again "
                     "when that call has ended",
                     other);
            return 0;
        }
        nanosleep(&nap, NULL);
    }
}
