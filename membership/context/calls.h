/* SPDX-License-Identifier: Apache-2.0 */
/* The users of a context: its process, and the one thread that is in a call. */
#ifndef EEPI_CALLS_H
#define EEPI_CALLS_H

#include "eep/eep.h"
#include "transport/proxy/network.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct eepi_calls {
    int32_t opened_by; /* the process */
    bool is_waiter;    /* its device counts it: eepi_device_take_waiter was granted */
    const char *call;  /* that a thread is in, of those for one thread at a time; NULL; atomic */
    pthread_t caller;  /* the thread of the last such call; atomic */
    int cancel_state;  /* that it had before */
    bool closing;      /* eep_close was called: all such calls end; atomic */
    struct eepi_collectives *collectives; /* their thread and their lock are their own */
    eepi_network_talk
        talk; /* what they say to ranks of other hosts; set before the network is opened */
    bool waits_to_join;   /* eep_join ran out of time, and may be called again; rank thread */
    uint32_t num_waiting; /* threads in calls that wait, and that any thread may make; atomic */
} eepi_calls;

/* Every public function on a context begins with this: NULL, and another process's context, are
 * refused. For NULL the text is left in eep_error_text only. Any thread. */
EEP_MUST_CHECK eep_status eepi_check_context(const char *call, const eep_context *context);
/* The same, for eep_last_error, too; rank thread. EEP_ERR_STATE in a callback. */
EEP_MUST_CHECK eep_status eepi_check_own(const char *call, eep_context *context);
/* EEP_ERR_INVALID, and the text, if an argument of that name is NULL; rank thread. */
EEP_MUST_CHECK eep_status eepi_check_argument(eep_context *context, const char *call,
                                              const char *name, const void *argument);
/* eepi_check_own; and EEP_ERR_STATE, with both calls' names, while another thread is in such a
 * call. After EEP_OK eepi_call_end must follow; until then the thread is not cancelled. */
EEP_MUST_CHECK eep_status eepi_call_begin(eep_context *context, const char *call);
/* The call's status: EEP_ERR_STATE if eep_close was called meanwhile, which may have freed the
 * context by then. */
EEP_MUST_CHECK eep_status eepi_call_end(eep_context *context, eep_status status);
/* eep_close was called by another thread: a call that waits ends with eepi_fail_closing. */
bool eepi_call_is_closed(const eep_context *context);
eep_status eepi_fail_closing(eep_context *context, const char *call);
/* A call that any thread may make, and that waits, begins (1) or ends (-1): its first and last look
 * at the context. */
void eepi_call_waits(eep_context *context, int change);
/* End the call that another thread is in, and let no other begin. False: that call did not end in
 * time and is named in the log; the context is still in use. */
bool eepi_calls_close(eep_context *context);
#endif
