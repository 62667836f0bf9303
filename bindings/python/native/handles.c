/* SPDX-License-Identifier: Apache-2.0 */
/* Handles: calls that enter and leave, a close that waits for them, steps that are always ended. */
#include "extension.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CLOSE_WAIT_US = 10000000, CLOSE_LOOK_US = 500 };

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The count is raised before the look at is_closed, and a close sets that before it looks at the
 * count: so one of the two sees the other. */
int eepy_enter(eepy_handle *handle, void **it_out)
{
    *it_out = NULL;
    if (!handle) {
        return 1;
    }
    __atomic_add_fetch(&handle->users, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&handle->is_closed, __ATOMIC_SEQ_CST)) {
        eepy_leave(handle);
        return 0;
    }
    *it_out = handle->it;
    return 1;
}

void eepy_leave(eepy_handle *handle)
{
    if (handle) {
        __atomic_sub_fetch(&handle->users, 1, __ATOMIC_SEQ_CST);
    }
}

void eepy_fill(eepy_handle *handle, void *it)
{
    handle->it = it;
    handle->pid = (int32_t)getpid();
    __atomic_store_n(&handle->is_closed, 0, __ATOMIC_SEQ_CST);
}

int eepy_begin_close(eepy_handle *handle, int is_context, void **it_out)
{
    int is_ours = handle->pid == (int32_t)getpid(); /* a forked child's threads are not here */
    uint64_t waited_us = 0;

    *it_out = NULL;
    if (__atomic_exchange_n(&handle->is_closed, 1, __ATOMIC_SEQ_CST) || !handle->it) {
        return 0;
    }
    while (is_ours && __atomic_load_n(&handle->users, __ATOMIC_SEQ_CST) > 0) {
        if (waited_us >= CLOSE_WAIT_US) {
            __atomic_store_n(&handle->is_closed, 0, __ATOMIC_SEQ_CST);
            return -1;
        }
        if (is_context) {
            eep_step_abort(handle->it);
        }
        usleep(CLOSE_LOOK_US);
        waited_us += CLOSE_LOOK_US;
    }
    *it_out = handle->it;
    handle->it = NULL;
    handle->in_step = 0;
    return 1;
}

static int end_step(eepy_handle *handle, eep_context *context)
{
    eep_status status = eep_step_end(context);

    if (status != EEP_ERR_DEVICE) { /* then the step stays open */
        handle->in_step = 0;
    }
    return status;
}

int eepy_step_begin(eepy_handle *handle, uint64_t timeout_us, eep_step *step_out, int32_t *shape)
{
    void *it;
    int status = EEP_OK;

    if (!eepy_enter(handle, &it)) {
        return EEPY_CLOSED;
    }
    if (handle->in_step) {
        eep_step_abort(it);
        status = end_step(handle, it);
    }
    if (status != EEP_ERR_DEVICE) {
        status = eep_num_shapes(it) > 1
                     ? eep_step_begin_shape(it, timeout_us, *shape, EEP_SIZED(step_out), shape)
                     : eep_step_begin(it, timeout_us, EEP_SIZED(step_out));
        handle->in_step = status == EEP_OK;
    }
    eepy_leave(handle);
    return status;
}

int eepy_step_end(eepy_handle *handle)
{
    void *it;
    int status;

    if (!eepy_enter(handle, &it)) {
        return EEPY_CLOSED;
    }
    status = end_step(handle, it);
    eepy_leave(handle);
    return status;
}

int eepy_step_drop(eepy_handle *handle)
{
    void *it;
    int status = EEP_OK;

    if (!eepy_enter(handle, &it)) {
        return EEPY_CLOSED;
    }
    if (handle->in_step) {
        eep_step_abort(it);
        status = end_step(handle, it);
    }
    eepy_leave(handle);
    return status;
}

int eepy_slots_copy(eepy_handle *handle, int32_t *slots_out, size_t bytes)
{
    void *it;

    if (!eepy_enter(handle, &it)) {
        return EEPY_CLOSED;
    }
    memcpy(slots_out, eep_physical_to_logical(it), bytes);
    eepy_leave(handle);
    return EEP_OK;
}

int eepy_loop(eepy_handle *context, eepy_handle *graph, eepy_handle *stream, int32_t num,
              uint64_t *ns_out)
{
    eep_step step;
    int status = EEP_OK;

    for (int32_t at = 0; at < num && status == EEP_OK; at++) {
        uint64_t begin_ns = now_ns();

        status = eep_step_begin(context->it, 1000000, EEP_SIZED(&step));
        if (status == EEP_OK) {
            status = eep_graph_replay(graph->it, stream->it);
            int ended = eep_step_end(context->it);

            status = status == EEP_OK ? ended : status;
        }
        if (ns_out) {
            ns_out[at] = now_ns() - begin_ns;
        }
    }
    return status;
}
