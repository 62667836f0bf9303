/* SPDX-License-Identifier: Apache-2.0 */
/* Events of the host backend. An event is a place in a stream: it happens when `done` of the stream
 * it was recorded in reaches what `put` was then. So recording costs no entry, and an event that is
 * recorded again, perhaps in another stream, never releases a waiter of its earlier record too
 * soon. A wait always refers to entries put before it; hence waits of streams for one another form
 * no cycle. */
#include "graphs/host/host_stream.h"

#include <stdlib.h>

typedef struct host_event {
    pthread_mutex_t lock;
    host_progress *progress; /* of the stream it was last recorded in; NULL: never recorded */
    uint64_t target;         /* it happens when progress->done reaches this */
} host_event;

eep_status eepi_host_event_open(void *device, void **event_out)
{
    host_event *event = calloc(1, sizeof *event);

    (void)device;
    if (!event) {
        return EEP_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&event->lock, NULL);
    *event_out = event;
    return EEP_OK;
}

void eepi_host_event_close(void *event)
{
    host_event *e = event;

    eepi_host_progress_release(e->progress);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

eep_status eepi_host_event_record(void *event, void *stream)
{
    host_event *e = event;
    host_progress *progress = ((host_stream *)stream)->progress, *before;

    __atomic_add_fetch(&progress->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&e->lock);
    before = e->progress;
    e->progress = progress;
    e->target = __atomic_load_n(&progress->put, __ATOMIC_ACQUIRE);
    pthread_mutex_unlock(&e->lock);
    eepi_host_progress_release(before);
    return EEP_OK;
}

/* Where the event's last record is, with a reference; NULL if it was never recorded. */
static host_progress *event_place(host_event *e, uint64_t *target_out)
{
    host_progress *progress;

    pthread_mutex_lock(&e->lock);
    progress = e->progress;
    *target_out = e->target;
    if (progress) {
        __atomic_add_fetch(&progress->refs, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&e->lock);
    return progress;
}

eep_status eepi_host_stream_wait_event(void *stream, void *event)
{
    entry_head head = {.kind = ENTRY_WAIT};
    eep_status status;

    head.progress = event_place(event, &head.size);
    if (!head.progress) {
        return EEP_OK;
    }
    status = eepi_host_stream_put(stream, &head, NULL, 0);
    if (status != EEP_OK) {
        eepi_host_progress_release(head.progress);
    }
    return status;
}

eep_status eepi_host_event_synchronize(void *event, uint64_t timeout_us)
{
    uint64_t target;
    host_progress *progress = event_place(event, &target);
    eep_status status;

    if (!progress) {
        return EEP_OK;
    }
    eepi_host_progress_spin(progress, target);
    status = eepi_host_progress_wait(progress, target, timeout_us);
    eepi_host_progress_release(progress);
    return status;
}
