/* SPDX-License-Identifier: Apache-2.0 */
/* Is a stream captured, and by whom? And a capture whose graph would lack something: whoever puts
 * nodes says what, and the end of the capture is refused. */
#include "graphs/device/device_internal.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Only a stream of the caller's can be captured by other means than ours. */
int eep_stream_is_capturing(const eep_stream *stream)
{
    if (!stream || stream->is_closed) {
        return 0;
    }
    return __atomic_load_n(&stream->capturer, __ATOMIC_ACQUIRE) ||
           (stream->is_adopted && stream->device->ops->stream_is_captured(stream->impl));
}

uint64_t eepi_stream_capture_number(const eep_stream *stream)
{
    return __atomic_load_n(&stream->capturer, __ATOMIC_ACQUIRE) ? stream->captures : 0;
}

void eepi_device_note_capture(eep_device *device, const eep_stream *stream)
{
    if (!eepi_capturer_of(stream) && eep_stream_is_capturing(stream)) {
        __atomic_fetch_add(&device->captures, 1, __ATOMIC_RELAXED);
    }
}

/* ------------------------------------------------------------------ whose steps run in it */

eepi_owner *eepi_owner_open(void)
{
    eepi_owner *owner = malloc(sizeof *owner);

    if (owner) {
        *owner = (eepi_owner){1};
    }
    return owner;
}

static eepi_owner *hold(eepi_owner *owner)
{
    __atomic_fetch_add(&owner->holders, 1, __ATOMIC_RELAXED);
    return owner;
}

void eepi_owner_drop(eepi_owner *owner)
{
    if (owner && __atomic_sub_fetch(&owner->holders, 1, __ATOMIC_ACQ_REL) == 0) {
        free(owner);
    }
}

/* cudaStreamPerThread, one value for another stream in each thread. No other stream has it. */
static bool is_of_thread(const void *native)
{
    return (uintptr_t)native == 2;
}

void eepi_stream_list(eep_stream *stream)
{
    eep_device *device = stream->device;

    stream->native = device->ops->stream_native(stream->impl);
    if (is_of_thread(stream->native)) {
        stream->native = eepi_own_captures();
    }
    pthread_mutex_lock(&device->lock);
    stream->next = device->streams;
    device->streams = stream;
    pthread_mutex_unlock(&device->lock);
}

void eepi_stream_unlist(eep_stream *stream)
{
    eep_device *device = stream->device;
    eep_stream **at = &device->streams;

    pthread_mutex_lock(&device->lock);
    while (*at && *at != stream) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = stream->next;
    }
    pthread_mutex_unlock(&device->lock);
}

eep_status eepi_stream_own(eep_stream *stream, eepi_owner *owner)
{
    int is_free = 1;

    pthread_mutex_lock(&stream->device->lock);
    for (const eep_stream *s = stream->device->streams; s; s = s->next) {
        is_free &= s->native != stream->native || !s->owner || s->owner == owner;
    }
    if (is_free && !stream->owner) {
        __atomic_store_n(&stream->owner, hold(owner), __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&stream->device->lock);
    return is_free ? EEP_OK : EEP_ERR_STATE;
}

void eepi_stream_disown(eep_stream *stream, const eepi_owner *owner)
{
    eepi_owner *before;

    pthread_mutex_lock(&stream->device->lock);
    before = stream->owner == owner ? stream->owner : NULL;
    if (before) {
        __atomic_store_n(&stream->owner, NULL, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&stream->device->lock);
    eepi_owner_drop(before);
}

/* On the step path: the lock is for a second handle only. */
bool eepi_stream_is_owned_by(eep_stream *stream, const eepi_owner *owner)
{
    int is_owned = __atomic_load_n(&stream->owner, __ATOMIC_ACQUIRE) == owner;

    if (is_owned) {
        return true;
    }
    pthread_mutex_lock(&stream->device->lock);
    for (const eep_stream *s = stream->device->streams; s; s = s->next) {
        is_owned |= s->native == stream->native && s->owner == owner;
    }
    pthread_mutex_unlock(&stream->device->lock);
    return is_owned;
}

void eepi_stream_note_step(eep_stream *stream, eepi_owner *owner)
{
    if (!eepi_capturer_of(stream)) {
        return;
    }
    eepi_owner_drop(stream->step_owner);
    stream->step_owner = hold(owner);
}

void eepi_stream_note_lack(eep_stream *stream, const char *lacks)
{
    snprintf(stream->lacks, sizeof stream->lacks, "%s", lacks ? lacks : "");
}

bool eepi_stream_is_adopted(const eep_stream *stream)
{
    return stream->is_adopted;
}
